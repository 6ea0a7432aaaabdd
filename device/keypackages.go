package device

import (
	"context"
	"time"

	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

const (
	kpPrefix = "kp/"
	// poolSize is how many KeyPackages a device keeps at its node; it replenishes
	// when half of them are gone.
	poolSize = 20
)

// replenish publishes KeyPackages, and a last-resort one when there is none of ours
// or it is old. The secrets are stored before the packages leave.
func (d *Device) replenish(ctx context.Context) error {
	account, err := d.Account(ctx)
	if err != nil {
		return err
	}
	replace, err := d.replaceKeyPackages()
	if err != nil {
		return err
	}
	if account.KeyPackages > poolSize/2 && !replace {
		return nil
	}
	request := &pb.PublishKeyPackagesRequest{Replace: replace}
	if replace {
		account.KeyPackages = 0
	}
	var secrets []*group.KeyPackageSecrets
	add := func(lastResort bool, life time.Duration) error {
		kp, s, err := group.NewKeyPackage(group.KeyPackageParams{Suite: Suite, Signer: d.signer, Credential: d.credential(),
			NotBefore: d.now().Add(-time.Hour), NotAfter: d.now().Add(life), LastResort: lastResort})
		if err != nil {
			return err
		}
		secrets = append(secrets, s)
		if lastResort {
			request.LastResort = kp
		} else {
			request.KeyPackages = append(request.KeyPackages, kp)
		}
		return nil
	}
	for range poolSize - int(account.KeyPackages) {
		if err := add(false, wire.KeyPackageLifetime); err != nil {
			return err
		}
	}
	if err := add(true, wire.LastResortLifetime); err != nil {
		return err
	}
	err = d.vault.update(func(t *txn) error {
		for _, s := range secrets {
			if err := t.putState(append([]byte(kpPrefix), s.Ref...), s.Marshal()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = call(ctx, d.home.Device.PublishKeyPackages, request)
	if err != nil || !replace {
		return err
	}
	return d.vault.update(func(t *txn) error { return t.putNumber(replaceName, 0) })
}
