package federation

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

func invite(t *testing.T, from *node, name string) (text string, token *identity.Token) {
	t.Helper()
	text, err := from.fed.Invite(context.Background(), name, terms(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if token, err = identity.ParseToken(text); err != nil {
		t.Fatal(err)
	}
	return text, token
}

func (n *node) accept(text string) error {
	_, err := n.fed.Accept(context.Background(), text)
	return err
}

func TestATokenBecomesAnAgreementThatBothSidesHold(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	text, _ := invite(t, a, b.name)
	preview, err := b.fed.Preview(text)
	if err != nil || preview.Name != a.name || preview.Terms.Contact != identity.ContactOpen {
		t.Fatalf("preview: %+v, %v", preview, err)
	}
	if err := b.accept(text); err != nil {
		t.Fatal(err)
	}
	here, err := a.fed.InForce(b.org.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	there, err := b.fed.InForce(a.org.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if here.Hash != there.Hash || here.Note != there.Note {
		t.Error("the two sides hold different agreements")
	}
	if _, err := identity.VerifyAgreement(here.Note, a.org, b.org); err != nil {
		t.Errorf("the agreement does not stand by itself: %v", err)
	}
	a.linked(b)
	b.linked(a)
	for _, n := range []*node{a, b} {
		if strings.Contains(n.logs.String(), text) || strings.Contains(n.logs.String(), text[len(text)-40:]) {
			t.Errorf("%s has the token in its log", n.name)
		}
	}
}

func TestATokenThatWasAnsweredMayBeAskedForAgainByTheSameNodeOnly(t *testing.T) {
	a, b, c := newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "initech.example")
	text, _ := invite(t, a, "")
	if err := b.accept(text); err != nil {
		t.Fatal(err)
	}
	first, _ := a.fed.InForce(b.org.ID, time.Now())
	if err := b.accept(text); err != nil {
		t.Fatalf("asking again: %v", err)
	}
	again, _ := b.fed.InForce(a.org.ID, time.Now())
	if first.Note != again.Note {
		t.Error("asking again made another agreement")
	}
	refusedWith(t, c.accept(text), pb.Code_CODE_LINK_USED)
	if s := c.shows(a, c.fullRequest(a, text)); s.Status.Code != pb.Code_CODE_LINK_USED {
		t.Errorf("a third organization's agreement under a used token: %v", s.Status)
	}
	if len(a.fed.Partners()) != 1 || len(c.fed.Partners()) != 0 {
		t.Error("a used token made another partner")
	}
}

func TestTokensThatDoNotStandMakeNoPartner(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	text, token := invite(t, a, b.name)

	wrong := *token
	wrong.Secret[0] ^= 1
	refusedWith(t, b.accept(wrong.String()), pb.Code_CODE_LINK_UNKNOWN)
	var rec tokenRecord
	if _, err := a.fed.get(tokenKey(token.ID), &rec); err != nil || rec.Wrong != 1 {
		t.Errorf("the wrong proof was not counted: %+v, %v", rec.Wrong, err)
	}
	unknown := *token
	unknown.ID[0] ^= 1
	refusedWith(t, b.accept(unknown.String()), pb.Code_CODE_LINK_UNKNOWN)

	other := *token
	other.Name = "hooli.example"
	refusedWith(t, b.accept(other.String()), pb.Code_CODE_FORBIDDEN)

	greedy := *token
	greedy.Terms.Retention = time.Hour
	refusedWith(t, b.accept(greedy.String()), pb.Code_CODE_FORBIDDEN)

	pinned := *token
	pinned.Organization[0] ^= 1
	if err := b.accept(pinned.String()); err == nil {
		t.Error("an inviter with another organization ID than the token's was believed")
	}
	if err := a.accept(text); err == nil {
		t.Error("an organization became its own partner")
	}

	strict, _ := invite(t, a, "hooli.example")
	refusedWith(t, b.accept(strict), pb.Code_CODE_FORBIDDEN)

	a.clock.move(2 * time.Hour)
	refusedWith(t, b.accept(text), pb.Code_CODE_LINK_EXPIRED)
	b.clock.move(2 * time.Hour)
	refusedWith(t, b.accept(text), pb.Code_CODE_LINK_EXPIRED)
	if len(a.fed.Partners())+len(b.fed.Partners()) != 0 {
		t.Error("a token that does not stand made a partner")
	}
}

func TestWrongProofsBurnAToken(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	text, token := invite(t, a, b.name)
	wrong := *token
	wrong.Secret[31] ^= 1
	for range MaxWrongProofs {
		refusedWith(t, b.accept(wrong.String()), pb.Code_CODE_LINK_UNKNOWN)
	}
	refusedWith(t, b.accept(text), pb.Code_CODE_LINK_UNKNOWN)
}

func TestAProofIsBoundToThePeersAndToWhatIsSent(t *testing.T) {
	a, b, c := newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "initech.example")
	_, token := invite(t, a, "")
	q := &pb.LobbyRequest{Version: wire.ProtocolVersion, TokenId: token.ID[:]}
	proof := requestTranscript(q, b.fed.self, a.fed.self).proof(token.Secret)
	q.Proof = proof[:]
	if s := c.shows(a, q); s.Status.Code != pb.Code_CODE_LINK_UNKNOWN {
		t.Errorf("another node's request, replayed by a third: %v", s.Status)
	}
	changed := proto.Clone(q).(*pb.LobbyRequest)
	changed.Manifest = "other"
	if s := b.shows(a, changed); s.Status.Code != pb.Code_CODE_LINK_UNKNOWN {
		t.Errorf("a request that was changed on the way: %v", s.Status)
	}
	good := b.shows(a, q)
	if good.Status.Code != pb.Code_CODE_OK || !responseTranscript(q, good, b.fed.self, a.fed.self).proves(token.Secret, good.Proof) {
		t.Fatalf("the request itself: %v", good.Status)
	}
	again := proto.Clone(q).(*pb.LobbyRequest)
	again.Proof = bytes.Repeat([]byte{1}, 32)
	if responseTranscript(again, good, b.fed.self, a.fed.self).proves(token.Secret, good.Proof) {
		t.Error("an answer passes for another request")
	}
	if bytes.Equal(good.Proof, q.Proof) {
		t.Error("the proofs of both directions are the same")
	}
}

// fullRequest is what accepting a token sends last.
func (n *node) fullRequest(to *node, text string) *pb.LobbyRequest {
	n.t.Helper()
	token, err := identity.ParseToken(text)
	if err != nil {
		n.t.Fatal(err)
	}
	agreement, err := n.fed.propose(to.org, token.Terms)
	if err != nil {
		n.t.Fatal(err)
	}
	q := &pb.LobbyRequest{Version: wire.ProtocolVersion, TokenId: token.ID[:], NodeCertificate: n.cert, Agreement: agreement}
	q.Genesis, q.Manifest = splitManifests(n.org.Notes)
	proof := requestTranscript(q, n.fed.self, to.fed.self).proof(token.Secret)
	q.Proof = proof[:]
	return q
}

// shows sends a lobby request as it is.
func (n *node) shows(to *node, q *pb.LobbyRequest) *pb.LobbyResponse {
	n.t.Helper()
	out := n.raw(to, LobbyProtocol)
	defer out.s.Reset()
	if err := out.write(q, maxLobby, patience); err != nil {
		n.t.Fatal(err)
	}
	var answer pb.LobbyResponse
	release, err := out.read(&answer, maxLobby, patience)
	if err != nil {
		n.t.Fatal(err)
	}
	release()
	return &answer
}

// A man in the middle is dialled at the token's address but has another key: the
// connection itself refuses him. One that knows the token's text and puts his own
// peer in gets as far as the manifests, which the organization ID pins.
func TestAManInTheMiddleIsNotTakenForTheInviter(t *testing.T) {
	a, b, m := newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "mallory.example")
	_, token := invite(t, a, b.name)
	there := *token
	there.Addresses = []string{strings.ReplaceAll(m.fed.Addrs()[0].String(), m.fed.PeerID(), a.fed.PeerID())}
	refusedWith(t, b.accept(there.String()), pb.Code_CODE_UNREACHABLE)

	copied := *token
	copied.Peer, copied.Addresses = m.fed.self, []string{m.fed.Addrs()[0].String()}
	rec := tokenRecord{Version: recordVersion, Token: copied.String(), Expires: copied.Expires}
	if err := m.fed.put(context.Background(), tokenKey(copied.ID), rec); err != nil {
		t.Fatal(err)
	}
	if err := b.accept(copied.String()); err == nil {
		t.Fatal("a node that holds the secret passed for another organization")
	}
	if len(b.fed.Partners())+len(m.fed.Partners()) != 0 {
		t.Error("the man in the middle became a partner")
	}
}

func TestAnAcceptorWithoutAValidNodeCertificateIsRefused(t *testing.T) {
	a, b, c := newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "initech.example")
	text, token := invite(t, a, "")
	// c shows everything of b's, signed by b's keys, over its own connection.
	q := b.fullRequest(a, text)
	proof := requestTranscript(q, c.fed.self, a.fed.self).proof(token.Secret)
	q.Proof = proof[:]
	if s := c.shows(a, q); s.Status.Code != pb.Code_CODE_FORBIDDEN {
		t.Errorf("a certificate for another peer: %v", s.Status)
	}
	if len(a.fed.Partners()) != 0 {
		t.Error("a partner was made")
	}
}

