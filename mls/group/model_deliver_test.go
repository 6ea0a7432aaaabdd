package group

import (
	"errors"
	"slices"

	"github.com/entente-im/entente/mls"
	"pgregory.net/rapid"
)

// What the server delivers, each with what has to come of it.

// catchUpOne delivers the accepted Commit that follows where a player is.
func (m *model) catchUpOne(t *rapid.T) {
	p := m.pick(t, "to", func(p *player) bool { return p.st != nil && m.accepted[p.on()] != nil || p.staged != nil })
	if p == nil {
		return
	}
	if c := p.staged; c != nil && c.external && m.accepted[c.base] != nil {
		m.answerExternal(t, p)
	} else if p.st != nil && m.accepted[p.on()] != nil {
		m.deliverCommit(t, p, m.accepted[p.on()])
	}
}

// answerExternal tells a joiner from outside whether its Commit was the first.
func (m *model) answerExternal(t *rapid.T, p *player) {
	c := p.staged
	p.staged = nil
	if m.accepted[c.base] == c {
		m.apply(t, p, c)
	}
}

// apply takes a Commit of one's own as accepted.
func (m *model) apply(t *rapid.T, p *player, c *modelCommit) {
	cur := p.st
	if c.external && p.out {
		cur = nil // a removed member has erased its state
		p.stays, p.st = nil, nil
	}
	n, err := c.staged.Apply(cur)
	ok(t, err)
	m.enter(t, p, n, c.number, p.leave(m.clock, n.Epoch()))
	p.staged = nil
	p.reload(t)
}

// deliverAnyCommit sends any Commit to anybody: old, twice, too early, or one that
// lost, by which the server leads members aside.
func (m *model) deliverAnyCommit(t *rapid.T) {
	p := m.pick(t, "to", hasState)
	if p == nil || len(m.commits) == 0 {
		return
	}
	aside := die(t, "aside when 0", 4) == 0
	from := slices.DeleteFunc(slices.Clone(m.commits), func(c *modelCommit) bool { return (c.base == p.on()) != aside })
	if len(from) == 0 {
		return
	}
	m.deliverCommit(t, p, one(t, "commit", from))
}

func (m *model) deliverCommit(t *rapid.T, p *player, c *modelCommit) {
	switch {
	case c.base != p.on():
		err := p.refuses(t, "a commit of another epoch", processing(c.bytes))
		var epoch *mls.EpochError
		if c.base.epoch != p.on().epoch && !errors.As(err, &epoch) {
			t.Fatalf("a commit of epoch %d in epoch %d: %v", c.base.epoch, p.on().epoch, err)
		}
		return
	case c.by == p && !c.external:
		if err := p.refuses(t, "its own commit", processing(c.bytes)); err != ErrOwnCommit {
			t.Fatalf("own commit: %v", err)
		}
		if p.staged == c {
			m.apply(t, p, c)
		}
		return
	case c.by == p && p.staged == c:
		m.apply(t, p, c)
		return
	case m.private && !c.external && p.out && p.gone[c]:
		p.refuses(t, "the private commit that removed it again", processing(c.bytes))
		return
	}
	m.takeCommit(t, p, c)
}

func (m *model) takeCommit(t *rapid.T, p *player, c *modelCommit) {
	for _, ref := range c.refs {
		if p.have[string(ref)] {
			continue
		}
		if err := p.refuses(t, "a commit of proposals it has not", processing(c.bytes)); !errors.Is(err, mls.ErrUnknownProposal) {
			t.Fatalf("a proposal is missing: %v", err)
		}
		i := slices.IndexFunc(m.proposals, func(x *modelProposal) bool { return x.ref == string(ref) })
		m.hear(t, p, m.proposals[i])
	}
	if c.psks && !slices.Contains(c.removed, p.name) && die(t, "lacks the key when 0", 4) == 0 {
		m.refusesWithoutKey(t, p, c)
	}
	before := p.records()
	n, e, err := p.st.Process(c.bytes)
	if err != nil {
		t.Fatalf("%s: commit %d by %s: %v", p.name, c.number, c.by.name, err)
	}
	if p.records() != before {
		t.Fatal("a new state changed the old one")
	}
	removed := identitiesOf(e.Removed)
	if !slices.Equal(removed, c.removed) || e.SelfRemoved != slices.Contains(removed, p.name) {
		t.Fatalf("%s saw %v removed, the committer %v", p.name, removed, c.removed)
	}
	if crashes(t) {
		return
	}
	if p.staged != nil && !p.staged.external {
		if _, err := p.staged.staged.Apply(n); err == nil && !e.SelfRemoved {
			t.Fatal("a commit that lost was applied")
		}
		p.staged = nil
	}
	if e.SelfRemoved {
		p.st, p.out, p.gone[c] = n, true, true
		return
	}
	m.enter(t, p, n, c.number, p.leave(m.clock, n.Epoch()))
	p.reload(t)
}

