package node

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/replica"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// The head of our own directory's log, with what partners have cosigned of it, and its
// leaves, as partners ask for them (docs/protocol.md 5.4, 2.11).

// ownHeadKey is the row of our last head with its cosignatures: a note.
const ownHeadKey = "rp/own"

// maxLeafPage bounds the leaves of one answer: 590 kB.
const maxLeafPage = 8_192

// heads keeps our own head.
type heads struct {
	mu   sync.Mutex
	note string // the present head with its cosignatures; empty: not read yet
}

// ownHead returns the present head with its cosignatures; nil while the log is empty. A
// node that is recovering, or whose log was set back, has none to show.
func (n *Node) ownHead() (*identity.Checkpoint, error) {
	n.heads.mu.Lock()
	defer n.heads.mu.Unlock()
	return n.ownHeadLocked()
}

func (n *Node) ownHeadLocked() (*identity.Checkpoint, error) {
	if err := n.signs(); err != nil {
		return nil, err
	}
	if size, _, err := n.dir.Head(); err != nil || size == 0 {
		return nil, err
	}
	signed, err := n.dir.Checkpoint()
	if err != nil {
		return nil, err
	}
	head, err := identity.VerifyCheckpoint(signed, n.org)
	if err != nil {
		return nil, err
	}
	if n.heads.note == "" {
		b, err := n.store.Get([]byte(ownHeadKey))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		n.heads.note = string(b)
	}
	if same(n.heads.note, signed) {
		head.Note = n.heads.note
	}
	return head, nil
}

// same reports whether two notes have one text.
func same(a, b string) bool {
	x, err := wire.NoteText(a)
	y, err2 := wire.NoteText(b)
	return err == nil && err2 == nil && x == y
}

// takeCosigned keeps a partner's cosignature of our present head. One of an earlier head
// comes too late and is no error.
func (n *Node) takeCosigned(ctx context.Context, from wire.OrganizationID, q *pb.CosignedQuery) error {
	org, ok := n.partner(from)
	if !ok {
		return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	if len(q.Checkpoint) > wire.MaxNote {
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "")
	}
	cosigner := identity.CosignerOf(org)
	if got, err := identity.Cosignatures(q.Checkpoint, []identity.Cosigner{cosigner}); err != nil || len(got) != 1 {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a head without a valid cosignature of the organization that hands it over")
	}
	n.heads.mu.Lock()
	defer n.heads.mu.Unlock()
	head, err := n.ownHeadLocked()
	if err != nil || head == nil || !same(head.Note, q.Checkpoint) {
		return err
	}
	merged, err := identity.MergeCosignatures(head, q.Checkpoint, n.cosigners())
	if err != nil || merged == head.Note {
		return err
	}
	var b store.Batch
	b.Put([]byte(ownHeadKey), []byte(merged))
	if _, err := n.store.Commit(context.WithoutCancel(ctx), &b); err != nil {
		return err
	}
	n.heads.note = merged
	select {
	case n.replicas.kick <- struct{}{}: // it may be told now
	default:
	}
	return nil
}

// cosigners are those whose cosignatures our own heads keep: partners in force.
func (n *Node) cosigners() []identity.Cosigner {
	var out []identity.Cosigner
	for _, p := range n.fed.Partners() {
		if _, err := n.fed.InForce(p.ID, n.clock.Now()); err != nil {
			continue
		}
		if org, ok := n.partner(p.ID); ok {
			out = append(out, identity.CosignerOf(org))
		}
	}
	return slices.Clip(out)
}

