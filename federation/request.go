package federation

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Mode says with whom an organization makes agreements. Those that stand go on in any.
type Mode string

// The modes of an organization.
const (
	ModeClosed    Mode = "closed"    // with nobody: neither tokens nor requests are taken or made
	ModeAgreement Mode = "agreement" // with whom the operator has given a token to, or got one from
	ModeOpen      Mode = "open"      // organizations that are not known may leave a request, too
)

// ParseMode refuses what is none of the modes.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case ModeClosed, ModeAgreement, ModeOpen:
		return m, nil
	}
	return "", wire.Refuse(pb.Code_CODE_MALFORMED, "a mode is closed, agreement or open")
}

// Bounds of what strangers leave in an open organization.
const (
	MaxRequests = 64    // waiting at once
	MaxBlocked  = 1_000 // organizations that leave no request any more
)

// Mode returns the mode in force.
func (f *Federation) Mode() Mode {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opts.Mode
}

// SetMode changes it, at once; keeping it is the caller's.
func (f *Federation) SetMode(m Mode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opts.Mode = m
}

// makes refuses to make an agreement where none is to be made, or signed, now.
func (f *Federation) makes() error {
	if f.Mode() == ModeClosed {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "this organization is closed: entente node mode agreement")
	}
	return f.opts.Signs()
}

// requestRecord is a request that waits for the operator: the stranger's own token, with
// its secret, which makes the agreement when it is accepted. The store seals it.
type requestRecord struct {
	Version int       `json:"version"`
	Token   string    `json:"token"`
	At      time.Time `json:"at"`
}

// Request is a request as people are shown it. Name and organization are what its
// manifests say, which proves that they belong together, not who is behind them.
type Request struct {
	Organization wire.OrganizationID
	Name         string
	Peer         wire.DeviceID
	Terms        identity.Terms
	At, Expires  time.Time
	Hash         [32]byte // of what would be accepted
}

func requestKey(id wire.OrganizationID) []byte { return append([]byte(requestPrefix), id[:]...) }
func blockedKey(id wire.OrganizationID) []byte { return append([]byte(blockedPrefix), id[:]...) }

// LeaveRequest leaves a request with these terms at an organization that is open to them, by
// its address, which names its peer: a token of ours, that only it can use. It
// returns how long the request stands.
func (f *Federation) LeaveRequest(ctx context.Context, name, address string, terms identity.Terms) (time.Time, error) {
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return time.Time{}, wire.Refuse(pb.Code_CODE_MALFORMED, "an address is a multiaddr with the peer, such as /ip4/192.0.2.7/tcp/4801/p2p/12D3KooW…")
	}
	text, err := f.Invite(ctx, name, terms, MaxTokenLifetime)
	if err != nil {
		return time.Time{}, err
	}
	token, err := identity.ParseToken(text)
	if err != nil {
		return time.Time{}, err
	}
	if err := f.handOver(ctx, *info, name, text); err != nil {
		var b store.Batch
		b.Delete(tokenKey(token.ID)) // whoever may have seen it cannot use it
		return time.Time{}, errors.Join(err, f.write(context.WithoutCancel(ctx), &b))
	}
	return token.Expires, nil
}

func (f *Federation) handOver(ctx context.Context, info peer.AddrInfo, name, token string) error {
	defer f.gate.allowDial(info.ID)()
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	f.clearDialBackOff(info.ID)
	if err := f.host.Connect(ctx, info); err != nil {
		return wire.Refuse(pb.Code_CODE_UNREACHABLE, "%s", dialText(err))
	}
	out, err := f.newStream(ctx, info.ID, LobbyProtocol)
	if err != nil {
		return err
	}
	defer out.s.Reset()
	defer context.AfterFunc(ctx, func() { out.s.Reset() })()
	q := &pb.LobbyRequest{Version: wire.ProtocolVersion, Request: token, RequestName: name, NodeCertificate: f.opts.NodeCertificate}
	q.Genesis, q.Manifest = splitManifests(f.opts.Organization.Notes)
	if err := out.write(q, maxLobby, HelloTimeout); err != nil {
		return lost(err)
	}
	var answer pb.LobbyResponse
	release, err := out.read(&answer, maxLobby, QueryTimeout)
	if err != nil {
		return lost(err)
	}
	defer release()
	return wire.Err(answer.Status)
}

