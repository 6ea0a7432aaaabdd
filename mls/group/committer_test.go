package group

import (
	"errors"
	"testing"

	"github.com/entente-im/entente/mls"
)

// evilCommit is a Commit with everything right but what edit does to the path
// after it was made; the confirmation tag fits.
func (c *client) evilCommit(edit func(*newPath, *mls.StagedCommit)) []byte {
	c.t.Helper()
	s, g := c.st.pub.Suite(), c.st.pub
	by := mls.Sender{Type: mls.SenderMember, Index: uint32(c.st.priv.leaf)}
	a, err := g.Apply(nil, by)
	must(c.t, err)
	st := &mls.StagedCommit{Applied: a}
	p, err := makePath(s, c.st.GroupID(), st, *g.Member(c.st.priv.leaf), c.st.priv, c.cfg.Signer)
	must(c.t, err)
	edit(p, st)
	ctx := g.ProvisionalContext(a)
	must(c.t, p.encrypt(s, st, ctx.Encode()))
	m := &mls.Content{WireFormat: mls.WirePublicMessage, GroupID: c.st.GroupID(), Epoch: c.st.Epoch(), Sender: by,
		Type: mls.ContentCommit, Commit: &mls.Commit{Path: p.update}}
	st.Path = p.update
	must(c.t, m.Sign(s, c.cfg.Signer, g.Context()))
	must(c.t, g.Finish(st, m))
	e := advance(s, c.st.secrets.initSecret, p.commitSecret, noPSK(s), st.Next.Context())
	m.ConfirmationTag = s.MAC(e.confirmation, st.Next.GroupContext().ConfirmedTranscriptHash)
	tag := m.MembershipTag(s, c.st.secrets.membership, g.Context())
	return (&mls.PublicMessage{Content: m, MembershipTag: tag}).Encode()
}

func TestAPathThatDoesNotFitIsRefused(t *testing.T) {
	room := newRoom(t, 5)
	relabel := func(p *newPath, st *mls.StagedCommit, edit func(*mls.LeafNode)) {
		leaf := *p.update.Leaf
		edit(&leaf)
		must(t, leaf.Sign(room[0].st.pub.Suite(), room[0].cfg.Signer, room[0].st.GroupID(), 0))
		p.update.Leaf = &leaf
		st.Applied.Tree.SetLeaf(0, &leaf)
	}
	for name, c := range map[string]struct {
		edit func(*newPath, *mls.StagedCommit)
		want error
	}{
		"secret for another key": {func(p *newPath, st *mls.StagedCommit) { p.secrets[st.Steps[0].Node] = mls.Random(32) }, mls.ErrCrypto},
		"short secret":           {func(p *newPath, st *mls.StagedCommit) { p.secrets[st.Steps[0].Node] = mls.Random(16) }, mls.ErrCrypto},
		"wrong parent hash": {func(p *newPath, st *mls.StagedCommit) {
			relabel(p, st, func(l *mls.LeafNode) { l.ParentHash = mls.Random(32) })
		}, mls.ErrCommit},
		"leaf of an update": {func(p *newPath, st *mls.StagedCommit) {
			relabel(p, st, func(l *mls.LeafNode) { l.Source = mls.SourceUpdate })
		}, mls.ErrCommit},
		"leaf signature": {func(p *newPath, st *mls.StagedCommit) {
			leaf := *p.update.Leaf
			leaf.Signature = make([]byte, 64)
			p.update.Leaf = &leaf
			st.Applied.Tree.SetLeaf(0, &leaf)
		}, mls.ErrLeaf},
		"one node too few": {func(p *newPath, st *mls.StagedCommit) {
			p.update.Nodes, st.Steps = p.update.Nodes[:1], st.Steps[:1]
		}, mls.ErrCommit},
		"one node too many": {func(p *newPath, st *mls.StagedCommit) {
			p.update.Nodes = append(p.update.Nodes, mls.UpdatePathNode{EncryptionKey: mls.Random(32)})
		}, mls.ErrCommit},
		"a secret too many": {func(p *newPath, st *mls.StagedCommit) {
			p.update.Nodes[0].Secrets = append(p.update.Nodes[0].Secrets, mls.HPKECiphertext{KEMOutput: make([]byte, 32)})
		}, mls.ErrCommit},
	} {
		t.Run(name, func(t *testing.T) {
			room[1].t = t
			room[1].refuses(room[0].evilCommit(c.edit), c.want)
		})
	}
	room[1].t = t
	room[1].process(room[0].evilCommit(func(*newPath, *mls.StagedCommit) {}))
}

