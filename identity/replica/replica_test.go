package replica

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/tlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// owner is a log's owner whose key a test holds: it signs whatever the test wants.
type owner struct {
	t   testing.TB
	org *identity.Organization
	key ed25519.PrivateKey

	root ed25519.PrivateKey
}

func newOwner(t testing.TB) *owner {
	t.Helper()
	root, keys, err := identity.NewKeys()
	must(t, err)
	org, _, err := identity.CreateOrganization(identity.Creation{Name: "acme.example", Root: root, Keys: keys,
		Addresses: []string{"/ip4/192.0.2.1/tcp/4001"}, API: []string{"https://node.acme.example"}, Now: now})
	must(t, err)
	return &owner{t, org, keys.Directory, root.Root}
}

// log is a log as it can be made of changes: each sets a label, by its name, to a
// commitment, by another, and is followed by the map.
type log struct {
	leaves []byte
	labels prefix.Tree
}

func (l *log) set(label, what string) *log {
	e := prefix.Entry{Label: sha256.Sum256([]byte(label)), Commitment: sha256.Sum256([]byte(what))}
	before, _ := l.labels.Get(e.Label)
	e.Version = before.Version + 1
	l.labels = l.labels.Set(e)
	l.leaves = e.Append(l.leaves)
	l.leaves = identity.MapLeaf(uint64(l.labels.Len()), l.labels.Root()).Append(l.leaves)
	return l
}

func (l *log) clone() *log {
	c := *l
	c.leaves = append([]byte(nil), l.leaves...)
	return &c
}

