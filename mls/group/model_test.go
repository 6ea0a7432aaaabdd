package group

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"pgregory.net/rapid"
)

// The model is a room of up to twelve clients behind a server that lies as it
// likes. Each Commit leads to an epoch of its own, a link: members on the same
// link agree on everything, and what one link's members send nobody else opens.
// The model knows for every delivery whether it has to succeed.

const modelClients = 12

// link is an epoch as the one Commit that led to it made it.
type link struct {
	number    int
	epoch     uint64
	members   map[string]mls.LeafIndex // of the model's clients
	auth      string
	treeHash  string
	exported  string
	groupInfo []byte
	tree      []byte
}

// modelCommit is a Commit that was made, accepted or not. The link it leads to
// has its number.
type modelCommit struct {
	number   int
	base     *link
	by       *player
	external bool
	staged   *Staged
	bytes    []byte
	welcome  []byte
	inline   bool // the Welcome has the tree
	tree     []byte
	refs     [][]byte          // proposals by reference
	welcomed map[string]string // KeyPackage reference of who was added
	removed  []string          // names
	psks     bool              // needs the key that all clients share
}

type modelProposal struct {
	base    *link
	by      *player // nil: the hub, as external sender
	private bool
	leaves  bool          // a SelfRemove
	whom    mls.LeafIndex // of the hub's Remove
	bytes   []byte
	ref     string
}

type modelMessage struct {
	number     int
	on         *link
	by         *player
	generation int
	bytes      []byte
	text       string
}

// model is the server, the clients and what the model knows of both.
type model struct {
	clock     time.Time
	aged      time.Duration
	private   bool
	hubKey    ed25519.PrivateKey // of the external sender
	players   []*player
	links     []*link // by number of the Commit; nil when nobody may be there
	head      *link
	hub       *mls.PublicGroup // nil when handshakes are private
	commits   []*modelCommit
	accepted  map[*link]*modelCommit // by base: the server's honest order
	proposals []*modelProposal
	messages  []*modelMessage
}

func newModel(t *rapid.T) *model {
	m := &model{clock: time.Now().Truncate(time.Second), private: rapid.Bool().Draw(t, "private handshakes"), accepted: map[*link]*modelCommit{}}
	var err error
	_, m.hubKey, err = ed25519.GenerateKey(nil)
	ok(t, err)
	for i := range modelClients {
		_, key, err := ed25519.GenerateKey(nil)
		ok(t, err)
		p := &player{name: fmt.Sprintf("p%d", i), opened: map[int]bool{}, gone: map[*modelCommit]bool{}}
		p.cfg = Config{Validator: modelValidator{}, Signer: key, Private: m.private, Now: func() time.Time { return m.clock }, PSK: p.source}
		m.newKeyPackage(t, p)
		m.players = append(m.players, p)
	}
	first := m.players[0]
	st, err := Create(first.cfg, CreateParams{Suite: testSuite, GroupID: []byte("room"), Credential: credential(first.name), Extensions: m.extensions("first")})
	ok(t, err)
	m.links = append(m.links, nil)
	m.head = m.enter(t, first, st, 0, nil)
	if !m.private {
		info, err := st.GroupInfo(true)
		ok(t, err)
		m.hub, err = mls.NewPublicGroup(info, nil, m.hubOptions())
		ok(t, err)
	}
	return m
}

func ok(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) newKeyPackage(t *rapid.T, p *player) {
	var err error
	p.kp, p.kps, err = NewKeyPackage(KeyPackageParams{
		Suite: testSuite, Signer: p.cfg.Signer, Credential: credential(p.name),
		NotBefore: m.clock.Add(-time.Hour), NotAfter: m.clock.Add(90 * 24 * time.Hour),
	})
	ok(t, err)
}

// enter puts a player on the link of a Commit, and holds it to what everybody
// else on that link has.
func (m *model) enter(t *rapid.T, p *player, st *State, number int, past []*stay) *link {
	secret, err := st.Export("model", []byte("x"), 32)
	ok(t, err)
	l := m.links[number]
	if l == nil {
		l = &link{number: number, epoch: st.Epoch(), members: map[string]mls.LeafIndex{}, tree: st.Tree()}
		l.auth, l.treeHash, l.exported = string(st.EpochAuthenticator()), string(st.Public().TreeHash()), string(secret)
		for _, x := range st.Members() {
			l.members[string(x.Node.Credential.Identity)] = x.Leaf
		}
		l.groupInfo, err = st.GroupInfo(false)
		ok(t, err)
		for _, o := range m.links {
			if o != nil && (o.auth == l.auth || o.exported == l.exported) {
				t.Fatalf("commits %d and %d lead to the same secrets", o.number, number)
			}
		}
		m.links[number] = l
	}
	if l.epoch != st.Epoch() || l.treeHash != string(st.Public().TreeHash()) || l.auth != string(st.EpochAuthenticator()) || l.exported != string(secret) {
		t.Fatalf("%s disagrees with the others after commit %d", p.name, number)
	}
	if leaf, in := l.members[p.name]; !in || leaf != st.OwnLeaf() {
		t.Fatalf("%s is at leaf %d, others have it at %d", p.name, st.OwnLeaf(), leaf)
	}
	p.st, p.out, p.have = st, false, map[string]bool{}
	p.stays = append([]*stay{{on: l, next: map[string]int{}, skipped: map[int]time.Time{}}}, past...)
	p.stays = p.stays[:min(len(p.stays), 1+DefaultPastEpochs)]
	return l
}

