package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/encoding/protojson"
)

// Mark records, before it is signed, that the held head is cosigned. When it returns nil
// that is on stable storage, and no other root of this size will be. It is refused for any
// head but the held one, and for a log with a fork.
func (r *Replica) Mark(ctx context.Context, head *identity.Checkpoint) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.row.Fork) > 0:
		return errors.New("replica: nothing is cosigned of a log with two pasts")
	case head.Log != r.row.Log || head.Size == 0 || head.Size != r.held() || head.Root != [32]byte(r.row.Root):
		return errors.New("replica: only the held head is cosigned")
	case head.Size < r.row.CosignedSize:
		return fmt.Errorf("replica: the log was cosigned at %d entries already", r.row.CosignedSize)
	case head.Size == r.row.CosignedSize && head.Root != [32]byte(r.row.CosignedRoot):
		return errors.New("replica: another root of this size was cosigned")
	case head.Size == r.row.CosignedSize:
		return nil
	}
	row := r.row
	row.CosignedSize, row.CosignedRoot = head.Size, head.Root[:]
	return r.commit(ctx, &store.Batch{}, row)
}

// Refuse records why a head was not taken, or that the log has two pasts, which stays.
func (r *Replica) Refuse(ctx context.Context, why error, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.row.Fork) > 0 {
		return nil // what is proved is what there is to say
	}
	row := r.row
	row.Problem, row.ProblemAt = short(why.Error()), now
	if fork := (*ForkError)(nil); errors.As(why, &fork) && len(row.Fork) == 0 {
		b, err := protojson.Marshal(fork.Proof)
		if err != nil {
			return fmt.Errorf("replica: a proof: %w", err)
		}
		row.Fork = b
	}
	if row.Problem == r.row.Problem && len(row.Fork) == len(r.row.Fork) {
		return nil // said before: a partner that repeats it writes nothing
	}
	return r.commit(ctx, &store.Batch{}, row)
}

// Accept ends a recorded problem that is over: the head fits again. A fork stays.
func (r *Replica) Accept(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.row.Problem == "" || len(r.row.Fork) > 0 {
		return nil
	}
	row := r.row
	row.Problem, row.ProblemAt = "", time.Time{}
	return r.commit(ctx, &store.Batch{}, row)
}

// Turn follows another of the owner's logs, which its manifest is about, when it is another
// than the one that is held: an incident statement has begun it. The leaves of the old one go,
// marks and the proof against it stay. It reports whether there was a proof.
func (r *Replica) Turn(ctx context.Context, log uint64) (settled bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if log == r.row.Log {
		return false, nil
	}
	settled = len(r.row.Fork) > 0
	row := stateRow{Version: rowVersion, Log: log, Marks: r.row.Marks, Settled: r.row.Settled}
	if settled {
		row.Settled = r.row.Fork
	}
	if r.row.CosignedSize > 0 {
		row.Marks = append(slices.Clone(row.Marks), oldMark{r.row.Log, r.row.CosignedSize, r.row.CosignedRoot})
	}
	// An owner whose root was taken and came back may take up a log again.
	if i := slices.IndexFunc(row.Marks, func(m oldMark) bool { return m.Log == log }); i >= 0 {
		row.CosignedSize, row.CosignedRoot = row.Marks[i].Size, row.Marks[i].Root
		row.Marks = slices.Delete(row.Marks, i, i+1)
	}
	if len(row.Marks) > maxOldMarks {
		row.Marks = row.Marks[1:]
	}
	var b store.Batch
	for n := uint64(0); n*chunk < r.row.Size; n++ {
		b.Delete(r.leafKey(n))
	}
	if err := r.commit(ctx, &b, row); err != nil {
		return false, err
	}
	r.tree = nil
	return settled, nil
}

// maxOldMarks bounds the marks of logs that are not followed any more: every log that one
// chain of manifests can have begun, and one that gave way to it.
const maxOldMarks = 2 * identity.MaxIncidents

// Drop deletes the leaves; heads and marks stay.
func (r *Replica) Drop(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held() == 0 {
		return nil
	}
	row := r.row
	row.Dropped = true
	var b store.Batch
	for n := uint64(0); n*chunk < r.row.Size; n++ {
		b.Delete(r.leafKey(n))
	}
	if err := r.commit(ctx, &b, row); err != nil {
		return err
	}
	t := r.empty()
	r.tree = &t
	return nil
}

// Forked returns the proof that the log has two pasts, or nil.
func (r *Replica) Forked() *pb.Fork { return r.State().Fork }

// maxProblem bounds what is kept of a problem.
const maxProblem = 200

func short(s string) string { return s[:min(len(s), maxProblem)] }
