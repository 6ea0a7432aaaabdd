package device

import (
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// numbers are what two devices' people compare.
func numbers(t *testing.T, a, b *Device) (identity.SafetyNumber, identity.SafetyNumber) {
	t.Helper()
	x, err := a.SafetyNumber(t.Context(), b.Address())
	must(t, err)
	y, err := b.SafetyNumber(t.Context(), a.Address())
	must(t, err)
	return x, y
}

// verifiedAs is a device's list, "address state how" each.
func verifiedAs(t *testing.T, d *Device) (out []string) {
	t.Helper()
	list, err := d.VerifiedMembers()
	must(t, err)
	for _, v := range list {
		s := v.Address + " " + v.State + " " + v.How
		if v.Renewed {
			s += " renewed"
		}
		out = append(out, s)
	}
	return out
}

func gradeIn(t *testing.T, d *Device, who wire.Address) string {
	t.Helper()
	id, _ := onlyRoom(t, d)
	list, err := d.RoomMembers(id)
	must(t, err)
	for _, m := range list {
		if m.Address == who.String() {
			return m.Verified
		}
	}
	t.Fatalf("%s is not in the room", who)
	return ""
}

func TestTwoPeopleVerifyEachOtherByDigitsAndByQR(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	a, b := numbers(t, p.alice, p.bob)
	if a.Digits() != b.Digits() {
		t.Fatalf("alice sees %s, bob %s", a.Digits(), b.Digits())
	}
	wrong := []byte(b.Digits())
	wrong[len(wrong)-1] = '0' + (wrong[len(wrong)-1]-'0'+1)%10
	if err := p.alice.VerifyDigits(t.Context(), p.bob.Address(), string(wrong)); !errors.Is(err, identity.ErrSafetyDiffers) {
		t.Fatalf("a wrong digit: %v", err)
	}
	if got := verifiedAs(t, p.alice); got != nil || gradeIn(t, p.alice, p.bob.Address()) != "" {
		t.Fatalf("after a wrong digit: %q", got)
	}
	must(t, p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()))
	must(t, p.bob.VerifyQR(t.Context(), p.alice.Address(), a.QR()))
	if got := verifiedAs(t, p.alice); !slices.Equal(got, []string{"bob@globex.example verified digits"}) || gradeIn(t, p.alice, p.bob.Address()) != "verified" {
		t.Errorf("alice: %q", got)
	}
	if got := verifiedAs(t, p.bob); !slices.Equal(got, []string{"alice@acme.example verified qr"}) {
		t.Errorf("bob: %q", got)
	}
	talk(t, p, 2)
	must(t, p.alice.Unverify(p.bob.Address()))
	if err := p.alice.Unverify(p.bob.Address()); !errors.Is(err, ErrNotVerified) || verifiedAs(t, p.alice) != nil {
		t.Errorf("twice: %v", err)
	}
}

func TestARoomsCodeIsTheSameForAllInAnEpochAndChangesWithIt(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, _ := onlyRoom(t, p.alice)
	agreeing(t, id, p.alice, p.bob)
	a, err := p.alice.RoomCode(id)
	must(t, err)
	b, err := p.bob.RoomCode(id)
	must(t, err)
	if a != b || len(strings.Fields(a.Digits)) != 6 || len(a.Digits) != 35 {
		t.Fatalf("alice %+v, bob %+v", a, b)
	}
	linkDevice(t, p.alice)
	agreeing(t, id, p.alice, p.bob)
	next, err := p.bob.RoomCode(id)
	must(t, err)
	if next.Epoch <= b.Epoch || next.Digits == b.Digits {
		t.Errorf("after a change of the room: %+v, before %+v", next, b)
	}
}

func TestAVerifiedMembersNewDeviceAndKeyAreToldAndKeepTheGrade(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	_, b := numbers(t, p.alice, p.bob)
	must(t, p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()))
	tablet := linkDevice(t, p.bob)
	has := func(state, reason string) func([]Shown) bool {
		return func(list []Shown) bool {
			return slices.ContainsFunc(list, func(s Shown) bool {
				return s.Event == "identity" && s.State == state && s.From == "bob@globex.example" && s.Room != "" && strings.Contains(s.Reason, reason)
			})
		}
	}
	receiveUntil(t, p.alice, "the new device", has("device", "new device "+tablet.ID().String()+", certified by the member's own key and listed by globex.example"))
	must(t, p.bob.Revoke(t.Context(), tablet.ID()))
	hasKeyOf(t, p.bob, 1)
	receiveUntil(t, p.alice, "the new key", has("key", "new key, signed by the old one"))
	if got := verifiedAs(t, p.alice); !slices.Equal(got, []string{"bob@globex.example verified digits renewed"}) {
		t.Errorf("alice: %q", got)
	}
	after, again := numbers(t, p.alice, p.bob)
	if after.Digits() != again.Digits() || after.Digits() == b.Digits() {
		t.Errorf("numbers after the new key: %s and %s, before %s", after.Digits(), again.Digits(), b.Digits())
	}
	send(t, p.alice, p.bob.Address(), "still you", SendOptions{})
}

