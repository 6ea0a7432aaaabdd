package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// revocation is a partner's item with a revocation, signed with this key. The member's
// certificates are at hand: every revocation that stands has them fetched anew.
func (w *world) revocation(by string, key ed25519.PrivateKey, edit func(*identity.Revocation)) *pb.Item {
	w.t.Helper()
	w.pat.knownTo(w.acme)
	r := identity.Revocation{Organization: w.globex.org.ID, Member: w.pat.member, Device: w.pat.id, Issued: time.Now(), By: by}
	edit(&r)
	note, err := identity.SignRevocation(r, w.globex.org.Manifest.Name, key)
	must(w.t, err)
	return &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: encoded(w.t, &pb.EnvelopeCore{Version: 1,
		Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_REVOCATION, Room: w.room[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte(note)})}}
}

// A partner has revoked a device, then given itself another directory key, and only then
// reaches the hub with the revocation.
func TestARevocationOfBeforeAChangeOfTheDirectoryKeyStands(t *testing.T) {
	w := newWorld(t)
	next, err := w.globex.org.Successor(time.Now())
	must(t, err)
	_, fresh, _ := ed25519.GenerateKey(rand.Reader)
	next.Directory = fresh.Public().(ed25519.PublicKey)
	root, err := identity.OpenRootKeys(filepath.Join(w.globex.dir, RootFile), worldPass)
	must(t, err)
	keys, err := identity.OpenNodeKeys(filepath.Join(w.globex.dir, KeysFile), worldPass)
	must(t, err)
	note, err := next.Sign(root.Root)
	must(t, err)
	org, err := identity.VerifyManifests(append(slices.Clone(w.globex.org.Notes), note), w.globex.org.ID)
	must(t, err)
	revocation, err := identity.SignRevocation(identity.Revocation{Organization: org.ID, Member: w.pat.member, Device: w.pat.id,
		Issued: time.Now(), By: "organization"}, org.KeyName(), keys.Directory)
	must(t, err)
	judged := func() error {
		c, err := w.acme.begin(w.room)
		must(t, err)
		defer c.abandon()
		_, err = w.acme.verifyRevocation(revocation, org, c.room(w.room))
		return err
	}
	w.pat.knownTo(w.acme) // as it was: the record names no device as revoked
	var need *chainNeeded
	if err := judged(); !errors.As(err, &need) {
		t.Fatalf("with a record of before: %v", err)
	}
	k := memberKey{org.ID, w.pat.member}
	now := *w.acme.chains.members[k]
	now.Revoked = append(slices.Clone(now.Revoked), w.pat.id)
	w.acme.chains.mu.Lock()
	w.acme.chains.members[k] = &now
	w.acme.chains.mu.Unlock()
	must(t, judged())
	w.acme.chains.forget(k)
	w.pat.knownTo(w.acme) // a thief of the old key: the directory bears nothing out
	w.acme.chains.heard(wanted{k, sha256.Sum256([]byte(revocation))}, nil)
	if err := judged(); err == nil || errors.As(err, &need) {
		t.Errorf("the old key revokes who is not: %v", err)
	}
}

