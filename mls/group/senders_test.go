package group

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/entente-im/entente/mls"
)

// tellsNoSecret looks for the state's secrets in an error's text.
func (c *client) tellsNoSecret(err error) {
	c.t.Helper()
	text := strings.ToLower(fmt.Sprintf("%v %+v %#v", err, err, err))
	secrets := [][]byte{c.st.own.app.secret, c.st.own.hs.secret}
	for _, f := range c.st.secrets.fields() {
		secrets = append(secrets, *f)
	}
	for _, k := range c.st.priv.keys {
		secrets = append(secrets, k)
	}
	for _, u := range c.st.updates {
		secrets = append(secrets, u.private)
	}
	for _, s := range secrets {
		for _, form := range []string{string(s), hex.EncodeToString(s), strings.ToLower(base64.StdEncoding.EncodeToString(s)), strings.Trim(fmt.Sprint(s), "[]")} {
			if strings.Contains(text, form) {
				c.t.Fatal("the error tells a secret")
			}
		}
	}
}

func TestTheFirstEpochIsRandom(t *testing.T) {
	a := newClient(t, "a")
	a.create()
	first := a.st
	a.create()
	if string(first.EpochAuthenticator()) == string(a.st.EpochAuthenticator()) {
		t.Fatal("two groups have one first epoch")
	}
	zero := fromEpoch(a.st.pub.Suite(), make([]byte, 32))
	if string(zero.authenticator) == string(a.st.EpochAuthenticator()) {
		t.Fatal("the first epoch is that of a zero secret")
	}
}

func TestACommitThatNeedsAPathIsRefusedWithoutOne(t *testing.T) {
	first := newClient(t, "first")
	first.create()
	hub := hubOf(t, first)
	if _, _, err := hub.Process(first.forge(byValue(addOf(t, newClient(t, "x"))))); err == nil {
		t.Fatal("a first Commit without a path was accepted")
	}
	room := newRoom(t, 3)
	room[1].refuses(room[0].forge(byValue()), mls.ErrPathRequired)
	room[1].refuses(room[0].forge(byValue(remove(2))), mls.ErrPathRequired)
	room[1].refuses(room[0].forge(byValue(&mls.Proposal{Type: mls.ProposalGroupContextExtensions})), mls.ErrPathRequired)
}

func TestOnlyMembersCommitAndOnlyJoinersFromOutside(t *testing.T) {
	room := newRoom(t, 3)
	outsider := newEvil(t, "outsider")
	outsider.st = room[1].st // has everything public
	outside := func(edit func(*mls.Content)) []byte {
		s := room[0].st.pub.Suite()
		c := &mls.Content{WireFormat: mls.WirePublicMessage, GroupID: room[0].st.GroupID(), Epoch: room[0].st.Epoch(),
			Type: mls.ContentCommit, Commit: &mls.Commit{}, ConfirmationTag: make([]byte, 32)}
		edit(c)
		if c.Signature == nil {
			must(t, c.Sign(s, outsider.cfg.Signer, room[0].st.pub.Context()))
		}
		return (&mls.PublicMessage{Content: c, MembershipTag: make([]byte, 32)}).Encode()
	}
	for name, c := range map[string]struct {
		edit func(*mls.Content)
		want error
	}{
		"commit of an external sender":       {func(c *mls.Content) { c.Sender = mls.Sender{Type: mls.SenderExternal} }, mls.ErrSender},
		"commit of a new member's proposal":  {func(c *mls.Content) { c.Sender.Type = mls.SenderNewMemberProposal }, mls.ErrPolicy},
		"external commit without path":       {func(c *mls.Content) { c.Sender.Type = mls.SenderNewMemberCommit }, mls.ErrPathRequired},
		"member's commit signed by another":  {func(c *mls.Content) { c.Sender.Type = mls.SenderMember }, mls.ErrCrypto},
		"member's commit without signature":  {func(c *mls.Content) { c.Sender.Type = mls.SenderMember; c.Signature = []byte{} }, mls.ErrCrypto},
		"commit of a leaf that is not there": {func(c *mls.Content) { c.Sender = mls.Sender{Type: mls.SenderMember, Index: 1 << 30} }, mls.ErrSender},
		"another group":                      {func(c *mls.Content) { c.Sender.Type = mls.SenderMember; c.GroupID = []byte("other") }, mls.ErrWrongGroup},
	} {
		t.Run(name, func(t *testing.T) {
			msg := outside(c.edit)
			room[0].refuses(msg, c.want)
			if _, _, err := hubOf(t, room[0]).Process(msg); err == nil {
				t.Fatal("the hub accepted it")
			}
		})
	}
}

func TestApplicationDataIsNeverPublic(t *testing.T) {
	room := newRoom(t, 2)
	msg := room[0].forge(func(c *mls.Content) {
		c.Type, c.Commit, c.ConfirmationTag, c.Application = mls.ContentApplication, nil, nil, []byte("x")
	})
	room[1].refuses(msg, mls.ErrSender)
}

