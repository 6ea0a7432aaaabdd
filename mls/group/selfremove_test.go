package group

import (
	"errors"
	"strings"
	"testing"

	"github.com/entente-im/entente/mls"
)

// leave makes a SelfRemove.
func (c *client) leave() []byte {
	c.t.Helper()
	n, msg, err := c.st.ProposeSelfRemove([]byte("bye"))
	must(c.t, err)
	c.st = n
	c.reload()
	return msg
}

func TestAMemberLeavesByASelfRemoveThatAnotherCommits(t *testing.T) {
	room := newRoom(t, 4)
	hub := hubOf(t, room[0])
	for _, c := range room {
		c.cfg.Private = true // a SelfRemove is public all the same
		c.reload()
	}
	msg := room[3].leave()
	hub, _, err := hub.Process(msg)
	must(t, err)
	rm, gone, err := room[1].st.ProposeRemove(3, nil) // gives way
	must(t, err)
	room[1].st = rm
	for _, c := range room[:3] {
		c.process(msg)
	}
	room[0].process(gone)
	if !hub.IsLeaving(3) || hub.IsLeaving(2) || !room[0].st.Public().IsLeaving(3) {
		t.Fatal("it does not show who leaves")
	}
	room[0].cfg.Private = false
	room[0].reload()
	st := room[0].commit(CommitParams{ByReference: true, Removes: []mls.LeafIndex{3}})
	if len(st.Effects.Committed) != 1 || len(st.Effects.Removed) != 1 {
		t.Fatalf("effects %+v", st.Effects)
	}
	if _, e, err := hub.Process(st.Commit); err != nil || e.Removed[0].Leaf != 3 {
		t.Fatal(err)
	}
	room[1].process(st.Commit)
	room[2].process(st.Commit)
	if e := room[3].process(st.Commit); !e.SelfRemoved {
		t.Fatal("did not leave")
	}
	everybodyTalks(t, room[:3])
}

func TestAnExternalCommitTakesSelfRemovesUp(t *testing.T) {
	room := newRoom(t, 4)
	joiner := newClient(t, "joiner")
	first, second := room[2].leave(), room[3].leave()
	for i, c := range room {
		if i != 2 {
			c.process(first)
		}
		if i != 3 {
			c.process(second)
		}
	}
	info, err := room[0].st.GroupInfo(true)
	must(t, err)
	p := ExternalParams{Credential: credential("joiner"), SelfRemoves: [][]byte{first, second}}
	st, err := ExternalJoin(joiner.cfg, info, nil, p)
	must(t, err)
	if len(st.Effects.Removed) != 2 || len(st.Effects.Committed) != 2 {
		t.Fatalf("effects %+v", st.Effects)
	}
	for _, c := range room[:2] {
		c.process(st.Commit)
	}
	for _, c := range room[2:] {
		if e := c.process(st.Commit); !e.SelfRemoved {
			t.Fatal("did not leave")
		}
	}
	joiner.st, err = st.Apply(nil)
	must(t, err)
	everybodyTalks(t, []*client{room[0], room[1], joiner})
}

func TestWhoLeftComesBackByTheCommitThatTakesTheLeave(t *testing.T) {
	room := newRoom(t, 3)
	msg := room[2].leave()
	room[0].process(msg)
	room[1].process(msg)
	info, err := room[0].st.GroupInfo(true)
	must(t, err)
	st, err := ExternalJoin(room[2].cfg, info, nil, ExternalParams{Credential: credential("c2"), ResyncOwn: true, SelfRemoves: [][]byte{msg}})
	must(t, err)
	room[0].process(st.Commit)
	room[1].process(st.Commit)
	room[2].st, err = st.Apply(nil)
	must(t, err)
	everybodyTalks(t, room)
}