// agree compares every player with the link that it is on.
func (m *model) agree(t *rapid.T) {
	for _, p := range m.players {
		if p.st == nil {
			continue
		}
		if l := p.on(); string(p.st.EpochAuthenticator()) != l.auth || string(p.st.Public().TreeHash()) != l.treeHash {
			t.Fatalf("%s drifted from the others of epoch %d", p.name, l.epoch)
		}
	}
}

// pick draws a player for which want holds, nil when there is none.
func (m *model) pick(t *rapid.T, label string, want func(*player) bool) *player {
	var fit []*player
	for _, p := range m.players {
		if want(p) {
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return one(t, label, fit)
}

func hasState(p *player) bool { return p.st != nil }

// strangers are the clients that a Commit on this link could add.
func (m *model) strangers(l *link) []*player {
	return slices.DeleteFunc(slices.Clone(m.players), func(p *player) bool { _, in := l.members[p.name]; return in })
}

func identitiesOf(of []mls.Member) []string {
	var out []string
	for _, x := range of {
		out = append(out, string(x.Node.Credential.Identity))
	}
	slices.Sort(out)
	return out
}

// TestRoomModel runs short by default; ENTENTE_MODEL_STEPS is the number of steps
// in each of rapid's runs, -rapid.checks the number of runs.
func TestRoomModel(t *testing.T) {
	set := func(name, value string) {
		f := flag.Lookup(name)
		old := f.Value.String()
		if old == f.DefValue {
			must(t, f.Value.Set(value))
			t.Cleanup(func() { f.Value.Set(old) })
		}
	}
	set("rapid.checks", "8") // rapid itself divides by five with -short
	set("rapid.nofailfile", "true")
	set("rapid.shrinktime", "10s")
	steps := 200
	if v := os.Getenv("ENTENTE_MODEL_STEPS"); v != "" {
		var err error
		steps, err = strconv.Atoi(v)
		must(t, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		actions := m.actions()
		for range steps {
			one(t, "action", actions).do(t)
			if die(t, "restart when 0", 4) == 0 {
				m.restart(t)
			}
			m.agree(t)
		}
		m.settle(t)
	})
}

type action struct {
	name string
	do   func(*rapid.T)
}

func (a action) GoString() string { return a.name }

// actions has each action as often as it is to be taken.
func (m *model) actions() (out []action) {
	for _, a := range []struct {
		times int
		action
	}{
		{4, action{"send", m.send}}, {6, action{"read", m.readOne}}, {4, action{"lie about messages", m.deliverAnyMessage}},
		{3, action{"propose", m.propose}}, {1, action{"the hub proposes", m.hubProposes}}, {3, action{"hear a proposal", m.hearProposal}},
		{3, action{"stage", m.stage}}, {2, action{"accept", m.accept}}, {8, action{"catch up", m.catchUpOne}},
		{1, action{"lie about commits", m.deliverAnyCommit}}, {4, action{"join", m.joinByWelcome}},
		{2, action{"come from outside", m.comeFromOutside}}, {1, action{"flip", m.flip}}, {1, action{"wrong tree", m.wrongTree}},
		{2, action{"time passes", m.timePasses}},
	} {
		for range a.times {
			out = append(out, a.action)
		}
	}
	return out
}

// die draws a number below n, each as likely as the others: rapid's own numbers
// lean to the small ones, and a room that hardly moves shows nothing.
func die(t *rapid.T, label string, n int) int {
	return rapid.Custom(func(t *rapid.T) int {
		v := 0
		for range 16 {
			v *= 2
			if rapid.Bool().Draw(t, "bit") {
				v++
			}
		}
		return v % n
	}).Draw(t, label)
}

func one[T any](t *rapid.T, label string, from []T) T {
	return rapid.Custom(func(t *rapid.T) T { return from[die(t, label, len(from))] }).Draw(t, label)
}

func (m *model) timePasses(t *rapid.T) {
	d := time.Duration(1+die(t, "hours", 30)) * time.Hour
	if m.private || m.aged+d > 60*24*time.Hour { // skipped keys of handshakes age as well; KeyPackages last 90 days
		return
	}
	m.clock, m.aged = m.clock.Add(d), m.aged+d
}

func (m *model) restart(t *rapid.T) {
	p := m.pick(t, "who", hasState)
	if p == nil {
		return
	}
	p.reload(t)
}

func sortedNames(in map[string]string) []string { return slices.Sorted(maps.Keys(in)) }