func (m *model) hearProposal(t *rapid.T) {
	p := m.pick(t, "to", hasState)
	if p == nil || len(m.proposals) == 0 {
		return
	}
	m.hear(t, p, one(t, "proposal", m.proposals))
}

func (m *model) hear(t *rapid.T, p *player, x *modelProposal) {
	switch {
	case !x.fits(p.on()):
		p.refuses(t, "a proposal of another epoch", processing(x.bytes))
		return
	case x.private && (x.by == p || p.have[x.ref]):
		p.refuses(t, "a private proposal again", processing(x.bytes))
		return
	}
	n, e, err := p.st.Process(x.bytes)
	ok(t, err)
	if string(e.ProposalRef) != x.ref {
		t.Fatal("a proposal has two references")
	}
	p.st, p.have[x.ref] = n, true
}

// readOne delivers a message that a player can open, out of order.
func (m *model) readOne(t *rapid.T) {
	p := m.pick(t, "to", func(p *player) bool {
		return slices.ContainsFunc(m.messages, func(x *modelMessage) bool { return p.opens(x, m.clock) != nil })
	})
	if p == nil {
		return
	}
	fit := slices.DeleteFunc(slices.Clone(m.messages), func(x *modelMessage) bool { return p.opens(x, m.clock) == nil })
	m.deliverMessage(t, p, one(t, "message", fit))
}

// deliverAnyMessage sends any message to anybody: again, too late, or of an epoch
// that the player was never in.
func (m *model) deliverAnyMessage(t *rapid.T) {
	p := m.pick(t, "to", hasState)
	if p == nil || len(m.messages) == 0 {
		return
	}
	m.deliverMessage(t, p, one(t, "message", m.messages))
}

func (m *model) deliverMessage(t *rapid.T, p *player, x *modelMessage) {
	s := p.opens(x, m.clock)
	if s == nil {
		p.refuses(t, "a message that is not for it or was read", decrypting(x.bytes))
		return
	}
	n, r, err := p.st.Decrypt(x.bytes)
	if err != nil {
		t.Fatalf("%s cannot open %q of epoch %d: %v", p.name, x.text, x.on.epoch, err)
	}
	if string(r.Data) != x.text || string(r.AAD) != "aad" || string(r.Credential.Identity) != x.by.name || r.Epoch != x.on.epoch {
		t.Fatalf("%s read %q from %s", p.name, r.Data, r.Credential.Identity)
	}
	if crashes(t) {
		return
	}
	p.st = n
	m.read(p, s, x)
}

// joinByWelcome delivers any Welcome to whom it names; it opens with the
// KeyPackage that is still there, once.
func (m *model) joinByWelcome(t *rapid.T) {
	var fit []*modelCommit
	p := m.pick(t, "who", func(p *player) bool {
		return (p.st == nil || p.out) && slices.ContainsFunc(m.commits, func(c *modelCommit) bool { return c.welcomed[p.name] != "" })
	})
	if p == nil {
		return
	}
	for _, c := range m.commits {
		if c.welcomed[p.name] != "" {
			fit = append(fit, c)
		}
	}
	c := one(t, "welcome", fit)
	p.lacks = c.psks && die(t, "lacks the key when 0", 4) == 0
	st, info, err := Join(p.cfg, c.welcome, c.tree, p.kps)
	kp, perr := mls.ParseKeyPackage(p.kps.KeyPackage)
	ok(t, perr)
	if string(kp.Leaf.EncryptionKey) != c.welcomed[p.name] {
		if err != ErrNotForUs {
			t.Fatalf("a welcome for a key package that is gone: %v", err)
		}
		p.lacks = false
		return
	}
	if p.lacks {
		if err != ErrNoPSK {
			t.Fatalf("a welcome without the key that it needs: %v", err)
		}
		p.lacks = false
		st, info, err = Join(p.cfg, c.welcome, c.tree, p.kps)
	}
	ok(t, err)
	if inviter := st.Public().Member(info.Inviter); string(inviter.Credential.Identity) != c.by.name {
		t.Fatalf("invited by %s", inviter.Credential.Identity)
	}
	if crashes(t) {
		return
	}
	p.kps.Erase()
	m.newKeyPackage(t, p)
	m.enter(t, p, st, c.number, nil)
	p.staged = nil
	p.reload(t)
}
