package directory

import (
	"errors"
	"testing"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"golang.org/x/mod/sumdb/tlog"
)

// beyond are a world's leaves with one of somebody whom it does not know.
func (w *world) beyond(version uint64) []byte {
	w.t.Helper()
	var labels prefix.Tree
	var out []byte
	size, _, err := w.Head()
	w.must(err)
	for i := range size {
		leaf, err := w.Leaf(i)
		w.must(err)
		if e, _ := prefix.ParseEntry(leaf); e.Label != (prefix.Label{}) {
			labels = labels.Set(e)
		}
		out = append(out, leaf...)
	}
	e := prefix.Entry{Label: prefix.Label{9}, Version: version, Commitment: [32]byte{1}}
	labels = labels.Set(e)
	return identity.MapLeaf(uint64(labels.Len()), labels.Root()).Append(e.Append(out))
}

func TestOnlyLeavesThatContinueTheLogAreTakenOver(t *testing.T) {
	w := newWorld(t)
	w.enrolled("alice")
	good := w.beyond(1)
	size := uint64(len(good) / LeafLen)
	root := rootOfLeaves(t, good)
	head := &identity.Checkpoint{Organization: w.org.ID, Size: size, Root: root}
	other := append([]byte{}, good...)
	other[0] ^= 1
	skipped := w.beyond(2)
	for name, x := range map[string]struct {
		head   identity.Checkpoint
		leaves []byte
		want   error
	}{
		"another past":          {identity.Checkpoint{Organization: w.org.ID, Size: size, Root: rootOfLeaves(t, other)}, other, ErrTwoPasts},
		"made up":               {*head, other, nil},
		"another root":          {identity.Checkpoint{Organization: w.org.ID, Size: size, Root: [32]byte{1}}, good, nil},
		"too few":               {*head, good[:len(good)-LeafLen], nil},
		"no more than are held": {identity.Checkpoint{Organization: w.org.ID, Size: 2, Root: root}, good[:2*LeafLen], nil},
		"a version left out":    {identity.Checkpoint{Organization: w.org.ID, Size: size, Root: rootOfLeaves(t, skipped)}, skipped, nil},
		"another organization":  {identity.Checkpoint{Size: size, Root: root}, good, nil},
	} {
		err := w.Adopt(t.Context(), &x.head, x.leaves)
		if err == nil || errors.Is(err, ErrTwoPasts) != (x.want == ErrTwoPasts) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, _, err := w.Head(); err != nil || got != 2 {
		t.Fatalf("the log has %d leaves: %v", got, err)
	}
	w.must(w.Adopt(t.Context(), head, good))
	if got, r, err := w.Head(); err != nil || got != size || r != root {
		t.Fatalf("the log has %d leaves: %v", got, err)
	}
	if back, err := w.Restore(t.Context()); err != nil || len(back) != 0 || w.Behind() {
		t.Errorf("nobody's record is lost: %v %v", back, err)
	}
	w.restart()
	w.enrolled("bob")
	if a, err := w.Audit(t.Context()); err != nil || len(a.Problems) > 0 || a.Leaves != size+2 {
		t.Errorf("the audit: %+v %v", a, err)
	}
}

func rootOfLeaves(t *testing.T, leaves []byte) [32]byte {
	t.Helper()
	made := make(map[int64]tlog.Hash)
	for i := range int64(len(leaves) / LeafLen) {
		hashes, err := tlog.StoredHashes(i, leaves[i*LeafLen:(i+1)*LeafLen], treeOf(made))
		if err != nil {
			t.Fatal(err)
		}
		for j, h := range hashes {
			made[tlog.StoredHashIndex(0, i)+int64(j)] = h
		}
	}
	root, err := tlog.TreeHash(int64(len(leaves)/LeafLen), treeOf(made))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

type treeOf map[int64]tlog.Hash

func (t treeOf) ReadHashes(at []int64) (out []tlog.Hash, _ error) {
	for _, i := range at {
		out = append(out, t[i])
	}
	return out, nil
}
