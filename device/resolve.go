package device

import (
	"context"
	"time"

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

// resolveFor is how long an answer of the home node about an address of somebody with whom
// there is a room is good for further messages of the same visit.
const resolveFor = 30 * time.Second

// resolved is such an answer; each visit begins by asking.
type resolved struct {
	memberKey
	at time.Time
}

// resolveSoon is resolve for one message of many: it asks at most every resolveFor, and at
// once when the member's key is to change. d.mu is held.
func (d *Device) resolveSoon(ctx context.Context, to wire.Address) (*identity.Member, error) {
	if was, ok := d.resolved[to]; ok && time.Since(was.at) < resolveFor && !d.looks.again[was.memberKey] && d.roomWith(was.memberKey) != nil {
		if m, err := d.chains.get(was.memberKey); err == nil && m.Name == to.Name && m.Organization.Answers(to.Organization, d.now()) {
			return m, d.forked(m.Organization)
		}
	}
	delete(d.resolved, to)
	m, err := d.resolve(ctx, to)
	if err != nil {
		return nil, err
	}
	if d.resolved == nil || len(d.resolved) >= maxResolved {
		d.resolved = make(map[wire.Address]resolved)
	}
	d.resolved[to] = resolved{memberKey{m.Organization.ID, m.ID}, time.Now()}
	return m, nil
}

// maxResolved bounds the answers that a visit keeps.
const maxResolved = 1_000
