package federation

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// maxAgreement bounds the note of an agreement, in bytes.
const maxAgreement = 8 << 10

// Words about amendments that a partner may have considered: each can cost a write.
const (
	AmendRate  = 0.1 // a second
	AmendBurst = 30
)

// amendment is other terms for an agreement, signed by one side (docs/protocol.md 5.8).
type amendment struct {
	Note           string    `json:"note"`
	OurManifests   int       `json:"ourManifests"` // as in partnerRecord: when it was signed or taken
	TheirManifests int       `json:"theirManifests"`
	At             time.Time `json:"at"`
	Delivered      bool      `json:"delivered,omitempty"` // ours: the partner has it

	// Read from the note, not stored.
	hash  [32]byte
	terms identity.Terms
}

// Amendment is a proposal as people are shown it.
type Amendment struct {
	Hash      [32]byte // of its text: what AcceptAmendment names
	Terms     identity.Terms
	At        time.Time
	Delivered bool // ours: the partner has it
}

func (a *amendment) info() *Amendment {
	if a == nil {
		return nil
	}
	return &Amendment{Hash: a.hash, Terms: a.terms, At: a.At, Delivered: a.Delivered}
}

// openAmendment verifies a proposal of ours or of the partner's that is to replace the
// agreement in force: its signature, its parties, and that it follows that very text.
func (f *Federation) openAmendment(a *amendment, st standing, ours bool) (*identity.Agreement, error) {
	us, err := asOf(f.opts.Organization, a.OurManifests)
	if err != nil {
		return nil, err
	}
	them, err := asOf(st.org, a.TheirManifests)
	if err != nil {
		return nil, err
	}
	if !ours {
		us, them = them, us // the proposer is first
	}
	out, err := identity.VerifyProposal(a.Note, us, them)
	if err != nil {
		return nil, err
	}
	if err := follows(out, st.agreement); err != nil {
		return nil, err
	}
	a.hash, a.terms = out.Hash, out.Terms
	return out, nil
}

// keepProposals leaves out of a record the proposals that do not stand under the manifests and
// the agreement that it has: those may have changed since, and no side is stopped by it.
func (f *Federation) keepProposals(rec *partnerRecord, st standing) {
	keep := func(a *amendment, ours bool) *amendment {
		if a == nil {
			return nil
		}
		again := *a // who reads the record has the other one
		if _, err := f.openAmendment(&again, st, ours); err != nil {
			f.log.Warn("a proposal for other terms does not stand any more", "partner", st.org.ID.String(), "ours", ours, "error", err.Error())
			return nil
		}
		return &again
	}
	rec.Proposed, rec.Offered = keep(rec.Proposed, true), keep(rec.Offered, false)
}

// follows refuses what is no amendment of the agreement in force: an older one that is
// shown again, one that skips a version, one of another past or between other parties.
func follows(next, now *identity.Agreement) error {
	if next.Version != now.Version+1 || next.Previous != now.Hash || next.Inviter != now.Inviter || next.Acceptor != now.Acceptor {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "an amendment of another agreement than the one in force, which has version %d", now.Version)
	}
	return nil
}

// Amend proposes other terms to a partner. They are in force once the partner has signed
// them too; until then nothing changes. A proposal that waits is not replaced: it is
// withdrawn first. When it returns nil the proposal is on stable storage; it is handed
// over now or with a later link, also when the agreement has expired.
func (f *Federation) Amend(ctx context.Context, id wire.OrganizationID, terms identity.Terms) error {
	if err := f.opts.Signs(); err != nil {
		return err
	}
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no such partner")
	}
	if err := f.knowsInForce(ctx, p); err != nil {
		return err
	}
	if err := f.proposeTo(ctx, p, terms); err != nil {
		return err
	}
	f.speakOfAmendments(ctx, p)
	return nil
}

