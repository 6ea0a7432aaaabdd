package node

import (
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// remove is a client's proposal by reference to remove another.
func (w *world) proposeRemove(c, whom *client, aad string) []byte {
	w.t.Helper()
	_, body, err := c.state.ProposeRemove(whom.state.OwnLeaf(), []byte(aad))
	must(w.t, err)
	return body
}

// proposed signs another proposal as a client, by reference.
func (w *world) proposed(c *client, edit func(*mls.Content)) []byte {
	w.t.Helper()
	return c.forge(c.state, w.proposeRemove(c, w.pat, ""), edit)
}

func TestAProposalByReferenceThatRoomsDoNotTakeIsRefused(t *testing.T) {
	w := newWorld(t)
	of := func(p func() *mls.Proposal) func(*world) *pb.Status {
		return func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 1, w.proposed(w.bob, func(m *mls.Content) { m.Proposal = p() })))
		}
	}
	runHubCases(t, w, []hubCase{
		{"an Add", forbidden, "by reference", of(func() *mls.Proposal { return w.adds(w.carol).Proposal })},
		{"an Add of a revoked or unknown member", pb.Code_CODE_UNKNOWN_MEMBER, "", of(func() *mls.Proposal {
			return w.adds(w.carol, func(p *group.KeyPackageParams) {
				cred := w.carol.cred
				cred.Member[0] ^= 1
				p.Credential.Identity = cred.Encode()
			}).Proposal
		})},
		{"new extensions", invalidCommit, "", of(func() *mls.Proposal {
			return &mls.Proposal{Type: mls.ProposalGroupContextExtensions}
		})},
		{"a pre-shared key", invalidCommit, "", of(func() *mls.Proposal {
			return &mls.Proposal{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{ID: []byte("x"), Nonce: make([]byte, 32)}}
		})},
		{"a new start", invalidCommit, "", of(func() *mls.Proposal {
			return &mls.Proposal{Type: mls.ProposalReInit, ReInit: &mls.ReInit{GroupID: []byte("x"), Version: 1, Suite: 1}}
		})},
		{"the removal of nobody", invalidCommit, "", of(func() *mls.Proposal { return &mls.Proposal{Type: mls.ProposalRemove, Remove: 9} })},
		{"as the hub", invalidCommit, "", func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 1, w.proposed(w.bob, func(m *mls.Content) { m.Sender = mls.Sender{Type: mls.SenderExternal} })))
		}},
		{"as somebody new", invalidCommit, "", func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 1, w.proposed(w.bob, func(m *mls.Content) { m.Sender = mls.Sender{Type: mls.SenderNewMemberProposal} })))
		}},
		{"as alice", invalidCommit, "", func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 1, w.proposed(w.bob, func(m *mls.Content) { m.Sender.Index = 0 })))
		}},
		{"alice's, by bob", forbidden, "another device", func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 1, w.proposeRemove(w.alice, w.pat, "")))
		}},
		{"alice's, by the partner", forbidden, "another organization", func(w *world) *pb.Status {
			return w.deliver(&pb.Item{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: w.pat.proposal(w.room, 1, w.proposeRemove(w.alice, w.bob, ""))}})
		}},
		{"by who is not in the room", forbidden, "not in this room", func(w *world) *pb.Status {
			return w.carol.submit(w.carol.proposal(w.room, 1, w.proposeRemove(w.alice, w.pat, "")))
		}},
		{"a Commit", malformed, "without its bundle", func(w *world) *pb.Status {
			b, _ := w.alice.commit(w.alice.state, group.CommitParams{})
			return w.alice.submit(w.alice.proposal(w.room, 1, b.Commit))
		}},
		{"of the epoch before", wrongEpoch, "", func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 0, w.proposeRemove(w.bob, w.pat, "")))
		}},
		{"said to be of the next epoch", wrongEpoch, "", func(w *world) *pb.Status {
			return w.bob.submit(w.bob.proposal(w.room, 2, w.proposeRemove(w.bob, w.pat, "")))
		}},
		{"noise", invalidCommit, "", func(w *world) *pb.Status { return w.bob.submit(w.bob.proposal(w.room, 1, []byte("noise"))) }},
		{"nothing", invalidCommit, "", func(w *world) *pb.Status { return w.bob.submit(w.bob.proposal(w.room, 1, nil)) }},
	})
}