func TestAnotherOrganizationOfTheSameNameIsNotTaken(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	befriend(t, a, b)
	impostor := newNode(t, "globex.example")
	text, _ := invite(t, a, "globex.example")
	refusedWith(t, impostor.accept(text), pb.Code_CODE_NAME_TAKEN)
	i, err := a.fed.Partner("globex.example")
	if err != nil || i.ID != b.org.ID {
		t.Errorf("the partner is now %v, %v", i.ID, err)
	}
}

func TestTokensAreBoundedAndForgotten(t *testing.T) {
	a := newNode(t, "acme.example")
	ctx := context.Background()
	if _, err := a.fed.Invite(ctx, "", terms(), MaxTokenLifetime+time.Hour); err == nil {
		t.Error("a token for ever")
	}
	bad := terms()
	bad.ValidUntil = bad.ValidFrom
	if _, err := a.fed.Invite(ctx, "", bad, time.Hour); err == nil {
		t.Error("a token with terms that make no agreement")
	}
	for range MaxTokens {
		if _, err := a.fed.Invite(ctx, "", terms(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.fed.Invite(ctx, "", terms(), time.Hour)
	refusedWith(t, err, pb.Code_CODE_FULL)
	a.clock.move(2 * time.Hour)
	if err := a.fed.sweepTokens(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := a.fed.countTokens(); n != 0 || err != nil {
		t.Errorf("%d expired tokens are kept, %v", n, err)
	}
}

func TestManifestChainsSurviveTheLobby(t *testing.T) {
	n := prepareNode(t, "acme.example")
	for range 3 {
		n.remanifest(func(*identity.Manifest) {})
	}
	genesis, manifest := splitManifests(n.org.Notes)
	org, notes, err := openManifests(genesis, manifest, n.org.ID)
	if err != nil || org.Manifest.Sequence != 3 || len(notes) != 4 {
		t.Fatalf("%v, %d notes", err, len(notes))
	}
	for i := range notes {
		if notes[i] != n.org.Notes[i] {
			t.Errorf("note %d is not what it was", i)
		}
	}
	if _, _, err := openManifests(genesis+"\n\nmore", manifest, n.org.ID); err == nil {
		t.Error("something between the manifests was overlooked")
	}
}

// remanifest adds a manifest to the node's organization, signed by its root.
func (n *node) remanifest(change func(*identity.Manifest)) {
	n.t.Helper()
	m, err := n.org.Successor(time.Now())
	if err != nil {
		n.t.Fatal(err)
	}
	change(&m)
	note, err := m.Sign(n.root.Root)
	if err != nil {
		n.t.Fatal(err)
	}
	if n.org, err = identity.VerifyManifests(append(n.org.Notes[:len(n.org.Notes):len(n.org.Notes)], note), n.org.ID); err != nil {
		n.t.Fatal(err)
	}
}

// newNodeKey gives the organization another key for agreements and certificates, and
// certifies the node with it.
func (n *node) newNodeKey() {
	n.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	n.keys.Node = private
	n.remanifest(func(m *identity.Manifest) { m.Node = public })
	if n.cert, err = identity.SignNodeCertificate(n.org, n.org.Manifest.Nodes[0], private, time.Now()); err != nil {
		n.t.Fatal(err)
	}
}
