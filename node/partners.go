package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/mailbox"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (a operatorAPI) ListPartners(context.Context, *connect.Request[pb.ListPartnersRequest]) (*connect.Response[pb.ListPartnersResponse], error) {
	requests, err := a.n.requestStatuses()
	return answer(&pb.ListPartnersResponse{Partners: byName(append(a.n.partnerStatuses(), requests...))}, err)
}

func (n *Node) partnerStatuses() []*pb.PartnerStatus {
	var out []*pb.PartnerStatus
	all := n.nameIndex()
	for _, p := range n.fed.Partners() {
		s := n.partnerStatus(p)
		s.Check = n.checkName(all, p.Name, p.ID)
		out = append(out, s)
	}
	return byName(out)
}

// byName sorts partners as people look for them.
func byName(list []*pb.PartnerStatus) []*pb.PartnerStatus {
	slices.SortStableFunc(list, func(a, b *pb.PartnerStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (n *Node) partnerStatus(p federation.PartnerInfo) *pb.PartnerStatus {
	u := n.mail.Outbox(p.ID).Usage()
	return &pb.PartnerStatus{
		Name: p.Name, OrganizationId: p.ID.String(), Contact: p.Contact, State: p.State,
		OutboxCount: waiting(u), OutboxBytes: uint64(u.Held),
		LastContactUnix: unix(p.LastContact), NextAttemptUnix: unix(p.NextAttempt), LastError: p.LastError,
		Agreement: fmt.Sprintf("%x", p.Agreement), ValidUntilUnix: unix(p.ValidUntil),
		Amendment: amendmentOf(p), Renaming: p.Renaming,
	}
}

func waiting(u mailbox.Usage) uint64 { return uint64(u.Messages + u.Control + u.Handshakes) }

func (a operatorAPI) ShowPartner(_ context.Context, r *connect.Request[pb.ShowPartnerRequest]) (*connect.Response[pb.PartnerDetails], error) {
	return answer(a.n.showPartner(r.Msg.Name))
}

func (n *Node) showPartner(name string) (*pb.PartnerDetails, error) {
	p, err := n.fed.Partner(name)
	if err != nil {
		return nil, err
	}
	u := n.mail.Outbox(p.ID).Usage()
	status := n.partnerStatus(p)
	status.Check = n.checkName(n.nameIndex(), p.Name, p.ID)
	return &pb.PartnerDetails{
		Proposed: proposedTerms(p.Terms, p.Proposed), Offered: proposedTerms(p.Terms, p.Offered), Groups: n.groups.rule(p.ID), Version: p.Version, Agreed: agreedTerms(p.Terms), RejectedUnix: unix(p.Rejected),
		Former: p.Names[:len(p.Names)-1],
		Status: status, PeerId: p.Peer, Terms: p.Terms.Text(), Effect: effectOf(p),
		RemovalUnix: unix(p.Removal), SinceUnix: unix(p.Since), ValidFromUnix: unix(p.ValidFrom), Why: p.Why, ChangedUnix: unix(p.Changed),
		Messages: uint64(u.Messages), Handshakes: uint64(u.Handshakes), Control: uint64(u.Control), EarliestDeadlineUnix: unix(u.Earliest),
		Attempts: uint64(p.Attempts), LastAttemptUnix: unix(p.LastAttempt),
		ClockOffsetMs: p.ClockOffset.Milliseconds(), ClockKnown: p.ClockKnown,
	}, nil
}

// effectOf says what a partner's state means for members, for people.
func effectOf(p federation.PartnerInfo) string {
	switch p.State {
	case "connected":
		return "messages pass both ways"
	case "waiting":
		return "messages wait here and are sent when the partner's node can be reached"
	case "refused":
		if p.Refused == pb.Code_CODE_SUSPENDED {
			return "the partner has suspended the agreement: messages to it are refused, its rooms are read-only, until it resumes"
		}
		return "the partner's node refuses ours (" + wire.CodeName(p.Refused) + "): messages wait here until their deadlines"
	case "suspended":
		return "messages to and from the partner are refused as suspended; changes of rooms wait; entente partner resume " + p.Name
	case "quarantined":
		return "messages to and from the partner wait, here and there, until their deadlines; changes of rooms pass; entente partner release " + p.Name
	case "quarantinedThere":
		return "the partner has put us in quarantine: messages to and from it wait until it releases them, or their deadlines; changes of rooms pass"
	case "ended":
		return "messages to and from the partner are refused as noAgreement; a new agreement: entente partner invite " + p.Name
	}
	return "the agreement is not in force today: messages to and from the partner are refused as noAgreement"
}

func (a operatorAPI) SuspendPartner(ctx context.Context, r *connect.Request[pb.ChangePartnerRequest]) (*connect.Response[pb.ChangePartnerResponse], error) {
	if r.Msg.Remove {
		return answer(a.n.changePartner(ctx, r.Msg, a.n.fed.Expel))
	}
	return answer(a.n.changePartner(ctx, r.Msg, a.n.fed.Suspend))
}

func (a operatorAPI) ResumePartner(ctx context.Context, r *connect.Request[pb.ChangePartnerRequest]) (*connect.Response[pb.ChangePartnerResponse], error) {
	if err := a.n.signs(); err != nil { // the word that suspended it may be among what is lost
		return answer[pb.ChangePartnerResponse](nil, err)
	}
	return answer(a.n.changePartner(ctx, r.Msg, a.n.fed.Resume))
}

func (a operatorAPI) QuarantinePartner(ctx context.Context, r *connect.Request[pb.ChangePartnerRequest]) (*connect.Response[pb.ChangePartnerResponse], error) {
	return answer(a.n.changePartner(ctx, r.Msg, a.n.fed.Quarantine))
}

func (a operatorAPI) ReleasePartner(ctx context.Context, r *connect.Request[pb.ChangePartnerRequest]) (*connect.Response[pb.ChangePartnerResponse], error) {
	if err := a.n.signs(); err != nil { // as for resuming
		return answer[pb.ChangePartnerResponse](nil, err)
	}
	return answer(a.n.changePartner(ctx, r.Msg, a.n.fed.Release))
}

func (a operatorAPI) EndPartner(ctx context.Context, r *connect.Request[pb.ChangePartnerRequest]) (*connect.Response[pb.ChangePartnerResponse], error) {
	return answer(a.n.changePartner(ctx, r.Msg, a.n.fed.End))
}

// changePartner brings a partner into another state and drops what the old one had
// let in. When it returns nil both are on stable storage; after a crash between them
// the drop, and the removal from rooms, are made up for at the next start (sweepPartners).
func (n *Node) changePartner(ctx context.Context, m *pb.ChangePartnerRequest, change func(context.Context, wire.OrganizationID, string) error) (*pb.ChangePartnerResponse, error) {
	p, err := n.fed.Partner(m.Name)
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx) // half a change is none that an operator asked for
	dropped := 0
	if p.State == "suspended" { // what slipped in while it was being suspended is not sent on resume
		if dropped, err = n.dropFor(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := change(ctx, p.ID, strings.TrimSpace(m.Why)); err != nil {
		return nil, err
	}
	if p, err = n.fed.Partner(p.ID.String()); err != nil {
		return nil, err
	}
	more, err := n.dropFor(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := n.tellState(ctx, p.ID); err != nil { // as above
		n.log.Warn("devices were not told of an agreement's state; they ask by themselves", "partner", p.ID, "error", err)
	}
	rooms, err := n.removePartnersEverywhere(ctx)
	if err != nil { // sweepPartners goes on with it
		n.log.Error("a partner's devices stay in rooms for now", "partner", p.ID, "error", err)
	}
	status := n.partnerStatus(p)
	n.log.Info("a partner's state was changed", "partner", p.ID, "state", p.State, "dropped", dropped+more, "kept", status.OutboxCount, "rooms", rooms[p.ID])
	return &pb.ChangePartnerResponse{Partner: status, Dropped: uint64(dropped + more), Kept: status.OutboxCount, Rooms: uint64(rooms[p.ID])}, nil
}

// dropFor removes from a partner's outbox what its state says will never be sent, and
// tells the senders: messages while it is suspended, everything once it has ended
// (docs/protocol.md 5.6). It returns how many envelopes left.
func (n *Node) dropFor(ctx context.Context, p federation.PartnerInfo) (int, error) {
	switch p.State {
	case "suspended":
		return n.mail.Outbox(p.ID).Drop(ctx, wire.Status(pb.Code_CODE_SUSPENDED, ""), false)
	case "ended":
		return n.mail.Outbox(p.ID).Drop(ctx, wire.Status(pb.Code_CODE_NO_AGREEMENT, "the agreement has been ended"), true)
	}
	return 0, nil
}

// partnerSweep is how often outboxes of suspended and ended partners are looked at, and rooms
// for devices of partners that are to leave them.
const partnerSweep = time.Minute

// sweepPartners makes up for drops that a crash has prevented, and for what was on
// its way into an outbox while its partner was suspended. It takes the devices of partners out
// of our rooms when that is due.
func (n *Node) sweepPartners(ctx context.Context) error {
	ticker := time.NewTicker(partnerSweep)
	defer ticker.Stop()
	for {
		for _, p := range n.fed.Partners() {
			if _, err := n.dropFor(ctx, p); err != nil && ctx.Err() == nil {
				n.log.Error("what will never be sent stays for now", "partner", p.ID, "error", err)
			}
			if err := n.tellState(ctx, p.ID); err != nil && ctx.Err() == nil {
				n.log.Warn("devices were not told of an agreement's state; they ask by themselves", "partner", p.ID, "error", err)
			}
		}
		if _, err := n.removePartnersEverywhere(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("a partner's devices stay in rooms for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// takers divides partners into those that take an envelope of a class now, and events
// for the others, which tell its sender why not: who has suspended the agreement, or
// is suspended, gets no message, now or later, but every handshake once it is resumed; an
// ended partner gets nothing.
func (c *change) takers(partners []wire.OrganizationID, e mailbox.Event) (take []wire.OrganizationID, refused []mailbox.Event) {
	now := c.n.clock.Now()
	for _, p := range partners {
		_, err := c.n.fed.Takes(p, now)
		if err == nil || e.Class != pb.Class_CLASS_MESSAGE && !c.n.ended(p) {
			take = append(take, p)
			continue
		}
		e.Partner, e.State, e.Status = p, mailbox.StateRefused, wire.StatusOf(err)
		refused = append(refused, e)
	}
	return take, refused
}

// ended reports whether there is no agreement with an organization any more.
func (n *Node) ended(id wire.OrganizationID) bool {
	p, err := n.fed.Partner(id.String())
	return err != nil || p.State == "ended"
}
