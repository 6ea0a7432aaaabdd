package node

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

const (
	sequenced     = pb.Code_CODE_SEQUENCED
	malformed     = pb.Code_CODE_MALFORMED
	forbidden     = pb.Code_CODE_FORBIDDEN
	invalidCommit = pb.Code_CODE_INVALID_COMMIT
	wrongEpoch    = pb.Code_CODE_WRONG_EPOCH
	tooLarge      = pb.Code_CODE_TOO_LARGE
	unknownRoom   = pb.Code_CODE_UNKNOWN_ROOM
)

// forge signs a changed copy of a handshake: everything that a hub can check is
// right, but for the change.
func (c *client) forge(in *group.State, message []byte, edit func(*mls.Content)) []byte {
	c.t.Helper()
	m, err := mls.ParseMessage(message)
	must(c.t, err)
	content := m.PublicMessage.Content
	edit(content)
	must(c.t, content.Sign(in.Public().Suite(), c.key, in.Public().Context()))
	return (&mls.PublicMessage{Content: content, MembershipTag: make([]byte, 32)}).Encode()
}

// proposing is a Commit with other proposals than it was made with.
func (c *client) proposing(in *group.State, b *pb.Bundle, list ...mls.ProposalOrRef) *pb.Bundle {
	c.t.Helper()
	b = proto.CloneOf(b)
	b.Commit = c.forge(in, b.Commit, func(m *mls.Content) { m.Commit.Proposals = list })
	return b
}

func value(p *mls.Proposal) mls.ProposalOrRef { return mls.ProposalOrRef{Proposal: p} }

// editedInfo signs a changed GroupInfo as a client.
func (c *client) editedInfo(info []byte, edit func(*mls.GroupInfo)) []byte {
	c.t.Helper()
	m, err := mls.ParseMessage(info)
	must(c.t, err)
	edit(m.GroupInfo)
	must(c.t, m.GroupInfo.Sign(c.state.Public().Suite(), c.key))
	return m.GroupInfo.Encode()
}

// A hubCase is one submission that the hub has to refuse.
type hubCase struct {
	name string
	code pb.Code
	says string
	f    func(w *world) *pb.Status
}

func runHubCases(t *testing.T, w *world, cases []hubCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			outer := w.acme.t
			w.acme.t = t
			defer func() { w.acme.t = outer }()
			w.acme.refuses(w.room, c.code, c.says, func() *pb.Status { return c.f(w) })
		})
	}
	w.takes()
}

// hands submits what a change makes of an honest empty Commit of alice's.
func hands(edit func(w *world, b *pb.Bundle)) func(*world) *pb.Status {
	return func(w *world) *pb.Status {
		b, _ := w.alice.commit(w.alice.state, group.CommitParams{})
		edit(w, b)
		return w.alice.hand(w.room, w.alice.state.Epoch(), b)
	}
}

// proposes submits an alice's Commit of these proposals.
func proposes(list func(w *world) []mls.ProposalOrRef) func(*world) *pb.Status {
	return hands(func(w *world, b *pb.Bundle) {
		proto.Merge(b, &pb.Bundle{Commit: w.alice.proposing(w.alice.state, b, list(w)...).Commit})
	})
}

