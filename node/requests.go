package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// RequestPartner leaves a request at an organization that is open to them.
func (a operatorAPI) RequestPartner(ctx context.Context, r *connect.Request[pb.RequestPartnerRequest]) (*connect.Response[pb.RequestPartnerResponse], error) {
	if err := wire.CheckOrganizationName(r.Msg.Name); err != nil {
		return answer[pb.RequestPartnerResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "%.80q is no organization's name, such as globex.example", r.Msg.Name))
	}
	now := a.n.clock.Now()
	terms, err := changedTerms(identity.DefaultTerms(now, now.Add(wire.AgreementLifetime)), r.Msg.Terms, now)
	if err != nil {
		return answer[pb.RequestPartnerResponse](nil, err)
	}
	expires, err := a.n.fed.LeaveRequest(ctx, r.Msg.Name, r.Msg.Address, terms)
	return answer(&pb.RequestPartnerResponse{ExpiresUnix: unix(expires)}, err)
}

// AnswerRequest shows, accepts or blocks a request that a stranger has left.
func (a operatorAPI) AnswerRequest(ctx context.Context, r *connect.Request[pb.AnswerRequestRequest]) (*connect.Response[pb.AnswerRequestResponse], error) {
	return answer(a.n.answerRequest(context.WithoutCancel(ctx), r.Msg))
}

func (n *Node) answerRequest(ctx context.Context, m *pb.AnswerRequestRequest) (*pb.AnswerRequestResponse, error) {
	switch m.Answer {
	case "show":
		r, err := n.fed.Request(m.Name)
		if err != nil {
			return nil, err
		}
		d := requestDetails(r)
		d.Partner.Check, _ = n.mayAccept(ctx, r.Name, r.Organization, true, true)
		return d, nil
	case "block":
		r, err := n.fed.BlockRequest(ctx, m.Name)
		return requestDetails(r), err
	case "lift":
		return &pb.AnswerRequestResponse{}, n.fed.LiftBlock(ctx, m.Name)
	case "accept":
		if len(m.Shown) != 32 {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a request is named by 32 bytes")
		}
		r, err := n.fed.Request(m.Name)
		if err == nil {
			_, err = n.mayAccept(ctx, r.Name, r.Organization, m.AcceptSimilarName, m.AcceptUnprovedName)
		}
		if err != nil {
			return nil, err
		}
		p, err := n.fed.AcceptRequest(ctx, m.Name, [32]byte(m.Shown))
		if err != nil {
			return nil, err
		}
		return &pb.AnswerRequestResponse{Partner: n.partnerStatus(p), Terms: p.Terms.Text(), PeerId: p.Peer}, nil
	}
	return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a request is shown, accepted, blocked or lifted")
}

func requestDetails(r federation.Request) *pb.AnswerRequestResponse {
	return &pb.AnswerRequestResponse{Partner: requestStatus(r), Terms: r.Terms.Text(), PeerId: r.Peer.String(), AtUnix: unix(r.At), Hash: r.Hash[:]}
}

func requestStatus(r federation.Request) *pb.PartnerStatus {
	return &pb.PartnerStatus{Name: r.Name, OrganizationId: r.Organization.String(), Contact: string(r.Terms.Contact), State: "requests",
		LastContactUnix: unix(r.At), ValidUntilUnix: unix(r.Terms.ValidUntil)}
}

func (n *Node) requestStatuses() ([]*pb.PartnerStatus, error) {
	list, err := n.fed.Requests()
	out, all := make([]*pb.PartnerStatus, len(list)), n.nameIndex()
	for i, r := range list {
		out[i] = requestStatus(r)
		out[i].Check = n.checkName(all, r.Name, r.Organization)
	}
	return out, err
}

// Mode says with whom agreements are made; with a mode it changes that, in node.yaml and
// then at once.
func (a operatorAPI) Mode(_ context.Context, r *connect.Request[pb.ModeRequest]) (*connect.Response[pb.ModeResponse], error) {
	if r.Msg.Mode != "" {
		mode, err := federation.ParseMode(r.Msg.Mode)
		if err == nil {
			err = writeMode(a.n.folder, mode)
		}
		if err != nil {
			return answer[pb.ModeResponse](nil, err)
		}
		a.n.fed.SetMode(mode)
		a.n.log.Info("the mode was changed", "mode", string(mode))
	}
	out := &pb.ModeResponse{Mode: string(a.n.fed.Mode())}
	for _, address := range a.n.fed.Addrs() {
		out.Addresses = append(out.Addresses, address.String())
	}
	return answer(out, nil)
}

var modeLine = regexp.MustCompile(`(?m)^mode:.*$`)

// writeMode puts the mode into node.yaml and leaves the rest as it is.
func writeMode(dir string, m federation.Mode) error {
	path := filepath.Join(dir, ConfigFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("node: reading the configuration: %w", err)
	}
	line := []byte("mode: " + string(m))
	if modeLine.Match(b) {
		b = modeLine.ReplaceAll(b, line)
	} else {
		b = append(append(b, '\n'), append(line, '\n')...)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("node: writing the configuration: %w", err)
	}
	return os.Rename(temp, path)
}
