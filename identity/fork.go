package identity

import (
	"fmt"
	"math/bits"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/mod/sumdb/tlog"
)

// ForkType is the type of a proof that a directory's log has two pasts.
const ForkType = "entente.im/fork/v1"

// maxForkNodes bounds the nodes of a proof: two for each level.
const maxForkNodes = 128

// ProveFork makes the proof that two heads of one log do not fit together: of one size
// with two roots, or older of a size below newer's, when leaves, which newer commits to,
// begin otherwise. Leaves are all of newer's, LeafLen bytes each, or nil for two heads of
// one size. It returns an error when the heads fit, or the leaves are not newer's.
func ProveFork(o *Organization, older, newer *Checkpoint, leaf func(uint64) []byte) (*pb.Fork, error) {
	f := &pb.Fork{Type: ForkType, Organization: o.ID.String(), Manifests: o.Notes, Older: older.Note, Newer: newer.Note}
	if older.Size < newer.Size {
		if leaf == nil {
			return nil, refuse("a fork between two sizes without leaves")
		}
		forkNodes(0, newer.Size, older.Size, leaf, func(h tlog.Hash) { f.Nodes = append(f.Nodes, h[:]) })
	}
	_, err := VerifyFork(f)
	return f, err
}

// forkNodes gives the nodes of [lo, hi) that a verifier needs: what lies wholly before m or
// wholly from m on, as few as there are.
func forkNodes(lo, hi, m uint64, leaf func(uint64) []byte, give func(tlog.Hash)) {
	if hi <= m || lo >= m {
		give(subtree(lo, hi, leaf))
		return
	}
	k := split(hi - lo)
	forkNodes(lo, lo+k, m, leaf, give)
	forkNodes(lo+k, hi, m, leaf, give)
}

// LogRoot is the root of a log of size leaves, at least one (RFC 6962 §2.1).
func LogRoot(size uint64, leaf func(uint64) []byte) [32]byte { return subtree(0, size, leaf) }

// subtree is the hash of some leaves (RFC 6962 §2.1).
func subtree(lo, hi uint64, leaf func(uint64) []byte) tlog.Hash {
	if hi-lo == 1 {
		return tlog.RecordHash(leaf(lo))
	}
	k := split(hi - lo)
	return tlog.NodeHash(subtree(lo, lo+k, leaf), subtree(lo+k, hi, leaf))
}

// split is the largest power of two below n, which is at least 2.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// ProvedFork is what a fork's proof shows.
type ProvedFork struct {
	Organization *Organization
	Older, Newer *Checkpoint
}

// VerifyFork checks, from the proof alone, that the directory key of an organization has
// signed two heads of which one cannot be a past of the other (docs/protocol.md 2.12).
func VerifyFork(f *pb.Fork) (*ProvedFork, error) {
	if f.GetType() != ForkType || len(f.Nodes) > maxForkNodes {
		return nil, refuse("a fork of type %.60q", f.GetType())
	}
	id, err := wire.ParseOrganizationID(f.Organization)
	if err != nil {
		return nil, refuse("a fork of no organization")
	}
	o, err := VerifyManifests(f.Manifests, id)
	if err != nil {
		return nil, err
	}
	return VerifyForkOf(f, o)
}

// VerifyForkOf is VerifyFork for who knows the organization already: it does not look at the
// proof's manifests.
func VerifyForkOf(f *pb.Fork, o *Organization) (*ProvedFork, error) {
	if f.GetType() != ForkType || len(f.Nodes) > maxForkNodes || f.Organization != o.ID.String() {
		return nil, refuse("a fork of type %.60q, or of another organization", f.GetType())
	}
	p, err := &ProvedFork{Organization: o}, error(nil)
	if p.Older, err = VerifyHead(f.Older, o); err != nil {
		return nil, err
	}
	if p.Newer, err = VerifyHead(f.Newer, o); err != nil {
		return nil, err
	}
	switch {
	case p.Older.Log != p.Newer.Log:
		return nil, refuse("heads of two logs, the second of which an incident statement has begun")
	case p.Older.Size == 0 || p.Older.Size > p.Newer.Size || p.Newer.Size >= 1<<62:
		return nil, refuse("heads of sizes %d and %d", p.Older.Size, p.Newer.Size)
	case p.Older.Size == p.Newer.Size && len(f.Nodes) > 0:
		return nil, refuse("nodes between two heads of one size")
	case p.Older.Size == p.Newer.Size && p.Older.Root == p.Newer.Root:
		return nil, refuse("the two heads are one")
	case p.Older.Size == p.Newer.Size:
		return p, nil
	}
	return p, checkForkNodes(f.Nodes, p.Older, p.Newer)
}

// checkForkNodes: the nodes hash to the newer root and not to the older one.
func checkForkNodes(nodes [][]byte, older, newer *Checkpoint) error {
	r := nodeReader{left: nodes}
	root := r.root(0, newer.Size, older.Size)
	if r.err != nil || len(r.left) > 0 || root != tlog.Hash(newer.Root) {
		return refuse("nodes that do not hash to the newer head")
	}
	before := r.past[len(r.past)-1]
	for i := len(r.past) - 2; i >= 0; i-- {
		before = tlog.NodeHash(r.past[i], before)
	}
	if before == tlog.Hash(older.Root) {
		return refuse("the older head is a past of the newer one")
	}
	return nil
}

// nodeReader computes a root from the nodes that forkNodes gives.
type nodeReader struct {
	left [][]byte
	past []tlog.Hash // those before the older head's end
	err  error
}

func (r *nodeReader) root(lo, hi, m uint64) tlog.Hash {
	if r.err != nil {
		return tlog.Hash{}
	}
	if hi > m && lo < m {
		k := split(hi - lo)
		a := r.root(lo, lo+k, m)
		return tlog.NodeHash(a, r.root(lo+k, hi, m))
	}
	if len(r.left) == 0 || len(r.left[0]) != tlog.HashSize {
		r.err = fmt.Errorf("identity: a node is missing")
		return tlog.Hash{}
	}
	h := tlog.Hash(r.left[0])
	r.left = r.left[1:]
	if hi <= m {
		r.past = append(r.past, h)
	}
	return h
}