func TestACommitWhoseBundleDoesNotBelongToItIsRefused(t *testing.T) {
	const apart = "do not belong"
	w := newWorld(t)
	runHubCases(t, w, []hubCase{
		{"the GroupInfo of another Commit", invalidCommit, apart, hands(func(w *world, b *pb.Bundle) {
			other, _ := w.alice.commit(w.alice.state, group.CommitParams{})
			b.GroupInfo = other.GroupInfo
		})},
		{"the tree of another Commit", invalidCommit, apart, hands(func(w *world, b *pb.Bundle) {
			other, _ := w.alice.commit(w.alice.state, group.CommitParams{})
			b.Tree = other.Tree
		})},
		{"a tree with a byte more", invalidCommit, apart, hands(func(_ *world, b *pb.Bundle) { b.Tree = append(b.Tree, 0) })},
		{"the GroupInfo of the epoch before", invalidCommit, apart, hands(func(w *world, b *pb.Bundle) {
			var err error
			b.GroupInfo, err = w.alice.state.GroupInfo(false)
			must(w.t, err)
		})},
		{"a GroupInfo that another member signed", invalidCommit, apart, hands(func(w *world, b *pb.Bundle) {
			next, _, err := w.bob.state.Process(b.Commit)
			must(w.t, err)
			b.GroupInfo, err = next.GroupInfo(false)
			must(w.t, err)
		})},
		{"a GroupInfo with another confirmation tag", invalidCommit, apart, hands(func(w *world, b *pb.Bundle) {
			b.GroupInfo = w.alice.editedInfo(b.GroupInfo, func(g *mls.GroupInfo) { g.ConfirmationTag[0] ^= 1 })
		})},
		{"a GroupInfo without the external key", invalidCommit, apart, hands(func(w *world, b *pb.Bundle) {
			b.GroupInfo = w.alice.editedInfo(b.GroupInfo, func(g *mls.GroupInfo) { g.Extensions = nil })
		})},
		{"a GroupInfo whose signature is another's", invalidCommit, apart, hands(func(w *world, b *pb.Bundle) {
			b.GroupInfo = w.bob.editedInfo(b.GroupInfo, func(*mls.GroupInfo) {})
		})},
		{"a Commit for a GroupInfo", invalidCommit, apart, hands(func(_ *world, b *pb.Bundle) { b.GroupInfo = b.Commit })},
		{"no GroupInfo", malformed, "needs its GroupInfo", hands(func(_ *world, b *pb.Bundle) { b.GroupInfo = nil })},
		{"no tree", malformed, "needs its GroupInfo", hands(func(_ *world, b *pb.Bundle) { b.Tree = nil })},
		{"no Commit", malformed, "needs its GroupInfo", hands(func(_ *world, b *pb.Bundle) { b.Commit = nil })},
		{"a Commit over its limit", tooLarge, "Commit", hands(func(_ *world, b *pb.Bundle) { b.Commit = make([]byte, wire.MaxHandshakeBody+1) })},
		{"a Welcome over its limit", tooLarge, "Welcome", hands(func(_ *world, b *pb.Bundle) { b.Welcome = make([]byte, wire.MaxWelcome+1) })},
		{"a GroupInfo over its limit", tooLarge, "GroupInfo", hands(func(_ *world, b *pb.Bundle) { b.GroupInfo = make([]byte, wire.MaxWelcome+1) })},
		{"a tree over its limit", tooLarge, "tree", hands(func(_ *world, b *pb.Bundle) { b.Tree = make([]byte, wire.MaxTree+1) })},
		{"a Commit with a byte more", invalidCommit, "", hands(func(_ *world, b *pb.Bundle) { b.Commit = append(b.Commit, 0) })},
		{"a flipped bit", invalidCommit, "", hands(func(_ *world, b *pb.Bundle) { b.Commit[len(b.Commit)/2] ^= 1 })},
	})
}

func TestACommitOfSomebodyElseIsRefused(t *testing.T) {
	w := newWorld(t)
	honest := func(w *world) *pb.Bundle {
		b, _ := w.alice.commit(w.alice.state, group.CommitParams{})
		return b
	}
	runHubCases(t, w, []hubCase{
		{"by another member", forbidden, "another device", func(w *world) *pb.Status { return w.bob.hand(w.room, 1, honest(w)) }},
		{"by a device that is not in the room", forbidden, "not in this room", func(w *world) *pb.Status { return w.carol.hand(w.room, 1, honest(w)) }},
		{"by a device that is not enrolled", pb.Code_CODE_REVOKED, "", func(w *world) *pb.Status {
			c := *w.carol
			c.id = wire.DeviceID{1}
			return c.hand(w.room, 1, honest(w))
		}},
		{"a partner's member's, by a device of ours", forbidden, "another device", func(w *world) *pb.Status {
			b, _ := w.pat.commit(w.pat.state, group.CommitParams{})
			return w.bob.hand(w.room, 1, b)
		}},
		{"ours, by a partner", forbidden, "another organization", func(w *world) *pb.Status { return w.fromPartner(honest(w)) }},
		{"in another's name", invalidCommit, "", func(w *world) *pb.Status {
			b := honest(w)
			b.Commit = w.bob.forge(w.bob.state, b.Commit, func(*mls.Content) {})
			return w.bob.hand(w.room, 1, b)
		}},
		{"of the hub as external sender", invalidCommit, "", func(w *world) *pb.Status {
			b := honest(w)
			b.Commit = w.alice.forge(w.alice.state, b.Commit, func(m *mls.Content) { m.Sender = mls.Sender{Type: mls.SenderExternal} })
			return w.alice.hand(w.room, 1, b)
		}},
		{"joining from outside", invalidCommit, "joined by Welcome", func(w *world) *pb.Status { return w.external(w.carol, nil) }},
		{"joining over another's leaf", invalidCommit, "another", func(w *world) *pb.Status {
			leaf := w.bob.state.OwnLeaf()
			return w.external(w.carol, &leaf)
		}},
		{"resyncing another's leaf under its credential", invalidCommit, "", func(w *world) *pb.Status {
			leaf, thief := w.bob.state.OwnLeaf(), *w.carol
			thief.cred = w.bob.cred
			defer func() { w.carol.counter = thief.counter }()
			return w.external(&thief, &leaf)
		}},
		{"another's resync", forbidden, "another device", func(w *world) *pb.Status {
			leaf := w.bob.state.OwnLeaf()
			return w.alice.hand(w.room, 1, w.resync(w.bob, &leaf))
		}},
	})
}

