package device

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A device that is out still knows the member key, so one of those that stay replaces it
// (docs/protocol.md 7.14): with the next visit of any of them, whoever has revoked the
// device. The others get the new key sealed to a KeyPackage of theirs.

// nextKey is a member key that the directory may not have yet; meta record.
type nextKey struct {
	Seed     []byte
	Rotation string
	Keys     [][]byte // pb.SealedMemberKey
}

const (
	nextKeyKey     = "member-key-next"
	offeredKeysKey = "member-keys-offered"
	memberKeyLabel = "entente.im member key"

	// maxOfferedKeys bounds the keys that came and that the directory does not name.
	maxOfferedKeys = 4
)

// errBehindKey says that this device has no part in the member's identity until another one
// gives it the key.
var errBehindKey = wire.Refuse(pb.Code_CODE_FORBIDDEN,
	"this device does not have your key of now, which changed when a device was revoked: use another one of your devices, or let it visit first")

func (a *account) memberPublic() ed25519.PublicKey { return a.MemberKey.Public().(ed25519.PublicKey) }

// settleKey brings the member key of this device in line with the directory's, and replaces
// it where somebody who is out knows it. It is part of each visit.
func (d *Device) settleKey(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, err := d.self(ctx)
	if err != nil {
		return err
	}
	if err := d.adoptKey(m); err != nil {
		return err
	}
	if m.Devices[d.ID()] == nil {
		return nil // this device is out itself
	}
	var next nextKey
	err = d.vault.view(func(t *txn) error { return t.metaJSON(nextKeyKey, &next) })
	switch {
	case err == nil:
		return d.submitKey(ctx, &next)
	case !errors.Is(err, errNoRecord):
		return err
	case len(m.Uncovered()) == 0 || !m.Key.Equal(d.account.memberPublic()):
		return nil
	}
	if err := d.stageKey(ctx, m); err != nil {
		return err
	}
	if err := d.vault.view(func(t *txn) error { return t.metaJSON(nextKeyKey, &next) }); err != nil {
		return err
	}
	return d.submitKey(ctx, &next)
}