// impostor is another member with d's address, which its own organization's directory has
// signed: what a home node can make that has been turned, or is made to.
func impostor(t *testing.T, o *organization, d *Device) *pb.MemberChain {
	t.Helper()
	return impostorUnder(t, o, d, chainOf(t, d).Manifests)
}

func impostorUnder(t *testing.T, o *organization, d *Device, manifests []string) *pb.MemberChain {
	t.Helper()
	keys, err := identity.OpenNodeKeys(filepath.Join(o.dir, node.KeysFile), testPass)
	must(t, err)
	_, member, err := ed25519.GenerateKey(nil)
	must(t, err)
	pub, _, err := ed25519.GenerateKey(nil)
	must(t, err)
	org := d.account.Organization
	genesis, id, err := identity.NewGenesis(org, d.account.Name, member, d.now())
	must(t, err)
	c, err := identity.SignDeviceCertificate(org, id, wire.DeviceID(pub), member, d.now())
	must(t, err)
	record, err := identity.MemberRecord{Organization: org, Member: id, Name: d.account.Name, Version: 1, Key: member.Public().(ed25519.PublicKey), Issued: d.now(),
		Devices: []identity.DeviceEntry{{Device: wire.DeviceID(pub), Certificate: c.Hash}}}.Sign(o.name, keys.Directory)
	must(t, err)
	return &pb.MemberChain{Manifests: manifests, Record: record, Genesis: genesis, Devices: []string{c.Note}}
}

func TestASubstitutedKeyAtFirstContactHasOtherNumbers(t *testing.T) {
	p := newPair(t)
	l := &liar{DeviceServiceClient: p.alice.home.Device}
	fake := impostor(t, p.globex, p.bob)
	l.resolve = func(a *pb.ResolveResponse) { a.Chain = fake }
	p.alice.home.Device = l
	a, b := numbers(t, p.alice, p.bob)
	if a.Digits() == b.Digits() {
		t.Fatal("the impostor's number is bob's")
	}
	if err := p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()); !errors.Is(err, identity.ErrSafetyDiffers) {
		t.Errorf("bob's digits: %v", err)
	}
	if err := p.alice.VerifyQR(t.Context(), p.bob.Address(), b.QR()); !errors.Is(err, identity.ErrSafetyDiffers) {
		t.Errorf("bob's code: %v", err)
	}
	if got := verifiedAs(t, p.alice); got != nil {
		t.Errorf("verified: %q", got)
	}
}

func TestAVerifiedMemberWhoIsReplacedInSilenceIsSeenAndWrittenToNoMore(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	_, b := numbers(t, p.alice, p.bob)
	must(t, p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()))
	honest := p.alice.home.Device
	fake := impostor(t, p.globex, p.bob)
	p.alice.home.Device = &liar{DeviceServiceClient: honest, resolve: func(a *pb.ResolveResponse) { a.Chain = fake }}
	for range 3 { // it is no matter of the first time
		err := p.alice.Send(t.Context(), p.bob.Address(), "for bob alone", SendOptions{}, func(Progress) {})
		if !errors.Is(err, ErrNotTheVerified) || !strings.Contains(err.Error(), "bob@globex.example has a new key that the old one did not sign; caused by globex.example") {
			t.Fatalf("sending to the impostor: %v", err)
		}
	}
	if n := len(p.alice.Rooms()); n != 1 {
		t.Errorf("%d rooms: one was made with the impostor", n)
	}
	told := receive(t, p.alice)
	if n := len(slices.DeleteFunc(told, func(s Shown) bool { return s.Event != "identity" || s.State != "replaced" })); n != 1 {
		t.Errorf("told %d times: %+v", n, told)
	}
	if got := verifiedAs(t, p.alice); !slices.Equal(got, []string{"bob@globex.example changed digits"}) {
		t.Errorf("alice: %q", got)
	}
	// The number is that of the impostor now; bob's does not make it bob.
	if err := p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()); !errors.Is(err, identity.ErrSafetyDiffers) {
		t.Errorf("bob's digits for the impostor: %v", err)
	}
	// The person may take the new key on; without that, the old one is good again when the
	// node shows it.
	p.alice.home.Device = honest
	send(t, p.alice, p.bob.Address(), "you again", SendOptions{})
	if got := verifiedAs(t, p.alice); !slices.Equal(got, []string{"bob@globex.example verified digits"}) {
		t.Errorf("alice: %q", got)
	}
	must(t, p.alice.Unverify(p.bob.Address()))
	m, err := p.alice.learn(p.bob.account.Organization, fake)
	must(t, err)
	must(t, p.alice.checkPinned(m))
}

