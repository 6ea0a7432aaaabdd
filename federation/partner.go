package federation

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// partner is an organization that we have made an agreement with.
type partner struct {
	id    wire.OrganizationID
	heard chan struct{} // one place: ends a back-off

	// delivering is held from the reading of marks until the Handler has committed:
	// two streams of one partner never decide the same number.
	delivering sync.Mutex
	marks      marks // under delivering

	wording sync.Mutex // held while word is compared and written
	word    wordRecord // as it is on disk

	bytes, queries *bucket
	files          *bucket // bytes of files handed out
	amends         *bucket // words about amendments: each may be written down
	refreshes      *bucket // questions for its manifests, each of which is verified whole

	mu        sync.Mutex
	items     *bucket // new with every agreement
	record    partnerRecord
	terms     standing
	link      linkState
	inbound   network.Stream     // the deliver stream that we believe
	stop      context.CancelFunc // of the worker
	stopped   chan struct{}      // closed when the last worker has returned; nil: there was none
	refreshed time.Time          // when the manifest was last asked for

	confirmed    bool      // it has said what is in force there, since this node started
	askedInForce time.Time // when a refused link had it asked that
}

// standing is what a partner's record says, verified.
type standing struct {
	org       *identity.Organization
	agreement *identity.Agreement
	digest    [32]byte // of the agreement's text
	device    wire.DeviceID
	peer      peer.ID
	expires   time.Time // of the node certificate
}

// linkState is what is known of the way to a partner.
type linkState struct {
	connected bool
	attempts  int // since the last success
	last      time.Time
	next      time.Time
	contact   time.Time
	asked     time.Time // for what it tells the network of heads
	problem   string
	refused   pb.Code       // by policy, at the last attempt; 0: not
	offset    time.Duration // the partner's clock minus ours
	measured  bool
	holds     bool // the partner has us in quarantine, by its last word
	holding   bool // the partner holds its messages to us back, by its last word

	stopped   string // wordRecord.Stopped
	stoppedMs int64
}

// PartnerInfo is what an operator is shown of a partner.
type PartnerInfo struct {
	ID          wire.OrganizationID
	Name        string
	Peer        string
	State       string // connected, waiting, refused (by the partner), suspended, quarantined, quarantinedThere, ended, expired, notYet
	Contact     string
	Agreement   [32]byte // hash of its text
	Terms       identity.Terms
	Refused     pb.Code   // the partner's, by policy, at the last attempt; 0: not
	Since       time.Time // when the agreement was concluded
	Why         string    // the operator's words at the last change of ours
	Changed     time.Time // when that was; zero: never
	ValidFrom   time.Time
	ValidUntil  time.Time
	Proposed    *Amendment // ours, that waits for the partner; nil: none
	Offered     *Amendment // the partner's, that waits for us; nil: none
	Rejected    time.Time  // when the partner declined our last proposal; zero: not
	Version     uint64     // of the agreement in force
	Removal     time.Time  // from when on its devices are taken out of our rooms; zero: they are not
	Renaming    string     // a name that the partner has given itself, which waits for the operator; empty: none
	Names       []string   // all that it has had, the present one last
	Attempts    int        // since the last success
	LastAttempt time.Time
	NextAttempt time.Time
	LastContact time.Time
	LastError   string
	ClockOffset time.Duration // the partner's clock minus ours
	ClockKnown  bool          // false: ClockOffset means nothing yet
}

func (f *Federation) newPartner(id wire.OrganizationID) *partner {
	l := f.opts.Limits
	return &partner{
		id: id, heard: make(chan struct{}, 1), word: wordRecord{Version: recordVersion}, confirmed: true, // an agreement that is made now; see loadPartner
		bytes:   newBucket(float64(l.Bytes), float64(2*l.Bytes)),
		queries: newBucket(l.Queries, 10*l.Queries),
		files:   newBucket(float64(l.Files), float64(2*l.Files)),
		amends:  newBucket(AmendRate, AmendBurst),

		refreshes: newBucket(refreshRate, refreshBurst),
	}
}

// itemBucket is the partner's rate: the agreement's, when it has one of its own, which may
// be less than ours.
func (f *Federation) itemBucket(t identity.Terms) *bucket {
	l := f.opts.Limits
	if t.Rate > 0 {
		return newBucket(float64(t.Rate), 10*float64(t.Rate))
	}
	return newBucket(l.Items, float64(l.Burst))
}

