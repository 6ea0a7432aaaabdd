package group

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// cannotOpen checks that a message is refused with this error and changes nothing.
func (c *client) cannotOpen(msg []byte, want error) {
	c.t.Helper()
	group, ratchets := string(c.st.EncodeGroup()), string(c.st.EncodeRatchets())
	n, r, err := c.st.Decrypt(msg)
	if !errors.Is(err, want) || n != nil || r != nil {
		c.t.Fatalf("%s: error %v, want %v", c.name, err, want)
	}
	if string(c.st.EncodeGroup()) != group || string(c.st.EncodeRatchets()) != ratchets {
		c.t.Fatal("a refused message changed the state")
	}
	c.tellsNoSecret(err)
}

func TestAMessageIsOpenedOnceAlsoAfterARestart(t *testing.T) {
	room := newRoom(t, 3)
	msg := room[0].send("one")
	room[1].recv(msg) // reloads
	room[1].cannotOpen(msg, ErrReplay)
	room[0].cannotOpen(msg, ErrOwnMessage)
	st := room[2].commit(CommitParams{})
	room[1].process(st.Commit)
	room[1].cannotOpen(msg, ErrReplay) // now of a past epoch
}

func TestTheGroupRecordOpensNoMessage(t *testing.T) {
	room := newRoom(t, 2)
	old := room[1].st.EncodeGroup()
	msg := room[0].send("one")
	room[1].recv(msg)
	n, err := Decode(room[1].cfg, old, room[1].st.EncodeRatchets())
	must(t, err)
	if _, _, err := n.Decrypt(msg); !errors.Is(err, ErrReplay) {
		t.Fatalf("the old group record opens a message again: %v", err)
	}
	if _, err := Decode(room[1].cfg, old, nil); err == nil {
		t.Fatal("decoded without ratchets")
	}
	st := room[0].commit(CommitParams{})
	ratchets := room[1].st.EncodeRatchets()
	room[1].process(st.Commit)
	if _, err := Decode(room[1].cfg, room[1].st.EncodeGroup(), ratchets); !errors.Is(err, ErrRecord) {
		t.Fatalf("ratchets of another epoch taken: %v", err)
	}
	if _, err := Decode(room[0].cfg, room[1].st.EncodeGroup(), room[1].st.EncodeRatchets()); !errors.Is(err, ErrRecord) {
		t.Fatalf("another signer's records taken: %v", err)
	}
}

// sendAt sends with a generation far ahead, as only a hostile member would.
func (c *client) sendAt(generation uint32) []byte {
	c.t.Helper()
	s := c.st.pub.Suite()
	m := &mls.Content{WireFormat: mls.WirePrivateMessage, GroupID: c.st.GroupID(), Epoch: c.st.Epoch(), Type: mls.ContentApplication,
		Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(c.st.priv.leaf)}, Application: []byte("far")}
	must(c.t, m.Sign(s, c.cfg.Signer, c.st.pub.Context()))
	p, err := seal(s, m, c.st.secrets.senderData, generation, mls.Random(s.KeyLen()), mls.Random(s.NonceLen()), 0)
	must(c.t, err)
	return p.Encode()
}

func TestARatchetIsForwardedOverABoundOnly(t *testing.T) {
	room := newRoom(t, 2)
	for _, g := range []uint32{MaxForward + 1, 1 << 20, 1<<32 - 2, 1<<32 - 1} {
		room[1].cannotOpen(room[0].sendAt(g), ErrTooFar)
	}
	for i := range MaxForward {
		room[0].st, _, _ = room[0].st.Encrypt(nil, nil, 0)
		_ = i
	}
	if room[1].recv(room[0].send("at the bound")) != "at the bound" {
		t.Fatal()
	}
	room[0].st, _, _ = room[0].st.Encrypt(nil, nil, 0)
	room[1].cannotOpen(room[0].send("one more to skip"), ErrTooFar)
}

