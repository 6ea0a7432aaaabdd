package group

import (
	"errors"
	"fmt"
	"slices"

	"github.com/entente-im/entente/mls"
	"pgregory.net/rapid"
)

// What the model's clients do of their own will, and the server's honest half:
// one Commit for each epoch.

// send is also done by who was removed and by who was led aside: the message is
// good for those who were in that epoch.
func (m *model) send(t *rapid.T) {
	p := m.pick(t, "from", hasState)
	if p == nil {
		return
	}
	if p.st.MustCommit() {
		if _, _, err := p.st.Encrypt(nil, nil, 0); !errors.Is(err, ErrPending) {
			t.Fatalf("%s speaks before it commits what waits: %v", p.name, err)
		}
		return
	}
	m.say(t, p)
}

func (m *model) say(t *rapid.T, p *player) *modelMessage {
	x := &modelMessage{number: len(m.messages), on: p.on(), by: p, text: fmt.Sprintf("message %d of %s", len(m.messages), p.name)}
	x.generation = int(p.st.own.app.generation)
	n, msg, err := p.st.Encrypt([]byte("aad"), []byte(x.text), 32)
	ok(t, err)
	p.st, x.bytes = n, msg
	m.messages = append(m.messages, x)
	return x
}

func (m *model) propose(t *rapid.T) {
	p := m.pick(t, "from", func(p *player) bool { return p.st != nil && len(p.st.Public().PendingRefs()) < 8 })
	if p == nil {
		return
	}
	var n *State
	var msg []byte
	var err error
	l, aad := p.on(), fmt.Appendf(nil, "proposal %d", len(m.proposals)) // two equal ones would have one reference
	kind := one(t, "kind", []string{"add", "remove", "update", "key", "extensions", "leave"})
	others, members := m.strangers(l), p.st.Members()
	switch {
	case kind == "add" && len(others) > 0:
		n, msg, err = p.st.ProposeAdd(one(t, "whom", others).kp, aad)
	case kind == "update":
		n, msg, err = p.st.ProposeUpdate(nil, aad)
	case kind == "key":
		n, msg, err = p.st.ProposePSK(external("coffee"), aad)
	case kind == "extensions":
		n, msg, err = p.st.ProposeExtensions(m.extensions(string(aad)), aad)
	case kind == "leave":
		if p.st.Public().IsLeaving(p.st.OwnLeaf()) {
			m.refusesSecondLeave(t, p)
			return
		}
		n, msg, err = p.st.ProposeSelfRemove(aad)
	default:
		n, msg, err = p.st.ProposeRemove(members[die(t, "whom", len(members))].Leaf, aad)
	}
	ok(t, err)
	p.st = n
	refs := n.Public().PendingRefs()
	x := &modelProposal{base: l, by: p, private: m.private && kind != "leave", leaves: kind == "leave", bytes: msg, ref: string(refs[len(refs)-1])}
	p.have[x.ref] = true
	m.proposals = append(m.proposals, x)
}

// stage makes a Commit and submits it; who has one under way makes another only
// after it gave that one up.
func (m *model) stage(t *rapid.T) {
	p := m.pick(t, "by", func(p *player) bool { return p.st != nil && !p.out })
	if p == nil || p.staged != nil && die(t, "give up when 0", 4) > 0 {
		return
	}
	params := CommitParams{ByReference: rapid.Bool().Draw(t, "by reference"), WelcomeTree: rapid.Bool().Draw(t, "welcome with tree")}
	l := p.on()
	proposed := map[string]bool{}
	for _, c := range p.st.Public().Pending() {
		if c.Proposal.Type == mls.ProposalAdd {
			proposed[string(c.Proposal.Add.Leaf.Credential.Identity)] = true
		}
	}
	for _, o := range m.strangers(l) {
		if !proposed[o.name] && die(t, "add when 0", 4) == 0 {
			params.Adds = append(params.Adds, o.kp)
		}
	}
	for _, x := range p.st.Members() {
		if x.Leaf != p.st.OwnLeaf() && die(t, "remove when 0", 8) == 0 {
			params.Removes = append(params.Removes, x.Leaf)
		}
	}
	m.moreParams(t, p, &params)
	n, st, err := p.st.Stage(params)
	ok(t, err)
	p.st = n
	m.submit(p, l, st, false).inline = params.WelcomeTree
}

