// Package replica keeps copies of other organizations' directory logs. A copy is taken
// only whole: leaves are stored when both trees, computed anew from all of them, have the
// roots that the log's owner has signed. So what a node has of a partner's log is one
// history, and a head that does not continue it is either older or a proof of a fork.
//
// Its promises: a stored head is at a copy that recomputes to it; what is stored survives
// restarts; a log is never marked as cosigned at two roots of one size.
//
// It leaves to others how heads and leaves arrive (node), who signs (identity), and what a
// fork leads to (node).
//
// # Rows in the store (integers big-endian)
//
//	rp/state/<organization ID>               JSON stateRow
//	rp/leaf/<organization ID><chunk uint64>  up to 128 leaves of 72 bytes
//
// The node's own head with its cosignatures is its row rp/own. The state outlives the leaves when the agreement ends: marks are for good.
package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	// LeafLen is the length of a leaf.
	LeafLen = prefix.EntryLen
	// MaxLeaves bounds a copy: 38 MB, and twice that while it is first fetched.
	MaxLeaves = 1 << 19

	// maxKept is the number of labels up to which a log's map stays in memory; a larger one
	// is computed again with the next head, in about a second for 100,000.
	maxKept = 4_000

	statePrefix = "rp/state/"
	leafPrefix  = "rp/leaf/"
	chunk       = 128 // leaves of a row
	rowVersion  = 1
)

// ErrMisfit is wrapped by what a log's owner has shown that does not fit together, without
// being a proof of a fork.
var ErrMisfit = errors.New("replica: does not fit")

// ForkError says that a head and the copy are no one history; Proof shows it to anybody.
type ForkError struct{ Proof *pb.Fork }

func (e *ForkError) Error() string { return "replica: the log has two pasts" }

var errTwoPasts = errors.New("replica: nothing is taken of a log with two pasts")

// stateRow is a copy's state on disk.
type stateRow struct {
	Version      int       `json:"version"`
	Log          uint64    `json:"log,omitempty"` // which of the owner's logs: identity.Manifest.Log
	Size         uint64    `json:"size"`
	Root         []byte    `json:"root"`
	Head         string    `json:"head"` // note: as the owner signed it
	Since        time.Time `json:"since"`
	Dropped      bool      `json:"dropped,omitempty"`
	CosignedSize uint64    `json:"cosigned_size,omitempty"`
	CosignedRoot []byte    `json:"cosigned_root,omitempty"`
	Problem      string    `json:"problem,omitempty"`
	ProblemAt    time.Time `json:"problem_at,omitzero"`
	Fork         []byte    `json:"fork,omitempty"` // JSON: the proof

	Marks   []oldMark `json:"marks,omitempty"`   // of the owner's other logs
	Settled []byte    `json:"settled,omitempty"` // JSON: the proof about the last log that was given up
}

// oldMark is how far a log was cosigned that is not followed any more.
type oldMark struct {
	Log  uint64 `json:"log"`
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

// State is what a copy is, to be shown.
type State struct {
	Size      uint64
	Root      [32]byte
	Head      string // note; empty: nothing is held yet
	Since     time.Time
	Cosigned  uint64 // size of the highest head that was cosigned
	Problem   string // why the last head was not taken; empty: it was
	ProblemAt time.Time
	Fork      *pb.Fork // the log has two pasts
	Log       uint64   // which of the owner's logs
	Settled   *pb.Fork // the log before this one had two pasts; nil: not, or there was none
}

// Replica is the copy of one log. Its methods may be called at once.
type Replica struct {
	store *store.Store
	id    wire.OrganizationID

	mu   sync.Mutex
	row  stateRow
	tree *tree // nil: not computed yet

	// The proofs of row, read once: partners' questions come to State.
	proof, settled *pb.Fork
}

// Open reads what is held of a log. The leaves are checked when they are needed first.
func Open(s *store.Store, id wire.OrganizationID) (*Replica, error) {
	r := &Replica{store: s, id: id, row: stateRow{Version: rowVersion}}
	b, err := s.Get(r.stateKey())
	if errors.Is(err, store.ErrNotFound) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("replica: reading: %w", err)
	}
	if err := json.Unmarshal(b, &r.row); err != nil || r.row.Version != rowVersion {
		return nil, errors.New("replica: a state that does not parse")
	}
	r.proof, r.settled = readFork(r.row.Fork), readFork(r.row.Settled)
	return r, nil
}

func (r *Replica) stateKey() []byte { return append([]byte(statePrefix), r.id[:]...) }

func (r *Replica) leafKey(n uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(leafPrefix), r.id[:]...), n)
}