// fromPartner has the partner submit a Commit.
func (w *world) fromPartner(b *pb.Bundle) *pb.Status {
	epoch := w.pat.state.Epoch()
	return w.deliver(&pb.Item{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Bundle: b, Envelope: &pb.Envelope{Core: encoded(w.t,
		&pb.EnvelopeCore{Version: 1, Class: pb.Class_CLASS_HANDSHAKE, Kind: pb.Kind_KIND_COMMIT, Room: w.room[:], Epoch: epoch})}})
}

// resync is a client's external Commit over a leaf.
func (w *world) resync(c *client, leaf *mls.LeafIndex) *pb.Bundle {
	w.t.Helper()
	info, err := w.acme.groupInfoFor(w.acme.org.ID, &pb.GroupInfoQuery{Room: w.room[:]})
	must(w.t, err)
	staged, err := group.ExternalJoin(c.config(), info.GroupInfo, info.Tree, group.ExternalParams{Credential: c.credential(), Resync: leaf})
	if err != nil && c != w.bob { // the client's own library refuses it: a forger puts another leaf in
		own, _ := w.bob.state.Public().RatchetTree().FindLeaf(w.bob.id[:])
		b := w.resync(w.bob, &own)
		b.Commit = c.forge(w.bob.state, b.Commit, func(m *mls.Content) {
			m.Commit.Path.Leaf.SignatureKey = c.id[:]
			m.Commit.Path.Leaf.Credential = c.credential()
			must(w.t, m.Commit.Path.Leaf.Sign(w.bob.state.Public().Suite(), c.key, m.GroupID, *leaf))
		})
		return b
	}
	must(w.t, err)
	return bundleOf(staged)
}

func (w *world) external(c *client, leaf *mls.LeafIndex) *pb.Status {
	return c.hand(w.room, w.alice.state.Epoch(), w.resync(c, leaf))
}

// deliver has the partner hand over one item.
func (w *world) deliver(item *pb.Item) *pb.Status {
	nothing := func(_ *store.Batch, _ []*pb.Status) error { return nil }
	return w.acme.Deliver(w.t.Context(), w.globex.org.ID, []*pb.Item{item}, nothing)[0]
}