func TestNobodyRevokesADeviceOfAnotherOrganization(t *testing.T) {
	w := newWorld(t)
	same := func(*identity.Revocation) {}
	ofBob := func(r *identity.Revocation) {
		r.Organization, r.Member, r.Device = w.acme.org.ID, w.bob.member, w.bob.id
	}
	success := pb.Code_CODE_OK
	runHubCases(t, w, []hubCase{
		{"ours, signed by a partner's member", malformed, "", func(w *world) *pb.Status { return w.deliver(w.revocation("member", w.pat.master, ofBob)) }},
		{"ours, signed by our own member, from the partner", malformed, "", func(w *world) *pb.Status { return w.deliver(w.revocation("member", w.bob.master, ofBob)) }},
		{"our device under the partner's member", success, "", func(w *world) *pb.Status {
			return w.deliver(w.revocation("member", w.pat.master, func(r *identity.Revocation) { r.Device = w.bob.id }))
		}},
		{"signed by a colleague", pb.Code_CODE_UNREACHABLE, "fetched first", func(w *world) *pb.Status { return w.deliver(w.revocation("member", w.quinn.master, same)) }},
		{"signed by one of ours", pb.Code_CODE_UNREACHABLE, "fetched first", func(w *world) *pb.Status { return w.deliver(w.revocation("member", w.alice.master, same)) }},
		{"signed by the member for the organization", pb.Code_CODE_UNREACHABLE, "fetched first", func(w *world) *pb.Status { return w.deliver(w.revocation("organization", w.pat.master, same)) }},
		{"of a device that is not in the room", success, "", func(w *world) *pb.Status {
			return w.deliver(w.revocation("member", w.pat.master, func(r *identity.Revocation) { r.Device = w.quinn.id }))
		}},
		{"of a room that does not exist", unknownRoom, "", func(w *world) *pb.Status {
			i := w.revocation("member", w.pat.master, same)
			i.Envelope.Core = raw(w.t, i.Envelope.Core, func(c *pb.EnvelopeCore) { c.Room = make([]byte, 32) })
			return w.deliver(i)
		}},
		{"that is none", malformed, "", func(w *world) *pb.Status {
			i := w.revocation("member", w.pat.master, same)
			i.Envelope.Core = raw(w.t, i.Envelope.Core, func(c *pb.EnvelopeCore) { c.Body = []byte("revoke them all") })
			return w.deliver(i)
		}},
	})
	item := w.revocation("member", w.pat.master, same)
	w.acme.chains.forget(memberKey{w.globex.org.ID, w.pat.member}) // as after a restart
	w.acme.refuses(w.room, pb.Code_CODE_UNREACHABLE, "fetched first", func() *pb.Status { return w.deliver(item) })
	w.pat.knownTo(w.acme)
	if st := w.deliver(item); wire.ClassOf(st.Code) != wire.Success {
		t.Fatalf("an honest revocation: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	_, g := w.acme.shown(w.room)
	if got := waitingRemovals(t, w, g); len(got) != 1 || got[0].device != w.pat.id {
		t.Fatalf("proposed: %+v", got)
	}
	w.pat.knownTo(w.acme)
	w.acme.refuses(w.room, success, "", func() *pb.Status { return w.deliver(item) }) // said twice, proposed once
	w.pat.knownTo(w.acme)                                                             // somebody claims to have seen nothing of it
	w.acme.refuses(w.room, forbidden, "revoked", func() *pb.Status {
		b, _ := w.pat.commit(w.pat.state, group.CommitParams{})
		return w.fromPartner(b)
	})
	leaf := w.pat.state.OwnLeaf()
	w.acme.refuses(w.room, forbidden, "revoked", func() *pb.Status { return w.fromPartner(w.resync(w.pat, &leaf)) })
	w.catchUp(w.alice)
	b, next := w.alice.commit(w.alice.state, group.CommitParams{ByReference: true})
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
	keys, err := identity.OpenNodeKeys(filepath.Join(w.globex.dir, KeysFile), worldPass)
	must(t, err)
	if st := w.deliver(w.revocation("organization", keys.Directory, same)); wire.ClassOf(st.Code) != wire.Success {
		t.Errorf("a revocation of a device that has left: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	// Its certificates from before do not bring it back in.
	w.acme.refuses(w.room, pb.Code_CODE_UNREACHABLE, "certificates", func() *pb.Status {
		return proposes(func(w *world) []mls.ProposalOrRef { return []mls.ProposalOrRef{w.adds(w.pat)} })(w)
	})
}

// TestARevocationByAKeyThatIsNotKnownYetWaitsForTheMembersCertificates: the member has
// replaced its key since this hub has seen them. What they do not bear out is refused for good.
func TestARevocationByAKeyThatIsNotKnownYetWaitsForTheMembersCertificates(t *testing.T) {
	w := newWorld(t)
	_, next, err := ed25519.GenerateKey(nil)
	must(t, err)
	item := w.revocation("member", next, func(*identity.Revocation) {})
	for range 2 {
		w.acme.refuses(w.room, pb.Code_CODE_UNREACHABLE, "fetched first", func() *pb.Status { return w.deliver(item) })
	}
	core, err := wire.ParseCore(item.Envelope.Core)
	must(t, err)
	w.acme.refuses(w.room, malformed, "", func() (st *pb.Status) {
		for range 100 { // the node has asked by itself meanwhile, in vain, and may hear of that last
			w.acme.chains.heard(wanted{memberKey{w.globex.org.ID, w.pat.member}, sha256.Sum256(core.Body)}, nil)
			if st = w.deliver(item); wire.ClassOf(st.Code) != wire.Temporary {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		return st
	})
}

// TestACommitWhoseCertificatesDoNotComeHoldsARoomUpOnce: a partner keeps what is
// refused for now and sends it again before all that follows it.
func TestACommitWhoseCertificatesDoNotComeHoldsARoomUpOnce(t *testing.T) {
	w := newWorld(t)
	b, _ := w.pat.commit(w.pat.state, group.CommitParams{})
	kp := w.adds(w.quinn, func(p *group.KeyPackageParams) {
		cred := w.quinn.cred
		cred.Member[0] ^= 1
		p.Credential.Identity = cred.Encode()
	})
	bad := w.pat.proposing(w.pat.state, b, kp)
	items := []*pb.Item{
		{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Bundle: bad, Envelope: &pb.Envelope{Core: encoded(t, &pb.EnvelopeCore{Version: 1,
			Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_COMMIT, Room: w.room[:], Epoch: 1})}},
		{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: w.pat.message(w.room, "after it")}},
	}
	batch := func() []*pb.Status {
		return w.acme.Deliver(t.Context(), w.globex.org.ID, items, func(*store.Batch, []*pb.Status) error { return nil })
	}
	w.acme.refuses(w.room, pb.Code_CODE_UNREACHABLE, "still to come", func() *pb.Status { return batch()[1] })
	deadline := time.Now().Add(30 * time.Second)
	for { // until the partner, which stands still, was asked in vain
		got := batch()
		if got[0].Code == invalidCommit {
			if got[1].Code != sequenced {
				t.Errorf("what follows it: %s %s", wire.CodeName(got[1].Code), got[1].Detail)
			}
			break
		}
		if got[0].Code != pb.Code_CODE_UNREACHABLE || time.Now().After(deadline) {
			t.Fatalf("%s %s", wire.CodeName(got[0].Code), got[0].Detail)
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.takes()
}

func TestASubmissionOfAPartnerThatHasNoPlaceIsRefused(t *testing.T) {
	w := newWorld(t)
	submits := func(core func() []byte) func(*world) *pb.Status {
		return func(w *world) *pb.Status {
			return w.deliver(&pb.Item{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: core()}})
		}
	}
	runHubCases(t, w, []hubCase{
		{"a message of the next epoch", wrongEpoch, "", submits(func() []byte {
			return w.pat.message(w.room, "x", func(c *pb.EnvelopeCore) { c.Epoch++ })
		})},
		{"a message past its deadline", pb.Code_CODE_DEADLINE_PASSED, "", submits(func() []byte {
			return w.pat.message(w.room, "x", func(c *pb.EnvelopeCore) { c.Deadline = 1 })
		})},
		{"a message over its limit", tooLarge, "", submits(func() []byte {
			return raw(t, w.pat.message(w.room, "x"), func(c *pb.EnvelopeCore) { c.Body = make([]byte, wire.MaxMessageBody+1) })
		})},
		{"control", pb.Code_CODE_UNSUPPORTED, "", submits(func() []byte {
			return raw(t, w.pat.message(w.room, "x"), func(c *pb.EnvelopeCore) { c.Class, c.Kind = pb.Class_CLASS_CONTROL, pb.Kind_KIND_NOTICE })
		})},
		{"a Commit without its bundle", malformed, "", submits(func() []byte {
			return encoded(t, &pb.EnvelopeCore{Version: 1, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_COMMIT, Room: w.room[:], Epoch: 1})
		})},
		{"an entry of a room that is ordered here", unknownRoom, "", func(w *world) *pb.Status {
			return w.deliver(&pb.Item{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: w.pat.message(w.room, "x"), Seq: 9, Previous: make([]byte, 32), AcceptedMs: 9}})
		}},
		{"a Welcome into a room that is ordered here", malformed, "", func(w *world) *pb.Status {
			return w.deliver(&pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Recipients: []*pb.DeviceRef{deviceRef(w.bob)}, Envelope: &pb.Envelope{Core: encoded(t,
				&pb.EnvelopeCore{Version: 1, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_WELCOME, Room: w.room[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte("x")})}})
		}},
		{"a partner that is not in the room", forbidden, "not in this room", func(w *world) *pb.Status {
			nothing := func(*store.Batch, []*pb.Status) error { return nil }
			return w.acme.Deliver(t.Context(), wire.OrganizationID{3}, []*pb.Item{{Kind: pb.ItemKind_ITEM_KIND_SUBMIT,
				Envelope: &pb.Envelope{Core: w.pat.message(w.room, "x")}}}, nothing)[0]
		}},
	})
}