func (f *Federation) proposeTo(ctx context.Context, p *partner, terms identity.Terms) error {
	f.making.Lock()
	defer f.making.Unlock()
	rec, st := p.recorded()
	if rec.Ended {
		return errEnded()
	}
	next := st.agreement.Amend(terms)
	text, err := next.Text()
	if err != nil {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "%v", err)
	}
	switch {
	case rec.Proposed != nil && rec.Proposed.hash == wire.TextHash(text):
		return nil
	case rec.Proposed != nil:
		return wire.Refuse(pb.Code_CODE_EXISTS, "a proposal waits for %s already: withdraw it first", st.org.Manifest.Name)
	case st.agreement.Terms == terms:
		return wire.Refuse(pb.Code_CODE_EXISTS, "these terms are in force already")
	}
	note, err := identity.SignAgreement(next, f.opts.AgreementKey)
	if err != nil {
		return err
	}
	rec.Proposed = &amendment{Note: note, OurManifests: len(f.opts.Organization.Notes), TheirManifests: len(rec.Manifests), At: f.clock.Now().UTC()}
	rec.Rejected = time.Time{}
	if _, err := f.openAmendment(rec.Proposed, st, true); err != nil {
		return err
	}
	return f.keep(ctx, p, rec, st)
}

// AcceptAmendment signs what the partner has proposed, if it is the text with this hash.
// From its return on the new terms are in force here; the partner is told now or with the
// next link, and nothing passes between the two meanwhile. Where both have proposed, the
// proposal of the smaller organization ID goes first, so that the two never accept
// each other's at once.
func (f *Federation) AcceptAmendment(ctx context.Context, id wire.OrganizationID, hash [32]byte) error {
	if err := f.opts.Signs(); err != nil {
		return err
	}
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no such partner")
	}
	if err := f.knowsInForce(ctx, p); err != nil {
		return err
	}
	if err := f.acceptOffer(ctx, p, hash); err != nil {
		return err
	}
	f.speakOfAmendments(ctx, p)
	p.wake()
	return nil
}

func (f *Federation) acceptOffer(ctx context.Context, p *partner, hash [32]byte) error {
	f.making.Lock()
	defer f.making.Unlock()
	rec, st := p.recorded()
	switch {
	case rec.Ended:
		return errEnded()
	case rec.Offered == nil || rec.Offered.hash != hash:
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "%s proposes no such terms any more: look again", st.org.Manifest.Name)
	case rec.Proposed != nil && string(f.opts.Organization.ID[:]) < string(p.id[:]):
		return wire.Refuse(pb.Code_CODE_EXISTS, "our own proposal goes first: withdraw it, or wait for %s", st.org.Manifest.Name)
	}
	them, err := asOf(st.org, rec.Offered.TheirManifests)
	if err != nil {
		return err
	}
	note, err := wire.AddSignature(rec.Offered.Note, f.opts.AgreementKey, them.NodeKey())
	if err != nil {
		return fmt.Errorf("federation: signing an amendment: %w", err)
	}
	rec.Confirm = true
	return f.conclusion(ctx, p, rec, note, len(f.opts.Organization.Notes), rec.Offered.TheirManifests)
}

// conclusion puts an amendment that both have signed in force: one write, after which the
// version before is history. f.making is held.
func (f *Federation) conclusion(ctx context.Context, p *partner, rec partnerRecord, note string, ours, theirs int) error {
	now := p.standing()
	rec.Agreement, rec.OurManifests, rec.TheirManifests = note, ours, theirs
	rec.Proposed, rec.Offered, rec.Declined, rec.Rejected, rec.Withdrawn = nil, nil, "", time.Time{}, nil
	st, err := f.verify(p.id, rec)
	if err != nil {
		return refusedBy(err, "the amendment does not stand")
	}
	if err := follows(st.agreement, now.agreement); err != nil {
		return err
	}
	if err := f.keep(ctx, p, rec, st); err != nil {
		return err
	}
	p.dropLinks() // the hello of a link names the agreement
	p.wake()
	f.log.Info("an agreement was amended", "partner", p.id.String(), "version", st.agreement.Version)
	f.opts.Amended(p.id)
	return nil
}

// DeclineAmendment forgets the partner's proposal; the partner learns it with its next link.
func (f *Federation) DeclineAmendment(ctx context.Context, id wire.OrganizationID) error {
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no such partner")
	}
	f.making.Lock()
	defer f.making.Unlock()
	rec, st := p.recorded()
	if rec.Offered == nil {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "%s proposes nothing", st.org.Manifest.Name)
	}
	rec.Declined, rec.Offered = wire.FormatHash(rec.Offered.hash), nil
	if err := f.keep(ctx, p, rec, st); err != nil {
		return err
	}
	p.dropLinks() // the proposer asks again, and is told
	return nil
}

