package directory

import (
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// claim asks as one of many members of a partner, so that only what the test means
// limits it.
func (w *world) claim(p *person, requester byte) (*pb.ClaimedKeyPackage, error) {
	w.t.Helper()
	out, err := w.Claim(ctx, wire.OrganizationID{9}, append(make([]byte, 31), requester), p.id)
	if err != nil {
		return nil, err
	}
	if len(out) != 1 {
		w.t.Fatalf("%d KeyPackages for one device", len(out))
	}
	return out[0], nil
}

func TestEachKeyPackageIsHandedOutOnceOldestFirst(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	stock, err := w.Publish(ctx, alice.device, packages(3, 1), nil, false)
	w.must(err)
	if stock != 3 {
		t.Errorf("a stock of %d", stock)
	}
	for i := range 3 {
		if i == 2 {
			w.restart()
		}
		c, err := w.claim(alice, 1)
		w.must(err)
		if string(c.KeyPackage) != string(packages(3, 1)[i]) || c.LastResort || string(c.Device) != string(alice.device[:]) {
			t.Errorf("claim %d: %+v", i, c)
		}
	}
	_, err = w.claim(alice, 1)
	code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
	w.restart()
	_, err = w.claim(alice, 1)
	code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
}

func TestClaimsAtOnceNeverShareAKeyPackage(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	_, err := w.Publish(ctx, alice.device, packages(20, 1), nil, false)
	w.must(err)
	var mu sync.Mutex
	seen, none := map[string]int{}, 0
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			c, err := w.claim(alice, byte(i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				none++
				return
			}
			seen[string(c.KeyPackage)]++
		})
	}
	wg.Wait()
	if len(seen) != 20 || none != 10 {
		t.Errorf("%d different ones, %d without", len(seen), none)
	}
	for kp, n := range seen {
		if n != 1 {
			t.Errorf("%x was handed out %d times", kp, n)
		}
	}
}

