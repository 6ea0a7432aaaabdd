package node

import (
	"context"
	"encoding/base64"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (a operatorAPI) ShowDirectory(context.Context, *connect.Request[pb.ShowDirectoryRequest]) (*connect.Response[pb.DirectoryHead], error) {
	return answer(a.n.directoryHead())
}

func (n *Node) directoryHead() (*pb.DirectoryHead, error) {
	if err := n.signs(); err != nil { // a head below what was signed before would be a fork
		return nil, err
	}
	note, err := n.dir.Checkpoint()
	if err != nil {
		return nil, err
	}
	if own, err := n.ownHead(); err == nil && own != nil {
		note = own.Note // with what partners have cosigned
	}
	c, err := identity.VerifyCheckpoint(note, n.org)
	if err != nil {
		return nil, err
	}
	var incident int64
	if l := n.org.Manifest.Incidents; len(l) > 0 {
		incident = l[len(l)-1].At.UnixMilli()
	}
	return &pb.DirectoryHead{IncidentMs: incident, Checkpoint: note, Size: c.Size, Root: base64.StdEncoding.EncodeToString(c.Root[:]),
		Members: uint64(len(n.dir.Members())), Map: n.dir.HasMap()}, nil
}

func (a operatorAPI) AuditDirectory(ctx context.Context, _ *connect.Request[pb.AuditDirectoryRequest]) (*connect.Response[pb.DirectoryAudit], error) {
	started := time.Now()
	found, err := a.n.dir.Audit(ctx)
	return answer(&pb.DirectoryAudit{Leaves: found.Leaves, Records: found.Records, Members: found.Members, Problems: found.Problems,
		TookMs: time.Since(started).Milliseconds()}, err)
}

func (a operatorAPI) ProveMember(_ context.Context, r *connect.Request[pb.ProveMemberRequest]) (*connect.Response[pb.DirectoryProof], error) {
	return answer(a.n.proveMember(r.Msg.Name))
}

// proveMember makes the proof of a member that goes into a file: by name, or, of one that
// the log does not have, by ID.
func (n *Node) proveMember(name string) (*pb.DirectoryProof, error) {
	if err := n.signs(); err != nil {
		return nil, err
	}
	p := &pb.DirectoryProof{Type: identity.ProofType, Organization: n.org.ID.String(), Chain: &pb.MemberChain{Manifests: n.org.Notes}}
	id, err := wire.ParseMemberID(name)
	if m, e := n.named(name); e == nil {
		id, err = m.ID, nil
	} else if err != nil {
		return nil, e
	}
	p.Member = id[:]
	if m, err := n.dir.Get(id); err == nil {
		p.Address = m.Address().String()
		if p.Chain, err = n.dir.Chain(id); err != nil {
			return nil, err
		}
	}
	if p.Currency, err = n.dir.Currency(id); err != nil {
		return nil, err
	}
	if head, err := n.ownHead(); err == nil && head != nil && same(head.Note, p.Currency.Checkpoint) {
		p.Currency.Checkpoint = head.Note // with what partners have cosigned
	}
	return p, nil
}

func (a operatorAPI) ListLogs(context.Context, *connect.Request[pb.ListLogsRequest]) (*connect.Response[pb.ListLogsResponse], error) {
	out := &pb.ListLogsResponse{}
	for _, p := range a.n.fed.Partners() {
		r, err := a.n.replicas.of(p.ID)
		if err != nil {
			return answer(out, err)
		}
		s := r.State()
		row := &pb.PartnerLog{Organization: p.Name, OrganizationId: p.ID.String(), Size: s.Size, Cosigned: s.Cosigned, Problem: s.Problem, Fork: s.Fork != nil}
		if org, ok := a.n.partner(p.ID); ok && s.Log == org.Manifest.Log() && s.Log > 0 {
			last := org.Manifest.Incidents[len(org.Manifest.Incidents)-1]
			row.Incident, row.IncidentMs, row.Settled = last.Reason, last.At.UnixMilli(), s.Settled != nil
		}
		roots, err := a.n.twoRoots(p.ID)
		if err != nil {
			return answer(out, err)
		}
		row.Roots = roots != nil
		if !s.Since.IsZero() {
			row.SinceMs = s.Since.UnixMilli()
		}
		if !s.ProblemAt.IsZero() {
			row.ProblemMs = s.ProblemAt.UnixMilli()
		}
		out.Logs = append(out.Logs, row)
	}
	return answer(out, nil)
}

func (a operatorAPI) ShowFork(_ context.Context, r *connect.Request[pb.ShowForkRequest]) (*connect.Response[pb.Fork], error) {
	p, err := a.n.fed.Partner(r.Msg.Partner)
	if err != nil {
		return answer[pb.Fork](nil, err)
	}
	c, err := a.n.replicas.of(p.ID)
	if err != nil {
		return answer[pb.Fork](nil, err)
	}
	s := c.State()
	fork := s.Fork
	if fork == nil {
		fork = s.Settled
	}
	if fork == nil {
		err = wire.Refuse(pb.Code_CODE_NOT_FOUND, "the directory of %s has one past, as far as this node was shown it", p.Name)
	}
	return answer(fork, err)
}