// State returns what is held. The proofs are not to be changed.
func (r *Replica) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{Log: r.row.Log, Fork: r.proof, Settled: r.settled, Head: r.row.Head, Since: r.row.Since, Cosigned: r.row.CosignedSize, Problem: r.row.Problem, ProblemAt: r.row.ProblemAt}
	if !r.row.Dropped {
		s.Size = r.row.Size
	}
	copy(s.Root[:], r.row.Root)
	return s
}

func readFork(b []byte) *pb.Fork {
	if len(b) == 0 {
		return nil
	}
	f := &pb.Fork{}
	if protojson.Unmarshal(b, f) != nil {
		return &pb.Fork{} // still a fork
	}
	return f
}

// held is how many leaves are stored; r.mu is held.
func (r *Replica) held() uint64 {
	if r.row.Dropped {
		return 0
	}
	return r.row.Size
}

// load computes the trees from the stored leaves; r.mu is held. A copy that does not
// recompute is damage on our side: it is fetched anew.
func (r *Replica) load() error {
	if r.tree != nil {
		return nil
	}
	b, err := r.read(0, r.held())
	if err == nil {
		var t tree
		if t, err = r.empty().extend(b); err == nil && r.held() > 0 && t.root() != [32]byte(r.row.Root) {
			err = errors.New("replica: the stored leaves do not hash to the stored head")
		}
		r.tree = &t
	}
	if err != nil {
		t := r.empty()
		r.tree, r.row.Dropped = &t, true
	}
	return err
}

// empty is a tree before its first leaf; r.mu is held.
func (r *Replica) empty() tree { return tree{later: r.row.Log > 0} }

// read returns stored leaves from up to but without to; r.mu is held.
func (r *Replica) read(from, to uint64) ([]byte, error) {
	out := make([]byte, 0, (to-from)*LeafLen)
	for i := from; i < to; {
		b, err := r.store.Get(r.leafKey(i / chunk))
		if err != nil {
			return nil, fmt.Errorf("replica: leaf %d: %w", i, err)
		}
		last := min(to, (i/chunk+1)*chunk)
		lo, hi := i%chunk*LeafLen, (last-i/chunk*chunk)*LeafLen
		if uint64(len(b)) < hi {
			return nil, fmt.Errorf("replica: leaf %d is missing", i)
		}
		out = append(out, b[lo:hi]...)
		i = last
	}
	return out, nil
}

// Leaves returns leaves from up to but without to, as far as they are held.
func (r *Replica) Leaves(from, to uint64) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to = min(to, r.held()); from >= to {
		return nil, nil
	}
	return r.read(from, to)
}

// Judge compares a verified head with the copy. It returns from which leaf on Take needs
// leaves, when the head is a larger one; from == head.Size when it is held already, or is
// a true past of it (behind). A head that cannot be one history with the copy is a
// *ForkError.
func (r *Replica) Judge(o *identity.Organization, head *identity.Checkpoint) (from uint64, behind bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case head.Log != r.row.Log:
		return 0, false, fmt.Errorf("%w: a head of another of the organization's logs", ErrMisfit)
	case head.Size > MaxLeaves:
		return 0, false, fmt.Errorf("%w: a log of %d entries", ErrMisfit, head.Size)
	}
	held := r.held()
	if r.row.Dropped && head.Size == r.row.Size && head.Root != [32]byte(r.row.Root) {
		return 0, false, r.fork(o, head, nil) // the leaves are gone, the signed head is not
	}
	if head.Size > held {
		return held, false, nil
	}
	if head.Size == held && (held == 0 || head.Root == [32]byte(r.row.Root)) {
		return held, false, nil
	}
	leaves, err := r.read(0, held)
	if err != nil {
		return 0, false, err
	}
	if rootOf(leaves[:head.Size*LeafLen]) != head.Root {
		return 0, false, r.fork(o, head, leaves)
	}
	return head.Size, true, nil
}

// fork proves that head, of at most the stored one's size, is no past of it; r.mu is held.
func (r *Replica) fork(o *identity.Organization, head *identity.Checkpoint, leaves []byte) error {
	stored, err := identity.VerifyHead(r.row.Head, o)
	if err != nil {
		return err
	}
	return proveFork(o, head, stored, leaves)
}

func proveFork(o *identity.Organization, older, newer *identity.Checkpoint, leaves []byte) error {
	proof, err := identity.ProveFork(o, older, newer, func(i uint64) []byte { return leaves[i*LeafLen : (i+1)*LeafLen] })
	if err != nil {
		return err
	}
	return &ForkError{proof}
}