func TestLastResortIsGivenOnceAnHourAndOnlyWhenNothingElseIsLeft(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	_, err := w.Publish(ctx, alice.device, packages(1, 1), []byte("last"), false)
	w.must(err)
	if c, err := w.claim(alice, 1); err != nil || c.LastResort {
		t.Fatalf("first %+v, %v", c, err)
	}
	for range 2 {
		if c, err := w.claim(alice, 1); err != nil || !c.LastResort || string(c.KeyPackage) != "last" {
			t.Fatalf("last resort: %+v, %v", c, err)
		}
		w.restart() // the hour is kept on disk
		_, err = w.claim(alice, 2)
		code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
		w.clock.advance(time.Hour - time.Second)
		_, err = w.claim(alice, 3)
		code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
		w.clock.advance(time.Second)
	}
	// A new one-time KeyPackage goes before it, and a new last resort replaces it.
	_, err = w.Publish(ctx, alice.device, packages(1, 2), []byte("newer"), false)
	w.must(err)
	if c, err := w.claim(alice, 4); err != nil || c.LastResort {
		t.Errorf("a one-time one is there, and %+v, %v is given", c, err)
	}
	if c, err := w.claim(alice, 4); err != nil || string(c.KeyPackage) != "newer" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestKeyPackagesNearTheirEndAreNotHandedOut(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	_, err := w.Publish(ctx, alice.device, packages(2, 1), []byte("last"), false)
	w.must(err)
	w.clock.advance(wire.KeyPackageLifetime - 25*time.Hour)
	_, err = w.Publish(ctx, alice.device, packages(1, 2), nil, false)
	w.must(err)
	w.clock.advance(time.Hour) // the first two have a day left
	if c, err := w.claim(alice, 1); err != nil || c.KeyPackage[0] != 2 {
		t.Errorf("claimed %+v, %v", c, err)
	}
	if n := w.KeyPackages(alice.device); n != 0 {
		t.Errorf("%d old ones are kept", n)
	}
	w.clock.advance(wire.LastResortLifetime - wire.KeyPackageLifetime)
	_, err = w.claim(alice, 1)
	code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
}

func TestPoolIsBoundedAndKeepsTheNewest(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	_, err := w.Publish(ctx, bob.device, packages(1, 7), nil, false)
	w.must(err)
	for tag := range byte(3) {
		stock, err := w.Publish(ctx, alice.device, packages(60, tag), nil, false)
		w.must(err)
		if want := min(60*(int(tag)+1), wire.KeyPackagePool); stock != want || w.KeyPackages(alice.device) != want {
			t.Errorf("a stock of %d and %d, not %d", stock, w.KeyPackages(alice.device), want)
		}
	}
	if c, err := w.claim(alice, 1); err != nil || string(c.KeyPackage) != string(packages(60, 1)[20]) {
		t.Errorf("the oldest is %+v, %v", c, err)
	}
	if w.KeyPackages(bob.device) != 1 {
		t.Error("another device's pool was touched")
	}
	for name, c := range map[string]struct {
		one  [][]byte
		last []byte
	}{
		"101":              {packages(101, 1), nil},
		"a long one":       {[][]byte{make([]byte, wire.KeyPackageMax+1)}, nil},
		"a long last one":  {nil, make([]byte, wire.KeyPackageMax+1)},
		"101 and the last": {packages(101, 1), []byte("x")},
	} {
		_, err := w.Publish(ctx, alice.device, c.one, c.last, false)
		t.Run(name, func(t *testing.T) { code(t, err, pb.Code_CODE_TOO_LARGE) })
	}
	if stock, err := w.Publish(ctx, alice.device, packages(100, 5), []byte("last"), false); err != nil || stock != 100 {
		t.Errorf("a whole pool with its last resort: %d, %v", stock, err)
	}
	_, err = w.Publish(ctx, wire.DeviceID{1}, packages(1, 1), nil, false)
	code(t, err, pb.Code_CODE_REVOKED)
}

func TestClaimsAreLimitedPerRequesterAndPerOrganization(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	for _, p := range []*person{alice, bob} {
		_, err := w.Publish(ctx, p.device, packages(100, 1), nil, false)
		w.must(err)
	}
	for range wire.ClaimsPerRequester {
		_, err := w.claim(alice, 1)
		w.must(err)
	}
	_, err := w.claim(alice, 1)
	code(t, err, pb.Code_CODE_RATE_LIMITED)
	if s := wire.StatusOf(err); s.RetryMs <= 0 || s.RetryMs > time.Hour.Milliseconds() {
		t.Errorf("to be tried again in %d ms", s.RetryMs)
	}
	_, err = w.claim(bob, 1) // another target
	w.must(err)
	for i := range wire.ClaimsPerPartner - wire.ClaimsPerRequester {
		_, err = w.claim(alice, byte(2+i/wire.ClaimsPerRequester))
		w.must(err)
	}
	_, err = w.claim(alice, 200) // a fresh name does not help an organization
	code(t, err, pb.Code_CODE_RATE_LIMITED)
	_, err = w.Claim(ctx, w.org.ID, make([]byte, 32), alice.id) // and another is not hurt
	w.must(err)
	if n := w.KeyPackages(alice.device); n != 100-wire.ClaimsPerPartner-1 {
		t.Errorf("%d are left", n)
	}
	w.clock.advance(time.Hour)
	_, err = w.claim(alice, 1)
	w.must(err)
	for _, bad := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		_, err := w.Claim(ctx, w.org.ID, bad, alice.id)
		code(t, err, pb.Code_CODE_MALFORMED)
	}
	_, err = w.Claim(ctx, w.org.ID, make([]byte, 32), wire.MemberID{1})
	code(t, err, pb.Code_CODE_UNKNOWN_MEMBER)
}

// An organization that makes up requesters cannot make a node's memory grow, neither
// with refused claims nor with admitted ones.
func TestFloodOfRequestersDoesNotGrowTheTable(t *testing.T) {
	var r claimRates
	r.init()
	now := time.Unix(1_800_000_000, 0)
	name := func(i int) [32]byte { return [32]byte{1, byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := range 1_000 {
		r.take(now, wire.OrganizationID{9}, name(i), wire.MemberID{1})
	}
	if len(r.seen) != wire.ClaimsPerPartner+1 {
		t.Errorf("%d entries of one organization about one member", len(r.seen))
	}
	target := func(i int) wire.MemberID { return wire.MemberID(name(i)) }
	for i := range maxClaimKeys {
		r.take(now, wire.OrganizationID{9}, name(i), target(i/2))
	}
	if n := len(r.seen); n > maxClaimKeys*3/2 {
		t.Errorf("%d entries", n)
	}
	if _, ok := r.take(now, wire.OrganizationID{8}, name(1), wire.MemberID{2}); !ok {
		t.Error("another organization is refused")
	}
	r.take(now.Add(time.Hour), wire.OrganizationID{8}, name(1), wire.MemberID{2})
	if n := len(r.seen); n > 2 {
		t.Errorf("%d entries after an hour", n)
	}
}

func TestAfterARestoreNoKeyPackageIsLeft(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	for _, p := range []*person{alice, bob} {
		_, err := w.Publish(ctx, p.device, packages(100, 1), []byte("last"), false)
		w.must(err)
	}
	w.must(w.DeleteKeyPackages(ctx))
	w.restart()
	for _, p := range []*person{alice, bob} {
		_, err := w.claim(p, 1)
		code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
		if n := w.KeyPackages(p.device); n != 0 {
			t.Errorf("%d are left", n)
		}
	}
}