func TestAMemberCannotFillARoomWithProposals(t *testing.T) {
	w := newWorld(t)
	first := w.alice.proposal(w.room, 1, w.proposeRemove(w.alice, w.pat, "first"))
	if st := w.alice.submit(first); st.Code != sequenced {
		t.Fatalf("the first: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	at, _ := w.acme.shown(w.room)
	if st := w.alice.submit(first); st.Code != pb.Code_CODE_DUPLICATE {
		t.Errorf("the same again: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	if now, _ := w.acme.shown(w.room); now != at {
		t.Error("a repeated proposal has a second place")
	}
	for i := range 2 * maxProposalsOfOne {
		st := w.alice.submit(w.alice.proposal(w.room, 1, w.proposeRemove(w.alice, w.pat, time.Duration(i).String())))
		if want := map[bool]pb.Code{true: sequenced, false: forbidden}[i+1 < maxProposalsOfOne]; st.Code != want {
			t.Errorf("proposal %d: %s %s", i+2, wire.CodeName(st.Code), st.Detail)
		}
	}
	if st := w.bob.submit(w.bob.proposal(w.room, 1, w.proposeRemove(w.bob, w.bob, "to leave"))); st.Code != sequenced {
		t.Errorf("another member's: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.revoke(w.bob) // the hub's own still has room
	if _, g := w.acme.shown(w.room); len(waitingRemovals(t, w, g)) != 1 {
		t.Error("the hub's removal found no room")
	}
}

func waitingRemovals(t *testing.T, w *world, marshalled []byte) []removal {
	t.Helper()
	g, err := mls.UnmarshalPublicGroup(marshalled, w.acme.rooms.options)
	must(t, err)
	return removals(g)
}

// revoke has a member of the hub's revoke a device, as its own app would ask.
func (w *world) revoke(c *client) {
	w.t.Helper()
	r := &identity.Revocation{Organization: c.home.org.ID, Member: c.member, Device: c.id, Issued: time.Now(), By: "member"}
	note, err := identity.SignRevocation(*r, c.home.org.Manifest.Name, c.master)
	must(w.t, err)
	_, err = c.home.revoke(w.t.Context(), note, r)
	must(w.t, err)
}

// catchUp has a client process the room log of its epoch.
func (w *world) catchUp(c *client) {
	w.t.Helper()
	log, err := w.acme.roomLogFor(w.t.Context(), w.acme.org.ID, &pb.RoomLogQuery{Room: w.room[:], FromEpoch: c.state.Epoch()})
	must(w.t, err)
	for _, env := range log.Handshakes {
		core, err := wire.ParseCore(env.Core)
		must(w.t, err)
		if core.Epoch == c.state.Epoch() {
			w.follow(c, core.Body)
		}
	}
}

func TestNoCommitKeepsARevokedDeviceInTheRoom(t *testing.T) {
	w := newWorld(t)
	w.revoke(w.bob)
	w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { // alice has not seen the proposal
		b, _ := w.alice.commit(w.alice.state, group.CommitParams{})
		return w.alice.hand(w.room, 1, b)
	})
	w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { // pat's node and device want bob to stay
		b, _ := w.pat.commit(w.pat.state, group.CommitParams{})
		return w.fromPartner(b)
	})
	w.acme.refuses(w.room, pb.Code_CODE_REVOKED, "", func() *pb.Status {
		b, _ := w.bob.commit(w.bob.state, group.CommitParams{})
		return w.bob.hand(w.room, 1, b)
	})
	leaf := w.pat.state.OwnLeaf()
	if st := w.fromPartner(w.resync(w.pat, &leaf)); st.Code != sequenced || st.Epoch != 2 {
		t.Fatalf("a resync: %s %s, epoch %d", wire.CodeName(st.Code), st.Detail, st.Epoch)
	}
	if at, g := w.acme.shown(w.room); len(waitingRemovals(t, w, g)) != 1 || at.seq != 4 {
		t.Errorf("after a resync the room is at %d and bob is not proposed for removal again", at.seq)
	}
	w.catchUp(w.alice) // the hub's proposal, pat's resync, the hub's proposal again
	if w.alice.state.Epoch() != 2 || len(w.alice.state.Public().PendingRefs()) != 1 {
		t.Fatalf("alice is in epoch %d with %d proposals", w.alice.state.Epoch(), len(w.alice.state.Public().PendingRefs()))
	}
	b, next := w.alice.commit(w.alice.state, group.CommitParams{ByReference: true})
	if st := w.alice.hand(w.room, 2, b); st.Code != sequenced {
		t.Fatalf("the Commit that removes bob: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
	if _, g := w.acme.shown(w.room); len(waitingRemovals(t, w, g)) != 0 {
		t.Error("a removal waits that was done")
	}
	for _, m := range next.Members() {
		if c, _ := policy.CredentialOf(m.Node); c.Device == w.bob.id {
			t.Error("bob is still there")
		}
	}
}
