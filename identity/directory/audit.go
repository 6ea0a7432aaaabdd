package directory

import (
	"context"
	"fmt"

	"github.com/entente-im/entente/identity/prefix"
	"golang.org/x/mod/sumdb/tlog"
)

// Audit is what a recomputation of the whole log has found.
type Audit struct {
	Leaves   uint64
	Records  uint64 // leaves that are no roots of the map
	Members  uint64
	Problems []string
}

// maxProblems bounds what an audit lists.
const maxProblems = 100

// Audit computes both trees anew from the leaves on disk, as a partner that replicates
// them does, and compares every stored hash, every root of the map, the versions of each
// label and the head. It changes nothing, and the directory goes on meanwhile.
func (d *Directory) Audit(ctx context.Context) (Audit, error) {
	d.write.Lock()
	log := d.log
	d.write.Unlock()
	a := Audit{Leaves: log.size}
	problem := func(format string, args ...any) {
		if len(a.Problems) < maxProblems {
			a.Problems = append(a.Problems, fmt.Sprintf(format, args...))
		}
	}
	var labels prefix.Tree
	known := make(map[int64]tlog.Hash) // computed here, not read
	computed := pending{hashReader{d.store}, known}
	for i := range log.size {
		if err := ctx.Err(); err != nil {
			return a, err
		}
		leaf, err := d.Leaf(i)
		if err != nil {
			return a, err
		}
		labels = auditLeaf(labels, log.number, i, leaf, &a, problem)
		if err := d.auditHashes(i, leaf, computed, problem); err != nil {
			return a, err
		}
	}
	if labels.Root() != log.labels.Root() {
		problem("the map of the leaves is not the one that is proved from")
	}
	root, err := tlog.TreeHash(int64(log.size), computed)
	if err != nil {
		return a, fmt.Errorf("directory: auditing: %w", err)
	}
	if stored, err := tlog.TreeHash(int64(log.size), hashReader{d.store}); err != nil || stored != root {
		problem("the head is not that of the leaves")
	}
	a.Members = uint64(labels.Len())
	return a, nil
}

func auditLeaf(labels prefix.Tree, number, i uint64, leaf []byte, a *Audit, problem func(string, ...any)) prefix.Tree {
	e, ok := prefix.ParseEntry(leaf)
	switch {
	case !ok:
		problem("leaf %d has %d bytes", i, len(leaf))
	case e.Label == prefix.Label{}:
		if e != rootLeaf(labels) {
			problem("leaf %d is not the root of what stands before it", i)
		}
	default:
		a.Records++
		if before, _ := labels.Get(e.Label); !follows(e, before, number) {
			problem("leaf %d has version %d after %d", i, e.Version, before.Version)
		}
		return labels.Set(e)
	}
	return labels
}

func (d *Directory) auditHashes(i uint64, leaf []byte, computed pending, problem func(string, ...any)) error {
	hashes, err := tlog.StoredHashes(int64(i), leaf, computed)
	if err != nil {
		return fmt.Errorf("directory: auditing: %w", err)
	}
	first := tlog.StoredHashIndex(0, int64(i))
	for j, h := range hashes {
		computed.fresh[first+int64(j)] = h
		stored, err := (hashReader{d.store}).ReadHashes([]int64{first + int64(j)})
		if err != nil || stored[0] != h {
			problem("hash %d, made by leaf %d, is another on disk", first+int64(j), i)
		}
	}
	return nil
}
