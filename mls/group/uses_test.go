package group

import (
	"testing"
	"time"
)

func TestEveryChangeOfWhatIsStoredCounts(t *testing.T) {
	room := newRoom(t, 3)
	a, b := room[0], room[1]
	step := func(what string, c *client, do func()) {
		t.Helper()
		before, old := c.st.Uses(), string(c.st.EncodeGroup())+string(c.st.EncodeRatchets())
		do()
		stored := string(c.st.EncodeGroup()) + string(c.st.EncodeRatchets())
		if stored == old && c.st.Uses() != before || stored != old && c.st.Uses() <= before {
			t.Fatalf("%s: count %d after %d, record changed %v", what, c.st.Uses(), before, stored != old)
		}
		n := c.st.Uses()
		if c.reload(); c.st.Uses() != n {
			t.Fatalf("%s: the count is not stored", what)
		}
	}
	var msg []byte
	step("send", a, func() { msg = a.send("x") })
	step("receive", b, func() { b.recv(msg) })
	step("reserve", a, func() {
		n, err := a.st.Reserve(4)
		must(t, err)
		a.st = n
	})
	ahead, err := a.st.Reserve(4)
	must(t, err)
	n, _, err := ahead.Encrypt(nil, []byte("out of the reserve"), 0)
	must(t, err)
	if n.Uses() != ahead.Uses() || ahead.Uses() != a.st.Uses()+1 {
		t.Fatal("a message out of the reserve counts: after a crash the stored state would seem old")
	}
	reserved := a.st.Uses()
	step("propose", a, func() { msg = a.proposeUpdate() })
	step("proposal", b, func() { b.process(msg) })
	step("the same proposal", b, func() { b.process(msg) })
	room[2].process(msg)
	var st *Staged
	step("commit", b, func() { st = b.commit(CommitParams{ByReference: true}) })
	step("another's commit", a, func() { a.process(st.Commit) })
	a.cfg.Private = true
	step("private commit", a, func() { a.reload(); st = a.commit(CommitParams{}) })
	step("its receipt", b, func() { b.process(st.Commit) })
	if a.st.Uses() < reserved || b.st.Uses() < 5 {
		t.Fatal("the count began anew with an epoch")
	}
}

func TestAStagedCommitCountsFromTheStateThatItIsAppliedTo(t *testing.T) {
	room := newRoom(t, 2)
	cur, st, err := room[0].st.Stage(CommitParams{})
	must(t, err)
	room[0].st = cur
	for range 5 {
		room[0].recv(room[1].send("in between"))
	}
	next, err := st.Apply(room[0].st)
	must(t, err)
	if next.Uses() <= room[0].st.Uses() {
		t.Fatalf("count %d after %d", next.Uses(), room[0].st.Uses())
	}
}

func TestOldKeysExpireOnADeviceThatHearsNothing(t *testing.T) {
	room := newRoom(t, 2)
	now := time.Now()
	room[1].cfg.Now = func() time.Time { return now }
	room[1].reload()
	late := room[0].send("of the epoch before")
	st := room[0].commit(CommitParams{})
	room[1].process(st.Commit)
	skipped := room[0].send("skipped")
	room[1].recv(room[0].send("later"))
	if n, gone := room[1].st.Expire(); gone || n != room[1].st {
		t.Fatal("something expired at once")
	}
	now = now.Add(DefaultKeepFor + time.Second)
	n, gone := room[1].st.Expire()
	if !gone || n.Uses() != room[1].st.Uses()+1 || len(n.past) != 0 || n.tree.countSkipped() != 0 {
		t.Fatalf("gone %v, %d past epochs, %d skipped keys", gone, len(n.past), n.tree.countSkipped())
	}
	room[1].st = n
	room[1].reload()
	for _, m := range [][]byte{late, skipped} {
		if _, _, err := room[1].st.Decrypt(m); err == nil {
			t.Fatal("an expired key opens a message")
		}
	}
	if _, gone := room[1].st.Expire(); gone {
		t.Fatal("expired twice")
	}
	if got := room[1].recv(room[0].send("now")); got != "now" {
		t.Fatal(got)
	}
}
