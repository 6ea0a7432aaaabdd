package federation

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/prometheus/client_golang/prometheus"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// raw opens a stream to another node, whatever either thinks of it.
func (n *node) raw(to *node, proto protocol.ID) *frames {
	n.t.Helper()
	remote := to.fed.host.ID()
	n.t.Cleanup(n.fed.gate.allowDial(remote))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.fed.host.Connect(ctx, peer.AddrInfo{ID: remote, Addrs: to.fed.host.Addrs()}); err != nil {
		n.t.Fatal(err)
	}
	out, err := n.fed.newStream(ctx, remote, proto)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// stranger is a libp2p host that is nobody's.
func stranger(t *testing.T, keyType int) host.Host {
	t.Helper()
	key, _, err := crypto.GenerateKeyPairWithReader(keyType, 2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func dial(t *testing.T, h host.Host, to *node) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.Connect(ctx, peer.AddrInfo{ID: to.fed.host.ID(), Addrs: to.fed.host.Addrs()})
}

func TestAnUnknownPeerLearnsWhyItIsRefused(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	out := a.raw(b, DeliverProtocol)
	defer out.s.Reset()
	hello := &pb.DeliverHello{Version: wire.ProtocolVersion, Organization: a.org.ID[:], Incarnation: 1}
	if err := out.write(&pb.DeliverFrame{Frame: &pb.DeliverFrame_Hello{Hello: hello}}, maxHello, patience); err != nil {
		t.Fatal(err)
	}
	var frame pb.DeliverFrame
	if _, err := out.read(&frame, maxHello, patience); err != nil {
		t.Fatal(err)
	}
	if c := frame.GetWelcome().GetStatus().GetCode(); c != pb.Code_CODE_NO_AGREEMENT {
		t.Errorf("the welcome says %s", wire.CodeName(c))
	}
	if _, err := out.r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the refusal the stream is not closed: %v", err)
	}
	q := a.raw(b, QueryProtocol)
	defer q.s.Reset()
	if err := q.write(&pb.QueryRequest{Version: wire.ProtocolVersion}, maxQuestion, patience); err != nil {
		t.Fatal(err)
	}
	var answer pb.QueryResponse
	if _, err := q.read(&answer, maxQuestion, patience); err != nil {
		t.Fatal(err)
	}
	if answer.Status.Code != pb.Code_CODE_NO_AGREEMENT {
		t.Errorf("the answer says %s", wire.CodeName(answer.Status.Code))
	}
}

func TestAPeerMaySpeakForItsOwnOrganizationOnly(t *testing.T) {
	a, b := pair(t)
	c := newNode(t, "initech.example")
	befriend(t, c, b)
	c.linked(b)
	digest, own := a.fed.find(b.org.ID).standing().digest, c.fed.find(b.org.ID).standing().digest
	for name, h := range map[string]*pb.DeliverHello{
		"another partner's name":      {Organization: a.org.ID[:], Agreement: own[:]},
		"all that is another's":       {Organization: a.org.ID[:], Agreement: digest[:]},
		"another partner's agreement": {Organization: c.org.ID[:], Agreement: digest[:]},
		"no agreement":                {Organization: c.org.ID[:]},
	} {
		h.Version, h.Incarnation = wire.ProtocolVersion, 1
		out := c.raw(b, DeliverProtocol)
		if err := out.write(&pb.DeliverFrame{Frame: &pb.DeliverFrame_Hello{Hello: h}}, maxHello, patience); err != nil {
			t.Fatal(err)
		}
		var frame pb.DeliverFrame
		if _, err := out.read(&frame, maxHello, patience); err != nil {
			t.Fatal(err)
		}
		if wire.Err(frame.GetWelcome().GetStatus()) == nil {
			t.Errorf("%s was welcomed", name)
		}
		out.s.Reset()
	}
}

func TestTheLobbyHoldsSixteenAndPartnersStillGetIn(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	befriend(t, a, b)
	a.linked(b)
	b.linked(a)
	a.halt()
	for range LobbyConnections {
		if err := dial(t, stranger(t, crypto.Ed25519), b); err != nil {
			t.Fatal(err)
		}
	}
	places := func() int {
		b.fed.gate.mu.Lock()
		defer b.fed.gate.mu.Unlock()
		return len(b.fed.gate.lobby)
	}
	until(t, "the lobby is full", func() bool { return places() == LobbyConnections })
	over := stranger(t, crypto.Ed25519)
	_ = dial(t, over, b) // may seem to succeed at first: a refused dialler learns it later
	until(t, "the seventeenth has left", func() bool { return len(over.Network().Conns()) == 0 })
	if places() != LobbyConnections {
		t.Errorf("%d in the lobby", places())
	}
	a.start()
	a.linked(b)
}

func TestAGuestIsServedOneStreamAtATime(t *testing.T) {
	b := newNode(t, "globex.example")
	h := stranger(t, crypto.Ed25519)
	if err := dial(t, h, b); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	taken := func() (served, all int) {
		b.fed.gate.mu.Lock()
		defer b.fed.gate.mu.Unlock()
		for _, g := range b.fed.gate.lobby {
			served, all = served+len(g.place), all+g.streams
		}
		return served, all
	}
	for n := range 1 + LobbyWaiting {
		s, err := h.NewStream(ctx, b.fed.host.ID(), LobbyProtocol)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		if _, err := s.Write([]byte{200}); err != nil { // a frame that never comes
			t.Fatal(err)
		}
		until(t, "the stream has come in", func() bool { served, all := taken(); return served == 1 && all == n+1 })
	}
	over, err := h.NewStream(ctx, b.fed.host.ID(), LobbyProtocol)
	if err == nil {
		over.SetDeadline(time.Now().Add(patience))
		over.Write([]byte{200})
		_, err = over.Read(make([]byte, 1))
	}
	if err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("one stream too many: %v", err)
	}
}