// What an organization calls itself and its people is its own word: neither frees somebody else
// from the pin.
func TestAnotherNameDoesNotTakeThePinAway(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	_, b := numbers(t, p.alice, p.bob)
	must(t, p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()))
	genuine := chainOf(t, p.bob)
	org := p.bob.account.Organization
	o, err := identity.VerifyManifests(genuine.Manifests, org)
	must(t, err)
	root, err := identity.OpenRootKeys(filepath.Join(p.globex.dir, node.RootFile), testPass)
	must(t, err)
	renamed, err := o.Rename(root.Root, "globex.test", p.alice.now())
	must(t, err)
	now := wire.Address{Name: p.bob.account.Name, Organization: "globex.test"}

	fake, err := p.alice.learn(org, impostorUnder(t, p.globex, p.bob, renamed.Notes))
	must(t, err)
	if fake.Address() != now {
		t.Fatalf("the impostor is %s", fake.Address())
	}
	if err := p.alice.checkPinned(fake); !errors.Is(err, ErrNotTheVerified) {
		t.Errorf("another bob, at the same organization under another name: %v", err)
	}
	same, err := p.alice.learn(org, &pb.MemberChain{Manifests: renamed.Notes, Genesis: genuine.Genesis, Record: genuine.Record, Devices: genuine.Devices})
	must(t, err)
	must(t, p.alice.checkPinned(same))

	// bob himself is reset, and called otherwise by the directory.
	keys, err := identity.OpenNodeKeys(filepath.Join(p.globex.dir, node.KeysFile), testPass)
	must(t, err)
	_, next, err := ed25519.GenerateKey(nil)
	must(t, err)
	pub, _, err := ed25519.GenerateKey(nil)
	must(t, err)
	out := *same
	out.Devices, out.Revoked = nil, []wire.DeviceID{p.bob.ID()}
	half, err := identity.SignReset(&out, next, identity.Rotation{Issued: p.alice.now()})
	must(t, err)
	reset, err := identity.CountersignReset(half, &out, keys.Directory)
	must(t, err)
	c, err := identity.SignDeviceCertificate(org, same.ID, wire.DeviceID(pub), next, p.alice.now())
	must(t, err)
	record, err := identity.MemberRecord{Organization: org, Member: same.ID, Name: "robert", Version: 3, Previous: [32]byte{1}, Key: next.Public().(ed25519.PublicKey),
		Issued: p.alice.now(), Devices: []identity.DeviceEntry{{Device: wire.DeviceID(pub), Certificate: c.Hash}}, Revoked: out.Revoked}.Sign(p.globex.name, keys.Directory)
	must(t, err)
	robert, err := p.alice.learn(org, &pb.MemberChain{Manifests: renamed.Notes, Genesis: genuine.Genesis, Record: record, Devices: []string{c.Note}, Keys: []string{reset}})
	must(t, err)
	if err := p.alice.checkPinned(robert); !errors.Is(err, ErrNotTheVerified) {
		t.Errorf("bob after a reset, under another name: %v", err)
	}
	if g := p.alice.gradeOf(memberKey{org, robert.ID}); g != "changed" {
		t.Errorf("the grade is %q", g)
	}
	// The person may take the new one on.
	must(t, p.alice.Unverify(robert.Address()))
	must(t, p.alice.checkPinned(robert))
	if got := verifiedAs(t, p.alice); got != nil {
		t.Errorf("verified: %q", got)
	}
}

func TestALinkedDeviceKnowsWhomItsPersonHasVerified(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	_, b := numbers(t, p.alice, p.bob)
	must(t, p.alice.VerifyDigits(t.Context(), p.bob.Address(), b.Digits()))
	tablet := linkDevice(t, p.alice)
	if got := verifiedAs(t, tablet); len(got) != 1 || !strings.HasPrefix(got[0], "bob@globex.example ") {
		t.Fatalf("the tablet: %q", got)
	}
	fake := impostor(t, p.globex, p.bob)
	tablet.home.Device = &liar{DeviceServiceClient: tablet.home.Device, resolve: func(a *pb.ResolveResponse) { a.Chain = fake }}
	if err := tablet.Send(t.Context(), p.bob.Address(), "for bob", SendOptions{}, func(Progress) {}); !errors.Is(err, ErrNotTheVerified) {
		t.Errorf("the tablet sends to the impostor: %v", err)
	}
}