// WithdrawAmendment takes our proposal back. The partner has to confirm it, since it may
// have signed it already: then the amendment is in force, and the answer says so.
func (f *Federation) WithdrawAmendment(ctx context.Context, id wire.OrganizationID) error {
	p := f.find(id)
	if p == nil {
		return wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no such partner")
	}
	rec, st := p.recorded()
	if rec.Proposed == nil {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "nothing is proposed to %s", st.org.Manifest.Name)
	}
	hash := rec.Proposed.hash
	answer, err := f.ask(ctx, p, &pb.QueryRequest{Query: &pb.QueryRequest_Amend{Amend: &pb.AmendQuery{Withdrawn: hash[:]}}})
	if err != nil {
		return wire.Refuse(wire.StatusOf(err).Code, "the partner has to confirm that it has not signed: %s", short(err.Error()))
	}
	f.making.Lock()
	defer f.making.Unlock()
	if rec, st = p.recorded(); rec.Proposed == nil || rec.Proposed.hash != hash {
		return wire.Refuse(pb.Code_CODE_EXISTS, "the proposal was answered meanwhile: look again")
	}
	if note := answer.GetAmend().GetAgreement(); note != "" {
		if err := f.signedByBoth(ctx, p, rec, note); err != nil {
			return err
		}
		return wire.Refuse(pb.Code_CODE_EXISTS, "%s had signed already: the new terms are in force", st.org.Manifest.Name)
	}
	rec.Proposed = nil
	rec.withdrawn(hash)
	return f.keep(ctx, p, rec, st)
}

// signedByBoth takes the partner's signature under our own proposal, and nothing else.
// f.making is held.
func (f *Federation) signedByBoth(ctx context.Context, p *partner, rec partnerRecord, note string) error {
	if rec.Proposed == nil || sameText(note, rec.Proposed.Note) != nil {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "an amendment that was not proposed here")
	}
	return f.conclusion(ctx, p, rec, note, rec.Proposed.OurManifests, len(rec.Manifests))
}

// recorded returns a partner's record and what it says, verified.
func (p *partner) recorded() (partnerRecord, standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record, p.terms
}

// keep writes a record that was verified and puts it in place. f.making is held.
func (f *Federation) keep(ctx context.Context, p *partner, rec partnerRecord, st standing) error {
	var b store.Batch
	if err := add(&b, partnerKey(p.id), rec); err != nil {
		return err
	}
	if err := f.write(ctx, &b); err != nil {
		return err
	}
	_, err := f.install(p.id, rec, st)
	return err
}

// amendable reports whether a partner may speak of amendments: also when the agreement
// is not in force on this day, because that is how it is renewed.
func (p *partner) amendable(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.record.Ended && !p.record.Suspended && now.Before(p.terms.expires)
}

// speakOfAmendments tells the partner of our proposal, or of our signature under its own,
// until it has answered. Asking again changes nothing; what fails is tried with the next
// link.
func (f *Federation) speakOfAmendments(ctx context.Context, p *partner) {
	rec, _ := p.recorded()
	if rec.Suspended || rec.Ended || !rec.Confirm && rec.Proposed == nil {
		return
	}
	if err := f.refresh(ctx, p); err != nil { // the partner's keys may be others by now
		return
	}
	if rec.Confirm {
		f.confirm(ctx, p, rec.Agreement)
		return
	}
	answer, err := f.ask(ctx, p, &pb.QueryRequest{Query: &pb.QueryRequest_Amend{Amend: &pb.AmendQuery{Note: rec.Proposed.Note}}})
	if err := f.heard(ctx, p, rec.Proposed.hash, answer.GetAmend(), err); err != nil && ctx.Err() == nil {
		f.log.Warn("a proposal for other terms waits", "partner", p.id.String(), "error", err.Error())
	}
}

// confirm tells the partner that we have signed.
func (f *Federation) confirm(ctx context.Context, p *partner, note string) {
	_, err := f.ask(ctx, p, &pb.QueryRequest{Query: &pb.QueryRequest_Amend{Amend: &pb.AmendQuery{Note: note}}})
	if err != nil {
		f.log.Warn("the partner does not know yet of our signature", "partner", p.id.String(), "error", err.Error())
		return
	}
	f.making.Lock()
	defer f.making.Unlock()
	rec, st := p.recorded()
	if rec.Confirm && rec.Agreement == note {
		rec.Confirm = false
		if err := f.keep(ctx, p, rec, st); err != nil {
			f.log.Error("what a partner knows was not written", "partner", p.id.String(), "error", err.Error())
		}
	}
}

