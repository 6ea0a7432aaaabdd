package group

import (
	"testing"

	"github.com/entente-im/entente/mls/internal/tls"
)

// encodeOld are the two records of version 1 or 2: all ratchets in one.
func (s *State) encodeOld(version uint8) (group, ratchets []byte) {
	g := s.encodeGroup()
	group = append([]byte{version}, g[9:]...) // no revision
	w := tls.NewWriter(0)
	w.U8(version)
	w.Vec(s.binding())
	if version > 1 {
		w.U64(s.uses)
	}
	s.own.hs.write(w)
	s.own.reserved.write(w)
	s.tree.writeOld(w)
	w.Vector(func(w *tls.Writer) {
		for _, p := range s.past {
			w.U64(p.epoch)
			p.tree.writeOld(w)
		}
	})
	return group, w.B
}

func (t *secretTree) writeOld(w *tls.Writer) {
	w.U32(t.width)
	w.Vector(func(w *tls.Writer) {
		for _, f := range t.frontier {
			w.U32(uint32(f.node))
			w.Vec(f.secret)
		}
	})
	w.Vector(func(w *tls.Writer) {
		t.senders.each(func(l *leafRatchets) {
			w.U32(uint32(l.leaf))
			l.hs.write(w)
			l.app.write(w)
		})
	})
}

// The records of the first version have neither counter, nor resumption secrets
// of past epochs, nor Updates of our own.
func TestRecordsOfTheFirstVersionAreRead(t *testing.T) {
	room := newRoom(t, 2)
	g, r := room[1].st.encodeOld(1)
	g = g[:len(g)-1] // no Updates, and no past epochs
	n, err := Restore(room[1].cfg, []Record{{groupKey, g}, {headKey, r}})
	must(t, err)
	if string(n.EpochAuthenticator()) != string(room[0].st.EpochAuthenticator()) || n.Uses() != 0 {
		t.Fatal("read as something else")
	}
	for _, v := range []byte{0, 3, 255} {
		g[0] = v
		if _, err := Restore(room[1].cfg, []Record{{groupKey, g}, {headKey, r}}); err == nil {
			t.Fatalf("version %d was read", v)
		}
	}
}

func TestRecordsOfTheSecondVersionAreReadAndWrittenAnew(t *testing.T) {
	room := newRoom(t, 4)
	late := room[0].send("of the epoch before")
	st := room[2].commit(CommitParams{})
	for _, c := range []*client{room[0], room[1], room[3]} {
		c.process(st.Commit)
	}
	skipped := room[2].send("skipped")
	room[1].recv(room[2].send("after it"))
	g, r := room[1].st.encodeOld(2)
	old, err := Restore(room[1].cfg, []Record{{groupKey, g}, {headKey, r}})
	must(t, err)
	if old.Uses() != room[1].st.Uses() {
		t.Fatal("the count was lost")
	}
	if !sameRecords(old.Records(old), old.Records(nil)) {
		t.Fatal("not all is written anew")
	}
	next, _, err := old.Decrypt(skipped)
	must(t, err)
	written := next.Records(old)
	if !sameRecords(written, next.Records(nil)) {
		t.Fatal("not all is written with the first change")
	}
	room[1].st, err = Restore(room[1].cfg, written)
	must(t, err)
	room[1].disk = disk{}
	room[1].cannotOpen(skipped, ErrReplay)
	if room[1].recv(late) != "of the epoch before" {
		t.Fatal("a past epoch was lost")
	}
	everybodyTalks(t, room)
	again, _, err := room[1].st.Decrypt(room[2].send("now"))
	must(t, err)
	if n := len(again.Records(room[1].st)); n != 2 {
		t.Fatalf("a message writes %d records afterwards", n)
	}
}
