package group

import (
	"bytes"
	"errors"
	"testing"

	"github.com/entente-im/entente/mls"
)

// proposeUpdate makes an Update proposal and stores the state that knows its key.
func (c *client) proposeUpdate() []byte {
	c.t.Helper()
	n, msg, err := c.st.ProposeUpdate(nil, nil)
	must(c.t, err)
	c.st = n
	c.reload()
	return msg
}

func TestAnUpdateComesIntoUseWhenAnotherMemberCommitsIt(t *testing.T) {
	for _, private := range []bool{false, true} {
		room := newRoom(t, 5)
		for _, c := range room {
			c.cfg.Private = private
			c.reload()
		}
		old := bytes.Clone(room[2].st.priv.keys[mls.LeafIndex(2).Node()])
		first, last := room[2].proposeUpdate(), room[2].proposeUpdate()
		for _, c := range []*client{room[0], room[1], room[3], room[4]} {
			c.process(first)
			c.process(last)
		}
		st := room[3].commit(CommitParams{ByReference: true})
		if len(st.Effects.Committed) != 1 {
			t.Fatalf("%d proposals of one leaf committed", len(st.Effects.Committed))
		}
		for _, c := range []*client{room[0], room[1], room[2], room[4]} {
			e := c.process(st.Commit)
			if len(e.Updated) != 2 || e.Updated[0].Leaf != 2 || e.Updated[1].Leaf != 3 {
				t.Fatalf("updated %+v", e.Updated)
			}
		}
		now := room[2].st.priv.keys[mls.LeafIndex(2).Node()]
		if bytes.Equal(now, old) || len(room[2].st.updates) != 0 {
			t.Fatal("the old key, or a proposed one, is still there")
		}
		m, err := mls.ParseMessage(last)
		must(t, err)
		if p := m.PublicMessage; p != nil && !bytes.Equal(room[0].st.pub.Member(2).EncryptionKey, p.Content.Proposal.Update.EncryptionKey) {
			t.Fatal("not the last Update was taken")
		}
		everybodyTalks(t, room)
		st = room[2].commit(CommitParams{}) // and the new leaf can commit
		for _, c := range []*client{room[0], room[1], room[3], room[4]} {
			c.process(st.Commit)
		}
		everybodyTalks(t, room)
	}
}

func TestAnUpdateThatIsNotCommittedGoesWithItsEpoch(t *testing.T) {
	room := newRoom(t, 3)
	msg := room[2].proposeUpdate()
	room[0].process(msg)
	st := room[2].commit(CommitParams{ByReference: true}) // one's own is left out
	if len(st.Effects.Committed) != 0 || len(room[2].st.updates) != 0 {
		t.Fatal("a member committed its own Update, or kept its key")
	}
	room[0].process(st.Commit)
	room[1].process(st.Commit)
	everybodyTalks(t, room)
	msg = room[2].proposeUpdate()
	st = room[1].commit(CommitParams{})
	room[0].process(st.Commit)
	room[2].process(st.Commit)
	if len(room[2].st.updates) != 0 {
		t.Fatal("a proposed key outlived its epoch")
	}
	var stale *mls.EpochError
	if _, _, err := room[0].st.Process(msg); !errors.As(err, &stale) {
		t.Fatalf("an Update of the epoch before: %v", err)
	}
}

func TestACommitOfAnUpdateWhoseKeyWasLostIsRefused(t *testing.T) {
	room := newRoom(t, 3)
	before := room[2].st
	msg := room[2].proposeUpdate()
	room[0].process(msg)
	room[2].st = before // as restored from a copy
	room[2].process(msg)
	st := room[0].commit(CommitParams{ByReference: true})
	room[2].refuses(st.Commit, ErrRecord)
}

