package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/budget"
)

// within holds one input to the limits of package budget.
func within(t *testing.T, f func()) {
	t.Helper()
	if err := budget.Check(f); err != nil {
		t.Fatal(err)
	}
}

// The live group of the fuzz targets: nothing that they are fed may change it.

func FuzzProcess(f *testing.F) {
	room := newRoom(f, 4)
	n, prop, err := room[1].st.ProposeRemove(3, nil)
	must(f, err)
	room[1].st = n
	f.Add(prop)
	st := room[0].commitAs(CommitParams{Removes: []mls.LeafIndex{3}})
	f.Add(st.Commit)
	f.Add(room[0].send("x"))
	f.Add(st.GroupInfo)
	live := room[2].st
	group, ratchets := string(live.EncodeGroup()), string(live.EncodeRatchets())
	f.Fuzz(func(t *testing.T, b []byte) {
		within(t, func() {
			live.Process(b)
			live.Decrypt(b)
			ExternalJoin(room[2].cfg, b, nil, ExternalParams{Credential: credential("c2"), ResyncOwn: true})
		})
		if string(live.EncodeGroup()) != group || string(live.EncodeRatchets()) != ratchets {
			t.Fatal("the state changed")
		}
	})
}

// FuzzSignedCommit feeds Commits that are signed and tagged rightly, so that
// what is inside gets past the signatures.
func FuzzSignedCommit(f *testing.F) {
	room := newRoom(f, 4)
	m, err := mls.ParseMessage(room[0].commitAs(CommitParams{Removes: []mls.LeafIndex{3}, Adds: [][]byte{newClient(f, "x").kp}}).Commit)
	must(f, err)
	f.Add(mls.EncodeCommit(m.PublicMessage.Content.Commit))
	f.Add([]byte{0, 0})
	live := room[2].st
	group := string(live.EncodeGroup())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := mls.ParseCommit(b)
		if err != nil {
			return
		}
		room[0].t = t
		msg := room[0].forge(func(m *mls.Content) { m.Commit = c })
		within(t, func() {
			if _, e, err := live.Process(msg); err == nil && !e.SelfRemoved {
				t.Fatal("accepted with a random confirmation tag")
			}
		})
		if string(live.EncodeGroup()) != group {
			t.Fatal("the state changed")
		}
	})
}

func FuzzJoin(f *testing.F) {
	room := newRoom(f, 3)
	x := newClient(f, "x")
	st := room[0].commit(CommitParams{Adds: [][]byte{x.kp}})
	f.Add(st.Welcome, st.Tree)
	f.Fuzz(func(t *testing.T, welcome, tree []byte) {
		within(t, func() {
			PeekWelcome(x.cfg, welcome, x.kps)
			if _, _, err := Join(x.cfg, welcome, tree, x.kps); err == nil && (string(welcome) != string(st.Welcome) || string(tree) != string(st.Tree)) {
				t.Fatal("joined by something else")
			}
		})
	})
}

func FuzzDecode(f *testing.F) {
	room := newRoom(f, 3)
	room[1].recv(room[0].send("x"))
	st := room[0].commitAs(CommitParams{})
	room[1].process(st.Commit)
	f.Add(room[1].st.EncodeGroup(), room[1].st.EncodeRatchets(), st.Marshal(), room[1].kps.Marshal())
	f.Fuzz(func(t *testing.T, group, ratchets, staged, keys []byte) {
		within(t, func() { decodeAll(t, room[1].cfg, room[0].cfg, group, ratchets, staged, keys) })
	})
}

// decodeAll reads each kind of record. What was read is written, read and written
// again: the second time gives the same bytes.
func decodeAll(t *testing.T, own, committer Config, group, ratchets, staged, keys []byte) {
	if s, err := Decode(own, group, ratchets); err == nil {
		s.Encrypt(nil, []byte("x"), 0)
		g, r := s.EncodeGroup(), s.EncodeRatchets()
		again, err := Decode(own, g, r)
		if err != nil {
			t.Fatalf("a state that was read cannot be read again: %v", err)
		}
		if string(again.EncodeGroup()) != string(g) || string(again.EncodeRatchets()) != string(r) {
			t.Fatal("a state that was read encodes to something else each time")
		}
	}
	if st, err := UnmarshalStaged(committer, staged); err == nil {
		b := st.Marshal()
		again, err := UnmarshalStaged(committer, b)
		if err != nil || string(again.Marshal()) != string(b) {
			t.Fatalf("a staged commit that was read cannot be read again: %v", err)
		}
	}
	if k, err := UnmarshalKeyPackageSecrets(keys); err == nil && string(k.Marshal()) != string(keys) {
		t.Fatal("encodes to something else")
	}
}