func TestLateMessagesAreOpenedInAnyOrderAcrossRestartsAndEpochs(t *testing.T) {
	room := newRoom(t, 4)
	var msgs [][]byte
	for i := range 12 {
		msgs = append(msgs, room[0].send(fmt.Sprint(i)))
	}
	for _, i := range []int{5, 2, 11, 0} {
		if got := room[1].recv(msgs[i]); got != fmt.Sprint(i) {
			t.Fatal(got)
		}
	}
	last := room[3].send("from who is removed")
	st := room[2].commit(CommitParams{Removes: []mls.LeafIndex{3}})
	for _, c := range room[:2] {
		c.process(st.Commit)
	}
	for _, i := range []int{1, 10, 3} {
		if got := room[1].recv(msgs[i]); got != fmt.Sprint(i) {
			t.Fatal(got)
		}
		room[1].cannotOpen(msgs[i], ErrReplay)
	}
	if room[1].recv(last) != "from who is removed" { // against the members of then
		t.Fatal()
	}
	for range 2 {
		st := room[0].commit(CommitParams{})
		room[1].process(st.Commit)
	}
	var epoch *mls.EpochError
	if _, _, err := room[1].st.Decrypt(msgs[4]); !errors.As(err, &epoch) {
		t.Fatalf("three epochs later: %v", err)
	}
}

func TestOldKeysAreGoneAfterADay(t *testing.T) {
	room := newRoom(t, 2)
	now := time.Now()
	room[1].cfg.Now = func() time.Time { return now }
	room[1].reload()
	skipped := room[0].send("skipped")
	room[1].recv(room[0].send("later"))
	st := room[0].commit(CommitParams{})
	past := skipped
	room[1].process(st.Commit)
	skipped = room[0].send("skipped")
	room[1].recv(room[0].send("later"))
	now = now.Add(25 * time.Hour)
	room[1].reload()
	if _, _, err := room[1].st.Decrypt(skipped); !errors.Is(err, ErrReplay) {
		t.Fatalf("a skipped key is there after 25 hours: %v", err)
	}
	var epoch *mls.EpochError
	if _, _, err := room[1].st.Decrypt(past); !errors.As(err, &epoch) {
		t.Fatalf("a past epoch is there after 25 hours: %v", err)
	}
	if n := room[1].st.tidy(); len(n.past) != 0 || n.tree.countSkipped() != 0 {
		t.Fatal("old keys are kept")
	}
}

func TestHandshakesAndMessagesHaveTheirOwnGenerations(t *testing.T) {
	room := newRoom(t, 3)
	for _, c := range room {
		c.cfg.Private = true
		c.reload()
	}
	room[0].send("a")
	room[0].send("b")
	n, prop, err := room[0].st.ProposeRemove(2, nil)
	must(t, err)
	room[0].st = n
	if room[0].st.own.hs.generation != 1 || room[0].st.own.app.generation != 2 {
		t.Fatalf("generations %d and %d", room[0].st.own.hs.generation, room[0].st.own.app.generation)
	}
	room[1].process(prop)
	room[1].refuses(prop, ErrReplay)
	room[2].process(prop)
	st := room[1].commit(CommitParams{ByReference: true})
	m, err := mls.ParseMessage(st.Commit)
	must(t, err)
	if m.PrivateMessage == nil {
		t.Fatal("the Commit is readable")
	}
	room[0].process(st.Commit)
	if e := room[2].process(st.Commit); !e.SelfRemoved {
		t.Fatal("not removed")
	}
	everybodyTalks(t, room[:2])
}

func TestADiscardedCommitLeavesNoTrace(t *testing.T) {
	for _, private := range []bool{false, true} {
		room := newRoom(t, 5)
		for _, c := range room {
			c.cfg.Private = private
			c.reload()
		}
		cur, mine, err := room[0].st.Stage(CommitParams{Removes: []mls.LeafIndex{4}})
		must(t, err)
		if !private && string(cur.EncodeGroup()) != string(room[0].st.EncodeGroup()) {
			t.Fatal("staging changed the state")
		}
		room[0].st = cur
		stored := mine.Marshal()
		winner := room[1].commit(CommitParams{})
		for i, c := range room {
			if i != 1 {
				c.process(winner.Commit)
			}
		}
		everybodyTalks(t, room)
		back, err := UnmarshalStaged(room[0].cfg, stored)
		must(t, err)
		var epoch *mls.EpochError
		if _, err := back.Apply(room[0].st); !errors.As(err, &epoch) {
			t.Fatalf("applied in the wrong epoch: %v", err)
		}
	}
}