func TestOwnUpdatesOfAnEpochAreBounded(t *testing.T) {
	room := newRoom(t, 2)
	for range MaxOwnUpdates {
		room[1].proposeUpdate()
	}
	if _, _, err := room[1].st.ProposeUpdate(nil, nil); !errors.Is(err, mls.ErrLimit) {
		t.Fatal(err)
	}
	if n, _, err := newRoom(t, 2)[0].st.ProposeUpdate(&mls.Credential{Type: mls.CredentialBasic, Identity: []byte("somebody else")}, nil); n != nil || !errors.Is(err, mls.ErrCredential) {
		t.Fatalf("an identity changed in one's own Update: %v", err)
	}
}

func TestACommitMadeFromAnotherStateLeavesProposedKeysBehind(t *testing.T) {
	room := newRoom(t, 3)
	msg := room[1].proposeUpdate()
	room[0].process(msg)
	room[2].process(msg)
	cur, lost, err := room[1].st.Stage(CommitParams{}) // loses the race
	must(t, err)
	stored, err := UnmarshalStaged(room[1].cfg, lost.Marshal())
	must(t, err)
	if len(stored.next.updates) != 0 {
		t.Fatal("the next epoch knows a key proposed in this one")
	}
	room[1].st = cur
	st := room[2].commit(CommitParams{ByReference: true})
	room[0].process(st.Commit)
	room[1].process(st.Commit)
	everybodyTalks(t, room)
}

func TestExtensionsChangeByReferenceAndWithAPath(t *testing.T) {
	room := newRoom(t, 3)
	for _, c := range room {
		c.cfg.Validator = openValidator{}
		c.reload()
	}
	ext := []mls.Extension{{Type: mls.ExtensionRoom, Data: []byte("rules")},
		mls.RequiredCapabilities{Extensions: []mls.ExtensionType{mls.ExtensionRoom}}.Extension()}
	n, msg, err := room[1].st.ProposeExtensions(ext, nil)
	must(t, err)
	room[1].st = n
	room[0].process(msg)
	room[2].process(msg)
	st := room[0].commit(CommitParams{ByReference: true})
	room[1].process(st.Commit)
	if e := room[2].process(st.Commit); !e.Extensions {
		t.Fatal("the effects do not show the change")
	}
	everybodyTalks(t, room)
	if got, _ := mls.FindExtension(room[2].st.Extensions(), mls.ExtensionRoom); string(got) != "rules" {
		t.Fatalf("extensions %v", room[2].st.Extensions())
	}
}

// A member proposes what would make every Commit invalid that takes it.
func TestNoProposalStopsTheCommitsOfOthers(t *testing.T) {
	room := newRoom(t, 4)
	for _, c := range room {
		c.cfg.Validator = openValidator{}
		c.reload()
	}
	lacking := []mls.Extension{mls.RequiredCapabilities{Proposals: []mls.ProposalType{0xF123}}.Extension()}
	joiner, twin := newClient(t, "joiner"), newClient(t, "twin")
	used := twin.keyPackage(func(k *mls.KeyPackage) { k.Leaf.EncryptionKey = room[0].st.pub.Member(0).EncryptionKey })
	kp, err := mls.ParseKeyPackage(used)
	must(t, err)
	bad := [][]byte{
		room[3].forgeProposal(&mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: lacking}),
		room[3].forgeProposal(&mls.Proposal{Type: mls.ProposalAdd, Add: kp}),
	}
	for _, m := range append(bad, room[3].forgeProposal(addOf(t, joiner)), room[3].proposeUpdate()) {
		for _, c := range room[:3] {
			c.process(m)
		}
		room[3].process(m)
	}
	st := room[0].commit(CommitParams{ByReference: true})
	if len(st.Effects.Committed) != 2 || len(st.Effects.Added) != 1 {
		t.Fatalf("committed %d proposals", len(st.Effects.Committed))
	}
	for _, c := range room[1:] {
		c.process(st.Commit)
	}
	joiner.join(st)
	everybodyTalks(t, append(room, joiner))

	if _, _, err := room[0].st.Stage(CommitParams{Extensions: lacking}); !errors.Is(err, mls.ErrLeaf) {
		t.Fatalf("made by ourselves: %v", err)
	}
}
