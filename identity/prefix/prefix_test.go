package prefix

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// near are labels that share many bits, and some that do not.
func near() *rapid.Generator[Label] {
	return rapid.Custom(func(t *rapid.T) Label {
		var l Label
		l[0] = rapid.ByteRange(0, 3).Draw(t, "first") << 6
		l[31] = rapid.ByteRange(0, 7).Draw(t, "last")
		l[rapid.IntRange(0, 31).Draw(t, "where")] ^= rapid.SampledFrom([]byte{0, 1, 0x80}).Draw(t, "what")
		return l
	})
}

// rootOf computes a root from the definition alone.
func rootOf(entries []Entry, depth int) Hash {
	switch len(entries) {
	case 0:
		return Hash{}
	case 1:
		return sha256.Sum256(entries[0].Append([]byte{0}))
	}
	var half [2][]Entry
	for _, e := range entries {
		b := bit(e.Label, depth)
		half[b] = append(half[b], e)
	}
	l, r := rootOf(half[0], depth+1), rootOf(half[1], depth+1)
	return sha256.Sum256(slices.Concat([]byte{1}, l[:], r[:]))
}

func TestATreeIsTheMapOfItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := make(map[Label]Entry)
		var tree Tree
		for range rapid.IntRange(0, 40).Draw(t, "sets") {
			e := Entry{Label: near().Draw(t, "label"), Version: rapid.Uint64Range(1, 3).Draw(t, "version")}
			e.Commitment[0] = rapid.Byte().Draw(t, "commitment")
			before, root := tree, tree.Root()
			tree, model[e.Label] = tree.Set(e), e
			if before.Root() != root {
				t.Fatal("Set changed the tree that it was called on")
			}
		}
		var all []Entry
		for _, e := range model {
			all = append(all, e)
		}
		if got, want := tree.Root(), rootOf(all, 0); got != want || tree.Len() != len(model) {
			t.Fatalf("root %x of %d, wanted %x of %d", got[:4], tree.Len(), want[:4], len(model))
		}
		for range 8 {
			l := near().Draw(t, "asked")
			want, there := model[l]
			p, err := ParseProof(tree.Prove(l).Append(nil))
			if err != nil {
				t.Fatal(err)
			}
			got, found, err := p.Verify(tree.Root(), l)
			if err != nil || found != there || found && got != want {
				t.Fatalf("%x: %+v %v %v, wanted %+v %v", l, got, found, err, want, there)
			}
			if e, ok := tree.Get(l); ok != there || e != want {
				t.Fatalf("Get: %+v %v", e, ok)
			}
		}
	})
}

func TestRootsDoNotDependOnTheOrderOfSets(t *testing.T) {
	var all []Entry
	for i := range uint64(200) {
		all = append(all, Entry{Label: sha256.Sum256(binary.BigEndian.AppendUint64(nil, i)), Version: i})
	}
	var a, b Tree
	for _, e := range all {
		a = a.Set(e)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, e := range all {
		b = b.Set(e)
	}
	if a.Root() != b.Root() || a.Root() != rootOf(all, 0) {
		t.Error("two orders, two roots")
	}
}

// TestNoForgedProofHolds changes proofs in every way that a lying directory has: no
// change may turn one label's answer into another.
func TestNoForgedProofHolds(t *testing.T) {
	var tree Tree
	var labels []Label
	for i := range uint64(24) {
		l := Label(sha256.Sum256(binary.BigEndian.AppendUint64(nil, i)))
		if i%5 == 0 { // pairs that part late
			l = sibling(labels, l)
		}
		labels = append(labels, l)
		tree = tree.Set(Entry{Label: l, Version: i + 1})
	}
	root := tree.Root()
	absent := Label(sha256.Sum256([]byte("nobody")))
	for _, l := range append(slices.Clone(labels), absent) {
		p := tree.Prove(l)
		want, there, err := p.Verify(root, l)
		must(t, err)
		encoded := p.Append(nil)
		lies := func(what string, p Proof) {
			t.Helper()
			if e, found, err := p.Verify(root, l); err == nil && (found != there || found && e != want) {
				t.Errorf("%s: %+v %v", what, e, found)
			}
		}
		for i := range encoded {
			for _, x := range []byte{1, 0x80, 0xff} {
				b := bytes.Clone(encoded)
				b[i] ^= x
				if q, err := ParseProof(b); err == nil {
					lies("a changed byte", q)
				}
			}
		}
		lies("without its entry", Proof{Siblings: p.Siblings})
		for _, other := range labels {
			e, _ := tree.Get(other)
			lies("with another entry", Proof{Siblings: p.Siblings, Entry: &e})
			q := tree.Prove(other)
			lies("another's proof", q)
			lies("another's, without its entry", Proof{Siblings: q.Siblings})
		}
		for n := range p.Siblings {
			lies("cut below", Proof{Siblings: p.Siblings[:n], Entry: p.Entry})
			lies("cut above", Proof{Siblings: p.Siblings[n:], Entry: p.Entry})
			lies("an inner subtree for empty", Proof{Siblings: p.Siblings[:n]})
		}
		lies("deeper than a label", Proof{Siblings: make([]Hash, maxDepth+1), Entry: p.Entry})
		if _, _, err := p.Verify(Hash{}, l); err == nil {
			t.Error("of another map")
		}
	}
}

// sibling makes a label that parts from the last one at its last bit.
func sibling(labels []Label, l Label) Label {
	if len(labels) > 0 {
		l = labels[len(labels)-1]
		l[31] ^= 1
	}
	return l
}

func TestAnEmptyMapHasNobody(t *testing.T) {
	var tree Tree
	p := tree.Prove(Label{1})
	if _, found, err := p.Verify(tree.Root(), Label{1}); found || err != nil {
		t.Error(found, err)
	}
	if b := p.Append(nil); len(b) != 3 {
		t.Errorf("%x", b)
	}
}

func TestAProofOfAHundredThousandIsShort(t *testing.T) {
	if testing.Short() {
		t.Skip("a large tree")
	}
	var tree Tree
	for i := range uint64(100_000) {
		tree = tree.Set(Entry{Label: sha256.Sum256(binary.BigEndian.AppendUint64(nil, i)), Version: 1})
	}
	longest := 0
	for i := range uint64(200) {
		longest = max(longest, len(tree.Prove(sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))).Append(nil)))
	}
	if longest > 1_100 {
		t.Errorf("a proof of %d bytes", longest)
	}
	t.Logf("%d bytes at most of 200", longest)
}

func FuzzParseProof(f *testing.F) {
	var tree Tree
	for i := range byte(9) {
		tree = tree.Set(Entry{Label: Label{i << 4, i}, Version: uint64(i)})
		f.Add(tree.Prove(Label{i}).Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Append(nil), b) {
			t.Fatalf("%x is written %x", b, p.Append(nil))
		}
		_, _, _ = p.Verify(tree.Root(), Label{1})
	})
}
