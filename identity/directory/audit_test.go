package directory

import (
	"strings"
	"testing"

	"github.com/entente-im/entente/store"
)

func TestAnAuditNamesWhatWasChangedOnDisk(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	w.enrolled("bob")
	w.must(w.RevokeDevice(ctx, w.revocation(alice, "member", alice.key)))
	audit := func() Audit {
		t.Helper()
		a, err := w.Audit(ctx)
		w.must(err)
		return a
	}
	if a := audit(); a.Leaves != 6 || a.Records != 3 || a.Members != 2 || len(a.Problems) != 0 {
		t.Fatalf("%+v", a)
	}
	for _, c := range []struct {
		key  []byte
		at   int
		says string
	}{
		{numbered(leafPrefix, 0), 39, "version"},
		{numbered(leafPrefix, 0), 50, "another on disk"},
		{numbered(leafPrefix, 1), 50, "not the root"},
		{numbered(hashPrefix, 0), 0, "another on disk"},
		{numbered(hashPrefix, 2), 0, "another on disk"},
	} {
		good, err := w.store.Get(c.key)
		w.must(err)
		put := func(b []byte) {
			var batch store.Batch
			batch.Put(c.key, b)
			_, err := w.store.Commit(ctx, &batch)
			w.must(err)
		}
		bad := append([]byte(nil), good...)
		bad[c.at] ^= 1
		put(bad)
		if a := audit(); !strings.Contains(strings.Join(a.Problems, "\n"), c.says) {
			t.Errorf("%q[%d]: %q", c.key, c.at, a.Problems)
		}
		put(good)
	}
	if a := audit(); len(a.Problems) != 0 {
		t.Errorf("%+v", a)
	}
}