// allLocked returns the partners in the order of their IDs; f.mu is held.
func (f *Federation) allLocked() []*partner {
	out := make([]*partner, 0, len(f.partners))
	for _, p := range f.partners {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *partner) int { return strings.Compare(a.id.String(), b.id.String()) })
	return out
}

func (f *Federation) all() []*partner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.allLocked()
}

func (f *Federation) find(id wire.OrganizationID) *partner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.partners[id]
}

// Partners lists all partners, ended ones too, in the order of their IDs.
func (f *Federation) Partners() []PartnerInfo {
	var out []PartnerInfo
	for _, p := range f.all() {
		out = append(out, p.info(f.clock.Now()))
	}
	return out
}

// Partner returns the partner with this ID or name.
func (f *Federation) Partner(idOrName string) (PartnerInfo, error) {
	for _, i := range f.Partners() {
		if i.Name == idOrName || i.ID.String() == idOrName {
			return i, nil
		}
	}
	for _, i := range f.Partners() { // a name that it has given up not long ago
		if p := f.find(i.ID); p != nil && p.standing().org.Answers(idOrName, f.clock.Now()) {
			return i, nil
		}
	}
	return PartnerInfo{}, wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "no partner %.80q", idOrName)
}

// Organization returns a partner's verified organization, as last heard of.
func (f *Federation) Organization(id wire.OrganizationID) (*identity.Organization, error) {
	p := f.find(id)
	if p == nil {
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "")
	}
	return p.standing().org, nil
}

func (p *partner) standing() standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.terms
}

func (p *partner) itemBucket() *bucket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.items
}

func (p *partner) info(now time.Time) PartnerInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, l := p.terms, p.link
	removal, _ := p.removalLocked(now)
	return PartnerInfo{
		Removal:  removal,
		Proposed: p.record.Proposed.info(), Offered: p.record.Offered.info(), Rejected: p.record.Rejected, Version: t.agreement.Version,
		ID: p.id, Name: t.org.Manifest.Name, Peer: t.device.String(), State: p.stateLocked(now),
		Contact: string(t.agreement.Terms.Contact), Agreement: t.digest,
		ValidFrom: t.agreement.Terms.ValidFrom, ValidUntil: t.agreement.Terms.ValidUntil,
		Attempts: l.attempts, LastAttempt: l.last, NextAttempt: l.next, LastContact: l.contact,
		Terms: t.agreement.Terms, Refused: l.refused, Since: p.record.Since, Why: p.record.Why, Changed: p.record.Changed,
		Renaming: p.record.Renaming, Names: t.org.Names(),
		LastError: l.problem, ClockOffset: l.offset, ClockKnown: l.measured,
	}
}

func (p *partner) stateLocked(now time.Time) string {
	terms := p.terms.agreement.Terms
	switch {
	case p.record.Ended:
		return "ended"
	case p.record.Suspended:
		return "suspended"
	case !now.Before(terms.ValidUntil):
		return "expired"
	case now.Before(terms.ValidFrom):
		return "notYet"
	case p.record.Quarantined:
		return "quarantined"
	case p.link.holds && p.link.connected:
		return "quarantinedThere"
	case p.link.connected:
		return "connected"
	case p.link.refused != 0:
		return "refused"
	}
	return "waiting"
}

// InForce returns the agreement with an organization when it is in force, else a
// *wire.StatusError: noAgreement or suspended.
func (f *Federation) InForce(id wire.OrganizationID, now time.Time) (*identity.Agreement, error) {
	p := f.find(id)
	if p == nil {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	return p.inForce(now)
}

func (f *Federation) inForce(p *partner) error {
	_, err := p.inForce(f.clock.Now())
	return err
}

func (p *partner) inForce(now time.Time) (*identity.Agreement, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.stateLocked(now) {
	case "ended":
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "the agreement has been ended")
	case "suspended":
		return nil, wire.Refuse(pb.Code_CODE_SUSPENDED, "")
	case "expired", "notYet":
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "the agreement is not in force on this day")
	}
	return p.terms.agreement, nil
}

// speaks reports whether the partner's peer may speak for it: its certificate has
// to be valid still (docs/protocol.md 5.2).
func (p *partner) speaks(now time.Time) error {
	if _, err := p.inForce(now); err != nil {
		return err
	}
	if t := p.standing(); !now.Before(t.expires) {
		return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "the node's certificate has expired")
	}
	return nil
}

