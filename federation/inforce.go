package federation

import (
	"context"
	"errors"
	"slices"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// Which text of an agreement is in force. A side that was set back has an older one, or has
// lost a proposal of its own; it asks the other, which shows the text with both signatures
// (docs/protocol.md 5.8). Until a partner has said what is in force there, nothing more is
// signed with it: a version that exists is not signed a second time with another text.

const (
	// inForceTime bounds the question to one partner.
	inForceTime = 5 * time.Second
	// inForcePause is the time between two questions that refused links cause.
	inForcePause = 2 * time.Second
	// maxWithdrawn bounds the proposals of ours that a record remembers as taken back or
	// declined: with more of them the oldest could be put in force by a partner that signs it late.
	maxWithdrawn = 64
)

// errDisputed says that two texts of one version are signed by both.
var errDisputed = wire.Refuse(pb.Code_CODE_FORBIDDEN, "the partner shows another text of the same version, signed by both: end the agreement and make a new one")

// Confirm asks a partner which text of the agreement is in force there, unless it has said so
// since this node started. When it returns nil, ours is that one or a later one: a later one of
// the partner's that both have signed was taken over.
func (f *Federation) Confirm(ctx context.Context, id wire.OrganizationID) error {
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no such partner")
	}
	if p.isConfirmed() {
		return nil
	}
	return f.confirmInForce(ctx, p)
}

func (p *partner) isConfirmed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.confirmed
}

func (p *partner) confirm(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.confirmed = yes
}

// knowsInForce returns nil when something may be signed with a partner: it has said what is
// in force there, or was waited for as long as partners are.
func (f *Federation) knowsInForce(ctx context.Context, p *partner) error {
	if p.isConfirmed() {
		return nil
	}
	err := f.confirmInForce(ctx, p)
	if err == nil || errors.Is(err, errDisputed) || ctx.Err() != nil {
		return err
	}
	if f.opts.Called() {
		return nil
	}
	return wire.Refuse(pb.Code_CODE_RECOVERING, "%s has not said yet which agreement is in force there, and this node may have been restored: %s",
		p.standing().org.Manifest.Name, short(err.Error()))
}

func (f *Federation) confirmInForce(ctx context.Context, p *partner) error {
	ctx, cancel := context.WithTimeout(ctx, inForceTime)
	defer cancel()
	if rec, _ := p.recorded(); rec.Ended {
		return errEnded()
	}
	if err := f.refresh(ctx, p); err != nil { // the text may stand under newer manifests
		return err
	}
	digest := p.standing().digest
	answer, err := f.ask(ctx, p, &pb.QueryRequest{Query: &pb.QueryRequest_Amend{Amend: &pb.AmendQuery{InForce: digest[:]}}})
	switch code := wire.StatusOf(err).Code; {
	case code == pb.Code_CODE_MALFORMED || code == pb.Code_CODE_UNSUPPORTED: // of a version that has no answer to that
		p.confirm(true)
		return nil
	case err != nil:
		return err
	}
	f.stopAgain(p, answer.GetAmend())
	return f.heardInForce(ctx, p, answer.GetAmend())
}

// asksInForce reports whether a question is which agreement is in force: it is answered also
// when the agreement is suspended or over, because a side that was set back does not know.
func asksInForce(q *pb.AmendQuery) bool { return len(q.GetInForce()) == 32 }

// inForceAnswer is what is in force here, what the partner has proposed, and how it has stopped
// us. f.making is held.
func (p *partner) inForceAnswer(rec partnerRecord) *pb.AmendAnswer {
	p.mu.Lock()
	stopped, at := p.link.stopped, p.link.stoppedMs
	p.mu.Unlock()
	a := &pb.AmendAnswer{Stopped: stopped, StoppedMs: at, Agreement: rec.Agreement, Ours: uint64(rec.OurManifests), Theirs: uint64(rec.TheirManifests)}
	if rec.Offered != nil {
		a.Proposed = rec.Offered.Note
	}
	return a
}

// heardInForce holds what is in force at the partner against what is in force here.
func (f *Federation) heardInForce(ctx context.Context, p *partner, a *pb.AmendAnswer) error {
	text, err := wire.NoteText(a.GetAgreement())
	if err != nil || len(a.Agreement) > maxAgreement {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "the partner's agreement does not parse")
	}
	f.making.Lock()
	defer f.making.Unlock()
	rec, now := p.recorded()
	if rec.Ended {
		return errEnded()
	}
	hash := wire.TextHash(text)
	if hash == now.digest {
		p.confirm(true)
		return f.proposedBefore(ctx, p, rec, now, a.Proposed)
	}
	if rec.Proposed != nil && rec.Proposed.hash == hash { // the partner has signed; its word had not come yet
		if err := f.signedByBoth(ctx, p, rec, a.Agreement); err != nil {
			return err
		}
		p.confirm(true)
		return nil
	}
	return f.behindOr(ctx, p, rec, now, a)
}