func TestACommitOfAnotherEpochOrRoomIsToldWhereTheRoomIs(t *testing.T) {
	w := newWorld(t)
	var other wire.RoomID
	rand.Read(other[:])
	_, elsewhere := w.creation(other, w.bob)
	old, _ := w.alice.commit(w.alice.state, group.CommitParams{})
	w.takes()
	epoch := w.alice.state.Epoch()
	ahead, next := w.alice.commit(w.alice.state, group.CommitParams{})
	further, _ := w.alice.commit(next, group.CommitParams{})
	for _, c := range []hubCase{
		{"of the epoch before", wrongEpoch, "", func(w *world) *pb.Status { return w.alice.hand(w.room, epoch-1, old) }},
		{"of the epoch before, said to be of this one", wrongEpoch, "", func(w *world) *pb.Status { return w.alice.hand(w.room, epoch, old) }},
		{"of the next epoch", wrongEpoch, "", func(w *world) *pb.Status { return w.alice.hand(w.room, epoch+1, further) }},
		{"of the next epoch, said to be of this one", wrongEpoch, "", func(w *world) *pb.Status { return w.alice.hand(w.room, epoch, further) }},
		{"of this epoch, said to be of the next", wrongEpoch, "", func(w *world) *pb.Status { return w.alice.hand(w.room, epoch+1, ahead) }},
	} {
		st := w.acme.refuses(w.room, c.code, c.says, func() *pb.Status { return c.f(w) })
		if st.Epoch != epoch {
			t.Errorf("%s: told of epoch %d, the room is in %d", c.name, st.Epoch, epoch)
		}
	}
	log, err := w.acme.roomLogFor(t.Context(), w.acme.org.ID, &pb.RoomLogQuery{Room: w.room[:], FromEpoch: epoch - 1})
	if err != nil || len(log.Handshakes) != 1 {
		t.Fatalf("what was missed: %d handshakes, %v", len(log.GetHandshakes()), err)
	}
	if core, err := wire.ParseCore(log.Handshakes[0].Core); err != nil || core.Epoch != epoch-1 || core.Kind != pb.Kind_KIND_COMMIT {
		t.Errorf("what was missed is of epoch %d, %v", core.GetEpoch(), err)
	}
	runHubCases(t, w, []hubCase{
		{"of another group", invalidCommit, "another group", func(w *world) *pb.Status {
			b, _ := w.alice.commit(elsewhere[w.alice], group.CommitParams{})
			return w.alice.hand(w.room, w.alice.state.Epoch(), b)
		}},
		{"for a room that does not exist", unknownRoom, "", func(w *world) *pb.Status { return w.alice.hand(other, epoch, proto.CloneOf(ahead)) }},
		{"for another generation", unknownRoom, "", func(w *world) *pb.Status {
			w.alice.counter++
			return w.acme.submitCommit(w.t.Context(), w.alice.id, &pb.SubmitCommitRequest{Counter: w.alice.counter, Room: w.room[:], Generation: 1, Epoch: epoch, Bundle: ahead})
		}},
		{"for half a room ID", malformed, "", func(w *world) *pb.Status {
			w.alice.counter++
			return w.acme.submitCommit(w.t.Context(), w.alice.id, &pb.SubmitCommitRequest{Counter: w.alice.counter, Room: w.room[:16], Epoch: epoch, Bundle: ahead})
		}},
	})
}

func TestARepeatedCommitGetsItsFirstAnswerAndHasOnePlace(t *testing.T) {
	w := newWorld(t)
	b, next := w.alice.commit(w.alice.state, group.CommitParams{})
	first := w.alice.hand(w.room, 1, b)
	if first.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(first.Code), first.Detail)
	}
	w.alice.counter--
	if again := w.acme.refuses(w.room, sequenced, "", func() *pb.Status { return w.alice.hand(w.room, 1, proto.CloneOf(b)) }); !proto.Equal(again, first) {
		t.Errorf("the first answer was %v, the second %v", first, again)
	}
	w.alice.counter--
	other := proto.CloneOf(b)
	other.Tree = append(other.Tree, 0)
	w.acme.refuses(w.room, pb.Code_CODE_ROLLED_BACK, "", func() *pb.Status { return w.alice.hand(w.room, 1, other) })
	w.acme.refuses(w.room, wrongEpoch, "", func() *pb.Status { return w.alice.hand(w.room, 1, b) })
	w.alice.state = next
	w.follow(w.bob, b.Commit)
	w.follow(w.pat, b.Commit)
	w.takes()
}

func TestASubmissionTwiceInOneBatchGetsOneAnswer(t *testing.T) {
	w := newWorld(t)
	first, second := w.alice.message(w.room, "first"), w.alice.message(w.room, "second")
	c := w.alice.counter
	got := w.acme.submit(t.Context(), w.alice.id, []ownSubmission{
		{counter: c + 1, core: first}, {counter: c + 2, core: second},
		{counter: c + 1, core: first}, {counter: c + 2, core: second}, // a device that hands over what waits
		{counter: c + 2, core: first}, {counter: c + 1, core: second}, // a device that was set back
	})
	for i, want := range []pb.Code{sequenced, sequenced, sequenced, sequenced, pb.Code_CODE_ROLLED_BACK, pb.Code_CODE_ROLLED_BACK} {
		if got[i].Code != want {
			t.Errorf("%d: %s %s, want %s", i, wire.CodeName(got[i].Code), got[i].Detail, wire.CodeName(want))
		}
	}
	if !proto.Equal(got[0], got[2]) || !proto.Equal(got[1], got[3]) || proto.Equal(got[0], got[1]) {
		t.Errorf("answers: %v", got)
	}
}

