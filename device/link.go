package device

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/entente-im/entente/device/home"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Linking is the old device's side of linking the next one: it shows Link, waits for who
// has it, shows the code that the other screen shows too, and confirms or refuses.
type Linking struct {
	Link    string // with a secret: for the other device only
	Expires time.Time

	d          *Device
	channel    *linkChannel
	offer      linkOffer
	transcript []byte
}

// OpenLink begins to link another device of this member.
func (d *Device) OpenLink(ctx context.Context) (*Linking, error) {
	a, err := d.Account(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(d.learnOwn(a.Chain), d.checkKey(ctx)); err != nil {
		return nil, err
	}
	l := identity.Link{Device: true, Host: strings.TrimPrefix(d.account.URL, "https://"), Name: d.account.Name, Organization: d.account.OrgName,
		Pin: d.account.Pin, Web: d.account.Web}
	rand.Read(l.Secret[:])
	c, err := openLinkChannel(d.home, l.Secret, false)
	if err != nil {
		return nil, err
	}
	opened, err := call(ctx, d.home.Device.OpenLink, &pb.OpenLinkRequest{Slot: c.slot[:]})
	if err != nil {
		return nil, err
	}
	return &Linking{Link: l.String(), Expires: time.Unix(opened.ExpiresUnix, 0), d: d, channel: c}, nil
}

// Wait returns when a device has come: the code that has to be on its screen, and what it
// calls itself.
func (l *Linking) Wait(ctx context.Context) (code, name string, err error) {
	if err := l.channel.hear(ctx, &l.offer); err != nil {
		return "", "", err
	}
	if err := checkDeviceName(l.offer.Name); err != nil {
		return "", "", errLinkAltered
	}
	nonce := linkNonce{Clock: l.d.now().Unix()}
	rand.Read(nonce.Nonce[:])
	if err := l.channel.say(ctx, nonce); err != nil {
		return "", "", err
	}
	if err := linkClock(l.d.now(), l.offer.Clock, false); err != nil {
		l.end()
		return "", "", err
	}
	var reveal linkReveal
	if err := l.channel.hear(ctx, &reveal); err != nil {
		return "", "", err
	}
	transcript := l.channel.transcript(l.offer, nonce.Nonce, reveal.Nonce)
	if err := reveal.verify(l.offer, transcript); err != nil {
		return "", "", err
	}
	l.transcript = transcript
	return linkCode(l.transcript), l.offer.Name, nil
}

// Refuse tells the other device that it will not be one of the member's.
func (l *Linking) Refuse(ctx context.Context) error {
	defer l.end()
	return l.channel.say(ctx, linkAnswer{Refused: true})
}

// end closes the conversation: nothing more is confirmed in it.
func (l *Linking) end() {
	l.channel.close()
	l.transcript = nil
}

// Confirm certifies the other device, has the directory take it up, gives it the member
// key, and returns when it has said that it is ready. Its person has compared the codes.
func (l *Linking) Confirm(ctx context.Context) (wire.DeviceID, error) {
	defer l.end()
	d := l.d
	if l.transcript == nil {
		return wire.DeviceID{}, errors.New("device: nobody has come yet")
	}
	c, err := identity.SignDeviceCertificate(d.account.Organization, d.account.Member, l.offer.Device, d.account.MemberKey, d.now())
	if err != nil {
		return wire.DeviceID{}, err
	}
	s := linkSecrets{Organization: d.account.Organization, MemberKey: d.account.MemberKey.Seed(), Genesis: d.account.Genesis, Certificate: c.Note}
	defer clear(s.MemberKey)
	if s.Pins, err = d.pins(); err != nil {
		return wire.DeviceID{}, err
	}
	verified, err := l.sealVerified()
	if err != nil {
		return wire.DeviceID{}, err
	}
	s.Parts = len(verified)
	sealed, err := s.seal(l.offer.KEM, l.transcript)
	if err != nil {
		return wire.DeviceID{}, err
	}
	if err := d.acts(func(a *ownActs) { a.Devices = append(a.Devices, l.offer.Device) }); err != nil {
		return wire.DeviceID{}, err
	}
	added, err := call(ctx, d.home.Device.AddDevice, &pb.AddDeviceRequest{Certificate: c.Note})
	if err != nil {
		return wire.DeviceID{}, err
	}
	failpoint("link-added")
	err = l.channel.say(ctx, linkAnswer{Sealed: sealed})
	for _, v := range verified {
		if err == nil {
			err = l.channel.say(ctx, v)
		}
	}
	if err != nil {
		return l.offer.Device, fmt.Errorf("the device was added and could not be told: revoke it (entente device revoke %s) and link it again: %w", l.offer.Device, err)
	}
	d.mu.Lock()
	_, err = d.learn(d.account.Organization, added.Chain)
	d.mu.Unlock()
	if err != nil {
		return l.offer.Device, err
	}
	var done linkDone
	if err := l.channel.hear(ctx, &done); err != nil {
		return l.offer.Device, fmt.Errorf("the device was added and has not answered yet: %w", err)
	}
	return l.offer.Device, nil
}

// maxPins bounds what a new device is told of organizations that this one knows.
const maxPins = 100

// pins are the organizations that this device knows, by name.
func (d *Device) pins() (map[string]wire.OrganizationID, error) {
	out := make(map[string]wire.OrganizationID)
	err := d.vault.view(func(t *txn) error {
		return t.eachMeta(pinKey(""), func(k, v []byte) error {
			var id wire.OrganizationID
			if len(out) < maxPins {
				if err := json.Unmarshal(v, &id); err != nil {
					return err
				}
				out[strings.TrimPrefix(string(k), pinKey(""))] = id
			}
			return nil
		})
	})
	return out, err
}

// checkDeviceName holds what a device calls itself: it is shown to people.
func checkDeviceName(s string) error {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "a device's name is 1 to 64 printable bytes")
	}
	return nil
}