func TestAStagedCommitSurvivesARestartAndMessagesInBetween(t *testing.T) {
	room := newRoom(t, 3)
	cur, st, err := room[0].st.Stage(CommitParams{})
	must(t, err)
	room[0].st = cur
	stored := st.Marshal()
	before := room[1].send("before")
	late := room[1].send("late")
	room[0].recv(before)
	back, err := UnmarshalStaged(room[0].cfg, stored)
	must(t, err)
	if string(back.Commit) != string(st.Commit) || string(back.Tree) != string(st.Tree) {
		t.Fatal("staged Commit changed in storage")
	}
	if _, _, err := room[0].st.Process(st.Commit); !errors.Is(err, ErrOwnCommit) {
		t.Fatalf("own Commit: %v", err)
	}
	room[0].st, err = back.Apply(room[0].st)
	must(t, err)
	for _, c := range room[1:] {
		c.process(st.Commit)
	}
	if room[0].recv(late) != "late" {
		t.Fatal()
	}
	room[0].cannotOpen(before, ErrReplay) // opened while the Commit was under way
	everybodyTalks(t, room)
}

func TestReservedGenerationsAreNeverUsedTwice(t *testing.T) {
	room := newRoom(t, 2)
	n, err := room[0].st.Reserve(32)
	must(t, err)
	room[0].st = n
	group, stored := n.EncodeGroup(), n.EncodeRatchets()
	var msgs [][]byte
	for i := range 32 {
		if room[0].st.Reserved() != 32-i {
			t.Fatalf("reserved %d after %d", room[0].st.Reserved(), i)
		}
		msgs = append(msgs, room[0].send(fmt.Sprint(i)))
		if string(room[0].st.EncodeRatchets()) != string(stored) {
			t.Fatal("a reserved send has to be stored")
		}
	}
	if room[0].st.Reserved() != 0 {
		t.Fatal("more was reserved than asked for")
	}
	crashed, err := Decode(room[0].cfg, group, stored)
	must(t, err)
	room[0].st = crashed
	after := room[0].send("after the crash")
	for i, m := range msgs {
		if room[1].recv(m) != fmt.Sprint(i) {
			t.Fatal(i)
		}
	}
	if room[1].recv(after) != "after the crash" {
		t.Fatal()
	}
	if _, err := room[0].st.Reserve(MaxReserve + 1); !errors.Is(err, mls.ErrLimit) {
		t.Fatal(err)
	}
}

func TestEveryByteOfAMessageIsCovered(t *testing.T) {
	room := newRoom(t, 2)
	msg := room[0].send("hello")
	ratchets := string(room[1].st.EncodeRatchets())
	for i := range msg {
		bad := append([]byte{}, msg...)
		bad[i] ^= 0x80
		if _, _, err := room[1].st.Decrypt(bad); err == nil {
			t.Fatalf("byte %d flipped and opened", i)
		}
	}
	if string(room[1].st.EncodeRatchets()) != ratchets {
		t.Fatal("a refused message changed the state")
	}
	if room[1].recv(msg) != "hello" {
		t.Fatal()
	}
}

func TestPaddingHidesTheLengthAndIsZero(t *testing.T) {
	room := newRoom(t, 2)
	size := func(n int) int {
		_, msg, err := room[0].st.Encrypt(nil, make([]byte, n), 256)
		must(t, err)
		return len(msg)
	}
	if size(1) != size(150) || size(1) == size(400) {
		t.Fatalf("sizes %d %d %d", size(1), size(150), size(400))
	}
	s := room[0].st.pub.Suite()
	c := &mls.Content{WireFormat: mls.WirePrivateMessage, GroupID: room[0].st.GroupID(), Epoch: room[0].st.Epoch(), Type: mls.ContentApplication,
		Sender: mls.Sender{Type: mls.SenderMember}, Application: []byte("x")}
	must(t, c.Sign(s, room[0].cfg.Signer, room[0].st.pub.Context()))
	for _, padding := range [][]byte{{1}, {0, 0, 1, 0}, {0, 0x80}} {
		var w tls.Writer
		c.WriteBody(&w)
		c.WriteAuth(&w)
		w.Raw(padding)
		_, key, nonce := room[0].st.own.app.step(s)
		p, err := sealPlain(s, c, w.B, room[0].st.secrets.senderData, 0, key, nonce)
		must(t, err)
		room[1].cannotOpen(p.Encode(), mls.ErrDecode)
	}
}

func TestRecordsOfAMessageDoNotGrowWithTheGroup(t *testing.T) {
	size := func(n int) int {
		room := newRoom(t, n)
		room[1].recv(room[0].send("x"))
		return len(room[1].st.EncodeRatchets())
	}
	small, large := size(4), size(64)
	if large > small+16*6*34 { // a secret per level and touched leaf, no more
		t.Fatalf("ratchets of 64 members take %d bytes, of 4 take %d", large, small)
	}
}