// behindOr takes the partner's text over where ours is behind it. f.making is held.
func (f *Federation) behindOr(ctx context.Context, p *partner, rec partnerRecord, now standing, a *pb.AmendAnswer) error {
	next := rec
	// Fewer than when it was signed: a copy may lack manifests of ours, and the partner's newest
	// may not be taken yet. What stands under those that are known, stands.
	next.Agreement = a.Agreement
	next.OurManifests = int(min(a.Theirs, uint64(len(f.opts.Organization.Notes))))
	next.TheirManifests = int(min(a.Ours, uint64(len(rec.Manifests))))
	next.Proposed, next.Offered, next.Declined, next.Rejected, next.Confirm, next.Withdrawn = nil, nil, "", time.Time{}, false, nil
	st, err := f.verify(p.id, next)
	if err != nil {
		return refusedBy(err, "the partner's agreement does not stand")
	}
	switch {
	case replaces(now.agreement, st.agreement): // the partner is behind, and asks
		p.confirm(true)
		return nil
	case !replaces(st.agreement, now.agreement):
		f.log.Error("two texts of one version are signed by both sides of an agreement: end it, and make a new one", "partner", p.id.String(), "version", st.agreement.Version)
		return errDisputed
	case slices.Contains(rec.Withdrawn, wire.FormatHash(st.digest)):
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "the partner has signed a proposal that was withdrawn")
	}
	if err := f.keep(ctx, p, next, st); err != nil {
		return err
	}
	f.log.Error("our agreement was behind the one that both have signed, as after a restore: that one was taken over from the partner",
		"partner", p.id.String(), "version", now.agreement.Version, "now", st.agreement.Version)
	p.confirm(true)
	p.dropLinks()
	p.wake()
	f.opts.SetBack(p.id, now.agreement.Version, st.agreement.Version)
	f.opts.Amended(p.id)
	return nil
}

// replaces reports whether an agreement comes after another of the same two: a later version,
// or a new agreement that begins later.
func replaces(next, now *identity.Agreement) bool {
	if !next.Terms.ValidFrom.Equal(now.Terms.ValidFrom) {
		return next.Terms.ValidFrom.After(now.Terms.ValidFrom)
	}
	return next.Version > now.Version
}

// proposedBefore takes back a proposal of ours that waits at the partner and was lost here, so
// that it is answered, or withdrawn, before another is signed. f.making is held.
func (f *Federation) proposedBefore(ctx context.Context, p *partner, rec partnerRecord, st standing, note string) error {
	if note == "" || rec.Proposed != nil || len(note) > maxAgreement {
		return nil
	}
	was := &amendment{Note: note, OurManifests: len(f.opts.Organization.Notes), TheirManifests: len(rec.Manifests), At: f.clock.Now().UTC(), Delivered: true}
	if _, err := f.openAmendment(was, st, true); err != nil || slices.Contains(rec.Withdrawn, wire.FormatHash(was.hash)) {
		return nil // of before: nothing that could be signed any more
	}
	rec.Proposed = was
	f.log.Error("a proposal of ours that was lost waits at a partner: it is ours again", "partner", p.id.String())
	f.opts.SetBack(p.id, st.agreement.Version, st.agreement.Version)
	return f.keep(ctx, p, rec, st)
}

// withdrawn remembers a proposal of ours that is not to be put in force any more.
func (r *partnerRecord) withdrawn(hash [32]byte) {
	list := append(slices.Clone(r.Withdrawn), wire.FormatHash(hash))
	r.Withdrawn = list[max(0, len(list)-maxWithdrawn):]
}

// mismatched has a partner asked what is in force there, because one of the two has refused
// the other's link over that.
func (f *Federation) mismatched(ctx context.Context, p *partner) {
	now := f.clock.Now()
	p.mu.Lock()
	early := now.Sub(p.askedInForce).Abs() < inForcePause
	if !early {
		p.askedInForce, p.confirmed = now, false
	}
	p.mu.Unlock()
	if early {
		return
	}
	if err := f.confirmInForce(ctx, p); err != nil && ctx.Err() == nil {
		f.log.Warn("another agreement is in force at a partner than here", "partner", p.id.String(), "error", err.Error())
	}
}