func TestKeysThatAreNotEd25519AreRefused(t *testing.T) {
	b := newNode(t, "globex.example")
	for _, kind := range []int{crypto.RSA, crypto.Secp256k1, crypto.ECDSA} {
		h := stranger(t, kind)
		_ = dial(t, h, b)
		until(t, "the peer is out", func() bool { return len(b.fed.host.Network().ConnsToPeer(h.ID())) == 0 })
	}
	if counted(t, b.fed.metrics.refused, "key") == 0 {
		t.Error("nobody was refused for its key: this test shows nothing")
	}
}

func TestResourcesAreNumbers(t *testing.T) {
	for name, l := range map[string]rcmgr.BaseLimit{
		"system": rcmgrOf(t).System, "transient": rcmgrOf(t).Transient, "peer": rcmgrOf(t).PeerDefault,
		"conn": rcmgrOf(t).Conn, "stream": rcmgrOf(t).Stream,
	} {
		for what, n := range map[string]int64{
			"streams": int64(l.Streams), "inbound streams": int64(l.StreamsInbound), "connections": int64(l.Conns),
			"inbound connections": int64(l.ConnsInbound), "memory": l.Memory, "descriptors": int64(l.FD),
		} {
			if n <= 0 || n > 1<<31 {
				t.Errorf("%s: %s is %d", name, what, n)
			}
		}
	}
}

// limitSet is what the library's limits say once they are built.
type limitSet struct{ System, Transient, PeerDefault, Conn, Stream rcmgr.BaseLimit }

func rcmgrOf(t *testing.T) limitSet {
	t.Helper()
	l := rcmgr.NewFixedLimiter(resourceLimits())
	base := func(l rcmgr.Limit) rcmgr.BaseLimit {
		b, ok := l.(*rcmgr.BaseLimit)
		if !ok {
			t.Fatalf("a limit of type %T", l)
		}
		return *b
	}
	return limitSet{base(l.GetSystemLimits()), base(l.GetTransientLimits()), base(l.GetPeerLimits("x")),
		base(l.GetConnLimits()), base(l.GetStreamLimits("x"))}
}