// head signs the head of leaves, whatever they are.
func (o *owner) head(leaves []byte) *identity.Checkpoint {
	o.t.Helper()
	var made hashes
	size := int64(len(leaves) / LeafLen)
	for i := range size { // of the field's library, and held to nothing that a leaf says
		h, err := tlog.StoredHashes(i, leaves[i*LeafLen:(i+1)*LeafLen], made)
		must(o.t, err)
		made = append(made, h...)
	}
	root, err := tlog.TreeHash(size, made)
	must(o.t, err)
	return o.sign(uint64(size), root)
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(at []int64) (out []tlog.Hash, _ error) {
	for _, i := range at {
		out = append(out, h[i])
	}
	return out, nil
}

func (o *owner) sign(size uint64, root [32]byte) *identity.Checkpoint {
	o.t.Helper()
	note, err := identity.SignCheckpoint(o.org, size, root, o.key)
	must(o.t, err)
	c, err := identity.VerifyCheckpoint(note, o.org)
	must(o.t, err)
	return c
}

type holder struct {
	t     testing.TB
	dir   string
	store *store.Store
	r     *Replica
	id    wire.OrganizationID
}

func newHolder(t testing.TB, o *owner) *holder {
	t.Helper()
	h := &holder{t: t, dir: filepath.Join(t.TempDir(), "store"), id: o.org.ID}
	h.open()
	t.Cleanup(func() { h.store.Close() })
	return h
}

func (h *holder) open() {
	h.t.Helper()
	var err error
	h.store, err = store.Open(h.t.Context(), store.Options{Dir: h.dir, SealKey: [32]byte{1}, TrustClock: true})
	must(h.t, err)
	h.r, err = Open(h.store, h.id)
	must(h.t, err)
}

func (h *holder) reopen() {
	h.t.Helper()
	must(h.t, h.store.Close())
	h.open()
}

// offer shows a head with the leaves of a log, as node's following does.
func (h *holder) offer(o *owner, head *identity.Checkpoint, leaves []byte) error {
	from, behind, err := h.r.Judge(o.org, head)
	if uint64(len(leaves)) < head.Size*LeafLen {
		return errors.Join(err, ErrMisfit)
	}
	if err != nil || behind || from == head.Size {
		return err
	}
	err = h.r.Take(h.t.Context(), o.org, head, from, leaves[from*LeafLen:head.Size*LeafLen], now)
	if errors.Is(err, ErrMisfit) && from > 0 {
		if fork := h.r.Contradict(o.org, head, leaves); fork != nil {
			return fork
		}
	}
	return err
}

func (h *holder) takes(o *owner, l *log) {
	h.t.Helper()
	must(h.t, h.offer(o, o.head(l.leaves), l.leaves))
	if s := h.r.State(); s.Size != uint64(len(l.leaves)/LeafLen) {
		h.t.Fatalf("%d leaves are held", s.Size)
	}
}

func TestALogIsFollowedInStepsOfAnySizeAndAcrossRestarts(t *testing.T) {
	o := newOwner(t)
	h, l := newHolder(t, o), &log{}
	for step, n := range []int{1, 1, 62, 3, 64, 200, 1} {
		for i := range n {
			l.set(fmt.Sprint("member ", i), fmt.Sprint(step))
		}
		h.takes(o, l)
		if step%2 == 0 {
			h.reopen()
		}
	}
	got, err := h.r.Leaves(0, 1<<40)
	must(t, err)
	if string(got) != string(l.leaves) {
		t.Error("the stored leaves are others")
	}
	got, err = h.r.Leaves(127, 130)
	must(t, err)
	if string(got) != string(l.leaves[127*LeafLen:130*LeafLen]) {
		t.Error("leaves over the end of a row are others")
	}
}

func TestLeavesThatDoNotFitChangeNothing(t *testing.T) {
	o := newOwner(t)
	h, l := newHolder(t, o), &log{}
	h.takes(o, l.set("alice", "1"))
	before := h.r.State()

	good := l.clone().set("bob", "1")
	other := l.clone().set("mallory", "1")
	unmapped := append(append([]byte(nil), l.leaves...), prefix.Entry{Label: [32]byte{7}, Version: 1}.Append(nil)...)
	skipped := append(append([]byte(nil), l.leaves...), prefix.Entry{Label: [32]byte{7}, Version: 2}.Append(nil)...)
	ghost := good.clone() // a leaf that the map does not tell of
	copy(ghost.leaves[3*LeafLen:], identity.MapLeaf(1, l.labels.Root()).Append(nil))
	for name, c := range map[string]struct {
		head   *identity.Checkpoint
		leaves []byte
	}{
		"leaves of another head":         {o.head(good.leaves), other.leaves},
		"a version left out":             {o.head(skipped), skipped},
		"an end without the map":         {o.head(unmapped), unmapped},
		"a member that the map conceals": {o.head(ghost.leaves), ghost.leaves},
		"a head beyond the bound":        {o.sign(MaxLeaves+1, [32]byte{1}), good.leaves},
	} {
		if err := h.offer(o, c.head, c.leaves); !errors.Is(err, ErrMisfit) {
			t.Errorf("%s: %v", name, err)
		}
		var fork *ForkError
		if err := h.r.Contradict(o.org, c.head, c.leaves); errors.As(err, &fork) {
			t.Errorf("%s: an accusation", name)
		}
		if got := h.r.State(); got != before {
			t.Errorf("%s: changed %+v to %+v", name, before, got)
		}
	}
	if err := h.r.Take(t.Context(), o.org, o.head(good.leaves), 2, good.leaves[2*LeafLen:len(good.leaves)-1], now); !errors.Is(err, ErrMisfit) {
		t.Errorf("a leaf cut short: %v", err)
	}
	h.takes(o, good)
}

func TestTwoPastsAreProvedWhicheverIsSeenFirst(t *testing.T) {
	o := newOwner(t)
	base := (&log{}).set("alice", "1")
	left := base.clone().set("alice", "revoked")
	right := base.clone().set("alice", "ghost device")
	for _, c := range []struct{ first, then *log }{
		{left, right}, {left, right.clone().set("bob", "1")}, {left.clone().set("bob", "1"), right}, {left.clone().set("bob", "1").set("carol", "1"), right},
	} {
		h := newHolder(t, o)
		h.takes(o, base)
		h.takes(o, c.first)
		err := h.offer(o, o.head(c.then.leaves), c.then.leaves)
		var fork *ForkError
		if !errors.As(err, &fork) {
			t.Fatalf("%v", err)
		}
		proved, err := identity.VerifyFork(fork.Proof)
		must(t, err)
		if proved.Older.Root == proved.Newer.Root || proved.Organization.ID != o.org.ID {
			t.Errorf("%+v", proved)
		}
		must(t, h.r.Refuse(t.Context(), fmt.Errorf("following: %w", fork), now))
		h.reopen()
		first := h.r.Forked()
		if first == nil {
			t.Fatal("the proof did not outlive a restart")
		}
		if h.r.Forked() != first { // a partner's questions come to it
			t.Error("the proof is read anew each time")
		}
		if _, err := identity.VerifyFork(h.r.Forked()); err != nil {
			t.Errorf("the stored proof: %v", err)
		}
		if err := h.r.Mark(t.Context(), o.head(c.first.leaves)); err == nil {
			t.Error("a log with two pasts may be cosigned")
		}
		// What was under way when the proof came neither goes on nor covers it up.
		before := h.r.State()
		longer := c.first.clone().set("dave", "1")
		if err := h.offer(o, o.head(longer.leaves), longer.leaves); err == nil {
			t.Error("a log with two pasts is followed")
		}
		must(t, h.r.Refuse(t.Context(), ErrMisfit, now))
		must(t, h.r.Accept(t.Context()))
		if s := h.r.State(); s.Size != before.Size || s.Problem != before.Problem || s.Problem == "" || s.Fork == nil {
			t.Errorf("with a proof held: %+v, before %+v", s, before)
		}
	}
}

func TestAnOlderHeadOfTheSamePastIsNoAccusation(t *testing.T) {
	o := newOwner(t)
	h, l := newHolder(t, o), &log{}
	old := l.set("alice", "1").clone()
	h.takes(o, l.set("bob", "1").set("carol", "1"))
	for _, past := range []*log{old, l} {
		head := o.head(past.leaves)
		from, behind, err := h.r.Judge(o.org, head)
		if err != nil || from != head.Size || behind != (past == old) {
			t.Errorf("from %d, behind %v: %v", from, behind, err)
		}
	}
}

func TestNoTwoRootsOfOneSizeAreEverMarked(t *testing.T) {
	o := newOwner(t)
	h, l := newHolder(t, o), &log{}
	h.takes(o, l.set("alice", "1"))
	head := o.head(l.leaves)
	other := (&log{}).set("alice", "2")
	if err := h.r.Mark(t.Context(), o.head(other.leaves)); err == nil {
		t.Error("a head that is not held was marked")
	}
	must(t, h.r.Mark(t.Context(), head))
	must(t, h.r.Mark(t.Context(), head)) // repeating it is no harm

	// The leaves go, the agreement is made anew, and the owner shows another past.
	must(t, h.r.Drop(t.Context()))
	h.reopen()
	if s := h.r.State(); s.Size != 0 || s.Cosigned != 2 {
		t.Fatalf("%+v", s)
	}
	var fork *ForkError
	if err := h.offer(o, o.head(other.leaves), other.leaves); !errors.As(err, &fork) {
		t.Errorf("another root of the size that was cosigned: %v", err)
	}
	longer := other.clone().set("bob", "1")
	if err := h.offer(o, o.head(longer.leaves), longer.leaves); !errors.As(err, &fork) {
		t.Errorf("another past below the size that was cosigned: %v", err)
	}
	h.takes(o, l.set("bob", "1"))
	must(t, h.r.Mark(t.Context(), o.head(l.leaves)))
}

func TestALogThatAnIncidentHasBegunIsFollowedFromItsStart(t *testing.T) {
	o := newOwner(t)
	h := newHolder(t, o)
	base := (&log{}).set("alice", "1")
	left, right := base.clone().set("bob", "1"), base.clone().set("mallory", "1")
	h.takes(o, left)
	must(t, h.r.Mark(t.Context(), o.head(left.leaves)))
	oldHead := o.head(left.leaves)
	err := h.offer(o, o.head(right.leaves), right.leaves)
	must(t, h.r.Refuse(t.Context(), err, now))
	old := o.org
	o.tells(now.Add(time.Hour))
	if h.r.Forked() == nil {
		t.Fatal("no fork")
	}
	next := (&log{}).set("alice", "7")
	// Nothing of the new log is taken before the copy turns to it, nothing of the old after.
	if err := h.offer(o, o.head(next.leaves), next.leaves); !errors.Is(err, ErrMisfit) {
		t.Errorf("a head of another log: %v", err)
	}
	if settled, err := h.r.Turn(t.Context(), o.org.Manifest.Log()); err != nil || !settled {
		t.Fatalf("settled %v, %v", settled, err)
	}
	if settled, err := h.r.Turn(t.Context(), o.org.Manifest.Log()); err != nil || settled {
		t.Fatalf("again: settled %v, %v", settled, err)
	}
	h.reopen()
	s := h.r.State()
	if s.Fork != nil || s.Settled == nil || s.Size != 0 || s.Cosigned != 0 {
		t.Errorf("%+v", s)
	}
	if _, err := identity.VerifyFork(s.Settled); err != nil {
		t.Errorf("the old proof: %v", err)
	}
	if _, _, err := h.r.Judge(o.org, oldHead); !errors.Is(err, ErrMisfit) {
		t.Errorf("a head of the log that has ended: %v", err)
	}
	if err := h.r.Mark(t.Context(), oldHead); err == nil {
		t.Error("the log that has ended is cosigned")
	}
	next.labels = prefix.Tree{} // its first leaf may have any version
	next.leaves = nil
	e := prefix.Entry{Label: sha256.Sum256([]byte("alice")), Version: 1007}
	next.labels = next.labels.Set(e)
	next.leaves = identity.MapLeaf(1, next.labels.Root()).Append(e.Append(nil))
	h.takes(o, next)
	h.reopen()
	h.takes(o, next.set("alice", "8"))
	must(t, h.r.Mark(t.Context(), o.head(next.leaves)))
	// The new log can have two pasts as well.
	if err := h.offer(o, o.head(right.leaves), right.leaves); err == nil || h.r.Forked() != nil {
		t.Errorf("another past of the new log: %v", err)
	}
	// An owner whose statement did not stand takes the old log up again: its marks hold.
	o.org = old
	_, err = h.r.Turn(t.Context(), 0)
	must(t, err)
	if s := h.r.State(); s.Cosigned != oldHead.Size || s.Size != 0 {
		t.Errorf("%+v", s)
	}
	h.takes(o, right)
	if err := h.r.Mark(t.Context(), o.head(right.leaves)); err == nil {
		t.Error("another root of a size that was cosigned")
	}
}

// tells has the owner tell of an incident.
func (o *owner) tells(at time.Time) {
	o.t.Helper()
	var err error
	o.org, err = o.org.Declare(o.root, "our backup was started", at)
	must(o.t, err)
}

func TestDamagedLeavesAreFetchedAnew(t *testing.T) {
	o := newOwner(t)
	h, l := newHolder(t, o), &log{}
	h.takes(o, l.set("alice", "1").set("bob", "1"))
	bad := append([]byte(nil), l.leaves...)
	bad[40] ^= 1
	var b store.Batch
	b.Put(h.r.leafKey(0), bad)
	_, err := h.store.Commit(t.Context(), &b)
	must(t, err)
	h.reopen()
	l.set("carol", "1")
	if err := h.offer(o, o.head(l.leaves), l.leaves); err == nil {
		t.Fatal("the copy was extended on damaged leaves")
	}
	h.takes(o, l)
	h.reopen()
	if got, err := h.r.Leaves(0, 6); err != nil || string(got) != string(l.leaves) {
		t.Errorf("after fetching anew: %v", err)
	}
}
