package device

import (
	"context"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

const kpPrefix = "kp/"

// pools are how many KeyPackages a device keeps at its node, by suite; it replenishes
// when half of them are gone.
var pools = []struct {
	suite mls.SuiteID
	size  int
}{{Suite, 20}, {mls.SuiteX25519ChaCha20, 4}, {mls.SuiteXWingChaCha20, 10}}

// stockOf is how many KeyPackages of a suite a node has of us.
func stockOf(a *pb.AccountResponse, suite mls.SuiteID) int {
	for _, s := range a.Stock {
		if s.Suite == uint32(suite) {
			return int(s.Count)
		}
	}
	if suite == Suite {
		return int(a.KeyPackages)
	}
	return 0
}

// replenish publishes KeyPackages of each suite, and a last-resort one with them. The
// secrets are stored before the packages leave.
func (d *Device) replenish(ctx context.Context) error {
	account, err := d.Account(ctx)
	if err != nil {
		return err
	}
	_ = d.learnOwn(account.Chain) // what does not stand, or is older, is not taken up
	replace, err := d.replaceKeyPackages()
	if err != nil {
		return err
	}
	request := &pb.PublishKeyPackagesRequest{Replace: replace}
	var secrets []*group.KeyPackageSecrets
	for _, p := range pools {
		have := stockOf(account, p.suite)
		if replace {
			have = 0
		}
		if have > p.size/2 {
			continue
		}
		made, err := d.makeKeyPackages(request, p.suite, p.size-have)
		if err != nil {
			return err
		}
		secrets = append(secrets, made...)
	}
	if len(secrets) == 0 {
		return nil
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

// makeKeyPackages adds n KeyPackages of a suite and a last-resort one to a request.
func (d *Device) makeKeyPackages(q *pb.PublishKeyPackagesRequest, suite mls.SuiteID, n int) (secrets []*group.KeyPackageSecrets, err error) {
	for i := range n + 1 {
		last, life := i == n, wire.KeyPackageLifetime
		if last {
			life = wire.LastResortLifetime
		}
		kp, s, err := group.NewKeyPackage(group.KeyPackageParams{Suite: suite, Signer: d.signer, Credential: d.credential(),
			NotBefore: d.now().Add(-wire.NotBeforeSlack), NotAfter: d.now().Add(life), LastResort: last})
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, s)
		if last {
			q.LastResorts = append(q.LastResorts, kp)
		} else {
			q.KeyPackages = append(q.KeyPackages, kp)
		}
	}
	return secrets, nil
}
