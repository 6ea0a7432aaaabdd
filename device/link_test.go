package device

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// linked is what both sides of a link make of it.
type linked struct {
	new  *Device
	err  error
	code string
}

// enrolling enrols another device with a link.
func enrolling(t testing.TB, link string) <-chan linked {
	t.Helper()
	out := make(chan linked, 1)
	dir := filepath.Join(t.TempDir(), "linked")
	go func() {
		var l linked
		l.new, l.err = Enroll(context.Background(), dir, testPass, link, OnCode(func(code string) { l.code = code }))
		out <- l
	}()
	return out
}

// linkDevice links another device of d's member and brings it into d's rooms.
func linkDevice(t *testing.T, d *Device) *Device {
	t.Helper()
	l, err := d.OpenLink(t.Context())
	must(t, err)
	joining := enrolling(t, l.Link)
	code, _, err := l.Wait(t.Context())
	must(t, err)
	id, err := l.Confirm(t.Context())
	must(t, err)
	other := <-joining
	must(t, other.err)
	t.Cleanup(other.new.Close)
	if other.code != code || other.new.ID() != id || other.new.Address() != d.Address() {
		t.Fatalf("codes %q and %q, %s %s", code, other.code, other.new.ID(), other.new.Address())
	}
	s, err := d.Sender(t.Context())
	must(t, err)
	defer s.Close()
	must(t, s.BringOwn(t.Context()))
	return other.new
}

func TestALinkedDeviceReadsAndWritesAsTheSamePerson(t *testing.T) {
	p := newPair(t)
	send(t, p.alice, p.bob.Address(), "before", SendOptions{})
	receiveUntil(t, p.bob, "the message", hasTexts(1))
	tablet := linkDevice(t, p.alice)
	joined := receiveUntil(t, tablet, "it is in the room", func(s []Shown) bool { return len(s) > 0 })
	if joined[0].State != "joined" || !joined[0].Own || len(texts(joined)) != 0 {
		t.Errorf("shown on the new device: %+v", joined)
	}
	send(t, tablet, p.bob.Address(), "from the tablet", SendOptions{})
	if got := texts(receiveUntil(t, p.bob, "the message", hasTexts(1))); got[0] != "from the tablet" {
		t.Errorf("bob was shown %q", got)
	}
	own := receiveUntil(t, p.alice, "what was said on the tablet", hasTexts(1))
	for _, s := range own {
		if s.Event == "message" && (!s.Own || s.From != p.alice.Address().String() || s.To != p.bob.Address().String()) {
			t.Errorf("shown on the other device: %+v", s)
		}
	}
	send(t, p.bob, p.alice.Address(), "to both", SendOptions{})
	for _, d := range []*Device{p.alice, tablet} {
		if got := texts(receiveUntil(t, d, "bob's message", hasTexts(1))); got[0] != "to both" {
			t.Errorf("shown: %q", got)
		}
	}
	// bob talks to one person: one room, one recipient, whatever the number of devices.
	if a, b := p.bob.Rooms(), tablet.Rooms(); len(a) != 1 || len(b) != 1 || a[0].ID != b[0].ID || a[0].People != 2 || a[0].Devices != 3 {
		t.Errorf("rooms: %+v, %+v", a, b)
	}
	eventually(t, "one recipient has it", func() error {
		receive(t, p.bob)
		sent, err := p.bob.Sent()
		if err != nil || len(sent) != 1 || sent[0].Of != 1 || sent[0].State != "acknowledged" {
			return errors.Join(err, errors.New(sent[0].State))
		}
		return nil
	})
	// Of what the tablet has sent, its own person is no recipient.
	eventually(t, "only bob is spoken of", func() error {
		receive(t, tablet)
		sent, err := tablet.Sent()
		if err != nil || len(sent) != 1 || sent[0].State != "acknowledged" {
			return errors.Join(err, errors.New("not acknowledged"))
		}
		if len(sent[0].Members) != 1 || sent[0].Members[0].Address != p.bob.Address().String() {
			t.Fatalf("members: %+v", sent[0].Members)
		}
		return nil
	})
}