func TestGarbageAndFramesThatAreTooLongEndTheStreamOnly(t *testing.T) {
	a, b := pair(t)
	for _, proto := range []protocol.ID{DeliverProtocol, QueryProtocol, LobbyProtocol} {
		for name, bytes := range map[string][]byte{
			"garbage":              []byte("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: somebody who has lost his way, " + strings.Repeat("far ", 20)),
			"a huge promise":       {0xff, 0xff, 0xff, 0x7f},
			"a length without end": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
			"a length in disguise": {0x81, 0x00, 0x00},
			"no protobuf":          {3, 0xff, 0xff, 0xff},
		} {
			out := a.raw(b, proto)
			out.s.Write(bytes)
			out.s.SetReadDeadline(time.Now().Add(patience))
			rest, err := io.ReadAll(out.s)
			if err == nil || strings.Contains(err.Error(), "deadline") {
				t.Errorf("%s on %s: answered %q, %v", name, proto, rest, err)
			}
		}
	}
	n := a.sends(b, 1, "as before")
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
}

func TestASlowStreamIsGivenUp(t *testing.T) {
	t.Parallel() // it waits for a deadline
	b := newNode(t, "globex.example")
	h := stranger(t, crypto.Ed25519)
	if err := dial(t, h, b); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := h.NewStream(ctx, b.fed.host.ID(), DeliverProtocol)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.Write([]byte{100, 1, 2, 3}) // and then nothing
	s.SetReadDeadline(time.Now().Add(patience))
	_, err = s.Read(make([]byte, 1))
	if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "reset") || took < HelloTimeout/2 || took > 2*HelloTimeout {
		t.Errorf("after %v: %v", took, err)
	}
}

