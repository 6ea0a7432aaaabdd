package federation

import (
	"context"
	"strings"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// maxLobby bounds a lobby frame with its notes. It is what a stranger can make us
// hold, LobbyConnections times.
const maxLobby = wire.MaxLobbyFrame + 112<<10

// serveLobby answers a peer that shows a partner token (docs/protocol.md 5.5).
func (f *Federation) serveLobby(ctx context.Context, in *frames) error {
	var q pb.LobbyRequest
	release, err := in.read(&q, maxLobby, HelloTimeout)
	if err != nil {
		return err
	}
	defer release()
	answer, err := f.consider(ctx, in, &q)
	if err != nil {
		answer = &pb.LobbyResponse{Status: wire.StatusOf(err)}
	}
	f.metrics.tokens.WithLabelValues(wire.CodeName(answer.Status.Code)).Inc()
	return in.write(answer, maxLobby, HelloTimeout)
}

// consider checks the token's proof first: nothing else of what is asked is looked at
// before its sender has shown that it holds the secret. Requests have none (request.go).
func (f *Federation) consider(ctx context.Context, in *frames, q *pb.LobbyRequest) (*pb.LobbyResponse, error) {
	if q.Version != wire.ProtocolVersion {
		return nil, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "version %d of the lobby protocol", q.Version)
	}
	if f.Mode() == ModeClosed {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "this organization is closed")
	}
	if q.Request != "" {
		return f.takeRequest(ctx, in.s.Conn().RemotePeer(), q)
	}
	if len(q.TokenId) != 16 || len(q.Proof) != 32 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a token ID of %d bytes, a proof of %d", len(q.TokenId), len(q.Proof))
	}
	if err := f.opts.Signs(); err != nil {
		return nil, err
	}
	acceptor, err := keyOf(in.s.Conn().RemotePeer())
	if err != nil {
		return nil, err
	}
	f.making.Lock()
	defer f.making.Unlock()
	rec, token, err := f.openToken(ctx, q, acceptor)
	if err != nil {
		return nil, err
	}
	answer := &pb.LobbyResponse{Status: wire.Status(pb.Code_CODE_OK, ""), NodeCertificate: f.opts.NodeCertificate}
	answer.Genesis, answer.Manifest = splitManifests(f.opts.Organization.Notes)
	if q.Agreement != "" {
		if answer.Agreement, err = f.conclude(ctx, q, rec, token, acceptor); err != nil {
			return nil, err
		}
	} else if rec.UsedBy != "" && rec.UsedPeer != acceptor.String() {
		return nil, wire.Refuse(pb.Code_CODE_LINK_USED, "the token was used: ask for a new one")
	}
	proof := responseTranscript(q, answer, acceptor, f.self).proof(token.Secret)
	answer.Proof = proof[:]
	return answer, nil
}

// openToken finds the token that a request proves. A token that is not known and a
// proof that fails look the same from outside.
func (f *Federation) openToken(ctx context.Context, q *pb.LobbyRequest, acceptor wire.DeviceID) (rec tokenRecord, token *identity.Token, err error) {
	unknown := wire.Refuse(pb.Code_CODE_LINK_UNKNOWN, "no such token: check that it was copied whole")
	key := tokenKey([16]byte(q.TokenId))
	found, err := f.get(key, &rec)
	if err != nil {
		return rec, token, err
	}
	if !found || rec.Wrong >= MaxWrongProofs {
		return rec, token, unknown
	}
	if token, err = identity.ParseToken(rec.Token); err != nil {
		return rec, token, err
	}
	if !requestTranscript(q, acceptor, f.self).proves(token.Secret, q.Proof) {
		rec.Wrong++
		f.log.Warn("a wrong proof for a partner token", "peer", acceptor.String(), "attempt", rec.Wrong)
		return rec, token, errOr(f.put(ctx, key, rec), unknown)
	}
	if !f.clock.Now().Before(rec.Expires) {
		return rec, token, wire.Refuse(pb.Code_CODE_LINK_EXPIRED, "the token has expired: ask for a new one")
	}
	return rec, token, nil
}

