package device

import (
	"bytes"
	"errors"
	"slices"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
)

// What a Commit changed about who is in a room is said once for each person, with who
// caused it (FORMATS, Removal).

// showChanges says who came and went by somebody's Commit.
func (b *batch) showChanges(r *room, before *mls.PublicGroup, e *mls.Effects) {
	if e.External { // the only one that is let in
		for _, m := range e.Added {
			b.showMember(r, Shown{State: "came back"}, m)
		}
		return
	}
	by := memberKey{}
	if leaf := before.Member(mls.LeafIndex(e.Sender.Index)); leaf != nil && e.Sender.Type == mls.SenderMember {
		by = keyOf(leaf)
	}
	b.showCame(r, before, e.Added, by)
	b.showWent(r, before, e.Removed, by)
}

func keyOf(leaf *mls.LeafNode) memberKey {
	c, err := policy.CredentialOf(leaf)
	if err != nil {
		return memberKey{}
	}
	return memberKey{c.Organization, c.Member}
}

// peopleOf is who has a leaf in a group.
func peopleOf(g *mls.PublicGroup) map[memberKey]bool {
	out := make(map[memberKey]bool)
	for _, m := range g.Members() {
		out[keyOf(m.Node)] = true
	}
	return out
}

// showCame says who is new, invited by whom and as what. That somebody who was there has a
// further device is said once: mostly with its certificate already (keychanges.go).
func (b *batch) showCame(r *room, before *mls.PublicGroup, added []mls.Member, by memberKey) {
	had, told := peopleOf(before), make(map[memberKey]bool)
	rules, err := policy.Of(r.state.Extensions())
	for _, m := range added {
		k := keyOf(m.Node)
		switch {
		case had[k] && (k == b.d.ownKey() || !b.d.toldOf(m.Node)):
			b.showMember(r, Shown{State: "device added"}, m)
		case had[k] || told[k]:
		default:
			told[k] = true
			s := Shown{State: "added", By: b.d.nameOf(by)}
			if err == nil && rules.Roles != nil {
				s.Role = rules.Role(policy.Person{Organization: k.Org, Member: k.Member}).String()
			}
			b.showMember(r, s, m)
		}
	}
}

func toldKey(device []byte) []byte { return append([]byte("told/"), device...) }

// toldOf reports whether it was said that somebody has a device, in every room with them.
func (d *Device) toldOf(leaf *mls.LeafNode) bool {
	return d.vault.view(func(t *txn) error { _, err := t.meta(toldKey(leaf.SignatureKey)); return err }) == nil
}

// showWent says who is out: by their own wish, by somebody of the room, or because a device
// was revoked. Somebody who has other devices in the room has lost those. An organization that
// was taken out is said once.
func (b *batch) showWent(r *room, before *mls.PublicGroup, removed []mls.Member, by memberKey) {
	has, told := peopleOf(r.state.Public()), make(map[memberKey]bool)
	expelled := make(map[wire.OrganizationID]Shown)
	for _, m := range removed {
		k := keyOf(m.Node)
		cause, causer, note := b.d.whyRemoved(r, before, m.Leaf, by)
		if note != nil {
			expelled[k.Org] = Shown{Event: "room", State: "organization removed", Room: r.ID.String(), RoomName: r.Name, From: b.d.orgName(k),
				By: causer, Reason: note.Reason, Count: expelled[k.Org].Count + 1, At: b.d.now()}
			continue
		}
		s := Shown{State: cause, By: causer}
		switch {
		case has[k] || cause == "device revoked":
			s.State = "device revoked"
			if cause != "device revoked" {
				s.State = "device removed"
			}
		case told[k]:
			continue
		}
		told[k] = true
		b.showMember(r, s, m)
	}
	for _, s := range expelled {
		b.show(s)
	}
}

