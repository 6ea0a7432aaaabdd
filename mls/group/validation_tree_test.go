package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

// treeRule is a rule about a ratchet tree as a whole (RFC 9420 §7.9.2,
// §12.4.3.1, §12.4.3.3). The tree hash is that of the tree with the fault, and
// the GroupInfo is signed with it: only a look at the tree finds it.
type treeRule struct {
	name string
	plan func(t *testing.T, w *world, x *client) plan // instead of the Add of x alone
	edit func(t *testing.T, w *world, list []*rawNode) []*rawNode
	raw  func(tree []byte) []byte // the bytes; the hash stays that of the good tree
	want fault
}

// withUnmerged is the node over leaves 4 to 7, of which leaf 4 is unmerged.
const withUnmerged = 11

func parentEdit(x int, f func(w *world, p *mls.ParentNode)) func(*testing.T, *world, []*rawNode) []*rawNode {
	return func(t *testing.T, w *world, list []*rawNode) []*rawNode {
		if list[x].parent == nil {
			t.Fatalf("node %d is no parent node", x)
		}
		f(w, list[x].parent)
		return list
	}
}

func unmerged(leaves ...mls.LeafIndex) func(*testing.T, *world, []*rawNode) []*rawNode {
	return parentEdit(withUnmerged, func(_ *world, p *mls.ParentNode) { p.Unmerged = leaves })
}

func raw(f func([]*rawNode) []*rawNode) func([]byte) []byte {
	return func(tree []byte) []byte { return encodeRaw(f(rawTree(tree))) }
}

var (
	notLinked    = fault{mls.ErrTree, "not parent-hash valid"}
	notBelow     = fault{mls.ErrTree, "as unmerged"}
	notSorted    = fault{mls.ErrDecode, "unmerged leaves not increasing"}
	wrongKind    = fault{mls.ErrTree, "node of the wrong kind"}
	otherHash    = fault{mls.ErrTree, "hash differs"}
	treeKeyTwice = fault{mls.ErrTree, "key that is used already"}
)

