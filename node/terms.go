package node

import (
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What the terms of an agreement ask of this node, whichever side it is
// (docs/protocol.md 5.9). Every refusal is noAgreement, with the term.

// against is the refusal of what a term does not allow.
func against(name, format string, args ...any) error {
	return wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "the agreement with "+name+" "+format, args...)
}

// nameOf is what an organization is called, or its ID.
func (n *Node) nameOf(id wire.OrganizationID) string {
	if org, ok := n.partner(id); ok {
		return org.Manifest.Name
	}
	return id.String()
}

// mayLookUp refuses look-ups by name, of theirs by us and of ours by them, where the
// agreement has none. Certificates of a member whose ID is known are no look-up: rooms
// need them.
func (n *Node) mayLookUp(partner wire.OrganizationID) (*identity.Agreement, error) {
	a, err := n.fed.InForce(partner, n.clock.Now())
	if err == nil && a.Terms.Directory == "none" {
		return nil, against(n.nameOf(partner), "allows no look-ups of members")
	}
	return a, err
}

// allowed refuses a room that an agreement with one of its organizations does not allow,
// as it would be with these rules; before is what it is now, nil when it is new. Who is in
// already stays; organizations and guests that come are held against the terms.
func (n *Node) allowed(before *policy.Rules, next policy.Rules, coming []wire.OrganizationID) error {
	for _, org := range coming {
		if org == n.org.ID {
			continue
		}
		a, err := n.fed.InForce(org, n.clock.Now())
		if err != nil {
			return err
		}
		if next.Roles != nil && !a.Terms.Rooms {
			return against(n.nameOf(org), "allows rooms of two people only")
		}
	}
	if next.Roles == nil {
		return nil
	}
	for _, e := range next.Roles.Entries {
		org, member := wire.OrganizationID(e.Organization), wire.MemberID(e.Member)
		if e.Role != wire.RoleGuest || before != nil && before.Role(policy.Person{Organization: org, Member: member}) == wire.RoleGuest {
			continue
		}
		if err := n.takesGuests(org, next); err != nil {
			return err
		}
	}
	return nil
}

// takesGuests refuses a guest of an organization: by the agreement with it, or, for a
// guest of ours, by those with the others of the room.
func (n *Node) takesGuests(of wire.OrganizationID, room policy.Rules) error {
	others := []wire.OrganizationID{of}
	if of == n.org.ID {
		others = nil
		for _, o := range room.Room.Organizations {
			if org := wire.OrganizationID(o.Organization); org != n.org.ID {
				others = append(others, org)
			}
		}
	}
	for _, org := range others {
		a, err := n.fed.InForce(org, n.clock.Now())
		if err != nil {
			return err
		}
		if !a.Terms.Guests {
			return against(n.nameOf(org), "allows no guests")
		}
	}
	return nil
}

// checkTerms holds a Commit against the agreements with whom it brings in.
func (c *change) checkTerms(before, next *mls.PublicGroup, effects *mls.Effects) error {
	was, err := policy.Of(before.Extensions())
	if err != nil {
		return err
	}
	rules, err := policy.Of(next.Extensions())
	if err != nil {
		return err
	}
	added, err := credentials(effects.Added)
	if err != nil {
		return err
	}
	var coming []wire.OrganizationID
	for _, a := range added {
		coming = append(coming, a.Organization)
	}
	for _, o := range rules.Room.Organizations {
		if org := wire.OrganizationID(o.Organization); !was.Listed(org) {
			coming = append(coming, org)
		}
	}
	if err := c.n.groupsAllow(members(next), added); err != nil {
		return err
	}
	return c.n.allowed(&was, rules, coming)
}

// retentionWith is until when envelopes between us and these partners may be kept: the
// strictest of the agreements; zero when none says anything.
func (n *Node) retentionWith(partners ...wire.OrganizationID) time.Time {
	var strictest time.Duration
	for _, p := range partners {
		if a, err := n.fed.InForce(p, n.clock.Now()); err == nil {
			strictest = identity.Strictest(strictest, a.Terms.Retention)
		}
	}
	if strictest == 0 {
		return time.Time{}
	}
	return n.clock.Now().Add(strictest)
}

// earliest is the earlier of two times; zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
