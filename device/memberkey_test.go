package device

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// three is a member with three devices.
type three struct {
	*pair
	desk, tablet, phone *Device
}

func newThree(t *testing.T) *three {
	t.Helper()
	p := newPair(t)
	return &three{p, p.alice, linkDevice(t, p.alice), linkDevice(t, p.alice)}
}

// hasKeyOf fails unless a device can speak for its member.
func hasKeyOf(t *testing.T, d *Device, number int) {
	t.Helper()
	receive(t, d)
	m, err := identity.VerifyChain(chainOf(t, d), d.account.Organization, d.now())
	must(t, err)
	if !m.Key.Equal(d.account.memberPublic()) || len(m.Rotations) != number {
		t.Errorf("rotation %d; the device has the key: %t", len(m.Rotations), m.Key.Equal(d.account.memberPublic()))
	}
}

func TestAKeyThatALostDeviceKnowsIsReplacedOnAllOthers(t *testing.T) {
	w := newThree(t)
	send(t, w.desk, w.bob.Address(), "hello", SendOptions{})
	old := ed25519.NewKeyFromSeed(w.desk.account.MemberKey.Seed())
	must(t, w.desk.Revoke(t.Context(), w.phone.ID()))
	hasKeyOf(t, w.desk, 1)
	hasKeyOf(t, w.tablet, 1)
	if w.desk.account.MemberKey.Equal(old) || !w.desk.account.MemberKey.Equal(w.tablet.account.MemberKey) {
		t.Error("the key is the old one, or not the same on both")
	}
	// Their certificates stand as they were: nothing changes for those they talk to.
	send(t, w.tablet, w.bob.Address(), "from the tablet", SendOptions{})
	receiveUntil(t, w.bob, "both messages", hasTexts(2))
	// The device that got the key does with it what the other could.
	fourth := linkDevice(t, w.tablet)
	hasKeyOf(t, fourth, 1)
	must(t, fourth.Revoke(t.Context(), w.desk.ID()))
	hasKeyOf(t, fourth, 2)
	hasKeyOf(t, w.tablet, 2)
	send(t, w.bob, w.tablet.Address(), "to two", SendOptions{})
	for _, d := range []*Device{w.tablet, fourth} {
		if got := texts(receiveUntil(t, d, "the message", hasTexts(1))); !slices.Contains(got, "to two") {
			t.Errorf("shown: %q", got)
		}
	}
	// bob's organization and device have followed: the same member, by its rotations.
	m, err := w.bob.resolve(t.Context(), w.tablet.Address())
	must(t, err)
	if len(m.Rotations) != 2 || m.ID != w.tablet.account.Member {
		t.Errorf("bob knows %d rotations", len(m.Rotations))
	}
}

func TestTheOldKeyIsGoodForNothing(t *testing.T) {
	w := newThree(t)
	stolen := w.phone.account
	must(t, w.desk.Revoke(t.Context(), w.phone.ID()))
	a := w.desk.account
	// A device certificate by it.
	id := wire.DeviceID{9}
	c, err := identity.SignDeviceCertificate(a.Organization, a.Member, id, stolen.MemberKey, w.desk.now())
	must(t, err)
	if _, err := call(t.Context(), w.desk.home.Device.AddDevice, &pb.AddDeviceRequest{Certificate: c.Note}); err == nil {
		t.Error("a device was added by the old key")
	}
	// A revocation of the device that has stayed.
	note, err := identity.SignRevocation(identity.Revocation{Organization: a.Organization, Member: a.Member, Device: w.desk.ID(),
		Issued: w.desk.now(), By: "member"}, a.OrgName, stolen.MemberKey)
	must(t, err)
	if _, err := call(t.Context(), w.desk.home.Device.RevokeDevice, &pb.RevokeDeviceRequest{Revocation: note}); wire.StatusOf(err).Code != pb.Code_CODE_FORBIDDEN {
		t.Errorf("a revocation by the old key: %v", err)
	}
	// A further rotation, by it or beside the one that there is.
	_, next, err := ed25519.GenerateKey(nil)
	must(t, err)
	for number := range uint64(3) {
		r := identity.Rotation{Organization: a.Organization, Member: a.Member, Number: number, Issued: w.desk.now()}
		rotation, err := identity.SignRotation(r, stolen.MemberKey, next)
		must(t, err)
		if _, err := call(t.Context(), w.desk.home.Device.RotateMemberKey, &pb.RotateMemberKeyRequest{Rotation: rotation}); err == nil {
			t.Errorf("rotation %d by the old key", number)
		}
	}
	hasKeyOf(t, w.desk, 1)
}