// admit returns the partner that a peer speaks for, or the status that refuses it.
// A partner that may not speak is returned with the refusal.
func (f *Federation) admit(remote peer.ID) (*partner, error) {
	f.mu.Lock()
	p := f.byPeer[remote]
	f.mu.Unlock()
	if p == nil {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	return p, p.speaks(f.clock.Now())
}

// addrInfo returns where the partner's node says that it is.
func (p *partner) addrInfo() peer.AddrInfo {
	t := p.standing()
	return addrInfo(t.peer, t.org.Manifest.Addresses)
}

// addrInfo picks the addresses of a peer from multiaddrs in text; what does not
// parse or is another peer's is left out.
func addrInfo(id peer.ID, texts []string) peer.AddrInfo {
	info := peer.AddrInfo{ID: id}
	for _, text := range texts {
		a, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			continue
		}
		transport, of := peer.SplitAddr(a)
		if transport != nil && (of == id || of == "") {
			info.Addrs = append(info.Addrs, transport)
		}
	}
	return info
}

// wake ends the worker's back-off: the partner was heard from.
func (p *partner) wake() {
	select {
	case p.heard <- struct{}{}:
	default:
	}
}

// reached ends the worker's back-off after a question that crossed, whoever asked: there is a
// way again. It does so once for an attempt, and not for a partner that refuses our links.
func (p *partner) reached(now time.Time) {
	p.mu.Lock()
	stale := !p.link.connected && p.link.refused == 0 && now.Sub(p.link.last) >= HelloTimeout
	p.mu.Unlock()
	if stale {
		p.wake()
	}
}

// believe makes s the partner's only deliver stream; an older one is reset, so that a
// partner that lost a link is not kept out by it.
func (p *partner) believe(s network.Stream) {
	p.mu.Lock()
	old := p.inbound
	p.inbound = s
	p.link.refused = 0 // who links with us deals with us
	p.mu.Unlock()
	if old != nil && old != s {
		old.Reset()
	}
}

func (p *partner) forgetStream(s network.Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inbound == s {
		p.inbound = nil
	}
}

// dropLinks resets the inbound stream; the worker notices for itself.
func (p *partner) dropLinks() {
	p.mu.Lock()
	s := p.inbound
	p.inbound = nil
	p.mu.Unlock()
	if s != nil {
		s.Reset()
	}
}

// met notes a contact and the partner's clock, as told at our time.
func (p *partner) met(now time.Time, theirMs int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link.contact = now
	if theirMs > 0 {
		p.link.offset, p.link.measured = time.UnixMilli(theirMs).Sub(now), true
	}
}

// ClockOffsets returns how far the clocks of the partners are ahead of ours, of those
// that told their time since this node started (docs/protocol.md, Time).
func (f *Federation) ClockOffsets() []time.Duration {
	var out []time.Duration
	for _, i := range f.Partners() {
		if i.ClockKnown {
			out = append(out, i.ClockOffset)
		}
	}
	return out
}

// install puts a partner with a verified standing in place: a new one, or new terms
// of an old one. Its peer is known at the door from then on, unless it has ended.
func (f *Federation) install(id wire.OrganizationID, rec partnerRecord, st standing) (*partner, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.clashesLocked(id, st); err != nil {
		return nil, err
	}
	p := f.partners[id]
	if p == nil {
		p = f.newPartner(id)
		f.partners[id] = p
		f.byTag[tagOf(id)] = p
	}
	p.mu.Lock()
	old := p.terms.peer
	p.record, p.terms = rec, st
	p.items = f.itemBucket(st.agreement.Terms)
	p.mu.Unlock()
	if f.byPeer[old] == p && (rec.Ended || old != st.peer) {
		delete(f.byPeer, old)
		f.gate.expel(old)
	}
	if !rec.Ended && f.byPeer[st.peer] == nil {
		f.byPeer[st.peer] = p
		f.gate.admit(st.peer)
	}
	return p, nil
}

// clashes refuses a peer or a name that another partner has already.
func (f *Federation) clashes(id wire.OrganizationID, st standing) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clashesLocked(id, st)
}

func (f *Federation) clashesLocked(id wire.OrganizationID, st standing) error {
	if other := f.byPeer[st.peer]; other != nil && other.id != id {
		return wire.Refuse(pb.Code_CODE_EXISTS, "the peer %s speaks for another partner already", st.device)
	}
	for _, other := range f.partners {
		if other.id != id && other.standing().org.Manifest.Name == st.org.Manifest.Name {
			return wire.Refuse(pb.Code_CODE_NAME_TAKEN, "another partner is called %s", st.org.Manifest.Name)
		}
	}
	return nil
}