// takeRequest keeps a stranger's request for the operator: one of an organization, and a
// bounded number of all (docs/protocol.md 5.10). Everything it says is held against its
// manifests and its peer before anything is kept.
func (f *Federation) takeRequest(ctx context.Context, remote peer.ID, q *pb.LobbyRequest) (*pb.LobbyResponse, error) {
	if f.Mode() != ModeOpen {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "this organization takes no requests: ask its operator for a token")
	}
	if own := f.opts.Organization.Manifest.Name; q.RequestName != "" && q.RequestName != own { // its token would be of no use
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "the node at that address is another organization's")
	}
	token, err := f.Preview(q.Request)
	if err != nil {
		return nil, err
	}
	device, err := keyOf(remote)
	if err != nil || device != token.Peer {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "a request of another peer")
	}
	org, _, err := openManifests(q.Genesis, q.Manifest, token.Organization)
	if err != nil {
		return nil, refusedBy(err, "the manifests do not stand")
	}
	if org.Manifest.Name != token.Name {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the manifests are of another name")
	}
	if err := f.checkAcceptor(org, ""); err != nil {
		return nil, err
	}
	if _, err := identity.VerifyNodeCertificate(q.NodeCertificate, org, device, f.clock.Now()); err != nil {
		return nil, refusedBy(err, "the node certificate does not stand")
	}
	f.making.Lock()
	defer f.making.Unlock()
	if err := f.roomForRequest(org); err != nil {
		return nil, err
	}
	rec := requestRecord{Version: recordVersion, Token: q.Request, At: f.clock.Now().UTC()}
	if err := f.put(ctx, requestKey(org.ID), rec); err != nil {
		return nil, err
	}
	f.log.Info("an organization asks for an agreement", "partner", org.ID.String(), "peer", device.String())
	return &pb.LobbyResponse{Status: wire.Status(pb.Code_CODE_OK, "")}, nil
}

// roomForRequest refuses a request of who is blocked, deals with us already or is called as
// another, and more than are kept. An organization's later one replaces its first. f.making is held.
func (f *Federation) roomForRequest(org *identity.Organization) error {
	if _, err := f.opts.Store.Get(blockedKey(org.ID)); err == nil {
		return wire.Refuse(pb.Code_CODE_NO_CONSENT, "")
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, p := range f.Partners() {
		switch {
		case p.ID == org.ID && p.State != "ended":
			return wire.Refuse(pb.Code_CODE_EXISTS, "there is an agreement already")
		case p.ID != org.ID && p.Name == org.Manifest.Name:
			return wire.Refuse(pb.Code_CODE_NAME_TAKEN, "another partner is called %s", org.Manifest.Name)
		}
	}
	waiting, err := f.requests()
	if err != nil {
		return err
	}
	for _, r := range waiting {
		switch {
		case r.Organization == org.ID:
			return nil // it takes the place of the one before
		case r.Name == org.Manifest.Name:
			return wire.Refuse(pb.Code_CODE_NAME_TAKEN, "another organization that asks is called %s", org.Manifest.Name)
		}
	}
	if len(waiting) >= MaxRequests {
		return &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_FULL, "%d requests wait for the operator", len(waiting)), time.Hour)}
	}
	return nil
}

// waitingRequest is a request with its token.
type waitingRequest struct {
	Request
	token string
}

// requests reads those that still stand, in the order of their organizations' IDs.
func (f *Federation) requests() (out []waitingRequest, err error) {
	now := f.clock.Now()
	err = f.scan(requestPrefix, func(key, value []byte) error {
		var rec requestRecord
		if err := decode(value, &rec); err != nil {
			return err
		}
		t, err := identity.ParseToken(rec.Token)
		if err != nil {
			return err
		}
		if now.Before(t.Expires) {
			out = append(out, waitingRequest{Request{t.Organization, t.Name, t.Peer, t.Terms, rec.At, t.Expires, wire.TextHash(rec.Token)}, rec.Token})
		}
		return nil
	})
	return out, err
}

