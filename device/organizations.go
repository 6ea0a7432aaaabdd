package device

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A room's hub is an organization, and need not have a member in it any more: the founder may
// leave. Then its hub key and name stand in no chain that this device has, and the home node is
// asked for its manifests, which prove themselves from the organization's ID
// (docs/protocol.md 7.2).

// organizationNeeded says whose manifests are missing; withChains fetches them.
type organizationNeeded struct{ askedFor }

func (e *organizationNeeded) Error() string {
	return "device: the manifests of an organization are needed"
}

func manifestsKey(id wire.OrganizationID) string { return "manifests/" + id.String() }

// organizationOf is an organization as its members in the room show it, or, where there is
// none, as the home node has.
func (d *Device) organizationOf(r *room, id wire.OrganizationID) (*identity.Organization, error) {
	if id == d.account.Organization {
		if m, err := d.chains.get(d.ownKey()); err == nil {
			return m.Organization, nil
		}
	}
	var missing error
	for _, k := range r.people() {
		if k.Org != id {
			continue
		}
		m, err := d.chains.get(k)
		if err == nil {
			return m.Organization, nil
		}
		missing = err
	}
	if missing != nil {
		return nil, missing
	}
	var notes []string
	if err := d.vault.view(func(t *txn) error { return t.metaJSON(manifestsKey(id), &notes) }); err != nil {
		return nil, &organizationNeeded{askedFor{memberKey: memberKey{Org: id}}}
	}
	return identity.VerifyManifests(notes, id)
}

// askOrganization returns what has the organization asked for anew, for something that what we
// know of it does not bear out; nil when it was just asked for the same.
func (d *Device) askOrganization(r *room, id wire.OrganizationID, hash [32]byte) error {
	for _, k := range append(r.people(), d.ownKey()) {
		if k.Org == id {
			return d.chains.ask(askedFor{k, hash})
		}
	}
	asked := askedFor{memberKey{Org: id}, hash}
	if d.chains.ask(asked) != nil {
		return &organizationNeeded{asked}
	}
	return nil
}

// fetchOrganization gets an organization's manifests from the home node and stores them when
// they stand and are no older than those that are known.
func (d *Device) fetchOrganization(ctx context.Context, id wire.OrganizationID) error {
	a, err := call(ctx, d.home.Device.GetOrganization, &pb.GetOrganizationRequest{Organization: id[:]})
	if err != nil {
		return err
	}
	o, err := identity.VerifyManifests(a.Manifests, id)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(o.Notes)
	if err != nil {
		return err
	}
	return d.vault.update(func(t *txn) error {
		var known []string
		err := t.metaJSON(manifestsKey(id), &known)
		if err == nil && len(known) >= len(o.Notes) || err != nil && !errors.Is(err, errNoRecord) {
			return err
		}
		return t.putMeta([]byte(manifestsKey(id)), raw)
	})
}

// checkHub compares the room's one external sender with the hub organization's hub key.
func (d *Device) checkHub(ctx context.Context, r *room) error {
	return d.withChains(ctx, func() error {
		hub, err := d.organizationOf(r, r.Hub)
		if err != nil {
			return err
		}
		return policy.CheckHubSender(r.state.Extensions(), r.Hub, hub.Manifest.Hub)
	})
}

// orgNamed is what an organization of a room calls itself; its ID where that is not known.
func (d *Device) orgNamed(r *room, id wire.OrganizationID) string {
	o, err := d.organizationOf(r, id)
	if err != nil {
		return id.String()
	}
	return o.Manifest.Name
}
