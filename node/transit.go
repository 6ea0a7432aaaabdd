package node

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Transit (docs/protocol.md 5.13): a room that A orders may have organizations B and C in it
// that have no agreement with each other, where A's agreements with both carry that. B then
// learns the certificates of C's members from A, who asks C; they prove themselves.
//
// Row "nd/transit/<organization ID>": JSON, the manifests of an organization that we
// have met this way, so that its notices can be verified.
const (
	transitPrefix = "nd/transit/"
	maxTransit    = 1_000 // organizations met this way
)

func transitKey(id wire.OrganizationID) []byte { return append([]byte(transitPrefix), id[:]...) }

// carries refuses what an agreement of ours does not carry between its partner and another
// of ours: `any` carries all, `named` the organizations that our configuration names.
func (n *Node) carries(a *identity.Agreement, partner, other wire.OrganizationID) error {
	name, otherName := n.nameOf(partner), n.nameOf(other)
	switch {
	case a.Terms.Transit == "any":
		return nil
	case a.Terms.Transit == "named" && slices.Contains(n.config.Transit, name) && slices.Contains(n.config.Transit, otherName):
		return nil
	}
	return against(name, "carries no rooms with organizations that it has no agreement with")
}

// chainOfAnother hands a partner the certificates of a member of another partner, who is in
// a room here with it.
func (n *Node) chainOfAnother(ctx context.Context, from, org wire.OrganizationID, member []byte) (*pb.MemberChain, error) {
	id, err := wire.Bytes32(member)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a question without a member")
	}
	for _, pair := range [2][2]wire.OrganizationID{{from, org}, {org, from}} {
		a, err := n.fed.InForce(pair[0], n.clock.Now())
		if err == nil {
			err = n.carries(a, pair[0], pair[1])
		}
		if err != nil {
			return nil, err
		}
	}
	if !n.meet(from, memberKey{org, id}) {
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_MEMBER, "")
	}
	got, err := n.ask(ctx, org, &pb.QueryRequest{Query: &pb.QueryRequest_Chain{Chain: &pb.ChainQuery{Member: member}}})
	return got.GetChain().GetChain(), err
}

// meet reports whether a partner has a leaf in a room here that somebody is in.
func (n *Node) meet(partner wire.OrganizationID, who memberKey) bool {
	ids, err := n.rooms.all()
	if err != nil {
		return false
	}
	for _, id := range ids {
		there, them := false, false
		for _, c := range n.rooms.committed(id) {
			there = there || c.Organization == who.org && c.Member == who.member
			them = them || c.Organization == partner
		}
		if there && them {
			return true
		}
	}
	return false
}

// chainThrough asks the hubs of rooms that our devices are in for certificates of an
// organization that we have no agreement with, as far as the agreements with the hubs carry
// that. What comes is verified, and the organization's manifests are kept.
func (n *Node) chainThrough(ctx context.Context, org wire.OrganizationID, member []byte) (*pb.MemberChain, error) {
	refusal := error(wire.Refuse(pb.Code_CODE_NO_AGREEMENT, ""))
	for _, hub := range n.hubsOfOurs() {
		a, err := n.fed.InForce(hub, n.clock.Now())
		if err != nil {
			continue
		}
		if a.Terms.Transit == "none" {
			refusal = against(n.nameOf(hub), "carries no rooms with organizations that we have no agreement with")
			continue
		}
		got, err := n.ask(ctx, hub, &pb.QueryRequest{Query: &pb.QueryRequest_Chain{Chain: &pb.ChainQuery{Member: member, Organization: org[:]}}})
		if err != nil {
			refusal = err
			continue
		}
		chain := got.GetChain().GetChain()
		if _, err := identity.VerifyChain(chain, org, n.clock.Now()); err != nil {
			refusal = wire.Refuse(pb.Code_CODE_FORBIDDEN, "the certificates that %s has handed on do not stand", n.nameOf(hub))
			continue
		}
		return chain, n.met(ctx, org, chain.GetManifests())
	}
	return nil, refusal
}

// hubsOfOurs lists the partners that order rooms with devices of ours.
func (n *Node) hubsOfOurs() []wire.OrganizationID {
	ids, err := n.rooms.all()
	if err != nil {
		return nil
	}
	var out []wire.OrganizationID
	for _, id := range ids {
		row, err := n.rooms.row(id)
		if err == nil && row.Hub != n.org.ID && len(row.Devices) > 0 && !slices.Contains(out, row.Hub) {
			out = append(out, row.Hub)
		}
	}
	return out
}

// met keeps the manifests of an organization: of two chains the one that prevails, as between
// partners (docs/protocol.md 2.15). A thief of its root outruns nobody.
func (n *Node) met(ctx context.Context, org wire.OrganizationID, manifests []string) error {
	known, err := n.metBefore(org)
	switch {
	case err == nil:
		shown, err := identity.VerifyManifests(manifests, org)
		if err != nil {
			return err
		}
		if stands, err := identity.Prevailing(known, shown); err != nil || stands == known {
			return nil // a fork says nothing new of it
		}
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case err != nil:
		if rows, err := n.store.Scan([]byte(transitPrefix), nil, maxTransit); err != nil || len(rows) >= maxTransit {
			return err // its notices are refused; its certificates are good
		}
	}
	v, err := json.Marshal(manifests)
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(transitKey(org), v)
	_, err = n.store.Commit(ctx, &b)
	return err
}

// metBefore is an organization that we know through a hub.
func (n *Node) metBefore(org wire.OrganizationID) (*identity.Organization, error) {
	v, err := n.store.Get(transitKey(org))
	if err != nil {
		return nil, err
	}
	var manifests []string
	if err := json.Unmarshal(v, &manifests); err != nil {
		return nil, err
	}
	return identity.VerifyManifests(manifests, org)
}
