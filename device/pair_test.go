package device

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/testnet/ports"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// patience is how long a test waits for something that has to happen.
const patience = 30 * time.Second

// defaultBucket is long enough that a test's messages do not expire.
const defaultBucket = time.Minute

// organization is a real node in this process.
type organization struct {
	t    testing.TB
	name string
	dir  string
	made node.Made
	stop func() // waits until the node has stopped

	resetAfter time.Duration // as configured from the next start on; 0: the default
	configure  func(*node.Config)
}

// pair is two organizations with an agreement, and a member's device at each.
type pair struct {
	acme, globex *organization
	alice, bob   *Device
}

func freePort(t testing.TB) int {
	t.Helper()
	free, err := ports.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	return free[0]
}

// newOrganization makes a node on loopback and runs it. Short buckets cost time: the
// key of a deadline is found by walking over all buckets before it.
func newOrganization(t testing.TB, name string, bucket time.Duration) *organization {
	t.Helper()
	c := node.DefaultConfig()
	c.Listen = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	c.Federation = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", freePort(t))}
	c.Bucket, c.Retention, c.TrustClock = bucket, time.Hour, true
	o := &organization{t: t, name: name, dir: filepath.Join(t.TempDir(), name)}
	var err error
	if o.made, err = node.Init(o.dir, name, testPass, c); err != nil {
		t.Fatal(err)
	}
	o.start()
	t.Cleanup(func() { o.halt() })
	return o
}

// start opens and runs the node.
func (o *organization) start() {
	o.t.Helper()
	n, err := node.Open(o.t.Context(), node.Options{Dir: o.dir, Passphrase: testPass, Version: "test", Configure: func(c *node.Config) {
		if o.resetAfter > 0 {
			c.ResetAfter = o.resetAfter
		}
		if o.configure != nil {
			o.configure(c)
		}
		c.Limits = node.LimitConfig{DeviceRate: 10_000, DeviceBurst: 10_000, PartnerRate: 10_000, PartnerBurst: 10_000, PartnerBytes: 1 << 30}
	}})
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- errors.Join(n.Run(ctx), n.Close()) }()
	o.stop = func() {
		cancel()
		if err := <-done; err != nil {
			o.t.Errorf("%s: %v", o.name, err)
		}
	}
	eventually(o.t, o.name+" answers", func() error {
		_, err := node.DialOperator(o.dir).Status(o.t.Context(), connect.NewRequest(&pb.NodeStatusRequest{}))
		return err
	})
}

func (o *organization) halt() {
	if o.stop != nil {
		o.stop()
		o.stop = nil
	}
}

// link makes an enrolment link for a member.
func (o *organization) link(name string) string {
	o.t.Helper()
	a, err := node.DialOperator(o.dir).AddMember(o.t.Context(), connect.NewRequest(&pb.AddMemberRequest{Name: name}))
	if err != nil {
		o.t.Fatal(err)
	}
	return a.Msg.Link
}

// device enrols a new member's device.
func (o *organization) device(name string) *Device {
	o.t.Helper()
	d, err := Enroll(o.t.Context(), filepath.Join(o.t.TempDir(), name), testPass, o.link(name))
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(d.Close)
	return d
}

// waiting is how many envelopes lie in the mailboxes of a member's devices.
func (o *organization) waiting(address wire.Address) (n uint64) {
	o.t.Helper()
	a, err := node.DialOperator(o.dir).Status(o.t.Context(), connect.NewRequest(&pb.NodeStatusRequest{}))
	if err != nil {
		o.t.Fatal(err)
	}
	for _, m := range a.Msg.Mailboxes {
		if m.Member == address.String() {
			n += m.Count
		}
	}
	return n
}

