package directory

import (
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestEachSuiteHasAPoolOfItsOwn(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	const hybrid = 0xF0E1
	publish := func(p *person, replace bool, offers ...Offer) map[uint16]int {
		t.Helper()
		stock, err := w.Directory.Publish(ctx, p.device, offers, replace)
		w.must(err)
		return stock
	}
	claim := func(suite uint16) (string, bool) {
		t.Helper()
		out, err := w.Directory.Claim(ctx, wire.OrganizationID{9}, make([]byte, 32), alice.id, suite)
		if err != nil {
			code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
			return "", false
		}
		return string(out[0].KeyPackage), out[0].LastResort
	}
	publish(bob, false, Offer{Suite: hybrid, OneTime: packages(4, 9)})
	stock := publish(alice, false, Offer{Suite: FirstSuite, OneTime: packages(2, 1)}, Offer{Suite: hybrid, OneTime: packages(1, 2), LastResort: []byte("last hybrid")})
	if stock[FirstSuite] != 2 || stock[hybrid] != 1 {
		t.Errorf("%v", stock)
	}
	w.restart()
	if got, _ := claim(hybrid); got != string(packages(1, 2)[0]) {
		t.Errorf("%x", got)
	}
	if got, last := claim(hybrid); got != "last hybrid" || !last {
		t.Errorf("%q %v", got, last)
	}
	if got, _ := claim(3); got != "" {
		t.Errorf("%x of a suite that is not offered", got)
	}
	if n := w.Directory.KeyPackages(alice.device, FirstSuite); n != 2 {
		t.Errorf("%d of the first suite are left", n)
	}
	publish(alice, true, Offer{Suite: 3, OneTime: packages(1, 3)})
	for suite, want := range map[uint16]int{FirstSuite: 0, 3: 1, hybrid: 0} {
		if n := w.Directory.KeyPackages(alice.device, suite); n != want {
			t.Errorf("%d of suite %d", n, suite)
		}
	}
	if n := w.Directory.KeyPackages(bob.device, hybrid); n != 4 {
		t.Errorf("another's pool has %d", n)
	}
	w.must(w.RevokeDevice(ctx, w.revocation(alice, "member", alice.key)))
	if n := w.Directory.KeyPackages(alice.device, 3); n != 0 {
		t.Errorf("%d of a revoked device", n)
	}
	for what, offers := range map[string][]Offer{
		"one suite twice": {{Suite: 3}, {Suite: 3}},
		"nine suites":     {{Suite: 1}, {Suite: 2}, {Suite: 3}, {Suite: 4}, {Suite: 5}, {Suite: 6}, {Suite: 7}, {Suite: 8}, {Suite: 9}},
	} {
		if _, err := w.Directory.Publish(ctx, bob.device, offers, false); err == nil {
			t.Errorf("%s", what)
		}
	}
}