func TestACommitOfProposalsThatRoomsDoNotTakeIsRefused(t *testing.T) {
	w := newWorld(t)
	one := func(p *mls.Proposal) func(*world) *pb.Status {
		return proposes(func(*world) []mls.ProposalOrRef { return []mls.ProposalOrRef{value(p)} })
	}
	foreign := roomExtension(w.acme, w.room, w.acme, w.globex)
	foreign.Hub = w.globex.org.ID[:]
	runHubCases(t, w, []hubCase{
		{"another hub", invalidCommit, "", func(w *world) *pb.Status {
			b, _ := w.alice.commit(w.alice.state, group.CommitParams{Extensions: extensionsOf(t, w.globex, foreign)})
			return w.alice.hand(w.room, 1, b)
		}},
		{"another external sender", invalidCommit, "", func(w *world) *pb.Status {
			list := extensionsOf(t, w.acme, roomExtension(w.acme, w.room, w.acme, w.globex))
			list[2] = mls.ExternalSendersExtension([]mls.ExternalSender{{SignatureKey: w.alice.id[:], Credential: w.alice.credential()}})
			b, _ := w.alice.commit(w.alice.state, group.CommitParams{Extensions: list})
			return w.alice.hand(w.room, 1, b)
		}},
		{"no extensions", invalidCommit, "", one(&mls.Proposal{Type: mls.ProposalGroupContextExtensions})},
		{"a pre-shared key", invalidCommit, "", one(&mls.Proposal{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{ID: []byte("known to the server"), Nonce: make([]byte, 32)}})},
		{"a key of another epoch", invalidCommit, "", one(&mls.Proposal{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{Resumption: true, Usage: 1, GroupID: wire.GroupID(w.room, 0), Epoch: 1, Nonce: make([]byte, 32)}})},
		{"a new start", invalidCommit, "", one(&mls.Proposal{Type: mls.ProposalReInit, ReInit: &mls.ReInit{GroupID: []byte("new"), Version: 1, Suite: 1}})},
		{"an external init of a member", invalidCommit, "", one(&mls.Proposal{Type: mls.ProposalExternalInit, KEMOutput: make([]byte, 32)})},
		{"a proposal that nobody sent", invalidCommit, "", proposes(func(*world) []mls.ProposalOrRef { return []mls.ProposalOrRef{{Ref: make([]byte, 32)}} })},
		{"the committer's own removal", invalidCommit, "", one(&mls.Proposal{Type: mls.ProposalRemove, Remove: w.alice.state.OwnLeaf()})},
		{"the removal of nobody", invalidCommit, "", one(&mls.Proposal{Type: mls.ProposalRemove, Remove: 77})},
		{"one removal twice", invalidCommit, "", proposes(func(w *world) []mls.ProposalOrRef {
			p := value(&mls.Proposal{Type: mls.ProposalRemove, Remove: w.bob.state.OwnLeaf()})
			return []mls.ProposalOrRef{p, p}
		})},
		{"no path", invalidCommit, "", hands(func(w *world, b *pb.Bundle) {
			b.Commit = w.alice.forge(w.alice.state, b.Commit, func(m *mls.Content) { m.Commit.Path = nil })
		})},
		{"encrypted", invalidCommit, "", func(w *world) *pb.Status {
			cfg := w.alice.config()
			cfg.Private = true
			private, err := group.Restore(cfg, w.alice.state.Records(nil))
			must(t, err)
			b, _ := w.alice.commit(private, group.CommitParams{})
			return w.alice.hand(w.room, 1, b)
		}},
		{"a path leaf of another device", invalidCommit, "another device", func(w *world) *pb.Status {
			as := w.bob.credential()
			b, _ := w.alice.commit(w.alice.state, group.CommitParams{Credential: &as})
			return w.alice.hand(w.room, 1, b)
		}},
		{"a path leaf with another certificate", invalidCommit, "certificate", func(w *world) *pb.Status {
			cred := w.alice.cred
			cred.Certificate[0] ^= 1
			as := mls.Credential{Type: mls.CredentialEntente, Identity: cred.Encode()}
			b, _ := w.alice.commit(w.alice.state, group.CommitParams{Credential: &as})
			return w.alice.hand(w.room, 1, b)
		}},
	})
}