func TestWhoTakesALinkBeforeTheNewDeviceIsSeenInTheCode(t *testing.T) {
	p := newPair(t)
	l, err := p.alice.OpenLink(t.Context())
	must(t, err)
	thief := enrolling(t, l.Link)
	seen, _, err := l.Wait(t.Context())
	must(t, err)
	// The person's own device comes second, with the same link: it cannot go on, and no
	// code appears on it that would match.
	second := <-enrolling(t, l.Link)
	if code := wire.StatusOf(second.err).Code; second.err == nil || code != pb.Code_CODE_LINK_USED || second.code != "" {
		t.Errorf("the second: code %q, %v", second.code, second.err)
	}
	must(t, l.Refuse(t.Context()))
	first := <-thief
	if first.err == nil || first.code != seen {
		t.Errorf("the thief: %+v", first)
	}
	if _, err := l.Confirm(t.Context()); err == nil {
		t.Error("a refused link can be confirmed")
	}
	if list, err := p.alice.Devices(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("devices: %+v %v", list, err)
	}
}

func TestANodeThatSpeaksForTheNewDeviceIsNotHeard(t *testing.T) {
	p := newPair(t)
	link := func() (*Linking, *linkChannel) {
		l, err := p.alice.OpenLink(t.Context())
		must(t, err)
		parsed, err := identity.ParseLink(l.Link)
		must(t, err)
		c, err := openLinkChannel(p.alice.home, parsed.Secret, true)
		must(t, err)
		return l, c
	}
	// It does not have the secret.
	l, c := link()
	must(t, p.alice.home.PutLinkMessage(t.Context(), &pb.PutLinkMessageRequest{Slot: c.slot[:], Joining: true, Message: make([]byte, 200)}))
	if _, _, err := l.Wait(t.Context()); !errors.Is(err, errLinkAltered) {
		t.Errorf("what a node wrote itself: %v", err)
	}
	// Somebody with the secret who tries many nonces for a code is bound to the first.
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	for name, reveal := range map[string]func(*linkReveal, []byte){
		"another nonce": func(r *linkReveal, _ []byte) { r.Nonce[0] ^= 1 },
		"another device's key": func(r *linkReveal, s []byte) {
			_, other, _ := ed25519.GenerateKey(rand.Reader)
			r.Signature = ed25519.Sign(other, s)
		},
		"no signature":             func(r *linkReveal, _ []byte) { r.Signature = nil },
		"a signature of something": func(r *linkReveal, _ []byte) { r.Signature = ed25519.Sign(key, []byte("something")) },
	} {
		l, c := link()
		var nonce [32]byte
		offer := linkOffer{Device: wire.DeviceID(pub), Commit: commitTo(nonce), Name: "x"}
		done := make(chan error, 1)
		go func() { _, _, err := l.Wait(context.Background()); done <- err }()
		must(t, c.say(t.Context(), offer))
		var old linkNonce
		must(t, c.hear(t.Context(), &old))
		signed := linkSigned(c.transcript(offer, old.Nonce, nonce))
		r := linkReveal{Nonce: nonce, Signature: ed25519.Sign(key, signed)}
		reveal(&r, signed)
		must(t, c.say(t.Context(), r))
		if err := <-done; !errors.Is(err, errLinkAltered) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := l.Confirm(t.Context()); err == nil {
			t.Errorf("%s can be confirmed", name)
		}
	}
}

