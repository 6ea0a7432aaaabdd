package directory

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzRow: of all the bytes that could stand in a member's row, only those that the
// member and the organization have signed are believed.
func FuzzRow(f *testing.F) {
	w := newWorld(f)
	alice := w.enrolled("alice")
	e, err := w.entry(alice.id)
	w.must(err)
	b, err := json.Marshal(e.row)
	w.must(err)
	f.Add(b)
	f.Add([]byte(strings.Replace(string(b), "alice", "admin", 1)))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := w.parseRow(b)
		if err == nil && (got.member.ID != alice.id || got.member.Record != e.member.Record) {
			t.Errorf("%q is believed to be %s", b, got.member.ID)
		}
	})
}

// FuzzKeyPackageRow: a row gives back what was put into it, or nothing.
func FuzzKeyPackageRow(f *testing.F) {
	f.Add([]byte("12345678kp"))
	f.Add([]byte("1234567812345678kp"))
	f.Add([]byte("1234567"))
	f.Fuzz(func(t *testing.T, row []byte) {
		for _, header := range []int{8, 16} {
			kp, _, ok := splitRow(row, header)
			if ok != (len(row) > header) || ok && string(kp) != string(row[header:]) {
				t.Errorf("%q splits into %q, %t", row, kp, ok)
			}
		}
	})
}