var treeRules = []treeRule{
	{name: "tree-parent-hash", want: notLinked, edit: parentEdit(withUnmerged, func(_ *world, p *mls.ParentNode) { p.ParentHash = mls.Random(32) })},
	{name: "tree-parent-hash-of-the-root", want: notLinked, edit: parentEdit(7, func(_ *world, p *mls.ParentNode) { p.ParentHash = mls.Random(32) })},
	{name: "tree-parent-hash-in-the-path", want: notLinked, edit: parentEdit(3, func(_ *world, p *mls.ParentNode) { p.ParentHash = mls.Random(32) })},
	{name: "tree-parent-hash-empty", want: notLinked, edit: parentEdit(3, func(_ *world, p *mls.ParentNode) { p.ParentHash = nil })},
	{name: "tree-parent-hash-of-the-leaf", want: notLinked, plan: func(_ *testing.T, _ *world, x *client) plan {
		return plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}, leaf: func(_ *world, d *draft) { d.leaf.ParentHash = mls.Random(32) }}
	}},
	{name: "tree-parent-key", want: notLinked, edit: parentEdit(withUnmerged, func(w *world, p *mls.ParentNode) {
		_, p.EncryptionKey, _ = w.hub.Suite().GenerateKeyPair()
	})},
	{name: "tree-parent-key-short", want: fault{mls.ErrTree, "key of node"}, edit: parentEdit(3, func(_ *world, p *mls.ParentNode) { p.EncryptionKey = p.EncryptionKey[1:] })},
	{name: "tree-parent-key-zero", want: fault{mls.ErrTree, "key of node"}, edit: parentEdit(3, func(_ *world, p *mls.ParentNode) {
		p.EncryptionKey = endingIn(make([]byte, 32))(p.EncryptionKey)
	})},
	{name: "tree-parent-key-of-a-leaf", want: treeKeyTwice, plan: keyInUse(func(w *world, _ *newPath) []byte { return w.hub.Member(memberKey).EncryptionKey })},
	{name: "tree-parent-key-of-a-parent", want: treeKeyTwice, plan: keyInUse(func(w *world, _ *newPath) []byte { return w.hub.RatchetTree().NodeKey(withUnmerged) })},
	{name: "tree-unmerged-not-below", want: notBelow, edit: unmerged(0, 4)},
	{name: "tree-unmerged-blank", want: notBelow, edit: unmerged(4, 7)},
	{name: "tree-unmerged-outside", want: notBelow, edit: unmerged(4, 1<<30)},
	{name: "tree-unmerged-dropped", want: notLinked, edit: unmerged()},
	{name: "tree-unmerged-one-more", want: notLinked, edit: unmerged(4, 6)},
	{name: "tree-unmerged-not-listed-between", want: fault{mls.ErrTree, "node 11 does not list leaf 4"}, edit: func(t *testing.T, w *world, list []*rawNode) []*rawNode {
		list[7].parent.Unmerged = []mls.LeafIndex{4}
		return unmerged()(t, w, list)
	}},
	{name: "tree-node-blanked", want: notLinked, edit: func(_ *testing.T, _ *world, list []*rawNode) []*rawNode {
		list[3] = &rawNode{}
		return list
	}},
	{name: "tree-node-added", want: notLinked, edit: func(t *testing.T, w *world, list []*rawNode) []*rawNode {
		if list[5].parent != nil {
			t.Fatal("node 5 is not blank")
		}
		_, key, _ := w.hub.Suite().GenerateKeyPair()
		list[5] = &rawNode{parent: &mls.ParentNode{EncryptionKey: key}}
		return list
	}},
	{name: "tree-leaf-blanked", want: notLinked, edit: func(_ *testing.T, _ *world, list []*rawNode) []*rawNode {
		list[10] = &rawNode{}
		return list
	}},
	{name: "tree-leaf-added", want: notLinked, edit: func(t *testing.T, _ *world, list []*rawNode) []*rawNode {
		y := newcomer(t, "y").keyPackageOf()
		return append(list, &rawNode{}, &rawNode{leaf: y.Leaf.Encode()})
	}},
	{name: "tree-leaves-swapped", want: notLinked, edit: func(_ *testing.T, _ *world, list []*rawNode) []*rawNode {
		list[8], list[12] = list[12], list[8]
		return list
	}},
	{name: "tree-unmerged-not-sorted", want: notSorted, raw: rawUnmerged(6, 4)},
	{name: "tree-unmerged-twice", want: notSorted, raw: rawUnmerged(4, 4)},
	{name: "tree-ends-in-a-blank", want: fault{mls.ErrTree, "ends in a blank node"}, raw: raw(func(l []*rawNode) []*rawNode { return append(l, &rawNode{}) })},
	{name: "tree-ends-in-many-blanks", want: fault{mls.ErrTree, "ends in a blank node"}, raw: raw(func(l []*rawNode) []*rawNode {
		return append(l, &rawNode{}, &rawNode{}, &rawNode{})
	})},
	{name: "tree-without-nodes", want: fault{mls.ErrTree, "ends in a blank node"}, raw: func([]byte) []byte { return []byte{0} }},
	{name: "tree-of-blanks", want: fault{mls.ErrTree, "ends in a blank node"}, raw: func([]byte) []byte { return []byte{3, 0, 0, 0} }},
	{name: "tree-parent-at-a-leaf", want: wrongKind, raw: raw(func(l []*rawNode) []*rawNode { l[2] = l[3]; return l })},
	{name: "tree-leaf-at-a-parent", want: wrongKind, raw: raw(func(l []*rawNode) []*rawNode { l[3] = l[2]; return l })},
	{name: "tree-node-type", want: wrongKind, raw: func([]byte) []byte { return []byte{2, 1, 3} }},
	{name: "tree-optional-marker", want: infoMalformed, raw: func([]byte) []byte { return []byte{2, 2, 1} }},
	{name: "tree-empty", want: fault{mls.ErrGroupInfo, "no ratchet tree"}, raw: func([]byte) []byte { return []byte{} }},
	{name: "tree-truncated", want: infoMalformed, raw: func(b []byte) []byte { return b[:len(b)-1] }},
	{name: "tree-too-long", want: infoMalformed, raw: func(b []byte) []byte { return append(b, 0) }},
	{name: "tree-too-wide", want: fault{mls.ErrLimit, "tree wider than"}, raw: func([]byte) []byte {
		list := make([]*rawNode, 2*mls.MaxMembers+2)
		for i := range list {
			list[i] = &rawNode{}
		}
		return encodeRaw(list)
	}},
	{name: "tree-of-another-epoch", want: otherHash, raw: func([]byte) []byte { return worlds[testSuite].hub.Tree() }},
	{name: "tree-with-one-leaf-less", want: otherHash, raw: raw(func(l []*rawNode) []*rawNode { l[4] = &rawNode{}; return l })},
}

func rawUnmerged(leaves ...mls.LeafIndex) func([]byte) []byte {
	return raw(func(l []*rawNode) []*rawNode { l[withUnmerged].parent.Unmerged = leaves; return l })
}

