package device

import (
	"context"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// resolve asks the home node who an address is and verifies the answer.
func (d *Device) resolve(ctx context.Context, to wire.Address) (*identity.Member, error) {
	if to == d.Address() {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "that is your own address")
	}
	a, err := call(ctx, d.home.Device.Resolve, &pb.ResolveRequest{Address: to.String()})
	if err != nil {
		if m, e := d.remembered(to); e == nil && temporary(err) {
			return m, nil
		}
		return nil, err
	}
	org, err := wire.Bytes32(a.Organization)
	if err != nil {
		return nil, err
	}
	m, err := d.learn(org, a.Chain)
	if err != nil {
		return nil, err
	}
	if m.Name != to.Name || !m.Organization.Answers(to.Organization, d.now()) {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the home node answered for %s", m.Address())
	}
	return m, nil
}