// adoptKey takes the key that the directory names, when this device made or was given it.
func (d *Device) adoptKey(m *identity.Member) error {
	if m.Key.Equal(d.account.memberPublic()) {
		return nil
	}
	var offered [][]byte
	var next nextKey
	err := d.vault.view(func(t *txn) error {
		if err := t.metaJSON(nextKeyKey, &next); err != nil && !errors.Is(err, errNoRecord) {
			return err
		}
		if err := t.metaJSON(offeredKeysKey, &offered); err != nil && !errors.Is(err, errNoRecord) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, seed := range append(offered, next.Seed) {
		if len(seed) != ed25519.SeedSize {
			continue
		}
		key := ed25519.NewKeyFromSeed(seed)
		if !m.Key.Equal(key.Public().(ed25519.PublicKey)) {
			continue
		}
		a := d.account
		a.MemberKey = key
		err := d.vault.update(func(t *txn) error {
			if string(seed) != string(next.Seed) { // ours is still to reach the others
				if err := t.deleteMeta([]byte(nextKeyKey)); err != nil {
					return err
				}
			}
			return errors.Join(t.deleteMeta([]byte(offeredKeysKey)), t.putMetaJSON(accountKey, a))
		})
		if err == nil {
			clear(d.account.MemberKey)
			d.account.MemberKey = key
		}
		return err
	}
	return nil
}

// stageKey makes the next key, seals it to the other devices, and stores all of that.
func (d *Device) stageKey(ctx context.Context, m *identity.Member) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	r := identity.Rotation{Organization: d.account.Organization, Member: m.ID, Number: uint64(len(m.Rotations)) + 1, Issued: d.now(), Without: m.Uncovered()}
	for id, c := range m.Devices {
		r.Devices = append(r.Devices, identity.DeviceEntry{Device: id, Certificate: c.Hash})
	}
	next := nextKey{Seed: key.Seed()}
	if next.Rotation, err = identity.SignRotation(r, d.account.MemberKey, key); err != nil {
		return err
	}
	if next.Keys, err = d.sealKey(ctx, m, next.Seed); err != nil {
		return err
	}
	return d.vault.update(func(t *txn) error { return t.putMetaJSON(nextKeyKey, next) })
}

// sealKey seals a key to each other device that has a KeyPackage; one that has none gets it
// from nobody, and its person is told when it wants to use it.
func (d *Device) sealKey(ctx context.Context, m *identity.Member, seed []byte) (out [][]byte, err error) {
	packages, err := d.claimOwn(ctx, d.missing(m, nil), Suite)
	if err != nil {
		return nil, err
	}
	for _, kp := range packages {
		parsed, err := mls.ParseKeyPackage(kp)
		if err != nil {
			return nil, err
		}
		c, err := wire.ParseCredential(parsed.Leaf.Credential.Identity)
		if err != nil {
			return nil, err
		}
		s, err := group.SealTo(kp, memberKeyLabel, m.ID[:], seed, d.now(), d.chains)
		if err != nil {
			return nil, err
		}
		b, err := proto.Marshal(&pb.SealedMemberKey{Device: c.Device[:], Body: &pb.MemberKeyBody{KeyPackageRef: s.Ref, KemOutput: s.KEMOutput, Ciphertext: s.Ciphertext}})
		if err != nil {
			return nil, fmt.Errorf("device: a sealed key: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}

// submitKey hands the next key over; repeating it is safe. One that another device was
// faster than is given up.
func (d *Device) submitKey(ctx context.Context, next *nextKey) error {
	q := &pb.RotateMemberKeyRequest{Rotation: next.Rotation}
	for _, b := range next.Keys {
		k := &pb.SealedMemberKey{}
		if err := proto.Unmarshal(b, k); err != nil {
			return fmt.Errorf("device: a stored key: %w", err)
		}
		q.Keys = append(q.Keys, k)
	}
	if err := d.acts(func(a *ownActs) { a.Keys = append(a.Keys, publicOf(next.Seed)) }); err != nil {
		return err
	}
	failpoint("key-staged")
	a, err := call(ctx, d.home.Device.RotateMemberKey, q)
	if err != nil {
		if wire.ClassOf(wire.StatusOf(err).Code) == wire.Permanent {
			err = errors.Join(err, d.dropKey())
		}
		return err
	}
	failpoint("key-answered")
	if err := d.learnOwn(a.Chain); err != nil {
		return err
	}
	m, err := d.chains.get(d.ownKey())
	if err != nil {
		return err
	}
	if err := d.adoptKey(m); err != nil {
		return err
	}
	if !m.Key.Equal(d.account.memberPublic()) {
		return errors.New("device: the directory took a key and names another")
	}
	return d.dropKey()
}

func (d *Device) dropKey() error {
	return d.vault.update(func(t *txn) error { return t.deleteMeta([]byte(nextKeyKey)) })
}

// memberKey keeps a member key that another device of ours has sealed to this one. It is
// used when the directory names it, which takes the key before it: who seals a key of its
// own gains nothing.
func (b *batch) memberKey(core *pb.EnvelopeCore) error {
	var body pb.MemberKeyBody
	if err := proto.Unmarshal(core.Body, &body); err != nil {
		return err
	}
	var raw []byte
	ref := append([]byte(kpPrefix), body.KeyPackageRef...)
	err := b.d.vault.view(func(t *txn) (err error) { raw, err = t.state(ref); return err })
	if err != nil {
		return errNoKeys
	}
	secrets, err := group.UnmarshalKeyPackageSecrets(raw)
	if err != nil {
		return err
	}
	defer secrets.Erase()
	seed, err := secrets.Open(memberKeyLabel, b.d.account.Member[:], group.Sealed{Ref: body.KeyPackageRef,
		HPKECiphertext: mls.HPKECiphertext{KEMOutput: body.KemOutput, Ciphertext: body.Ciphertext}})
	if err != nil || len(seed) != ed25519.SeedSize {
		return errors.New("device: a member key that does not open")
	}
	last := secrets.LastResort()
	b.ownKeys = true
	b.writes = append(b.writes, func(t *txn) error {
		var offered [][]byte
		if err := t.metaJSON(offeredKeysKey, &offered); err != nil && !errors.Is(err, errNoRecord) {
			return err
		}
		offered = append(offered, seed)
		if err := t.putMetaJSON(offeredKeysKey, offered[max(0, len(offered)-maxOfferedKeys):]); err != nil || last {
			return err
		}
		return t.deleteState(ref)
	})
	return nil
}

// checkKey refuses what takes the member's key of now on a device that does not have it.
func (d *Device) checkKey(ctx context.Context) error {
	if err := d.settleKey(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	m, err := d.chains.get(d.ownKey())
	if err == nil && !m.Key.Equal(d.account.memberPublic()) {
		err = errBehindKey
	}
	return err
}
