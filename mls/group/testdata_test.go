package group

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/entente-im/entente/mls"
)

var update = flag.Bool("update", false, "write ../testdata anew")

// TestOwnVectors writes, with -update, the messages that the tests of package mls
// start from; otherwise it takes them as a PublicGroup would. The group has
// blanks, and unmerged leaves at two levels.
func TestOwnVectors(t *testing.T) {
	dir := filepath.Join("..", "testdata")
	if *update {
		writeOwnVectors(t, dir)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		return b
	}
	g, err := mls.NewPublicGroup(read("groupinfo.bin"), nil, mls.PublicOptions{Validator: testValidator{}})
	must(t, err)
	g, e, err := g.Process(read("proposal.bin"))
	must(t, err)
	if e.IsCommit || e.Proposal.Type != mls.ProposalRemove {
		t.Fatalf("effects %+v", e)
	}
	next, e, err := g.Process(read("commit.bin"))
	must(t, err)
	if !e.IsCommit || len(e.Added) != 1 || len(e.Removed) != 1 || next.Epoch() != g.Epoch()+1 {
		t.Fatalf("effects %+v", e)
	}
	must(t, next.CheckBundle(read("groupinfo_after.bin"), nil))
	if refs, err := mls.WelcomeRefs(read("welcome.bin")); err != nil || len(refs) != 1 {
		t.Fatalf("welcome for %d: %v", len(refs), err)
	}
	if err := g.CheckBundle(read("groupinfo_after.bin"), nil); err == nil {
		t.Fatal("a bundle fits two epochs")
	}
}

func writeOwnVectors(t *testing.T, dir string) {
	room := newRoom(t, 16)
	for _, c := range []int{7, 2, 5, 12} { // parents everywhere
		st := room[c].commit(CommitParams{})
		for i, o := range room {
			if i != c {
				o.process(st.Commit)
			}
		}
	}
	active := []*client{room[0], room[2], room[12]}
	step := func(by *client, p CommitParams) {
		st := by.commit(p)
		for _, o := range active {
			if o != by {
				o.process(st.Commit)
			}
		}
	}
	step(room[0], CommitParams{Removes: []mls.LeafIndex{3, 5, 9}})
	step(room[2], CommitParams{})
	step(room[12], CommitParams{Adds: [][]byte{newClient(t, "x").kp, newClient(t, "y").kp}})
	write := func(name string, b []byte) { must(t, os.WriteFile(filepath.Join(dir, name), b, 0o644)) }
	must(t, os.MkdirAll(dir, 0o755))
	info, err := room[2].st.GroupInfo(true)
	must(t, err)
	write("groupinfo.bin", info)
	n, prop, err := room[2].st.ProposeRemove(7, []byte("why"))
	must(t, err)
	room[2].st = n
	room[0].process(prop)
	write("proposal.bin", prop)
	z := newClient(t, "z")
	write("keypackage.bin", z.kp)
	write("private.bin", room[0].send("hello"))
	st := room[0].commit(CommitParams{ByReference: true, Adds: [][]byte{z.kp}, InfoTree: true})
	write("commit.bin", st.Commit)
	write("welcome.bin", st.Welcome)
	write("groupinfo_after.bin", st.GroupInfo)
}