func TestASelfRemoveThatIsNotRightIsRefused(t *testing.T) {
	room := newRoom(t, 4)
	self := &mls.Proposal{Type: mls.ProposalSelfRemove}
	t.Run("by value", func(t *testing.T) {
		room[1].refuses(room[0].forge(func(c *mls.Content) {
			byValue(self)(c)
			c.Commit.Path = &mls.UpdatePath{Leaf: room[0].st.pub.Member(0)}
		}), mls.ErrCommit)
	})
	t.Run("by value in an external commit", func(t *testing.T) {
		_, _, err := room[1].st.Process(externalCommit(t, room, newEvil(t, "evil"), mls.ProposalOrRef{Proposal: self}))
		if !errors.Is(err, mls.ErrCommit) || !strings.Contains(err.Error(), "self-remove by value") {
			t.Fatal(err)
		}
	})
	msg := room[2].leave()
	room[0].process(msg)
	room[1].process(msg)
	room[1].process(msg) // again: nothing new
	ref := room[1].st.pub.PendingRefs()[0]
	t.Run("a second one", func(t *testing.T) {
		room[1].refuses(room[2].forge(func(c *mls.Content) {
			c.Type, c.Commit, c.ConfirmationTag, c.Proposal, c.AAD = mls.ContentProposal, nil, nil, self, []byte("again")
		}), mls.ErrProposal)
		if n, _, err := room[2].st.ProposeSelfRemove([]byte("again")); n != nil || !errors.Is(err, mls.ErrProposal) {
			t.Fatalf("made by ourselves: %v", err)
		}
	})
	withRef := func(by *client, more ...*mls.Proposal) []byte {
		return by.forge(func(c *mls.Content) {
			byValue(more...)(c)
			c.Commit.Proposals = append(c.Commit.Proposals, mls.ProposalOrRef{Ref: ref})
			c.Commit.Path = &mls.UpdatePath{Leaf: by.st.pub.Member(by.st.priv.leaf)}
		})
	}
	t.Run("with a Remove of the same leaf", func(t *testing.T) { room[1].refuses(withRef(room[0], remove(2)), mls.ErrCommit) })
	t.Run("committed by who leaves", func(t *testing.T) { room[1].refuses(withRef(room[2]), mls.ErrCommit) })
	t.Run("without a path", func(t *testing.T) {
		room[1].refuses(room[0].forge(func(c *mls.Content) { c.Commit.Proposals = []mls.ProposalOrRef{{Ref: ref}} }), mls.ErrPathRequired)
	})
	t.Run("private", func(t *testing.T) {
		c := room[3]
		m := &mls.Content{WireFormat: mls.WirePrivateMessage, GroupID: c.st.GroupID(), Epoch: c.st.Epoch(),
			Sender: mls.Sender{Type: mls.SenderMember, Index: 3}, Type: mls.ContentProposal, Proposal: self}
		must(t, m.Sign(c.st.pub.Suite(), c.cfg.Signer, c.st.pub.Context()))
		_, private, err := c.st.frame(m)
		must(t, err)
		room[1].refuses(private, mls.ErrProposal)
	})
	t.Run("from outside", func(t *testing.T) {
		joiner := newClient(t, "joiner")
		info, err := room[0].st.GroupInfo(true)
		must(t, err)
		notLeaving, other, err := room[1].st.ProposeRemove(3, nil)
		must(t, err)
		_ = notLeaving
		flipped := append([]byte{}, msg...)
		flipped[len(flipped)-40] ^= 1 // the signature; the tag is at the end
		for name, c := range map[string]struct {
			msg  []byte
			want error
		}{"a remove": {other, mls.ErrProposal}, "a broken signature": {flipped, mls.ErrCrypto}, "a commit": {withRef(room[0]), mls.ErrProposal},
			"a welcome": {joiner.kp, mls.ErrWireFormat}, "nothing": {nil, mls.ErrDecode}} {
			_, err := ExternalJoin(joiner.cfg, info, nil, ExternalParams{Credential: credential("joiner"), SelfRemoves: [][]byte{c.msg}})
			if !errors.Is(err, c.want) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	})
}

func TestASelfRemoveNeedsAGroupInWhichEverybodyKnowsIt(t *testing.T) {
	room := newRoom(t, 3)
	old := newClient(t, "old")
	old.kp = old.keyPackage(func(k *mls.KeyPackage) { k.Leaf.Capabilities.Proposals = nil })
	kp, err := mls.ParseKeyPackage(old.kp)
	must(t, err)
	old.kps.KeyPackage, old.kps.Ref = old.kp, kp.Ref()
	st := room[0].commit(CommitParams{Adds: [][]byte{old.kp}})
	room[1].process(st.Commit)
	room[2].process(st.Commit)
	old.join(st)
	room[1].refuses(room[2].forgeProposal(&mls.Proposal{Type: mls.ProposalSelfRemove}), mls.ErrProposal)
	if n, _, err := room[2].st.ProposeSelfRemove(nil); n != nil || !errors.Is(err, mls.ErrProposal) {
		t.Fatal(err)
	}
	everybodyTalks(t, append(room, old))
}