// heard takes the partner's answer to our proposal: it has it, has signed it, or has
// declined it.
func (f *Federation) heard(ctx context.Context, p *partner, hash [32]byte, answer *pb.AmendAnswer, refusal error) error {
	f.making.Lock()
	defer f.making.Unlock()
	rec, st := p.recorded()
	if rec.Proposed == nil || rec.Proposed.hash != hash {
		return nil // answered meanwhile
	}
	var declined *wire.StatusError
	switch {
	case errors.As(refusal, &declined) && declined.Status.Code == pb.Code_CODE_NO_CONSENT:
		rec.Proposed, rec.Rejected = nil, f.clock.Now().UTC()
		rec.withdrawn(hash)
		return f.keep(ctx, p, rec, st)
	case refusal != nil:
		return refusal
	case answer.GetAgreement() != "":
		return f.signedByBoth(ctx, p, rec, answer.Agreement)
	case rec.Proposed.Delivered:
		return nil
	}
	delivered := *rec.Proposed
	delivered.Delivered = true
	rec.Proposed = &delivered
	return f.keep(ctx, p, rec, st)
}

// amendAnswer answers what a partner says of amendments (docs/protocol.md 5.8). Saying it
// again gets the same answer.
func (f *Federation) amendAnswer(ctx context.Context, p *partner, q *pb.AmendQuery) (*pb.QueryResponse, error) {
	answer := &pb.AmendAnswer{}
	if asksInForce(q) {
		f.making.Lock()
		defer f.making.Unlock()
		rec, _ := p.recorded()
		return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_OK, ""), Answer: &pb.QueryResponse_Amend{Amend: p.inForceAnswer(rec)}}, nil
	}
	if len(q.GetNote()) > maxAgreement || q.GetNote() == "" && len(q.GetWithdrawn()) != 32 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a word about an amendment of %d bytes", len(q.GetNote()))
	}
	if wait := p.amends.take(f.clock.Now(), 1); wait > 0 {
		return nil, &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, "too many words about amendments"), wait)}
	}
	f.making.Lock()
	defer f.making.Unlock()
	rec, st := p.recorded()
	hash := [32]byte{}
	if q.Note == "" {
		hash = [32]byte(q.Withdrawn)
	} else if text, err := wire.NoteText(q.Note); err == nil {
		hash = wire.TextHash(text)
	}
	var err error
	switch {
	case hash == st.digest: // both have signed it
		answer.Agreement = rec.Agreement
	case q.Note == "":
		if rec.Offered != nil && rec.Offered.hash == hash {
			rec.Offered = nil
			err = f.keep(ctx, p, rec, st)
		}
	case rec.Declined == wire.FormatHash(hash):
		err = wire.Refuse(pb.Code_CODE_NO_CONSENT, "the proposal was declined")
	case rec.Proposed != nil && rec.Proposed.hash == hash:
		err = f.signedByBoth(ctx, p, rec, q.Note)
	default:
		err = f.offered(ctx, p, rec, st, q.Note)
	}
	if err != nil {
		return nil, err
	}
	return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_OK, ""), Answer: &pb.QueryResponse_Amend{Amend: answer}}, nil
}

// offered keeps a proposal of the partner's for the operator; it takes the place of its
// last one. f.making is held.
func (f *Federation) offered(ctx context.Context, p *partner, rec partnerRecord, st standing, note string) error {
	offer := &amendment{Note: note, OurManifests: len(f.opts.Organization.Notes), TheirManifests: len(rec.Manifests), At: f.clock.Now().UTC()}
	if _, err := f.openAmendment(offer, st, false); err != nil {
		return refusedBy(err, "the proposal does not stand")
	}
	if rec.Offered != nil && rec.Offered.hash == offer.hash {
		return nil
	}
	rec.Offered = offer
	if err := f.keep(ctx, p, rec, st); err != nil {
		return err
	}
	f.log.Info("a partner proposes other terms", "partner", p.id.String())
	return nil
}