func TestAnAdministratorsRevocationHasTheKeyReplacedToo(t *testing.T) {
	w := newThree(t)
	_, err := node.DialOperator(w.acme.dir).DisableDevice(t.Context(), connect.NewRequest(&pb.DisableDeviceRequest{DeviceId: w.phone.ID().String()}))
	must(t, err)
	eventually(t, "whoever visits first has replaced it", func() error {
		receive(t, w.tablet)
		if m, err := w.tablet.chains.get(w.tablet.ownKey()); err != nil || len(m.Rotations) != 1 {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	hasKeyOf(t, w.desk, 1)
	hasKeyOf(t, w.tablet, 1)
}

func TestADeviceThatIsKilledWhileItReplacesTheKeyGoesOn(t *testing.T) {
	for _, at := range []string{"key-staged", "key-answered"} {
		t.Run(at, func(t *testing.T) {
			w := newThree(t)
			_, err := node.DialOperator(w.acme.dir).DisableDevice(t.Context(), connect.NewRequest(&pb.DisableDeviceRequest{DeviceId: w.phone.ID().String()}))
			must(t, err)
			dir := folder(w.tablet)
			w.tablet.Close()
			if !runKilled(t, dir, at, "", "") {
				t.Fatalf("%s was not reached", at)
			}
			again, err := Open(dir, testPass)
			must(t, err)
			t.Cleanup(again.Close)
			hasKeyOf(t, again, 1)
			hasKeyOf(t, w.desk, 1)
			linkDevice(t, again)
		})
	}
}

func TestWhoHasNoKeyPackageLeftIsToldThatItLacksTheKey(t *testing.T) {
	w := newThree(t)
	_, err := call(t.Context(), w.tablet.home.Device.PublishKeyPackages, &pb.PublishKeyPackagesRequest{Replace: true})
	must(t, err)
	must(t, w.desk.Revoke(t.Context(), w.phone.ID()))
	receive(t, w.tablet)
	if _, err := w.tablet.OpenLink(t.Context()); !errors.Is(err, errBehindKey) {
		t.Errorf("it links with a key that it does not have: %v", err)
	}
	if err := w.tablet.Revoke(t.Context(), w.desk.ID()); !errors.Is(err, errBehindKey) {
		t.Errorf("it revokes with a key that it does not have: %v", err)
	}
	send(t, w.tablet, w.bob.Address(), "it still talks", SendOptions{})
}

func TestAKeyFromSomebodyElseIsNotTaken(t *testing.T) {
	w := newThree(t)
	receive(t, w.tablet)
	key := w.tablet.account.MemberKey
	_, forged, err := ed25519.GenerateKey(nil)
	must(t, err)
	m, err := w.desk.self(t.Context())
	must(t, err)
	for range maxOfferedKeys + 2 { // sealed as it should be, by the node perhaps
		sealed, err := w.desk.sealKey(t.Context(), m, forged.Seed())
		must(t, err)
		b := w.tablet.newBatch(t.Context())
		for _, s := range sealed {
			core := &pb.EnvelopeCore{Body: bodyOf(t, s)}
			if err := b.memberKey(core); err == nil {
				must(t, b.commit(w.tablet.mark()))
			}
		}
	}
	var offered [][]byte
	must(t, w.tablet.vault.view(func(t *txn) error { return t.metaJSON(offeredKeysKey, &offered) }))
	if len(offered) != maxOfferedKeys {
		t.Errorf("%d offered keys are kept", len(offered))
	}
	must(t, w.tablet.settleKey(t.Context()))
	if !w.tablet.account.MemberKey.Equal(key) {
		t.Error("a forged key was taken")
	}
	for name, body := range map[string]*pb.MemberKeyBody{
		"no KeyPackage": {KeyPackageRef: []byte("x")}, "nothing": {},
	} {
		b := w.tablet.newBatch(t.Context())
		if err := b.memberKey(&pb.EnvelopeCore{Body: encodedBody(t, body)}); err == nil {
			t.Errorf("%s opens", name)
		}
	}
}

// bodyOf is the envelope's body in a stored pb.SealedMemberKey.
func bodyOf(t *testing.T, sealed []byte) []byte {
	t.Helper()
	k := &pb.SealedMemberKey{}
	must(t, proto.Unmarshal(sealed, k))
	return encodedBody(t, k.Body)
}

func encodedBody(t *testing.T, body *pb.MemberKeyBody) []byte {
	t.Helper()
	b, err := proto.Marshal(body)
	must(t, err)
	return b
}