// conclude verifies everything the acceptor sent, countersigns, and stores the partner
// and the used token in one transaction. Asked again by the same node it returns the
// same agreement. f.making is held.
func (f *Federation) conclude(ctx context.Context, q *pb.LobbyRequest, rec tokenRecord, token *identity.Token, acceptor wire.DeviceID) (string, error) {
	org, manifests, err := openManifests(q.Genesis, q.Manifest, wire.OrganizationID{})
	if err != nil {
		return "", refusedBy(err, "the manifests do not stand")
	}
	if rec.UsedBy != "" {
		if rec.UsedBy != org.ID.String() || rec.UsedPeer != acceptor.String() {
			return "", wire.Refuse(pb.Code_CODE_LINK_USED, "the token was used: ask for a new one")
		}
		return rec.Agreement, f.stillMade(org.ID, rec.Agreement, token.ID)
	}
	if err := f.checkAcceptor(org, rec.Partner); err != nil {
		return "", err
	}
	now := f.clock.Now()
	if _, err := identity.VerifyNodeCertificate(q.NodeCertificate, org, acceptor, now); err != nil {
		return "", refusedBy(err, "the node certificate does not stand")
	}
	agreement, err := f.countersign(q.Agreement, org, token.Terms)
	if err != nil {
		return "", err
	}
	rec.UsedBy, rec.UsedPeer, rec.Agreement = org.ID.String(), acceptor.String(), agreement
	var b store.Batch
	if err := add(&b, tokenKey(token.ID), rec); err != nil {
		return "", err
	}
	partner := f.newRecord(agreement, manifests, q.NodeCertificate, acceptor, token.ID)
	if err := f.become(ctx, &b, org.ID, partner); err != nil {
		return "", err
	}
	f.log.Info("agreement concluded", "partner", org.ID.String(), "peer", acceptor.String())
	return agreement, nil
}

// stillMade refuses to answer again with an agreement that was ended, or replaced by a
// later one: the acceptor would go back to it alone.
func (f *Federation) stillMade(id wire.OrganizationID, agreement string, token [16]byte) error {
	p, err := f.concluded(id, agreement, token)
	if err == nil && p == nil {
		err = wire.Refuse(pb.Code_CODE_LINK_USED, "the token was used, and another agreement made since: ask for a new one")
	}
	return err
}

// checkAcceptor refuses ourselves and whoever the token was not made for.
func (f *Federation) checkAcceptor(org *identity.Organization, wanted string) error {
	if org.ID == f.opts.Organization.ID || org.Manifest.Name == f.opts.Organization.Manifest.Name {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "an organization cannot be its own partner")
	}
	if wanted != "" && org.Manifest.Name != wanted {
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "the token was made for another organization")
	}
	if f.opts.Screen != nil {
		return f.opts.Screen(org)
	}
	return nil
}

// become stores a partner, with what else is in the batch, and starts to deal with
// it. Everything is verified, and clashes with other partners are refused, before
// anything is written. f.making is held.
func (f *Federation) become(ctx context.Context, b *store.Batch, id wire.OrganizationID, rec partnerRecord) error {
	st, err := f.verify(id, rec)
	if err != nil {
		return refusedBy(err, "the agreement does not stand")
	}
	if err := f.clashes(id, st); err != nil {
		return err
	}
	if err := add(b, partnerKey(id), rec); err != nil {
		return err
	}
	if err := f.write(ctx, b); err != nil {
		return err
	}
	p, err := f.install(id, rec, st)
	if err != nil {
		return err
	}
	p.dropLinks() // a link under the agreement before this one says so in its hello
	f.startWorker(p)
	p.wake()
	f.opts.Amended(id)
	return nil
}

// refusedBy makes a status of a check that failed, so that the other side learns
// which; the reason in detail stays here unless it is a status itself.
func refusedBy(err error, what string) error {
	if s := wire.StatusOf(err); s.Code != pb.Code_CODE_INTERNAL {
		return err
	}
	return wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s", what)
}

// splitManifests puts a chain into the two fields of a lobby frame (doc.go).
func splitManifests(notes []string) (genesis, manifest string) {
	last := len(notes) - 1
	return strings.Join(notes[:last], "\n"), notes[last]
}

// openManifests is the inverse of splitManifests and verifies the chain. A note's
// text has no empty line, so one before a text can only be a joint.
func openManifests(genesis, manifest string, want wire.OrganizationID) (*identity.Organization, []string, error) {
	notes := []string{manifest}
	if genesis != "" {
		parts := strings.Split(genesis, "\n\n") // text, signatures, text, signatures, ...
		if len(parts)%2 != 0 || len(parts) > 2*maxManifests {
			return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a chain of manifests that does not divide")
		}
		notes = nil
		for i := 0; i < len(parts); i += 2 {
			notes = append(notes, parts[i]+"\n\n"+strings.TrimSuffix(parts[i+1], "\n")+"\n")
		}
		notes = append(notes, manifest)
	}
	org, err := identity.VerifyManifests(notes, want)
	return org, notes, err
}