func TestAWelcomeWithWrongSecretsOrTagIsRefused(t *testing.T) {
	room := newRoom(t, 3)
	x := newClient(t, "x")
	stage := func(edit func(*builder)) ([]byte, []byte) {
		s := room[0].st
		list, err := s.proposals(CommitParams{Adds: [][]byte{x.kp}})
		must(t, err)
		by := mls.Sender{Type: mls.SenderMember}
		a, err := s.pub.Apply(list, by)
		must(t, err)
		c := &mls.Content{WireFormat: mls.WirePublicMessage, GroupID: s.GroupID(), Epoch: s.Epoch(), Sender: by,
			Type: mls.ContentCommit, Commit: commitOf(list)}
		b := &builder{cfg: s.cfg, pub: s.pub, old: s.priv, init: s.secrets.initSecret, content: c, applied: a, leaf: *s.pub.Member(0)}
		must(t, b.build())
		edit(b)
		w, err := b.welcome(false)
		must(t, err)
		return w, b.next.Tree()
	}
	common := mls.CommonAncestor(0, mls.LeafIndex(3).Node())
	for name, edit := range map[string]func(*builder){
		"confirmation tag":  func(b *builder) { b.next.pub = b.next.pub.WithTag(mls.Random(32)) },
		"empty tag":         func(b *builder) { b.next.pub = b.next.pub.WithTag(nil) },
		"other path secret": func(b *builder) { b.path.secrets[common] = mls.Random(32) },
		"short path secret": func(b *builder) { b.path.secrets[common] = mls.Random(3) },
		"short joiner":      func(b *builder) { b.epoch.joiner = mls.Random(16) },
		"signed by another": func(b *builder) { b.next.cfg.Signer = room[1].cfg.Signer },
	} {
		t.Run(name, func(t *testing.T) {
			w, tree := stage(edit)
			if st, _, err := Join(x.cfg, w, tree, x.kps); err == nil || st != nil {
				t.Fatal("joined")
			}
		})
	}
	w, tree := stage(func(*builder) {})
	if _, _, err := Join(x.cfg, w, tree, newClient(t, "y").kps); !errors.Is(err, ErrNotForUs) {
		t.Fatal(err)
	}
	_, otherTree := stage(func(*builder) {})
	if _, _, err := Join(x.cfg, w, otherTree, x.kps); !errors.Is(err, mls.ErrTree) {
		t.Fatal(err)
	}
	wrong := x.cfg
	wrong.Signer = room[1].cfg.Signer
	if _, _, err := Join(wrong, w, tree, x.kps); !errors.Is(err, mls.ErrSender) {
		t.Fatal(err)
	}
	if _, _, err := Join(x.cfg, w, tree, x.kps); err != nil {
		t.Fatal(err)
	}
}

func TestABundleDescribesExactlyTheNextEpoch(t *testing.T) {
	room := newRoom(t, 3)
	hub := hubOf(t, room[0])
	st := room[0].commit(CommitParams{})
	room[1].process(st.Commit)
	next, _, err := hub.Process(st.Commit)
	must(t, err)
	must(t, next.CheckBundle(st.GroupInfo, st.Tree))
	republished, err := room[1].st.GroupInfo(true)
	must(t, err)
	must(t, next.CheckGroupInfo(republished, nil))
	if err := next.CheckBundle(republished, nil); !errors.Is(err, mls.ErrGroupInfo) {
		t.Fatalf("bundle of another member: %v", err)
	}
	for name, edit := range map[string]func(*mls.GroupInfo){
		"tag":             func(g *mls.GroupInfo) { g.ConfirmationTag = mls.Random(32) },
		"epoch":           func(g *mls.GroupInfo) { g.Context.Epoch++ },
		"extensions":      func(g *mls.GroupInfo) { g.Context.Extensions = []mls.Extension{{Type: mls.ExtensionRoom}} },
		"no external key": func(g *mls.GroupInfo) { g.Extensions = nil },
		"bad external key": func(g *mls.GroupInfo) {
			g.Extensions = []mls.Extension{mls.ExternalPubExtension(make([]byte, 32))}
		},
		"tree": func(g *mls.GroupInfo) {
			g.Extensions = append(g.Extensions, mls.Extension{Type: mls.ExtensionRatchetTree, Data: hub.Tree()})
		},
		"signer": func(g *mls.GroupInfo) { g.Signer = 9 },
	} {
		m, err := mls.ParseMessage(st.GroupInfo)
		must(t, err)
		edit(m.GroupInfo)
		must(t, m.GroupInfo.Sign(hub.Suite(), room[0].cfg.Signer))
		if err := next.CheckBundle(m.Encode(), nil); !errors.Is(err, mls.ErrGroupInfo) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := next.CheckBundle(st.GroupInfo, hub.Tree()); !errors.Is(err, mls.ErrGroupInfo) {
		t.Fatalf("the old tree: %v", err)
	}
	must(t, hub.CheckGroupInfo(must1(room[2].st.GroupInfo(false))(t), nil))
}

func must1[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T { must(t, err); return v }
}
