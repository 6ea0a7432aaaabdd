package federation

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Accept turns a partner's token into an agreement: it dials the token's peer, learns
// and verifies who that is, signs the token's terms and has them countersigned. When
// it returns without an error the partner is stored on both sides. After any error
// it may be called again with the same token; after success that changes nothing.
func (f *Federation) Accept(ctx context.Context, token string) (PartnerInfo, error) {
	if err := f.makes(); err != nil {
		return PartnerInfo{}, err
	}
	t, err := f.Preview(token)
	if err != nil {
		return PartnerInfo{}, err
	}
	remote, err := PeerOf(t.Peer)
	if err != nil {
		return PartnerInfo{}, err
	}
	defer f.gate.allowDial(remote)()
	ctx, cancel := context.WithTimeout(ctx, QueryTimeout)
	defer cancel()
	info := addrInfo(remote, t.Addresses)
	inviter, manifests, certificate, err := f.introduce(ctx, t, info)
	if err != nil {
		return PartnerInfo{}, err
	}
	if len(inviter.Manifest.Addresses) == 0 && len(f.opts.Organization.Manifest.Addresses) == 0 {
		return PartnerInfo{}, wire.Refuse(pb.Code_CODE_UNREACHABLE, "neither of the two names an address to be dialled at: one has to (announce in node.yaml, then: entente organization addresses --sign)")
	}
	agreement, err := f.propose(inviter, t.Terms)
	if err != nil {
		return PartnerInfo{}, err
	}
	q := &pb.LobbyRequest{NodeCertificate: f.opts.NodeCertificate, Agreement: agreement}
	q.Genesis, q.Manifest = splitManifests(f.opts.Organization.Notes)
	answer, err := f.show(ctx, t, info, q)
	if err != nil {
		return PartnerInfo{}, err
	}
	if sameText(answer.Agreement, agreement) != nil {
		return PartnerInfo{}, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the inviter signed another agreement")
	}
	f.making.Lock()
	defer f.making.Unlock()
	if p, err := f.concluded(t.Organization, answer.Agreement, t.ID); p != nil || err != nil {
		return infoOf(p, f.clock.Now()), err
	}
	rec := f.newRecord(answer.Agreement, manifests, certificate, t.Peer, t.ID)
	if err := f.become(ctx, &store.Batch{}, t.Organization, rec); err != nil {
		return PartnerInfo{}, err
	}
	f.log.Info("agreement concluded", "partner", t.Organization.String(), "peer", t.Peer.String())
	return f.find(t.Organization).info(f.clock.Now()), nil
}

// concluded returns the partner with whom this token made this agreement before: a
// repeated Accept changes nothing of it, neither the link nor what the operator has decided
// since, and wakes the worker. An agreement that was ended stays so. f.making is held.
func (f *Federation) concluded(id wire.OrganizationID, agreement string, token [16]byte) (*partner, error) {
	p := f.find(id)
	if p == nil {
		return nil, nil
	}
	p.mu.Lock()
	rec := p.record
	p.mu.Unlock()
	switch {
	case rec.Agreement != agreement, rec.Token != "" && rec.Token != hex.EncodeToString(token[:]):
		return nil, nil
	case rec.Ended:
		return nil, errEnded()
	}
	p.wake()
	return p, nil
}

func infoOf(p *partner, now time.Time) PartnerInfo {
	if p == nil {
		return PartnerInfo{}
	}
	return p.info(now)
}

func errEnded() error {
	return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "the agreement has been ended: a new one takes a new token")
}

// introduce learns the inviter's manifests and node certificate and verifies them
// from the organization ID in the token downwards.
func (f *Federation) introduce(ctx context.Context, t *identity.Token, info peer.AddrInfo) (*identity.Organization, []string, string, error) {
	answer, err := f.show(ctx, t, info, &pb.LobbyRequest{})
	if err != nil {
		return nil, nil, "", err
	}
	org, manifests, err := openManifests(answer.Genesis, answer.Manifest, t.Organization)
	if err != nil {
		return nil, nil, "", fmt.Errorf("federation: the inviter's manifests: %w", err)
	}
	if org.Manifest.Name != t.Name {
		return nil, nil, "", wire.Refuse(pb.Code_CODE_FORBIDDEN, "the token says %s, the inviter is %s", t.Name, org.Manifest.Name)
	}
	if err := f.checkAcceptor(org, ""); err != nil {
		return nil, nil, "", err
	}
	if _, err := identity.VerifyNodeCertificate(answer.NodeCertificate, org, t.Peer, f.clock.Now()); err != nil {
		return nil, nil, "", fmt.Errorf("federation: the inviter's node certificate: %w", err)
	}
	return org, manifests, answer.NodeCertificate, nil
}

// show sends a lobby request with its proof and returns the answer when it proves
// that the inviter holds the token's secret too.
func (f *Federation) show(ctx context.Context, t *identity.Token, info peer.AddrInfo, q *pb.LobbyRequest) (*pb.LobbyResponse, error) {
	f.clearDialBackOff(info.ID)
	if err := f.host.Connect(ctx, info); err != nil {
		return nil, wire.Refuse(pb.Code_CODE_UNREACHABLE, "%s: %s", t.Name, dialText(err))
	}
	out, err := f.newStream(ctx, info.ID, LobbyProtocol)
	if err != nil {
		return nil, err
	}
	defer out.s.Reset()
	defer context.AfterFunc(ctx, func() { out.s.Reset() })()
	q.Version, q.TokenId = wire.ProtocolVersion, t.ID[:]
	proof := requestTranscript(q, f.self, t.Peer).proof(t.Secret)
	q.Proof = proof[:]
	if err := out.write(q, maxLobby, HelloTimeout); err != nil {
		return nil, lost(err)
	}
	var answer pb.LobbyResponse
	release, err := out.read(&answer, maxLobby, QueryTimeout)
	if err != nil {
		return nil, lost(err)
	}
	defer release()
	if err := wire.Err(answer.Status); err != nil {
		return nil, err
	}
	if !responseTranscript(q, &answer, f.self, t.Peer).proves(t.Secret, answer.Proof) {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the inviter does not prove that it made the token")
	}
	return &answer, nil
}
