package group

import (
	"slices"

	"pgregory.net/rapid"
)

// flip changes bits of anything that was ever sent. Only a Welcome has parts that
// are for others: with those changed it leads where the right one leads.
func (m *model) flip(t *rapid.T) {
	p := m.pick(t, "to", hasState)
	var all [][]byte
	for _, x := range m.messages {
		if p != nil && (x.on == p.on() || x.number%4 == 0) {
			all = append(all, x.bytes)
		}
	}
	for _, x := range m.proposals {
		all = append(all, x.bytes)
	}
	for _, c := range m.commits {
		if c.external && p != nil && slices.Contains(c.removed, p.name) { // aside_test.go: the tag that it cannot check
			continue
		}
		all = append(all, c.bytes)
	}
	if p == nil || len(all) == 0 {
		return
	}
	msg := bent(t, all[die(t, "message", len(all))])
	p.refuses(t, "bent bytes", processing(msg))
	p.refuses(t, "bent bytes", decrypting(msg))
	m.bendWelcome(t)
}

func bent(t *rapid.T, msg []byte) []byte {
	msg = slices.Clone(msg)
	msg[die(t, "at", len(msg))] ^= byte(1 + die(t, "bits", 255))
	return msg
}

func (m *model) bendWelcome(t *rapid.T) {
	for _, c := range m.commits {
		for _, name := range sortedNames(c.welcomed) {
			p := m.players[slices.IndexFunc(m.players, func(p *player) bool { return p.name == name })]
			right, _, err := Join(p.cfg, c.welcome, c.tree, p.kps)
			if err != nil {
				continue
			}
			st, _, err := Join(p.cfg, bent(t, c.welcome), c.tree, p.kps)
			if err == nil && string(st.EpochAuthenticator()) != string(right.EpochAuthenticator()) {
				t.Fatal("a bent welcome leads elsewhere")
			}
			return
		}
	}
}

// wrongTree gives the tree of one epoch with the GroupInfo or Welcome of another,
// and a tree with a byte changed.
func (m *model) wrongTree(t *rapid.T) {
	known := slices.DeleteFunc(slices.Clone(m.links), func(l *link) bool { return l == nil })
	p := one(t, "who", m.players)
	l, o := one(t, "info", known), one(t, "tree", known)
	tree := o.tree
	if string(tree) == string(l.tree) {
		tree = bent(t, tree)
	}
	if _, err := ExternalJoin(p.cfg, l.groupInfo, tree, ExternalParams{Credential: credential(p.name)}); err == nil {
		t.Fatal("joined by the tree of another epoch")
	}
	if _, err := ExternalJoin(p.cfg, bent(t, l.groupInfo), l.tree, ExternalParams{Credential: credential(p.name)}); err == nil {
		t.Fatal("joined by a bent group info")
	}
	for _, c := range m.commits {
		if c.welcomed[p.name] == "" || c.inline || string(c.tree) == string(tree) {
			continue
		}
		if _, _, err := Join(p.cfg, c.welcome, tree, p.kps); err == nil {
			t.Fatal("joined by welcome with the tree of another epoch")
		}
		return
	}
}

// settle is the end of each run: the server turns honest, everybody whom the group
// counts as a member catches up or comes back, and then all read each other.
func (m *model) settle(t *rapid.T) {
	for _, p := range m.players {
		if _, member := m.head.members[p.name]; member {
			m.bringBack(t, p)
		}
	}
	var in []*player
	for _, p := range m.players {
		if p.st == nil || p.out {
			continue
		}
		for m.accepted[p.on()] != nil && !p.out {
			m.mustCatchUp(t, p)
		}
		if !p.out && p.on() == m.head {
			in = append(in, p)
		}
	}
	if len(in) != len(m.head.members) {
		t.Fatalf("%d of %d members are back", len(in), len(m.head.members))
	}
	for _, p := range in {
		if p.st.MustCommit() {
			continue
		}
		x := m.say(t, p)
		for _, o := range m.players {
			if o.st != nil && o != p {
				m.deliverMessage(t, o, x)
			}
		}
	}
}

// mustCatchUp delivers until it is stored. Who gave up a Commit that was accepted
// comes from outside.
func (m *model) mustCatchUp(t *rapid.T, p *player) {
	c := m.accepted[p.on()]
	if c.by == p && !c.external && p.staged != c {
		m.comeBack(t, p)
		return
	}
	for at := p.on(); p.on() == at && !p.out; {
		m.deliverCommit(t, p, c)
	}
}

func (m *model) bringBack(t *rapid.T, p *player) {
	p.dropLost(m)
	if c := p.staged; c != nil && c.external {
		m.answerExternal(t, p)
	}
	for p.st != nil && !p.out && m.accepted[p.on()] != nil {
		m.mustCatchUp(t, p)
	}
	if p.st == nil || p.out || p.on() != m.head {
		m.comeBack(t, p)
	}
}

// dropLost forgets a Commit that can no longer be accepted.
func (p *player) dropLost(m *model) {
	if c := p.staged; c != nil && m.accepted[c.base] != c {
		p.staged = nil
	}
}

func (m *model) comeBack(t *rapid.T, p *player) {
	c := m.external(t, p, m.head)
	m.win(t, c)
	m.answerExternal(t, p)
}
