package policy

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
)

// Of reads a group's policy from its extensions.
func Of(list []mls.Extension) (Rules, error) {
	room, ok := mls.FindExtension(list, mls.ExtensionRoom)
	if !ok {
		return Rules{}, errors.New("policy: a group without a room extension")
	}
	roles, _ := mls.FindExtension(list, mls.ExtensionRoles)
	return Parse(room, roles)
}

// CheckExtensions holds a room's new extensions against its old ones: the same kinds
// of them, who the hub is and what members must support as before, and nothing that
// nobody may change.
func CheckExtensions(old, next []mls.Extension) error {
	for _, e := range next {
		switch e.Type {
		case mls.ExtensionRoom, mls.ExtensionRoles:
			continue
		case mls.ExtensionRequiredCapabilities, mls.ExtensionExternalSenders:
			if had, ok := mls.FindExtension(old, e.Type); ok && bytes.Equal(had, e.Data) {
				continue
			}
		}
		return fmt.Errorf("policy: extension %#x may not change", uint16(e.Type))
	}
	if len(next) != len(old) {
		return errors.New("policy: a room keeps its kinds of extensions")
	}
	before, err := Of(old)
	if err != nil {
		return err
	}
	after, err := Of(next)
	if err != nil {
		return err
	}
	return before.MayBecome(after)
}

// Check refuses what the room's policy does not let its proposers do: those of
// a Commit, or the one that came alone.
func Check(g *mls.PublicGroup, e *mls.Effects) error {
	rules, err := Of(g.Extensions())
	if err != nil {
		return err
	}
	present := make(map[Person]bool)
	for _, m := range g.Members() {
		if c, err := CredentialOf(m.Node); err == nil {
			present[PersonOf(c)] = true
		}
	}
	sent := e.Proposals
	if !e.IsCommit {
		sent = []mls.Sent{{Proposal: e.Proposal, Sender: e.Sender}}
	}
	list := make([]Proposal, len(sent))
	for i, s := range sent {
		if list[i], err = translate(g, s); err != nil {
			return err
		}
	}
	return rules.Check(list, present)
}

// translate translates one proposal.
func translate(g *mls.PublicGroup, s mls.Sent) (p Proposal, err error) {
	p.Hub = s.Sender.Type == mls.SenderExternal
	if s.Sender.Type == mls.SenderMember {
		if p.By, err = personAt(g.Member(mls.LeafIndex(s.Sender.Index))); err != nil {
			return p, err
		}
	}
	switch s.Proposal.Type {
	case mls.ProposalAdd:
		p.Kind = ChangeAdd
		p.Whom, err = personAt(s.Proposal.Add.Leaf)
	case mls.ProposalRemove:
		p.Kind = ChangeRemove
		p.Whom, err = personAt(g.Member(s.Proposal.Remove))
		if s.Sender.Type == mls.SenderNewMemberCommit {
			p.Kind = ChangeNothing // of the joiner's own old leaf: the validator has compared them
		}
	case mls.ProposalGroupContextExtensions:
		p.Kind = ChangePolicy
		p.Next, err = Of(s.Proposal.Extensions)
	case mls.ProposalUpdate, mls.ProposalExternalInit:
		p.Kind = ChangeNothing
	}
	return p, err
}

func personAt(l *mls.LeafNode) (Person, error) {
	if l == nil {
		return Person{}, errors.New("policy: a proposal about nobody")
	}
	c, err := CredentialOf(l)
	return PersonOf(c), err
}

func PersonOf(c wire.Credential) Person {
	return Person{Organization: c.Organization, Member: c.Member}
}