// agree makes two organizations partners and waits until they are connected.
func agree(t testing.TB, a, b *organization) {
	t.Helper()
	invited, err := node.DialOperator(a.dir).InvitePartner(t.Context(), connect.NewRequest(&pb.InvitePartnerRequest{Name: b.name, Contact: "open"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.DialOperator(b.dir).AcceptPartner(t.Context(), connect.NewRequest(&pb.AcceptPartnerRequest{Token: invited.Msg.Token})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the partners are connected", func() error {
		l, err := node.DialOperator(a.dir).ListPartners(t.Context(), connect.NewRequest(&pb.ListPartnersRequest{}))
		if err != nil {
			return err
		}
		for _, p := range l.Msg.Partners {
			if p.Name == b.name && p.State == "connected" {
				return nil
			}
		}
		return fmt.Errorf("partners: %v", l.Msg.Partners)
	})
}

// newPair is two organizations, alice's device at the one and bob's at the other.
func newPair(t testing.TB) *pair {
	t.Helper()
	return newPairWith(t, defaultBucket)
}

func newPairWith(t testing.TB, bucket time.Duration) *pair {
	t.Helper()
	p := &pair{acme: newOrganization(t, "acme.example", bucket), globex: newOrganization(t, "globex.example", bucket)}
	agree(t, p.acme, p.globex)
	p.alice, p.bob = p.acme.device("alice"), p.globex.device("bob")
	return p
}

// eventually tries f until it returns nil.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// send sends and returns the events that were reported.
func send(t testing.TB, d *Device, to wire.Address, text string, o SendOptions) []string {
	t.Helper()
	var events []string
	if err := d.Send(t.Context(), to, text, o, func(p Progress) { events = append(events, p.Event) }); err != nil {
		t.Fatalf("sending %.40q: %v", text, err)
	}
	return events
}

// receive makes one visit and returns everything that was shown.
func receive(t testing.TB, d *Device) []Shown {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out []Shown
	if err := d.Receive(ctx, false, func(s Shown) error { out = append(out, s); return nil }); err != nil {
		t.Fatalf("receiving: %v", err)
	}
	return out
}

// receiveUntil visits until f is content with all that was shown.
func receiveUntil(t testing.TB, d *Device, what string, f func([]Shown) bool) []Shown {
	t.Helper()
	var all []Shown
	eventually(t, what, func() error {
		all = append(all, receive(t, d)...)
		if !f(all) {
			return fmt.Errorf("shown: %+v", all)
		}
		return nil
	})
	return all
}

// texts are the messages among what was shown.
func texts(shown []Shown) (out []string) {
	for _, s := range shown {
		if s.Event == "message" {
			out = append(out, s.Text)
		}
	}
	return out
}

// shownNew is what people are shown anew, without a visit.
func shownNew(t *testing.T, d *Device) (out []Shown) {
	t.Helper()
	must(t, d.showNew(func(s Shown) error { out = append(out, s); return nil }))
	return out
}

func hasTexts(n int) func([]Shown) bool {
	return func(s []Shown) bool { return len(texts(s)) >= n }
}

func TestMessagesGoBothWaysAndAreShownOnce(t *testing.T) {
	p := newPair(t)
	secret := "north gate " + rand.Text()
	if got := strings.Join(send(t, p.alice, p.bob.Address(), secret, SendOptions{}), " "); got != "accepted sequenced" {
		t.Errorf("alice was told: %s", got)
	}
	shown := receiveUntil(t, p.bob, "the message comes", hasTexts(1))
	if got := texts(shown); got[0] != secret || len(got) != 1 {
		t.Errorf("bob was shown %q", got)
	}
	for _, s := range shown {
		if s.Event == "message" && s.From != p.alice.Address().String() || s.Event == "unreadable" {
			t.Errorf("shown: %+v", s)
		}
	}
	if again := texts(receive(t, p.bob)); len(again) > 0 {
		t.Errorf("shown again: %q", again)
	}
	if got := send(t, p.bob, p.alice.Address(), "on my way", SendOptions{}); got[0] != "accepted" {
		t.Errorf("bob was told: %v", got)
	}
	if got := texts(receiveUntil(t, p.alice, "the answer comes", hasTexts(1))); len(got) != 1 || got[0] != "on my way" {
		t.Errorf("alice was shown %q", got)
	}
	if a, b := p.alice.Rooms(), p.bob.Rooms(); len(a) != 1 || len(b) != 1 || a[0].Code != b[0].Code || a[0].ID != b[0].ID {
		t.Errorf("the rooms differ: %+v, %+v", a, b)
	}
	for _, o := range []*organization{p.acme, p.globex} {
		must(t, filepath.WalkDir(o.dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), secret) {
				t.Errorf("the text stands in %s", filepath.Base(path))
			}
			return err
		}))
	}
	if again := texts(receive(t, p.alice)); len(again) > 0 {
		t.Errorf("shown again: %q", again)
	}
}

// folder is where a device's files lie.
func folder(d *Device) string { return filepath.Dir(d.vault.db.Path()) }
