package node

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (a operatorAPI) AmendPartner(ctx context.Context, r *connect.Request[pb.AmendPartnerRequest]) (*connect.Response[pb.PartnerDetails], error) {
	return answer(a.n.amendPartner(context.WithoutCancel(ctx), r.Msg))
}

func (n *Node) amendPartner(ctx context.Context, m *pb.AmendPartnerRequest) (*pb.PartnerDetails, error) {
	p, err := n.fed.Partner(m.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Withdraw:
		err = n.fed.WithdrawAmendment(ctx, p.ID)
	case m.Decline:
		err = n.fed.DeclineAmendment(ctx, p.ID)
	default:
		var terms identity.Terms
		if terms, err = changedTerms(p.Terms, m.Terms, n.clock.Now()); err == nil {
			err = n.fed.Amend(ctx, p.ID, terms)
		}
	}
	if err != nil {
		return nil, err
	}
	return n.showPartner(m.Name)
}

// AcceptAmendment signs the proposal that the operator has been shown, and no other.
func (a operatorAPI) AcceptAmendment(ctx context.Context, r *connect.Request[pb.AcceptAmendmentRequest]) (*connect.Response[pb.PartnerDetails], error) {
	p, err := a.n.fed.Partner(r.Msg.Name)
	if err == nil && len(r.Msg.Proposal) != 32 {
		err = wire.Refuse(pb.Code_CODE_MALFORMED, "a proposal is named by 32 bytes")
	}
	if err == nil {
		err = a.n.fed.AcceptAmendment(context.WithoutCancel(ctx), p.ID, [32]byte(r.Msg.Proposal))
	}
	if err != nil {
		return answer[pb.PartnerDetails](nil, err)
	}
	return answer(a.n.showPartner(r.Msg.Name))
}

// changedTerms are the terms that an operator wants, beginning from others. One that is
// over before it is signed is a slip.
func changedTerms(t identity.Terms, m *pb.TermsChange, now time.Time) (identity.Terms, error) {
	if m == nil {
		return t, nil
	}
	set(&t.Directory, m.Directory)
	set(&t.Rooms, m.Rooms)
	set(&t.FileSize, m.FileSize)
	set(&t.Calls, m.Calls)
	set(&t.Guests, m.Guests)
	set(&t.Transit, m.Transit)
	set(&t.Rate, m.Rate)
	set(&t.Abuse, m.Abuse)
	if m.Contact != nil {
		t.Contact = identity.Contact(*m.Contact)
	}
	if m.RetentionSeconds != nil {
		if *m.RetentionSeconds < 0 || *m.RetentionSeconds > int64(wire.RetentionCeiling/time.Second) {
			return t, wire.Refuse(pb.Code_CODE_MALFORMED, "a retention is between 0 (no ceiling of its own) and %s", wire.RetentionCeiling)
		}
		t.Retention = time.Duration(*m.RetentionSeconds) * time.Second
	}
	if m.FileSize != nil && *m.FileSize > wire.MaxFile {
		return t, wire.Refuse(pb.Code_CODE_MALFORMED, "no file is larger than %d GiB, whatever an agreement says", wire.MaxFile>>30)
	}
	if m.ValidUntilUnix != nil {
		if *m.ValidUntilUnix <= now.Unix() {
			return t, wire.Refuse(pb.Code_CODE_MALFORMED, "%s is over: nothing would be in force", time.Unix(*m.ValidUntilUnix, 0).UTC().Format(time.DateOnly))
		}
		t.ValidUntil = time.Unix(*m.ValidUntilUnix, 0).UTC()
	}
	if err := t.Check(); err != nil {
		return t, wire.Refuse(pb.Code_CODE_MALFORMED, "%s", identity.Plain(err))
	}
	return t, nil
}

func set[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}

// proposedTerms shows a proposal beside the terms in force.
func proposedTerms(now identity.Terms, a *federation.Amendment) *pb.ProposedTerms {
	if a == nil {
		return nil
	}
	return &pb.ProposedTerms{Changes: now.Changes(a.Terms), Terms: a.Terms.Text(), Hash: a.Hash[:], AtUnix: unix(a.At), Delivered: a.Delivered, Would: agreedTerms(a.Terms)}
}

// agreedTerms are terms field by field.
func agreedTerms(t identity.Terms) *pb.AgreedTerms {
	return &pb.AgreedTerms{Contact: string(t.Contact), Directory: t.Directory, Rooms: t.Rooms, FileSize: t.FileSize, Calls: t.Calls, Guests: t.Guests,
		Transit: t.Transit, RetentionSeconds: int64(t.Retention / time.Second), Rate: t.Rate,
		ValidFromUnix: unix(t.ValidFrom), ValidUntilUnix: unix(t.ValidUntil), Abuse: t.Abuse}
}

// amendmentOf says in a word what waits for a signature.
func amendmentOf(p federation.PartnerInfo) string {
	switch {
	case p.Proposed != nil && p.Offered != nil:
		return "both"
	case p.Proposed != nil:
		return "proposed"
	case p.Offered != nil:
		return "offered"
	}
	return ""
}