// Requests lists the requests that wait.
func (f *Federation) Requests() ([]Request, error) {
	list, err := f.requests()
	out := make([]Request, len(list))
	for i, r := range list {
		out[i] = r.Request
	}
	return out, err
}

func (f *Federation) request(idOrName string) (waitingRequest, error) {
	list, err := f.requests()
	for _, r := range list {
		if r.Name == idOrName || r.Organization.String() == idOrName {
			return r, err
		}
	}
	if err == nil {
		err = wire.Refuse(pb.Code_CODE_NOT_FOUND, "no request of %.80q waits", idOrName)
	}
	return waitingRequest{}, err
}

// Request returns the request of an organization, by ID or name.
func (f *Federation) Request(idOrName string) (Request, error) {
	r, err := f.request(idOrName)
	return r.Request, err
}

// AcceptRequest makes an agreement of a request, if it is the one with this hash, as of a
// token that was handed over by hand; the request is gone when it returns nil.
func (f *Federation) AcceptRequest(ctx context.Context, idOrName string, shown [32]byte) (PartnerInfo, error) {
	r, err := f.request(idOrName)
	if err != nil {
		return PartnerInfo{}, err
	}
	if r.Hash != shown {
		return PartnerInfo{}, wire.Refuse(pb.Code_CODE_NOT_FOUND, "%s asks for other terms by now: look again", r.Name)
	}
	p, err := f.Accept(ctx, r.token)
	if err != nil {
		return p, err
	}
	var b store.Batch
	b.Delete(requestKey(r.Organization))
	return p, f.write(context.WithoutCancel(ctx), &b)
}

// BlockRequest drops a request; its organization leaves no other until LiftBlock.
func (f *Federation) BlockRequest(ctx context.Context, idOrName string) (Request, error) {
	r, err := f.request(idOrName)
	if err != nil {
		return Request{}, err
	}
	f.making.Lock()
	defer f.making.Unlock()
	n := 0
	if err := f.scan(blockedPrefix, func([]byte, []byte) error { n++; return nil }); err != nil {
		return Request{}, err
	}
	if n >= MaxBlocked {
		return Request{}, wire.Refuse(pb.Code_CODE_FULL, "%d organizations are blocked: lift some, or close with entente node mode agreement", n)
	}
	var b store.Batch
	b.Put(blockedKey(r.Organization), []byte(r.Name))
	b.Delete(requestKey(r.Organization))
	return r.Request, f.write(ctx, &b)
}

// LiftBlock lets an organization that was blocked, by ID or the name that it had, leave a
// request again.
func (f *Federation) LiftBlock(ctx context.Context, idOrName string) error {
	var b store.Batch
	err := f.scan(blockedPrefix, func(key, name []byte) error {
		id, err := wire.Bytes32(key)
		if err == nil && (string(name) == idOrName || wire.OrganizationID(id).String() == idOrName) {
			b.Delete(blockedKey(id))
		}
		return err
	})
	if err == nil && b.Len() == 0 {
		err = wire.Refuse(pb.Code_CODE_NOT_FOUND, "%.80q is not blocked", idOrName)
	}
	if err != nil {
		return err
	}
	return f.write(ctx, &b)
}

// forgetRequests removes the requests whose time is over.
func (f *Federation) forgetRequests(ctx context.Context) error {
	standing := map[wire.OrganizationID]bool{}
	list, err := f.requests()
	if err != nil {
		return err
	}
	for _, r := range list {
		standing[r.Organization] = true
	}
	var b store.Batch
	err = f.scan(requestPrefix, func(key, _ []byte) error {
		if id, err := wire.Bytes32(key); err == nil && !standing[id] {
			b.Delete(requestKey(id))
		}
		return nil
	})
	if err != nil || b.Len() == 0 {
		return err
	}
	return f.write(ctx, &b)
}
