package group

import "testing"

// A server that equivocates leads a member aside, further than the group is. What
// the member keeps of that side must not stand beside the group's own epochs of
// the same numbers: records name past epochs by number.
func TestWhoComesBackFromAheadKeepsOneEpochOfEachNumber(t *testing.T) {
	for ahead := 1; ahead <= 3; ahead++ {
		comeBackFromAhead(t, ahead)
	}
}

func comeBackFromAhead(t *testing.T, ahead int) {
	room := newRoom(t, 4)
	aside := room[3]
	info, err := room[0].st.GroupInfo(true)
	must(t, err)
	for range ahead {
		aside.commit(CommitParams{}) // told that it was accepted
	}
	st, err := ExternalJoin(aside.cfg, info, nil, ExternalParams{Credential: credential(aside.name), ResyncOwn: true})
	must(t, err)
	for _, c := range room[:3] {
		c.process(st.Commit)
	}
	aside.st, err = st.Apply(aside.st)
	must(t, err)
	for range 3 {
		aside.keepsOneOfEach()
		late := room[0].send("late")
		st := room[1].commit(CommitParams{})
		for _, c := range []*client{room[0], room[2], aside} {
			c.process(st.Commit)
		}
		if got := aside.recv(late); got != "late" {
			t.Fatalf("got %q", got)
		}
	}
	everybodyTalks(t, room)
}

func (c *client) keepsOneOfEach() {
	c.t.Helper()
	seen := map[uint64]bool{}
	for _, p := range c.st.past {
		if seen[p.epoch] || p.epoch >= c.st.Epoch() {
			c.t.Fatalf("epoch %d is kept twice, or is to come", p.epoch)
		}
		seen[p.epoch] = true
	}
}

// An external Commit has no membership tag, its signature does not cover the
// confirmation tag, and who is removed cannot compute that tag: the one bent
// message that is taken says to a client what its own signature said, that its old
// leaf is gone. The state stays the old one. Somebody else's external Commit that
// takes its SelfRemove up is the same: the SelfRemove has its signature.
func TestWhoIsReplacedByItsOwnExternalCommitCannotCheckTheConfirmationTag(t *testing.T) {
	room := newRoom(t, 3)
	info, err := room[0].st.GroupInfo(true)
	must(t, err)
	st, err := ExternalJoin(room[2].cfg, info, nil, ExternalParams{Credential: credential("c2"), ResyncOwn: true})
	must(t, err)
	bent := append([]byte{}, st.Commit...)
	bent[len(bent)-1] ^= 1
	before := string(room[2].st.EncodeGroup())
	n, e, err := room[2].st.Process(bent)
	must(t, err)
	if !e.SelfRemoved || string(n.EncodeGroup()) != before {
		t.Fatalf("effects %+v", e)
	}
	if _, _, err := room[1].st.Process(bent); err == nil {
		t.Fatal("a member took a bent confirmation tag")
	}
	signed := append([]byte{}, st.Commit...)
	signed[len(signed)/2] ^= 1
	if _, _, err := room[2].st.Process(signed); err == nil {
		t.Fatal("a bent commit was taken")
	}
}
