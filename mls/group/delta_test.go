package group

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/entente-im/entente/mls"
)

// follower is a hub's PublicGroup and what a store has of it: a snapshot and the
// deltas since.
type follower struct {
	t      *testing.T
	live   *mls.PublicGroup
	stored []byte
	deltas [][]byte
}

var observing = mls.PublicOptions{Validator: openValidator{}}

func (f *follower) take(msg []byte) []byte {
	f.t.Helper()
	next, _, err := f.live.Process(msg)
	must(f.t, err)
	delta := f.live.Delta(next)
	f.live, f.deltas = next, append(f.deltas, delta)
	return delta
}

// restored reads the snapshot and applies the deltas to it.
func (f *follower) restored() *mls.PublicGroup {
	f.t.Helper()
	g, err := mls.UnmarshalPublicGroup(f.stored, observing)
	must(f.t, err)
	for _, d := range f.deltas {
		if g, err = g.ApplyDelta(d); err != nil {
			f.t.Fatal(err)
		}
	}
	return g
}

func newFollower(t *testing.T, c *client) *follower {
	t.Helper()
	info, err := c.st.GroupInfo(true)
	must(t, err)
	g, err := mls.NewPublicGroup(info, nil, observing)
	must(t, err)
	return &follower{t: t, live: g, stored: g.Marshal()}
}

func TestASnapshotWithItsDeltasIsTheLiveGroup(t *testing.T) {
	room := newRoom(t, 5)
	for _, c := range room {
		c.cfg.Validator = openValidator{}
		c.reload()
	}
	f := newFollower(t, room[0])
	rng := rand.New(rand.NewPCG(1, 2))
	told := func(from *client, msg []byte) {
		f.take(msg)
		for _, c := range room {
			if c != from {
				c.process(msg)
			}
		}
	}
	for range 24 {
		by := room[rng.IntN(len(room))]
		other := room[rng.IntN(len(room))]
		p := CommitParams{ByReference: true}
		var joiner *client
		switch rng.IntN(5) {
		case 0, 1:
			joiner = newClient(t, "joiner")
			joiner.cfg.Validator = openValidator{}
			p.Adds = [][]byte{joiner.kp}
		case 2:
			if other != by && len(room) > 3 {
				p.Removes = []mls.LeafIndex{other.st.OwnLeaf()}
			}
		case 3:
			told(other, other.proposeUpdate())
		case 4:
			p.Extensions = []mls.Extension{{Type: mls.ExtensionRoom, Data: mls.Random(8)}}
		}
		cur, st, err := by.st.Stage(p)
		must(t, err)
		f.take(st.Commit)
		var left []*client
		for _, c := range room {
			if c == by {
				c.st, err = st.Apply(cur)
				must(t, err)
				left = append(left, c)
			} else if e := c.process(st.Commit); !e.SelfRemoved {
				left = append(left, c)
			}
		}
		if room = left; joiner != nil {
			joiner.join(st)
			room = append(room, joiner)
		}
		if got := f.restored(); string(got.Marshal()) != string(f.live.Marshal()) || string(got.InterimTranscriptHash()) != string(f.live.InterimTranscriptHash()) {
			t.Fatalf("epoch %d differs after %d deltas", f.live.Epoch(), len(f.deltas))
		}
	}
	g := f.restored()
	room[0].cfg.Validator = openValidator{}
	last := room[0].commit(CommitParams{})
	if _, _, err := g.Process(last.Commit); err != nil {
		t.Fatalf("the restored group refuses the next Commit: %v", err)
	}
}

func TestADeltaGrowsWithTheChangeAndNotWithTheGroup(t *testing.T) {
	sizes := map[int]int{}
	for _, n := range []int{16, 128} {
		room := newRoom(t, 1)
		var kps [][]byte
		for range n - 1 {
			kps = append(kps, newClient(t, "member").kp)
		}
		room[0].cfg.Validator = openValidator{}
		room[0].reload()
		room[0].commit(CommitParams{Adds: kps})
		f := newFollower(t, room[0])
		leaf := len(room[0].st.Public().Member(0).Encode())
		first := len(f.take(room[0].commit(CommitParams{}).Commit))
		key := len(room[0].st.Public().Member(0).EncryptionKey)
		// Per level: index, kind, key and parent hash with their lengths, no unmerged leaves.
		if bound := 400 + leaf + bits.Len(uint(n))*(5+4+key+32); first > bound {
			t.Errorf("%d members: an empty Commit makes a delta of %d bytes, want at most %d", n, first, bound)
		}
		_, msg, err := room[0].st.ProposeRemove(1, nil)
		must(t, err)
		if got := len(f.take(msg)); got > len(msg)+400 {
			t.Errorf("a proposal of %d bytes makes a delta of %d", len(msg), got)
		}
		sizes[n] = first
		t.Logf("%d members: snapshot %d bytes, delta of an empty Commit %d", n, len(f.stored), first)
	}
	if perLevel := 45 + len(newRoom(t, 1)[0].st.Public().Member(0).EncryptionKey); sizes[128]-sizes[16] > 3*perLevel {
		t.Errorf("deltas grow with the group: %v", sizes)
	}
}

func TestADeltaFitsTheStateItWasMadeFromOnly(t *testing.T) {
	room := newRoom(t, 3)
	f := newFollower(t, room[0])
	start := f.live
	n, msg, err := room[1].st.ProposeRemove(2, nil)
	must(t, err)
	room[1].st = n
	room[0].process(msg)
	proposal := f.take(msg)
	commit := f.take(room[0].commit(CommitParams{ByReference: true}).Commit)
	for name, c := range map[string]struct {
		g     *mls.PublicGroup
		delta []byte
		want  error
	}{
		"left out":  {start, commit, mls.ErrDelta},
		"twice":     {f.live, commit, mls.ErrDelta},
		"truncated": {start, proposal[:len(proposal)-1], mls.ErrDecode},
		"longer":    {start, append(proposal[:len(proposal):len(proposal)], 0), mls.ErrDecode},
		"version":   {start, append([]byte{9}, proposal[1:]...), mls.ErrDecode},
		"empty":     {start, nil, mls.ErrDecode},
	} {
		before := string(c.g.Marshal())
		got, err := c.g.ApplyDelta(c.delta)
		if got != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if string(c.g.Marshal()) != before {
			t.Errorf("%s: the state changed", name)
		}
	}
	// What was meant for a leaf or a node cannot be changed unseen.
	after, err := start.ApplyDelta(proposal)
	must(t, err)
	wrong := 0
	for i := 160; i < len(commit)-10; i += 7 {
		b := append([]byte{}, commit...)
		b[i] ^= 1
		if g, err := after.ApplyDelta(b); err == nil && string(g.Tree()) != string(f.live.Tree()) {
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d changed deltas made another tree", wrong)
	}
}

func FuzzApplyDelta(f *testing.F) {
	room := newRoom(f, 3)
	start := hubOf(f, room[0])
	next, _, err := start.Process(room[0].commit(CommitParams{}).Commit)
	must(f, err)
	f.Add(start.Delta(next))
	f.Fuzz(func(t *testing.T, delta []byte) {
		if g, err := start.ApplyDelta(delta); err == nil {
			again, err := start.ApplyDelta(start.Delta(g))
			if err != nil || string(again.Marshal()) != string(g.Marshal()) {
				t.Fatal("a delta of what was read is another")
			}
		}
	})
}
