package group

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/entente-im/entente/mls"
	"pgregory.net/rapid"
)

// What the model's room does beside coming and going: pre-shared keys, the
// GroupContext's extensions, SelfRemoves, Removes of the hub.

// modelValidator takes any extensions.
type modelValidator struct{ testValidator }

func (modelValidator) ValidateExtensions([]byte, []mls.Extension, []mls.Extension) error { return nil }

func (m *model) hubOptions() mls.PublicOptions {
	return mls.PublicOptions{Validator: modelValidator{}, Now: m.players[0].cfg.Now, PSKs: true}
}

// extensions are those of a room that has the hub as an external sender.
func (m *model) extensions(room string) []mls.Extension {
	hub := mls.ExternalSender{SignatureKey: m.hubKey.Public().(ed25519.PublicKey), Credential: credential("hub")}
	return []mls.Extension{{Type: mls.ExtensionRoom, Data: []byte(room)}, mls.ExternalSendersExtension([]mls.ExternalSender{hub})}
}

// source is the client's store of pre-shared keys: one, that it may lack for a while.
func (p *player) source(id mls.PreSharedKeyID) []byte {
	if p.lacks || string(id.ID) != "coffee" {
		return nil
	}
	return []byte("a shared pre-shared key")
}

// hubProposes is a Remove of the external sender for some epoch that there was.
func (m *model) hubProposes(t *rapid.T) {
	l := m.head
	if p := m.pick(t, "whose epoch", hasState); p != nil {
		l = p.on()
	}
	g, err := mls.NewPublicGroup(l.groupInfo, l.tree, m.hubOptions())
	ok(t, err)
	whom := one(t, "whom", g.Members())
	aad := fmt.Appendf(nil, "proposal %d", len(m.proposals))
	msg, err := g.NewExternalRemove(m.hubKey, 0, whom.Leaf, aad)
	ok(t, err)
	_, e, err := g.Process(msg)
	ok(t, err)
	m.proposals = append(m.proposals, &modelProposal{base: l, whom: whom.Leaf, bytes: msg, ref: string(e.ProposalRef)})
}

// fits says whether a proposal is good on a link. An external sender signs group
// and epoch, not the GroupContext (RFC 9420 §6.1): who was led aside takes its
// Remove as well.
func (x *modelProposal) fits(l *link) bool {
	if x.by != nil || x.base.epoch != l.epoch {
		return x.base == l
	}
	return slices.Contains(slices.Collect(maps.Values(l.members)), x.whom)
}

// moreParams draws what a Commit has by value beside Adds and Removes. Only who is
// a member already has the resumption key of this epoch.
func (m *model) moreParams(t *rapid.T, p *player, c *CommitParams) {
	if die(t, "key when 0", 6) == 0 {
		c.PSKs = append(c.PSKs, external("coffee"))
	}
	if !c.ByReference && len(c.Adds) == 0 && die(t, "resumption when 0", 3) == 0 {
		id, secret := p.st.ResumptionPSK()
		erase(secret)
		c.PSKs = append(c.PSKs, id)
	}
	if die(t, "extensions when 0", 8) == 0 {
		c.Extensions = m.extensions(fmt.Sprintf("commit %d", len(m.links)))
	}
}

// refusesSecondLeave holds that a member says only once in an epoch that it leaves.
func (m *model) refusesSecondLeave(t *rapid.T, p *player) {
	err := p.refuses(t, "a second leave", func(s *State) (*State, error) { n, _, err := s.ProposeSelfRemove([]byte("again")); return n, err })
	if !errors.Is(err, mls.ErrProposal) {
		t.Fatalf("a second leave: %v", err)
	}
}

// refusesWithoutKey delivers a Commit to a member that has not the key yet: it is
// told, and can take the Commit when it has it.
func (m *model) refusesWithoutKey(t *rapid.T, p *player, c *modelCommit) {
	p.lacks = true
	if err := p.refuses(t, "a commit without the key that it needs", processing(c.bytes)); err != ErrNoPSK {
		t.Fatalf("a key is missing: %v", err)
	}
	p.lacks = false
}