func TestACommitThatAddsWhomItMayNotIsRefused(t *testing.T) {
	w := newWorld(t)
	gone := w.acme.client("gone")
	revocation, err := identity.SignRevocation(identity.Revocation{Organization: w.acme.org.ID, Member: gone.member, Device: gone.id,
		Issued: time.Now(), By: "member"}, w.acme.org.Manifest.Name, gone.master)
	must(t, err)
	must(t, w.acme.Node.dir.RevokeDevice(t.Context(), revocation))
	added := func(c *client, edit ...func(*group.KeyPackageParams)) func(*world) *pb.Status {
		return proposes(func(w *world) []mls.ProposalOrRef { return []mls.ProposalOrRef{w.adds(c, edit...)} })
	}
	as := func(edit func(*wire.Credential)) func(*group.KeyPackageParams) {
		return func(p *group.KeyPackageParams) {
			cred := w.carol.cred
			edit(&cred)
			p.Credential.Identity = cred.Encode()
		}
	}
	runHubCases(t, w, []hubCase{
		{"a revoked device", invalidCommit, "no longer", added(gone)},
		{"a device under another's certificate", invalidCommit, "certificate", added(w.carol, as(func(c *wire.Credential) { c.Certificate = w.bob.cred.Certificate }))},
		{"a device under another's name", invalidCommit, "signature key", added(w.carol, as(func(c *wire.Credential) { *c = w.bob.cred }))},
		{"a device under another member", invalidCommit, "not, or no longer", added(w.carol, as(func(c *wire.Credential) { c.Member = w.bob.member }))},
		{"a member that does not exist", pb.Code_CODE_UNKNOWN_MEMBER, "", added(w.carol, as(func(c *wire.Credential) { c.Member[0] ^= 1 }))},
		{"an organization without an agreement", pb.Code_CODE_NO_AGREEMENT, "", added(w.carol, as(func(c *wire.Credential) { c.Organization[0] ^= 1 }))},
		{"ours as a partner's", pb.Code_CODE_UNREACHABLE, "", added(w.carol, as(func(c *wire.Credential) { c.Organization = w.globex.org.ID }))},
		{"a partner's as ours", pb.Code_CODE_UNKNOWN_MEMBER, "", added(w.quinn, func(p *group.KeyPackageParams) {
			cred := w.quinn.cred
			cred.Organization = w.acme.org.ID
			p.Credential.Identity = cred.Encode()
		})},
		{"another type of credential", invalidCommit, "credential", added(w.carol, func(p *group.KeyPackageParams) {
			p.Credential = mls.Credential{Type: mls.CredentialBasic, Identity: []byte("carol")}
			caps := mls.DefaultCapabilities(mls.CredentialBasic)
			caps.Credentials = append(caps.Credentials, mls.CredentialEntente)
			p.Capabilities = &caps
		})},
		{"an expired KeyPackage", invalidCommit, "lifetime", added(w.carol, func(p *group.KeyPackageParams) {
			p.NotBefore, p.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		})},
		{"a KeyPackage of tomorrow", invalidCommit, "lifetime", added(w.carol, func(p *group.KeyPackageParams) {
			p.NotBefore, p.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
		})},
		{"a KeyPackage of another suite", invalidCommit, "suite", added(w.carol, func(p *group.KeyPackageParams) { p.Suite = mls.SuiteX25519ChaCha20 })},
		{"a member already there", invalidCommit, "already", proposes(func(w *world) []mls.ProposalOrRef { return []mls.ProposalOrRef{w.adds(w.bob)} })},
		{"one device twice", invalidCommit, "already", proposes(func(w *world) []mls.ProposalOrRef { return []mls.ProposalOrRef{w.adds(w.carol), w.adds(w.carol)} })},
	})
}

// adds is an Add of a client by value.
func (w *world) adds(c *client, edit ...func(*group.KeyPackageParams)) mls.ProposalOrRef {
	w.t.Helper()
	kp, _ := c.keyPackage(edit...)
	parsed, err := mls.ParseKeyPackage(kp)
	must(w.t, err)
	return value(&mls.Proposal{Type: mls.ProposalAdd, Add: parsed})
}