// externalCommit makes an external Commit with further proposals, as who checks
// nothing.
func externalCommit(t *testing.T, room []*client, by *client, list ...mls.ProposalOrRef) []byte {
	t.Helper()
	g, s := room[0].st.pub, room[0].st.pub.Suite()
	_, pub, err := s.DeriveKeyPair(room[0].st.secrets.external)
	must(t, err)
	out, init, err := s.ExternalInitSend(pub)
	must(t, err)
	sender := mls.Sender{Type: mls.SenderNewMemberCommit}
	a, err := g.Apply([]mls.Sent{{Proposal: &mls.Proposal{Type: mls.ProposalExternalInit, KEMOutput: out}, Sender: sender}}, sender)
	must(t, err)
	entries := append([]mls.ProposalOrRef{{Proposal: &mls.Proposal{Type: mls.ProposalExternalInit, KEMOutput: out}}}, list...)
	leaf, err := newLeaf(s, by.cfg.Signer, credential(by.name), nil, nil)
	must(t, err)
	must(t, a.AddJoiner(leaf))
	c := &mls.Content{WireFormat: mls.WirePublicMessage, GroupID: g.GroupID(), Epoch: g.Epoch(), Sender: sender,
		Type: mls.ContentCommit, Commit: &mls.Commit{Proposals: entries}}
	b := &builder{cfg: by.cfg, pub: g, init: init, content: c, applied: a, leaf: *leaf}
	must(t, b.build())
	return (&mls.PublicMessage{Content: c}).Encode()
}