// whyRemoved says why a leaf is removed, and by whom: "left", "member removed", "device
// revoked" or "organization removed", the last with the hub's word for it. What no proposal
// asked for, the Commit's maker has done.
func (d *Device) whyRemoved(r *room, before *mls.PublicGroup, leaf mls.LeafIndex, committer memberKey) (why, by string, expelled *identity.PartnerRevocation) {
	gone := before.Member(leaf)
	for _, p := range before.Pending() {
		if p.Proposal == nil || p.Proposal.Type != mls.ProposalRemove || p.Proposal.Remove != leaf {
			continue
		}
		if p.Sender.Type == mls.SenderExternal {
			if rev, err := identity.ReadPartnerRevocation(string(p.AAD)); err == nil {
				return "organization removed", d.orgNamed(r, rev.Organization), rev
			}
			return "device revoked", d.revoker(string(p.AAD), gone), nil
		}
		if from := before.Member(mls.LeafIndex(p.Sender.Index)); from != nil {
			committer = keyOf(from)
		}
		break
	}
	if gone != nil && keyOf(gone) == committer {
		return "left", d.nameOf(committer), nil
	}
	return "member removed", d.nameOf(committer), nil
}

// wentOurselves says that this device is out, and by whom.
func (b *batch) wentOurselves(r *room, e *mls.Effects) Shown {
	s := Shown{Event: "room", State: "removed", Room: r.ID.String(), RoomName: r.Name, At: b.d.now()}
	before, by := r.state.Public(), memberKey{}
	if leaf := before.Member(mls.LeafIndex(e.Sender.Index)); leaf != nil && e.Sender.Type == mls.SenderMember {
		by = keyOf(leaf)
	}
	for _, m := range e.Removed {
		if keyOf(m.Node) == b.d.ownKey() {
			var expelled *identity.PartnerRevocation
			if s.Reason, s.By, expelled = b.d.whyRemoved(r, before, m.Leaf, by); expelled != nil {
				s.Reason = expelled.Reason
			}
		}
	}
	return s
}

// revoker is who a revocation says has made it: the member, or its organization.
func (d *Device) revoker(note string, leaf *mls.LeafNode) string {
	if leaf == nil {
		return ""
	}
	m, err := d.chains.get(keyOf(leaf))
	if err != nil {
		return ""
	}
	rev, err := identity.VerifyRevocation(note, m.Organization, m)
	if err != nil {
		return ""
	}
	if rev.By == "member" {
		return m.Address().String()
	}
	return m.Organization.Manifest.Name
}

func (b *batch) showMember(r *room, s Shown, m mls.Member) {
	c, err := policy.CredentialOf(m.Node)
	if err != nil || b.d.merged(r) != nil {
		return
	}
	who := memberKey{c.Organization, c.Member}
	where := b.d.ofRoomFrom(r, s.State, b.d.nameOf(who), c.Device.String())
	where.By, where.Role, where.Own = s.By, s.Role, who == b.d.ownKey()
	b.show(where)
}

// rulesFollow reports whether the rules of a room changed only as who came and went asks
// for: what is said of them says this too.
func rulesFollow(before, after *mls.PublicGroup) bool {
	was, e1 := policy.Of(before.Extensions())
	is, e2 := policy.Of(after.Extensions())
	if errors.Join(e1, e2) != nil || was.Roles == nil || is.Roles == nil {
		return false
	}
	had, has := peopleOf(before), peopleOf(after)
	same := true
	for k := range had {
		p := policy.Person{Organization: k.Org, Member: k.Member}
		same = same && (!has[k] || was.Role(p) == is.Role(p))
	}
	is.Room.Organizations, is.Room.Roles = was.Room.Organizations, was.Room.Roles
	a, e1 := was.Room.Encode()
	z, e2 := is.Room.Encode()
	came := len(has) > len(had) || slices.ContainsFunc(keysOf(had), func(k memberKey) bool { return !has[k] })
	return came && same && errors.Join(e1, e2) == nil && bytes.Equal(a, z) && was.Roles.Invite == is.Roles.Invite
}

func keysOf(m map[memberKey]bool) (out []memberKey) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// invitedInVain notes an invitation into a room that this device is out of again before it
// has seen it: said once, and what was said there meanwhile is nobody's concern.
func (b *batch) invitedInVain(id wire.RoomID) {
	now := b.d.now()
	b.left[id] = true
	b.writes = append(b.writes, func(t *txn) error {
		key := append([]byte("blkroom/"), id[:]...)
		if _, err := t.meta(key); err == nil {
			return nil
		}
		return errors.Join(t.putMeta(key, []byte{1}), t.show(Shown{Event: "room", State: "invited in vain", Room: id.String(), At: now}))
	})
}