// OnCode has a device that is being linked show the code that its person compares with
// the other screen's.
func OnCode(show func(code string)) Option { return func(d *Device) { d.onCode = show } }

// join is Enroll by a device link: the other device gives what an enrolment makes.
func (d *Device) join(ctx context.Context, link identity.Link, text string) error {
	if d.account.Link == text && d.account.MemberKey != nil { // answered before, and not confirmed
		return d.joined(ctx)
	}
	h, err := home.New(home.Options{URL: "https://" + link.Host, Pin: link.Pin, WebPKI: link.Web, Dial: d.dial})
	if err != nil {
		return err
	}
	defer h.Close()
	c, err := openLinkChannel(h, link.Secret, true)
	if err != nil {
		return err
	}
	defer c.close()
	s, key, err := d.converse(ctx, c)
	if err != nil {
		return err
	}
	a, err := s.check(link, wire.DeviceID(key.Public().(ed25519.PublicKey)), d.now())
	if err != nil {
		return err
	}
	a.DeviceKey, a.Link = key, text
	d.account, d.signer = *a, a.DeviceKey
	err = d.vault.update(func(t *txn) error {
		s.Pins[link.Organization] = s.Organization
		for name, id := range s.Pins {
			if err := t.putMetaJSON(pinKey(name), id); err != nil {
				return err
			}
		}
		for address, row := range s.verified {
			if err := t.putMetaJSON(verifiedPrefix+address, row); err != nil {
				return err
			}
		}
		return t.putMetaJSON(accountKey, a)
	})
	if err != nil {
		return err
	}
	if err := d.loadVerified(); err != nil {
		return err
	}
	failpoint("link-stored")
	if err := d.joined(ctx); err != nil {
		return err
	}
	return c.say(ctx, linkDone{Done: true})
}

// converse is the joining side of the conversation.
func (d *Device) converse(ctx context.Context, c *linkChannel) (*linkSecrets, ed25519.PrivateKey, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	k, _, _ := kem()
	private, err := k.GenerateKey()
	if err != nil {
		return nil, nil, err
	}
	var nonce [32]byte
	rand.Read(nonce[:])
	name, _ := os.Hostname()
	if checkDeviceName(name) != nil {
		name = "a device"
	}
	offer := linkOffer{Device: wire.DeviceID(pub), KEM: private.PublicKey().Bytes(), Commit: commitTo(nonce), Name: name, Clock: d.now().Unix()}
	if err := c.say(ctx, offer); err != nil {
		return nil, nil, err
	}
	var old linkNonce
	if err := c.hear(ctx, &old); err != nil {
		return nil, nil, err
	}
	if err := linkClock(d.now(), old.Clock, true); err != nil {
		return nil, nil, err
	}
	transcript := c.transcript(offer, old.Nonce, nonce)
	if err := c.say(ctx, linkReveal{Nonce: nonce, Signature: ed25519.Sign(key, linkSigned(transcript))}); err != nil {
		return nil, nil, err
	}
	if d.onCode != nil {
		d.onCode(linkCode(transcript))
	}
	var answer linkAnswer
	if err := c.hear(ctx, &answer); err != nil {
		return nil, nil, err
	}
	if answer.Refused {
		return nil, nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the code that was typed on the other device was wrong, or its person has refused: nothing was given to this one; begin again with a new link")
	}
	s, err := openSecrets(private, answer.Sealed, transcript)
	if s != nil && len(s.Pins) > maxPins {
		err = errLinkAltered
	}
	if s != nil && s.Pins == nil {
		s.Pins = make(map[string]wire.OrganizationID)
	}
	if err == nil {
		err = s.hearVerified(ctx, c, private, transcript)
	}
	return s, key, err
}

// joined checks with the node that the directory names this device, and is one from then
// on.
func (d *Device) joined(ctx context.Context) error {
	if err := d.connect(); err != nil {
		return err
	}
	a, err := d.Account(ctx)
	if err != nil {
		return err
	}
	return d.confirm(ctx, &pb.EnrollResponse{Chain: a.Chain})
}