func keyInUse(key func(*world, *newPath) []byte) func(*testing.T, *world, *client) plan {
	return func(t *testing.T, w *world, x *client) plan {
		p := rekeyed(0, key)(t, w).plan
		p.list = []mls.Sent{byForger(add(x.keyPackageOf()))}
		return p
	}
}

// tampered makes the GroupInfo's edit that puts the wrong tree in, or fetches
// it beside, where the GroupInfo has none.
func (r treeRule) tampered(t *testing.T, w *world, good []byte) (tree []byte, hash func(*mls.GroupInfo)) {
	t.Helper()
	hash = func(*mls.GroupInfo) {}
	if r.raw != nil {
		return r.raw(append([]byte{}, good...)), hash
	}
	tree = good
	if r.edit != nil {
		tree = encodeRaw(r.edit(t, w, rawTree(good)))
	}
	parsed, err := mls.ParseTree(w.hub.Suite(), tree)
	must(t, err)
	return tree, func(gi *mls.GroupInfo) { gi.Context.TreeHash = parsed.Hash() }
}

// try gives the tree to a believer, in the GroupInfo or fetched beside it.
func (r treeRule) try(t *testing.T, w *world, who believer, fetched bool) error {
	t.Helper()
	x := newcomer(t, "x")
	p := plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}}
	if r.plan != nil {
		p = r.plan(t, w, x)
	}
	f := w.forge(t, p)
	tree, hash := r.tampered(t, w, f.applied.Tree.Encode())
	edit := func(gi *mls.GroupInfo) {
		hash(gi)
		in := mls.Extension{Type: mls.ExtensionRatchetTree, Data: tree}
		if fetched {
			in.Data = nil
		}
		replace(in)(w, gi)
	}
	var beside []byte
	if fetched {
		beside = tree
	}
	switch who {
	case bJoin:
		return tryJoin(t, x, f.welcome(t, x, welcomePlan{info: edit}), beside)
	case bExternal:
		return fromOutside(t, f.groupInfo(t, edit, nil).Encode(), beside)
	}
	return observe(t, f.groupInfo(t, edit, nil).Encode(), beside)
}

func init() {
	for _, r := range treeRules {
		for _, b := range believers[:3] {
			negative(r.name, b.entry, func(t *testing.T) { r.want.check(t, r.try(t, theWorld(t), b.who, false)) })
			negative(r.name, "fetched-"+b.entry, func(t *testing.T) { r.want.check(t, r.try(t, theWorld(t), b.who, true)) })
		}
	}
	// A hub compares the tree with its own, byte by byte.
	for _, b := range believers[3:] {
		for name, tree := range map[string]func(w *world) []byte{
			"tree-with-one-leaf-less": func(w *world) []byte {
				l := rawTree(w.hub.Tree())
				l[4] = &rawNode{}
				return encodeRaw(l)
			},
			"tree-truncated":       func(w *world) []byte { b := w.hub.Tree(); return b[:len(b)-1] },
			"tree-too-long":        func(w *world) []byte { return append(w.hub.Tree(), 0) },
			"tree-ends-in-a-blank": func(w *world) []byte { return encodeRaw(append(rawTree(w.hub.Tree()), &rawNode{})) },
			"tree-empty":           func(*world) []byte { return []byte{} },
		} {
			notOurs := fault{mls.ErrGroupInfo, "tree is not the group's"}
			negative(name, b.entry, func(t *testing.T) {
				r := infoRule{edit: func(w *world, gi *mls.GroupInfo) {
					replace(mls.Extension{Type: mls.ExtensionRatchetTree, Data: tree(w)})(w, gi)
				}}
				notOurs.check(t, r.give(t, theWorld(t), b.who))
			})
			negative(name, "fetched-"+b.entry, func(t *testing.T) {
				w := theWorld(t)
				msg, err := w.at(t, forger).st.GroupInfo(false)
				must(t, err)
				check := w.hub.CheckGroupInfo
				if b.who == bBundle {
					check = w.hub.CheckBundle
				}
				must(t, check(msg, w.hub.Tree()))
				notOurs.check(t, check(msg, tree(w)))
			})
		}
	}
}

func TestEveryBelieverTakesATreeThatIsRight(t *testing.T) {
	for _, b := range believers[:3] {
		t.Run(b.entry, func(t *testing.T) { must(t, treeRule{}.try(t, theWorld(t), b.who, false)) })
		t.Run("fetched "+b.entry, func(t *testing.T) { must(t, treeRule{}.try(t, theWorld(t), b.who, true)) })
	}
}