func TestBatchesThatNoHonestSenderSendsEndTheStream(t *testing.T) {
	it := &pb.Item{Number: 1}
	for name, b := range map[string]*pb.DeliverBatch{
		"no batch":            nil,
		"the number 0":        {Items: []*pb.Item{{}}},
		"a number twice":      {Items: []*pb.Item{it, it}},
		"more items than 256": {Items: make([]*pb.Item, wire.MaxDeliverItems+1)},
	} {
		if checkBatch(b) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestOneBadItemStallsNothing(t *testing.T) {
	a, b := pair(t)
	bad := a.outbox.add(b.org.ID, &pb.Item{Kind: pb.ItemKind_ITEM_KIND_SUBMIT})
	good := a.sends(b, 0, "in the same room")
	a.outbox.answeredWith(t, bad, pb.Code_CODE_MALFORMED)
	a.outbox.answeredWith(t, good, pb.Code_CODE_ACCEPTED)
}

func TestSuspendingClosesConnectionsAndResumingOpensThem(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	open := b.fed.host.Network().ConnsToPeer(a.fed.host.ID())
	if err := b.fed.Suspend(ctx, a.org.ID, "spam since Monday"); err != nil {
		t.Fatal(err)
	}
	for _, c := range open {
		if !c.IsClosed() {
			t.Error("a connection outlived the suspension")
		}
	}
	_, err := b.fed.InForce(a.org.ID, time.Now())
	refusedWith(t, err, pb.Code_CODE_SUSPENDED)
	n := a.sends(b, 1, "not now")
	until(t, "the suspended side learns it", func() bool {
		i, _ := a.fed.Partner(b.name)
		return i.State == "refused" && i.Refused == pb.Code_CODE_SUSPENDED && strings.HasPrefix(i.LastError, "suspended")
	})
	a.outbox.answeredWith(t, n, pb.Code_CODE_SUSPENDED) // never sent later
	_, err = a.fed.Takes(b.org.ID, time.Now())
	refusedWith(t, err, pb.Code_CODE_SUSPENDED)
	_, err = a.fed.Query(ctx, b.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{}}})
	refusedWith(t, err, pb.Code_CODE_SUSPENDED)
	if len(b.handler.seen(a.org.ID)) != 0 {
		t.Error("something passed a suspended agreement")
	}
	b.halt()
	b.start()
	if i, _ := b.fed.Partner(a.name); i.State != "suspended" || i.Why != "spam since Monday" || i.Changed.IsZero() {
		t.Errorf("after a restart the state is %s, because %q at %s", i.State, i.Why, i.Changed)
	}
	if err := b.fed.Resume(ctx, a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	a.linked(b)
	if _, err := a.fed.Takes(b.org.ID, time.Now()); err != nil {
		t.Errorf("after it was resumed: %v", err)
	}
	a.outbox.answeredWith(t, a.sends(b, 1, "now"), pb.Code_CODE_ACCEPTED)
}

func TestEndingMakesAStrangerOfThePartnerUntilANewAgreement(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	if err := b.fed.End(ctx, a.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, b.fed.Suspend(ctx, a.org.ID, ""), pb.Code_CODE_NO_AGREEMENT)
	refusedWith(t, b.fed.Resume(ctx, a.org.ID, ""), pb.Code_CODE_NO_AGREEMENT)
	until(t, "a learns it", func() bool {
		i, _ := a.fed.Partner(b.name)
		return i.State == "refused" && strings.HasPrefix(i.LastError, "noAgreement")
	})
	if b.fed.gate.InterceptPeerDial(a.fed.host.ID()) {
		t.Error("an ended partner may still be dialled")
	}
	befriend(t, b, a)
	a.linked(b)
	b.linked(a)
}

func TestAnAgreementThatIsOverStopsDeliveryOnARunningLink(t *testing.T) {
	a, b := pair(t)
	b.clock.move(wire.AgreementLifetime + 25*time.Hour)
	n := a.sends(b, 1, "too late")
	until(t, "the item is refused or the link is down", func() bool {
		i, _ := a.fed.Partner(b.name)
		return a.outbox.status(n) != nil || i.State == "waiting"
	})
	if got := b.handler.seen(a.org.ID); len(got) != 0 {
		t.Errorf("committed %v after the end of the agreement", got)
	}
}

func TestANewManifestIsTakenOnContactAndAgreementsOutliveKeys(t *testing.T) {
	a, b := pair(t)
	a.halt()
	a.newNodeKey()
	a.start()
	b.fed.find(a.org.ID).mu.Lock()
	b.fed.find(a.org.ID).refreshed = time.Time{} // as after an hour
	b.fed.find(a.org.ID).mu.Unlock()
	b.linked(a)
	a.linked(b)
	until(t, "b knows the new manifest", func() bool {
		o, err := b.fed.Organization(a.org.ID)
		return err == nil && o.Manifest.Sequence == 1
	})
	a.halt()
	b.halt()
	b.start() // verified again from the disk, under old and new keys
	if o, err := b.fed.Organization(a.org.ID); err != nil || o.Manifest.Sequence != 1 {
		t.Fatalf("the new manifest is not on disk: %v", err)
	}
	a.start()
	b.linked(a)
	n := a.sends(b, 1, "same organization")
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
}

func TestManifestsThatDoNotContinueTheKnownOnesAreNotTaken(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	p := b.fed.find(a.org.ID)
	genuine := a.org
	a.remanifest(func(*identity.Manifest) {})
	one := a.org
	if err := b.fed.takeManifests(ctx, p, &pb.ManifestAnswer{Manifests: one.Notes, NodeCertificate: a.cert}); err != nil {
		t.Fatal(err)
	}
	a.org = genuine
	a.remanifest(func(*identity.Manifest) {})
	for name, m := range map[string]*pb.ManifestAnswer{
		"another past":     {Manifests: a.org.Notes, NodeCertificate: a.cert},
		"fewer":            {Manifests: genuine.Notes, NodeCertificate: a.cert},
		"none":             {},
		"b's own":          {Manifests: b.org.Notes, NodeCertificate: b.cert},
		"no certificate":   {Manifests: one.Notes},
		"b's certificate":  {Manifests: one.Notes, NodeCertificate: b.cert},
		"too many to hold": {Manifests: make([]string, maxManifests+1), NodeCertificate: a.cert},
	} {
		if err := b.fed.takeManifests(ctx, p, m); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if o, _ := b.fed.Organization(a.org.ID); o.Notes[1] != one.Notes[1] {
		t.Error("the known manifest was replaced")
	}
}

func TestAnExpiredCertificateDoesNotSpeak(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	long := terms()
	long.ValidUntil = long.ValidFrom.Add(5 * wire.AgreementLifetime)
	text, err := a.fed.Invite(context.Background(), b.name, long, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.accept(text); err != nil {
		t.Fatal(err)
	}
	a.linked(b)
	b.clock.move(wire.NodeCertLifetime + time.Hour)
	if _, err := b.fed.admit(a.fed.host.ID()); wire.StatusOf(err).Code != pb.Code_CODE_NO_AGREEMENT {
		t.Errorf("the peer is admitted: %v", err)
	}
	// A new certificate, shown on contact, is enough.
	fresh, err := identity.SignNodeCertificate(a.org, a.org.Manifest.Nodes[0], a.keys.Node, b.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.halt()
	a.cert = fresh
	a.start()
	until(t, "the peer speaks again", func() bool {
		_, err := b.fed.admit(a.fed.host.ID())
		return err == nil
	})
}

func TestAddressesAreTheAnnouncedOnes(t *testing.T) {
	b := newNode(t, "globex.example")
	want := b.listen[0].String() + "/p2p/" + b.fed.PeerID()
	if got := b.fed.Addrs(); len(got) != 1 || got[0].String() != want {
		t.Errorf("addresses %v, want %s", got, want)
	}
	if _, err := PeerOf(wire.DeviceID(b.keys.Peer.Public().(ed25519.PublicKey))); err != nil {
		t.Error(err)
	}
}

func TestReasonsForAChangeAreOneBoundedPrintableLine(t *testing.T) {
	a, b := pair(t)
	for _, why := range []string{strings.Repeat("x", MaxWhy+1), "two\nlines", "\x1b[2J", "\xff"} {
		refusedWith(t, b.fed.Suspend(context.Background(), a.org.ID, why), pb.Code_CODE_MALFORMED)
	}
	if i, _ := b.fed.Partner(a.name); i.State == "suspended" || i.Why != "" {
		t.Errorf("a refused change left %s, %q", i.State, i.Why)
	}
}

// A partner says with each of many hellos that it has another manifest. It is not asked for
// all of them each time.
func TestHellosThatNameOtherManifestsAskForFewOfThem(t *testing.T) {
	a, b := pair(t)
	p := a.fed.find(b.org.ID)
	digest, id := p.standing().digest, a.org.ID
	asked := a.fed.metrics.queries.MustCurryWith(prometheus.Labels{"direction": "in"})
	before := counted(t, asked, "ok")
	for i := range 60 {
		out, err := a.fed.open(t.Context(), p, DeliverProtocol)
		if err != nil {
			t.Fatal(err)
		}
		h := &pb.DeliverHello{Version: wire.ProtocolVersion, Organization: id[:], Incarnation: 1, TimeMs: time.Now().UnixMilli(), Agreement: digest[:],
			Manifest: a.org.Manifest.Sequence, ManifestHash: []byte{byte(i)}}
		if err := out.write(&pb.DeliverFrame{Frame: &pb.DeliverFrame_Hello{Hello: h}}, maxHello, HelloTimeout); err != nil {
			t.Fatal(err)
		}
		var frame pb.DeliverFrame
		release, err := out.read(&frame, maxHello, HelloTimeout)
		if err != nil || frame.GetWelcome().GetStatus().GetCode() != pb.Code_CODE_OK {
			t.Fatalf("%v %v", frame.GetWelcome(), err)
		}
		release()
		time.Sleep(20 * time.Millisecond) // or it is asked for once for several
		out.s.Reset()
	}
	if n := counted(t, asked, "ok") - before; n > refreshBurst+5 {
		t.Errorf("60 hellos made the node ask %v times", n)
	}
}