func TestALinkIsNotForEverybodyNorForEver(t *testing.T) {
	p := newPair(t)
	l, err := p.alice.OpenLink(t.Context())
	must(t, err)
	newer, err := p.alice.OpenLink(t.Context()) // ends the one before
	must(t, err)
	if got := <-enrolling(t, l.Link); wire.StatusOf(got.err).Code != pb.Code_CODE_LINK_UNKNOWN {
		t.Errorf("an ended link: %v", got.err)
	}
	for _, wrong := range []string{strings.Replace(newer.Link, "alice", "bob", 1), newer.Link[:len(newer.Link)-4], newer.Link + "AAAA"} {
		short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := Enroll(short, filepath.Join(t.TempDir(), "x"), testPass, wrong)
		stop()
		if err == nil {
			t.Errorf("%s is a link", wrong)
		}
	}
	// What has been given is checked against the link: another member's secrets are no use.
	parsed, err := identity.ParseLink(newer.Link)
	must(t, err)
	bob := p.bob.account
	s := linkSecrets{Organization: bob.Organization, MemberKey: bob.MemberKey.Seed(), Genesis: bob.Genesis, Certificate: bob.Certificate}
	if _, err := s.check(parsed, p.bob.ID(), time.Now()); err == nil {
		t.Error("another member's secrets make a device of this one")
	}
	must(t, p.alice.Revoke(t.Context(), p.alice.ID()))
	if _, err := p.alice.OpenLink(t.Context()); err == nil {
		t.Error("a revoked device links another")
	}
}

func TestANewDeviceThatIsKilledGoesOnWithTheSameLink(t *testing.T) {
	p := newPair(t)
	l, err := p.alice.OpenLink(t.Context())
	must(t, err)
	dir := filepath.Join(t.TempDir(), "linked")
	confirmed := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_, _, err := l.Wait(ctx)
		if err == nil {
			_, err = l.Confirm(ctx)
		}
		confirmed <- err
	}()
	if !runKilled(t, dir, "link-stored", "", "", killLink+"="+l.Link) {
		t.Fatal("link-stored was not reached")
	}
	d, err := Enroll(t.Context(), dir, testPass, l.Link)
	must(t, err)
	defer d.Close()
	stop()
	if err := <-confirmed; err == nil {
		t.Log("the old device was told")
	}
	send(t, p.bob, p.alice.Address(), "hello", SendOptions{})
	if got := texts(receiveUntil(t, d, "the message", hasTexts(1))); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("shown: %q", got)
	}
}

func TestSecretsOfALinkAreBoundToItsConversation(t *testing.T) {
	s := linkSecrets{MemberKey: make([]byte, 32), Genesis: "g", Certificate: "c"}
	k, _, _ := kem()
	key, err := k.GenerateKey()
	must(t, err)
	sealed, err := s.seal(key.PublicKey().Bytes(), []byte("transcript"))
	must(t, err)
	if _, err := openSecrets(key, sealed, []byte("transcript")); err != nil {
		t.Error(err)
	}
	if _, err := openSecrets(key, sealed, []byte("another")); err == nil {
		t.Error("opened in another conversation")
	}
	if _, err := s.seal([]byte("no key"), nil); err == nil {
		t.Error("sealed to no key")
	}
	other, err := k.GenerateKey()
	must(t, err)
	if _, err := openSecrets(other, sealed, []byte("transcript")); err == nil {
		t.Error("opened with another key")
	}
}

func TestWhatThisDeviceDidItselfIsNoAlarmAndWhatAnotherDidIsOne(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	a := o.device("ann")
	receive(t, a)
	b := linkDevice(t, a)
	c := linkDevice(t, a)
	receive(t, a)
	must(t, a.Revoke(t.Context(), b.ID()))
	for range 2 {
		receive(t, a)
	}
	if alarms, err := a.Alarms(); err != nil || len(alarms) > 0 {
		t.Errorf("about what it did itself: %+v, %v", alarms, err)
	}
	receive(t, c)
	linkDevice(t, c)
	receive(t, a)
	if alarms, err := a.Alarms(); err != nil || len(alarms) != 1 || !strings.Contains(alarms[0].Text, "new device") {
		t.Errorf("about what another did: %+v, %v", alarms, err)
	}
}