func TestAnExternalCommitDoesNothingButJoinOrResync(t *testing.T) {
	room := newRoom(t, 4)
	evil := newEvil(t, "evil")
	n, msg, err := room[0].st.ProposeRemove(2, nil)
	must(t, err)
	room[0].st = n
	room[1].process(msg)
	ref := room[1].st.pub.PendingRefs()[0]
	for name, list := range map[string][]mls.ProposalOrRef{
		"add":          {{Proposal: addOf(t, newClient(t, "x"))}},
		"two removes":  {{Proposal: remove(1)}, {Proposal: remove(2)}},
		"extensions":   {{Proposal: &mls.Proposal{Type: mls.ProposalGroupContextExtensions}}},
		"second init":  {{Proposal: &mls.Proposal{Type: mls.ProposalExternalInit, KEMOutput: make([]byte, 32)}}},
		"by reference": {{Ref: ref}},
		"re-init":      {{Proposal: &mls.Proposal{Type: mls.ProposalReInit, ReInit: &mls.ReInit{Version: 1, Suite: 1}}}},
		"update":       {{Proposal: &mls.Proposal{Type: mls.ProposalUpdate, Update: room[0].st.pub.Member(0)}}},
	} {
		t.Run(name, func(t *testing.T) {
			want := mls.ErrCommit
			if name == "re-init" {
				want = mls.ErrReInit
			}
			room[1].refuses(externalCommit(t, room, evil, list...), want)
		})
	}
	t.Run("evicts another member", func(t *testing.T) {
		room[1].refuses(externalCommit(t, room, evil, mls.ProposalOrRef{Proposal: remove(2)}), mls.ErrSender)
	})
	t.Run("by itself it is accepted", func(t *testing.T) {
		if _, _, err := room[1].st.Process(externalCommit(t, room, evil)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("no external init", func(t *testing.T) {
		room[1].refuses(room[0].forge(byValue(&mls.Proposal{Type: mls.ProposalExternalInit, KEMOutput: make([]byte, 32)})), mls.ErrPathRequired)
	})
}

func TestACommitCannotTouchItsCommitterOrALeafTwice(t *testing.T) {
	room := newRoom(t, 4)
	withPath := func(list ...*mls.Proposal) func(*mls.Content) {
		return func(c *mls.Content) {
			byValue(list...)(c)
			leaf := *room[0].st.pub.Member(0)
			c.Commit.Path = &mls.UpdatePath{Leaf: &leaf}
		}
	}
	leaf := room[0].st.pub.Member(0)
	add := addOf(t, newClient(t, "x"))
	for name, c := range map[string]struct {
		list []*mls.Proposal
		want error
	}{
		"removes itself":      {[]*mls.Proposal{remove(0)}, mls.ErrCommit},
		"own update by value": {[]*mls.Proposal{{Type: mls.ProposalUpdate, Update: leaf}}, mls.ErrCommit},
		"removes twice":       {[]*mls.Proposal{remove(2), remove(2)}, mls.ErrCommit},
		"removes a blank":     {[]*mls.Proposal{remove(77)}, mls.ErrProposal},
		"two extensions":      {[]*mls.Proposal{{Type: mls.ProposalGroupContextExtensions}, {Type: mls.ProposalGroupContextExtensions}}, mls.ErrCommit},
		"extensions":          {[]*mls.Proposal{{Type: mls.ProposalGroupContextExtensions}}, mls.ErrPolicy},
		"pre-shared key":      {[]*mls.Proposal{{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{ID: []byte("x")}}}, mls.ErrPolicy},
		"re-init":             {[]*mls.Proposal{{Type: mls.ProposalReInit, ReInit: &mls.ReInit{Version: 1, Suite: 1}}}, mls.ErrReInit},
		"re-init and more":    {[]*mls.Proposal{remove(2), {Type: mls.ProposalReInit, ReInit: &mls.ReInit{Version: 1, Suite: 1}}}, mls.ErrReInit},
		"external init":       {[]*mls.Proposal{{Type: mls.ProposalExternalInit, KEMOutput: []byte("x")}}, mls.ErrCommit},
		"one client twice":    {[]*mls.Proposal{add, add}, mls.ErrCommit},
		"a member again":      {[]*mls.Proposal{addOf(t, room[2])}, mls.ErrCommit},
	} {
		t.Run(name, func(t *testing.T) {
			msg := room[0].forge(withPath(c.list...))
			room[1].refuses(msg, c.want)
			if _, _, err := hubOf(t, room[0]).Process(msg); err == nil {
				t.Fatal("the hub accepted it")
			}
		})
	}
	t.Run("own update by reference", func(t *testing.T) {
		up := room[0].update(func(*mls.LeafNode) {})
		room[1].process(up)
		ref := room[1].st.pub.PendingRefs()[0]
		msg := room[0].forge(func(c *mls.Content) {
			withPath()(c)
			c.Commit.Proposals = []mls.ProposalOrRef{{Ref: ref}}
		})
		room[1].refuses(msg, mls.ErrCommit)
		rm := room[2].forge(func(c *mls.Content) {
			withPath(remove(0))(c)
			c.Commit.Proposals = append(c.Commit.Proposals, mls.ProposalOrRef{Ref: ref})
		})
		room[1].refuses(rm, mls.ErrCommit)
		twice := room[2].forge(func(c *mls.Content) {
			withPath()(c)
			c.Commit.Proposals = []mls.ProposalOrRef{{Ref: ref}, {Ref: ref}}
		})
		room[1].refuses(twice, mls.ErrCommit)
		unknown := room[2].forge(func(c *mls.Content) {
			withPath()(c)
			c.Commit.Proposals = []mls.ProposalOrRef{{Ref: []byte("never sent")}}
		})
		room[1].refuses(unknown, mls.ErrUnknownProposal)
	})
	t.Run("an old update of another member", func(t *testing.T) {
		old := room[2].update(func(*mls.LeafNode) {})
		m, err := mls.ParseMessage(old)
		must(t, err)
		replay := m.PublicMessage.Content.Proposal
		room[1].refuses(room[3].forge(withPath(replay)), mls.ErrCommit)
	})
}

func TestAMemberLeavesByAProposalThatAnotherCommits(t *testing.T) {
	room := newRoom(t, 3)
	n, msg, err := room[2].st.ProposeRemove(room[2].st.OwnLeaf(), nil)
	must(t, err)
	room[2].st = n
	room[0].process(msg)
	room[1].process(msg)
	st := room[0].commit(CommitParams{ByReference: true})
	room[1].process(st.Commit)
	if e := room[2].process(st.Commit); !e.SelfRemoved {
		t.Fatal("did not leave")
	}
	everybodyTalks(t, room[:2])
}

func TestTheHubProposesRemovesAndNothingElse(t *testing.T) {
	hubClient := newClient(t, "hub")
	s, err := mls.LookupSuite(testSuite)
	must(t, err)
	key, err := s.CheckSigner(hubClient.cfg.Signer)
	must(t, err)
	room := newRoom(t, 3, mls.ExternalSendersExtension([]mls.ExternalSender{{SignatureKey: key, Credential: credential("hub")}}))
	hub := hubOf(t, room[0])
	msg, err := hub.NewExternalRemove(hubClient.cfg.Signer, 0, 2, []byte("revocation"))
	must(t, err)
	if _, err := hub.NewExternalRemove(room[1].cfg.Signer, 0, 2, nil); err == nil {
		t.Fatal("signed with a key that is not the hub's")
	}
	for _, c := range room {
		e := c.process(msg)
		if e.Sender.Type != mls.SenderExternal || string(e.AAD) != "revocation" {
			t.Fatalf("effects %+v", e)
		}
	}
	sendAs := func(index uint32, p *mls.Proposal) []byte {
		c := &mls.Content{WireFormat: mls.WirePublicMessage, GroupID: hub.GroupID(), Epoch: hub.Epoch(),
			Sender: mls.Sender{Type: mls.SenderExternal, Index: index}, Type: mls.ContentProposal, Proposal: p}
		must(t, c.Sign(s, hubClient.cfg.Signer, nil))
		return (&mls.PublicMessage{Content: c}).Encode()
	}
	room[1].refuses(sendAs(0, addOf(t, newClient(t, "x"))), mls.ErrSender)
	room[1].refuses(sendAs(0, &mls.Proposal{Type: mls.ProposalGroupContextExtensions}), mls.ErrSender)
	room[1].refuses(sendAs(1, remove(2)), mls.ErrSender)
	room[1].refuses(sendAs(0, remove(9)), mls.ErrProposal)
	st := room[0].commit(CommitParams{ByReference: true})
	room[1].process(st.Commit)
	if e := room[2].process(st.Commit); !e.SelfRemoved {
		t.Fatal("not removed")
	}
	everybodyTalks(t, room[:2])
}