// provedChain is a member's chain with the proof that it is the latest, on a head with its
// cosignatures. A node that signs nothing now answers without the proof.
func (n *Node) provedChain(id wire.MemberID) (*pb.MemberChain, error) {
	if n.signs() != nil {
		return n.dir.Chain(id)
	}
	chain, err := n.dir.ProvedChain(id)
	if code := wire.StatusOf(err).Code; code == pb.Code_CODE_RECOVERING || code == pb.Code_CODE_UNSUPPORTED {
		return n.dir.Chain(id)
	}
	if err != nil {
		return nil, err
	}
	if head, err := n.ownHead(); err == nil && head != nil && same(head.Note, chain.Currency.Checkpoint) {
		chain.Currency.Checkpoint = head.Note
	}
	return chain, nil
}

// witnesses are those whose cosignatures count for our members: partners in force, this
// node, and public witnesses of the configuration.
func (n *Node) witnesses() []*pb.Witness {
	own := identity.CosignerOf(n.org)
	out := []*pb.Witness{{Name: own.Owner, Key: own.Public, Organization: n.org.ID[:]}}
	for _, p := range n.fed.Partners() {
		org, ok := n.partner(p.ID)
		if _, err := n.fed.InForce(p.ID, n.clock.Now()); err != nil || !ok || len(out) > maxWitnesses {
			continue
		}
		c := identity.CosignerOf(org)
		out = append(out, &pb.Witness{Name: c.Owner, Key: c.Public, Organization: bytes.Clone(p.ID[:])})
	}
	for _, text := range n.config.Witnesses {
		if c, err := identity.ParseWitness(text); err == nil { // config.check has refused others
			out = append(out, &pb.Witness{Name: c.Owner, Key: c.Public})
		}
	}
	return out
}

// maxWitnesses bounds the partners that a device is told of as witnesses.
const maxWitnesses = 1_000

func (a deviceAPI) ListWitnesses(context.Context, *connect.Request[pb.ListWitnessesRequest]) (*connect.Response[pb.ListWitnessesResponse], error) {
	return answer(&pb.ListWitnessesResponse{Witnesses: a.n.witnesses()}, nil)
}

// headFor answers a partner: our head, or what we hold of its own log.
func (n *Node) headFor(from wire.OrganizationID, q *pb.HeadQuery) (*pb.HeadAnswer, error) {
	own, r, err := n.logFor(from, q.Organization)
	if err != nil {
		return nil, err
	}
	n.replicas.hinted(from, q.Size)
	if !own {
		return &pb.HeadAnswer{Checkpoint: r.State().Head}, nil
	}
	head, err := n.ownHead()
	if err != nil || head == nil {
		return &pb.HeadAnswer{}, err
	}
	return &pb.HeadAnswer{Checkpoint: head.Note}, nil
}

// leavesFor answers a partner with leaves of the same two logs.
func (n *Node) leavesFor(from wire.OrganizationID, q *pb.LeavesQuery) (*pb.LeavesAnswer, error) {
	own, r, err := n.logFor(from, q.Organization)
	if err != nil {
		return nil, err
	}
	if q.To < q.From {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "leaves from %d to %d", q.From, q.To)
	}
	to := min(q.To, q.From+maxLeafPage)
	if !own {
		b, err := r.Leaves(q.From, to)
		return &pb.LeavesAnswer{Leaves: b}, err
	}
	size, _, err := n.dir.Head()
	if err != nil {
		return nil, err
	}
	a := &pb.LeavesAnswer{}
	for i := q.From; i < min(to, size); i++ {
		leaf, err := n.dir.Leaf(i)
		if err != nil {
			return nil, err
		}
		a.Leaves = append(a.Leaves, leaf...)
	}
	return a, nil
}

// logFor says whose log a partner asks about: ours (own), or its own as we hold it. Others'
// are none of its business.
func (n *Node) logFor(from wire.OrganizationID, organization []byte) (own bool, r *replica.Replica, err error) {
	if len(organization) == 0 || string(organization) == string(n.org.ID[:]) {
		return true, nil, nil
	}
	if string(organization) != string(from[:]) {
		return false, nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the log of another organization")
	}
	r, err = n.replicas.of(from)
	return false, r, err
}