// Take extends the copy to a verified head by leaves from where Judge has said. Both trees
// are computed anew; when it returns nil, the head and all leaves before it are on stable
// storage. Leaves that belong to the head but not to the copy prove a fork (*ForkError);
// what does not recompute is ErrMisfit. In both cases nothing has changed.
func (r *Replica) Take(ctx context.Context, o *identity.Organization, head *identity.Checkpoint, from uint64, leaves []byte, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.load(); err != nil {
		return err
	}
	if len(r.row.Fork) > 0 { // proved since the caller has looked
		return errTwoPasts
	}
	held := r.held()
	if head.Log != r.row.Log || from != held || head.Size <= held || head.Size > MaxLeaves || uint64(len(leaves)) != (head.Size-from)*LeafLen {
		return fmt.Errorf("%w: %d bytes of leaves from %d to %d, where %d are held", ErrMisfit, len(leaves), from, head.Size, held)
	}
	t, err := r.tree.extend(leaves)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMisfit, err)
	}
	if t.root() != head.Root {
		return fmt.Errorf("%w: leaves that do not continue to the signed head", ErrMisfit)
	}
	if !t.whole {
		return fmt.Errorf("%w: a log that does not end with its map", ErrMisfit)
	}
	if err := r.keepsMarks(o, head, leaves); err != nil {
		return err
	}
	row := r.row
	row.Size, row.Root, row.Head, row.Since, row.Dropped, row.Problem, row.ProblemAt = head.Size, head.Root[:], head.Note, now, false, "", time.Time{}
	var b store.Batch
	if err := r.putLeaves(&b, held, leaves); err != nil {
		return err
	}
	if err := r.commit(ctx, &b, row); err != nil {
		return err
	}
	if r.tree = &t; t.labels.Len() > maxKept {
		r.tree = nil
	}
	return nil
}

// Contradict tries to prove that a larger head, whose leaves did not continue the copy, has
// another past: with all of that head's leaves, which whoever it was made for is shown. It
// returns the *ForkError, or ErrMisfit when the leaves are not the head's, or nil when they
// continue the copy after all.
func (r *Replica) Contradict(o *identity.Organization, head *identity.Checkpoint, leaves []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held()
	if head.Log != r.row.Log || held == 0 || head.Size <= held || uint64(len(leaves)) != head.Size*LeafLen {
		return fmt.Errorf("%w: %d bytes of leaves for a head of %d", ErrMisfit, len(leaves), head.Size)
	}
	if rootOf(leaves) != head.Root {
		return fmt.Errorf("%w: leaves that do not hash to the signed head", ErrMisfit)
	}
	if rootOf(leaves[:held*LeafLen]) == [32]byte(r.row.Root) {
		return nil
	}
	stored, err := identity.VerifyHead(r.row.Head, o)
	if err != nil {
		return err
	}
	return proveFork(o, stored, head, leaves)
}

// keepsMarks holds a log that is fetched again from its start, after the copy was dropped,
// to the head that was held before; r.mu is held.
func (r *Replica) keepsMarks(o *identity.Organization, head *identity.Checkpoint, leaves []byte) error {
	if !r.row.Dropped || r.row.Size == 0 {
		return nil
	}
	if head.Size < r.row.Size {
		return fmt.Errorf("%w: a log of %d entries, where it had %d", ErrMisfit, head.Size, r.row.Size)
	}
	if rootOf(leaves[:r.row.Size*LeafLen]) == [32]byte(r.row.Root) {
		return nil
	}
	stored, err := identity.VerifyHead(r.row.Head, o)
	if err != nil {
		return err
	}
	return proveFork(o, stored, head, leaves)
}

// putLeaves adds leaves behind those that are held; r.mu is held.
func (r *Replica) putLeaves(b *store.Batch, held uint64, leaves []byte) error {
	first := held / chunk * chunk
	before, err := r.read(first, held)
	if err != nil {
		return err
	}
	all := append(before, leaves...)
	for n := first / chunk; len(all) > 0; n++ {
		some := all[:min(len(all), chunk*LeafLen)]
		b.Put(r.leafKey(n), some)
		all = all[len(some):]
	}
	return nil
}

// commit writes a new state, with what else is in the batch; r.mu is held.
func (r *Replica) commit(ctx context.Context, b *store.Batch, row stateRow) error {
	v, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("replica: a state: %w", err)
	}
	b.Put(r.stateKey(), v)
	if _, err := r.store.Commit(context.WithoutCancel(ctx), b); err != nil {
		return fmt.Errorf("replica: storing: %w", err)
	}
	if !bytes.Equal(row.Fork, r.row.Fork) || !bytes.Equal(row.Settled, r.row.Settled) {
		r.proof, r.settled = readFork(row.Fork), readFork(row.Settled)
	}
	r.row = row
	return nil
}