func (m *model) submit(p *player, base *link, st *Staged, external bool) *modelCommit {
	c := &modelCommit{number: len(m.links), base: base, by: p, external: external, staged: st, bytes: st.Commit,
		welcome: st.Welcome, tree: st.Tree, refs: st.Effects.Committed, removed: identitiesOf(st.Effects.Removed), welcomed: map[string]string{}}
	if !external {
		for _, a := range st.Effects.Added {
			c.welcomed[string(a.Node.Credential.Identity)] = string(a.Node.EncryptionKey)
		}
	}
	for _, q := range st.Effects.Proposals {
		c.psks = c.psks || q.Proposal.Type == mls.ProposalPSK && !q.Proposal.PSK.Resumption
	}
	m.links = append(m.links, nil)
	m.commits = append(m.commits, c)
	p.staged = c
	return c
}

// accept is the honest server: the first Commit of an epoch wins, the hub checks it.
func (m *model) accept(t *rapid.T) {
	p := m.pick(t, "winner", func(p *player) bool { return p.staged != nil && p.staged.base == m.head })
	if p == nil {
		return
	}
	m.win(t, p.staged)
}

func (m *model) win(t *rapid.T, c *modelCommit) {
	if m.hub != nil {
		m.hubFollows(t, c)
	}
	m.accepted[m.head] = c
	// The link exists from here on, whether its maker comes back or not.
	st, err := c.staged.Apply(c.stateOf())
	ok(t, err)
	ghost := &player{name: c.by.name}
	m.head = m.enter(t, ghost, st, c.number, nil)
}

// stateOf is what the Staged is applied to: none after an external join.
func (c *modelCommit) stateOf() *State {
	if c.external {
		return nil
	}
	return c.by.st
}

func (m *model) hubFollows(t *rapid.T, c *modelCommit) {
	hub := m.hub
	var err error
	for _, x := range m.proposals {
		if x.fits(m.head) {
			hub, _, err = hub.Process(x.bytes)
			ok(t, err)
		}
	}
	if hub, err = mls.UnmarshalPublicGroup(hub.Marshal(), m.hubOptions()); err != nil {
		t.Fatal(err)
	}
	hub, e, err := hub.Process(c.bytes)
	ok(t, err)
	if !slices.Equal(identitiesOf(e.Removed), c.removed) {
		t.Fatalf("the hub saw %v removed, the committer %v", identitiesOf(e.Removed), c.removed)
	}
	ok(t, hub.CheckBundle(c.staged.GroupInfo, c.tree))
	m.hub = hub
}

// comeFromOutside makes an external Commit, usually for the present epoch; a lying
// server hands out an old GroupInfo.
func (m *model) comeFromOutside(t *rapid.T) {
	p := m.pick(t, "who", func(p *player) bool { return p.staged == nil && (p.st == nil || p.out || p.on() != m.head) })
	if p == nil {
		return
	}
	at := m.head
	if die(t, "old info when 0", 5) == 0 {
		known := slices.DeleteFunc(slices.Clone(m.links), func(l *link) bool { return l == nil })
		at = one(t, "info of", known)
	}
	m.external(t, p, at)
}

func (m *model) external(t *rapid.T, p *player, at *link) *modelCommit {
	_, member := at.members[p.name]
	params := ExternalParams{Credential: credential(p.name), ResyncOwn: true}
	if die(t, "with a key when 0", 3) == 0 {
		params.PSKs = []mls.PreSharedKeyID{external("coffee")}
	}
	for _, x := range m.proposals { // what the server passes on
		if x.leaves && x.base == at && die(t, "self-remove when above 0", 3) > 0 {
			params.SelfRemoves = append(params.SelfRemoves, x.bytes)
		}
	}
	if !member {
		if _, err := ExternalJoin(p.cfg, at.groupInfo, at.tree, params); err != ErrNotMember {
			t.Fatalf("resync of who is no member: %v", err)
		}
		params.ResyncOwn = false
	}
	st, err := ExternalJoin(p.cfg, at.groupInfo, at.tree, params)
	ok(t, err)
	return m.submit(p, at, st, true)
}
