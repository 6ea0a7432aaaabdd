package federation

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

func (n *node) address() string { return n.fed.Addrs()[0].String() }

// asks leaves a request of n's at another node.
func (n *node) asks(at *node) error {
	_, err := n.fed.LeaveRequest(context.Background(), at.name, at.address(), terms())
	return err
}

func (n *node) waiting(t *testing.T) []Request {
	t.Helper()
	list, err := n.fed.Requests()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestARequestForAnotherNameIsRefusedAtOnce(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	b.fed.SetMode(ModeOpen)
	_, err := a.fed.LeaveRequest(context.Background(), "gl0bex.example", b.address(), terms())
	refusedWith(t, err, pb.Code_CODE_UNKNOWN_ORGANIZATION)
	if list := b.waiting(t); len(list) != 0 {
		t.Errorf("a request waits that nobody can accept: %+v", list)
	}
}

func TestAnOpenOrganizationKeepsARequestUntilItsOperatorAnswers(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	ctx := context.Background()
	refusedWith(t, a.asks(b), pb.Code_CODE_NO_AGREEMENT) // by default strangers leave nothing
	b.fed.SetMode(ModeOpen)
	if err := a.asks(b); err != nil {
		t.Fatal(err)
	}
	b.halt()
	b.start()
	b.fed.SetMode(ModeOpen)
	list := b.waiting(t)
	if len(list) != 1 || list[0].Name != a.name || list[0].Organization != a.org.ID {
		t.Fatalf("%+v", list)
	}
	if len(b.fed.Partners()) != 0 {
		t.Error("a request alone made a partner")
	}
	if err := a.asks(b); err != nil { // with other words: it takes the place of the first
		t.Fatal(err)
	}
	_, err := b.fed.AcceptRequest(ctx, a.name, list[0].Hash)
	refusedWith(t, err, pb.Code_CODE_NOT_FOUND)
	if _, err := b.fed.AcceptRequest(ctx, a.name, b.waiting(t)[0].Hash); err != nil {
		t.Fatal(err)
	}
	a.linked(b)
	b.linked(a)
	if len(b.waiting(t)) != 0 {
		t.Error("an accepted request waits on")
	}
	refusedWith(t, a.asks(b), pb.Code_CODE_EXISTS)
}

func TestWhoIsBlockedLeavesNoRequest(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	ctx := context.Background()
	b.fed.SetMode(ModeOpen)
	if err := a.asks(b); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fed.BlockRequest(ctx, a.name); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, a.asks(b), pb.Code_CODE_NO_CONSENT)
	if len(b.waiting(t)) != 0 {
		t.Error("a blocked request waits on")
	}
	if err := b.fed.LiftBlock(ctx, a.name); err != nil {
		t.Fatal(err)
	}
	if err := a.asks(b); err != nil {
		t.Error(err)
	}
	refusedWith(t, b.fed.LiftBlock(ctx, a.name), pb.Code_CODE_NOT_FOUND)
}

func TestAClosedOrganizationMakesNoAgreementEitherWay(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	ctx := context.Background()
	token, err := a.fed.Invite(ctx, b.name, terms(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.fed.SetMode(ModeClosed)
	_, err = b.fed.Accept(ctx, token)
	refusedWith(t, err, pb.Code_CODE_FORBIDDEN)
	_, err = b.fed.Invite(ctx, a.name, terms(), time.Hour)
	refusedWith(t, err, pb.Code_CODE_FORBIDDEN)
	b.fed.SetMode(ModeAgreement)
	a.fed.SetMode(ModeClosed)
	_, err = b.fed.Accept(ctx, token)
	refusedWith(t, err, pb.Code_CODE_NO_AGREEMENT)
	a.fed.SetMode(ModeAgreement)
	if _, err = b.fed.Accept(ctx, token); err != nil {
		t.Fatal(err)
	}
	a.linked(b)
	a.fed.SetMode(ModeClosed) // what stands goes on
	a.outbox.answeredWith(t, a.sends(b, 1, "still"), pb.Code_CODE_ACCEPTED)
}

func TestARequestThatIsNotWhatItSaysIsNotKept(t *testing.T) {
	a, b, c := newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "initech.example")
	b.fed.SetMode(ModeOpen)
	text, err := a.fed.Invite(context.Background(), b.name, terms(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	good := &pb.LobbyRequest{Version: wire.ProtocolVersion, Request: text, NodeCertificate: a.cert}
	good.Genesis, good.Manifest = splitManifests(a.org.Notes)
	edited := func(edit func(*identity.Token)) string {
		token, err := identity.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		edit(token)
		return token.String()
	}
	for name, edit := range map[string]func(*pb.LobbyRequest){
		"without a token":         func(q *pb.LobbyRequest) { q.Request = "come in" },
		"under another name":      func(q *pb.LobbyRequest) { q.Request = edited(func(t *identity.Token) { t.Name = "initech.example" }) },
		"of another organization": func(q *pb.LobbyRequest) { q.Request = edited(func(t *identity.Token) { t.Organization = c.org.ID }) },
		"of another peer":         func(q *pb.LobbyRequest) { q.Request = edited(func(t *identity.Token) { t.Peer = c.fed.self }) },
		"that is over": func(q *pb.LobbyRequest) {
			q.Request = edited(func(t *identity.Token) { t.Expires = time.Now().Add(-time.Hour) })
		},
		"with another's certificate":   func(q *pb.LobbyRequest) { q.NodeCertificate = c.cert },
		"with another's manifests":     func(q *pb.LobbyRequest) { q.Genesis, q.Manifest = splitManifests(c.org.Notes) },
		"with terms that do not stand": func(q *pb.LobbyRequest) { q.Request = edited(func(t *identity.Token) { t.Terms.Contact = "maybe" }) },
	} {
		q := proto.CloneOf(good)
		edit(q)
		if s := a.shows(b, q); s.Status.Code == pb.Code_CODE_OK || len(b.waiting(t)) != 0 {
			t.Errorf("a request %s: %s", name, wire.CodeName(s.Status.Code))
		}
	}
	if s := c.shows(b, good); s.Status.Code == pb.Code_CODE_OK {
		t.Error("a request that another peer hands over was kept")
	}
	for i := range MaxRequests { // as many strangers as are kept
		id := wire.OrganizationID{byte(i + 1)}
		rec := requestRecord{Version: recordVersion, At: time.Now(), Token: edited(func(t *identity.Token) {
			t.Organization, t.Name, t.Expires = id, fmt.Sprintf("s%d.example", i), time.Now().Add(time.Duration(i+1)*time.Hour)
		})}
		if err := b.fed.put(context.Background(), requestKey(id), rec); err != nil {
			t.Fatal(err)
		}
	}
	if s := a.shows(b, good); s.Status.Code != pb.Code_CODE_FULL || s.Status.RetryMs == 0 {
		t.Errorf("one more than are kept: %v", s.Status)
	}
	b.clock.move(90 * time.Minute)
	if err := b.fed.forgetRequests(context.Background()); err != nil || len(b.waiting(t)) != MaxRequests-1 {
		t.Errorf("%d wait after the time of one, %v", len(b.waiting(t)), err)
	}
}
