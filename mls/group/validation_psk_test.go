package group

import (
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
)

// mixing makes a PreSharedKey proposal, with one thing wrong.
func mixing(name string, edit func(w *world, id *mls.PreSharedKeyID)) func(*testing.T, *world) *mls.Proposal {
	return func(_ *testing.T, w *world) *mls.Proposal {
		id := &mls.PreSharedKeyID{ID: []byte(name), Nonce: mls.Random(w.hub.Suite().HashLen())}
		if edit != nil {
			edit(w, id)
		}
		return &mls.Proposal{Type: mls.ProposalPSK, PSK: id}
	}
}

// resuming makes the identity a resumption key's.
func resuming(usage uint8, epoch func(w *world) uint64) func(*world, *mls.PreSharedKeyID) {
	return func(w *world, id *mls.PreSharedKeyID) {
		id.ID, id.Resumption, id.Usage, id.GroupID, id.Epoch = nil, true, usage, w.hub.GroupID(), epoch(w)
	}
}

func present(w *world) uint64 { return w.hub.Epoch() }
func longAgo(*world) uint64   { return 0 }

var (
	badNonce = fault{mls.ErrProposal, "pre-shared key nonce"}
	badUsage = fault{mls.ErrProposal, "resumption usage"}
	pskTwice = fault{mls.ErrCommit, "pre-shared key twice"}
	noKey    = fault{ErrNoPSK, ""}
	noPolicy = fault{mls.ErrPolicy, ""}
)

// pskRules are about one PreSharedKey proposal (RFC 9420 §8.4, §12.1.4), by
// itself, in a Commit, in an external Commit, in a Welcome.
var pskRules = []struct {
	name  string
	make  func(*testing.T, *world) *mls.Proposal
	want  fault
	alone bool // shows by itself; else to who needs the key
}{
	{"psk-nonce-short", mixing("coffee", func(_ *world, id *mls.PreSharedKeyID) { id.Nonce = id.Nonce[1:] }), badNonce, true},
	{"psk-nonce-long", mixing("coffee", func(_ *world, id *mls.PreSharedKeyID) { id.Nonce = append(id.Nonce, 0) }), badNonce, true},
	{"psk-nonce-empty", mixing("coffee", func(_ *world, id *mls.PreSharedKeyID) { id.Nonce = nil }), badNonce, true},
	{"psk-usage-reinit", mixing("", resuming(mls.UsageReInit, present)), badUsage, true},
	{"psk-usage-branch", mixing("", resuming(mls.UsageBranch, present)), badUsage, true},
	{"psk-usage-unknown", mixing("", resuming(4, present)), fault{mls.ErrDecode, "resumption usage 4"}, true},
	{"psk-usage-zero", mixing("", resuming(0, present)), fault{mls.ErrDecode, "resumption usage 0"}, true},
	{"psk-not-here", mixing("water", nil), noKey, false},
	{"psk-of-a-forgotten-epoch", mixing("", resuming(mls.UsageApplication, longAgo)), noKey, false},
	{"psk-of-an-epoch-to-come", mixing("", resuming(mls.UsageApplication, func(w *world) uint64 { return w.hub.Epoch() + 1 })), noKey, false},
	{"psk-of-another-group", mixing("", func(w *world, id *mls.PreSharedKeyID) {
		resuming(mls.UsageApplication, present)(w, id)
		id.GroupID = []byte("other")
	}), noKey, false},
}

func init() {
	for _, r := range pskRules {
		one := func(t *testing.T, w *world) []*mls.Proposal { return []*mls.Proposal{r.make(t, w)} }
		list := []messageRule{
			{name: r.name, entry: "commit", routes: memberOnly, want: r.want, make: commits(one)},
			{name: r.name, entry: "external-commit", routes: rPublic, want: r.want, make: comes(one)},
		}
		if r.alone {
			list[0].routes, list[1].routes = rAll, rOpen
			list = append(list, messageRule{name: r.name, entry: "proposal", routes: rAll, want: r.want, make: proposes(r.make)})
		}
		registerMessages(list)
		registerWelcomes([]welcomeRule{{name: r.name, peeks: true, want: r.want, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
			return w.welcomeWith(t, x, r.make(t, w)), x
		}}})
	}
}

// welcomeWith is the Welcome of a Commit that adds x and mixes keys in.
func (w *world) welcomeWith(t *testing.T, x *client, list ...*mls.Proposal) []byte {
	t.Helper()
	p := plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}}
	for _, q := range list {
		p.list = append(p.list, byForger(q))
	}
	return w.forge(t, p).welcome(t, x, welcomePlan{})
}

// Of several keys at once (§8.4, §12.2, §12.4.3.1).
type keyList = func(*testing.T, *world) []*mls.Proposal

var coffee, tea = mixing("coffee", nil), mixing("tea", nil)

func noKeys(*testing.T, *world) []*mls.Proposal { return nil }

func bothKeys(t *testing.T, w *world) []*mls.Proposal {
	return []*mls.Proposal{coffee(t, w), tea(t, w)}
}

func oneKeyTwice(t *testing.T, w *world) []*mls.Proposal {
	return []*mls.Proposal{coffee(t, w), coffee(t, w)}
}

func tooManyKeys(t *testing.T, w *world) (out []*mls.Proposal) {
	for i := range mls.MaxPSKs + 1 {
		out = append(out, mixing(string(rune('a'+i)), nil)(t, w))
	}
	return out
}

// Other lists of keys than the Commit's.
func backwards(l []*mls.PreSharedKeyID) []*mls.PreSharedKeyID {
	l = slices.Clone(l)
	slices.Reverse(l)
	return l
}

func onlyTheFirst(l []*mls.PreSharedKeyID) []*mls.PreSharedKeyID { return l[:1] }

func oneUnasked([]*mls.PreSharedKeyID) []*mls.PreSharedKeyID {
	return []*mls.PreSharedKeyID{{ID: []byte("coffee"), Nonce: make([]byte, 32)}}
}

func otherNonce(l []*mls.PreSharedKeyID) []*mls.PreSharedKeyID {
	id := *l[0]
	id.Nonce = mls.Random(32)
	return append([]*mls.PreSharedKeyID{&id}, l[1:]...)
}

func otherKey(l []*mls.PreSharedKeyID) []*mls.PreSharedKeyID {
	id := *l[0]
	id.ID = []byte("milk")
	return append([]*mls.PreSharedKeyID{&id}, l[1:]...)
}

// scheduled is a Commit whose psk_secret is of another list than its proposals.
func scheduled(make keyList, psks func([]*mls.PreSharedKeyID) []*mls.PreSharedKeyID) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack {
		a := commits(make)(t, w)
		a.plan.psks = psks
		return a
	}
}

// welcomed is a Welcome whose GroupSecrets name another list than the Commit.
func welcomed(make keyList, psks func([]*mls.PreSharedKeyID) []*mls.PreSharedKeyID) func(*testing.T, *world, *client) ([]byte, *client) {
	return func(t *testing.T, w *world, x *client) ([]byte, *client) {
		p := plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}}
		for _, q := range make(t, w) {
			p.list = append(p.list, byForger(q))
		}
		edit := func(g *mls.GroupSecrets) {
			if psks != nil {
				g.PSKs = psks(g.PSKs)
			}
		}
		return w.forge(t, p).welcome(t, x, welcomePlan{secrets: edit}), x
	}
}

var keyListRules = []messageRule{
	{name: "psk-twice", entry: "commit", routes: rAll, want: pskTwice, make: commits(oneKeyTwice)},
	{name: "psk-twice", entry: "external-commit", routes: rOpen, want: pskTwice, make: comes(oneKeyTwice)},
	{name: "psk-by-reference-and-value", entry: "commit", routes: rAll, want: pskTwice, make: func(t *testing.T, w *world) attack {
		msg, sent := w.received(t, third, coffee(t, w))
		return attack{plan: plan{list: []mls.Sent{sent, byForger(coffee(t, w))}}, before: [][]byte{msg}}
	}},
	{name: "psk-too-many", entry: "commit", routes: rAll, want: fault{mls.ErrLimit, "pre-shared keys"}, make: commits(tooManyKeys)},
	{name: "psk-too-many", entry: "external-commit", routes: rOpen, want: fault{mls.ErrLimit, "pre-shared keys"}, make: comes(tooManyKeys)},
	{name: "psk-of-the-external-sender", entry: "external-proposal", routes: rOpen, want: notFromHub,
		make: func(t *testing.T, w *world) attack { return attack{plan: w.fromHub(coffee(t, w))} }},
	// psk_secret is in the confirmation tag
	{name: "psk-in-another-order", entry: "commit", routes: memberOnly, want: badTag, make: scheduled(bothKeys, backwards)},
	{name: "psk-left-out", entry: "commit", routes: memberOnly, want: badTag, make: scheduled(bothKeys, onlyTheFirst)},
	{name: "psk-not-in-the-list", entry: "commit", routes: memberOnly, want: badTag, make: scheduled(noKeys, oneUnasked)},
	{name: "psk-with-another-nonce", entry: "commit", routes: memberOnly, want: badTag, make: scheduled(bothKeys, otherNonce)},
	{name: "psk-with-another-key", entry: "commit", routes: memberOnly, want: badTag, make: scheduled(bothKeys, otherKey)},
}

var welcomeKeyRules = []welcomeRule{
	{name: "psk-twice", peeks: true, want: pskTwice, make: welcomed(oneKeyTwice, nil)},
	{name: "psk-too-many", peeks: true, want: fault{mls.ErrLimit, "pre-shared keys"}, make: welcomed(tooManyKeys, nil)},
	{name: "psk-in-another-order", peeks: true, want: welcomeCrypto, make: welcomed(bothKeys, backwards)},
	{name: "psk-left-out", peeks: true, want: welcomeCrypto, make: welcomed(bothKeys, onlyTheFirst)},
	{name: "psk-not-in-the-list", peeks: true, want: welcomeCrypto, make: welcomed(noKeys, oneUnasked)},
	{name: "psk-with-another-nonce", peeks: true, want: welcomeCrypto, make: welcomed(bothKeys, otherNonce)},
	{name: "psk-without-a-policy", peeks: true, want: noPolicy, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
		msg := w.welcomeWith(t, x, coffee(t, w))
		x.cfg.PSK = nil
		return msg, x
	}},
}

func init() {
	registerMessages(keyListRules)
	registerWelcomes(welcomeKeyRules)
	for entry, p := range map[string]func(t *testing.T, w *world) plan{
		"proposal": func(t *testing.T, w *world) plan { return plan{proposal: coffee(t, w)} },
		"commit":   func(t *testing.T, w *world) plan { return plan{list: []mls.Sent{byForger(coffee(t, w))}} },
	} {
		for _, way := range routes {
			negative("psk-without-a-policy", way.prefix+entry, func(t *testing.T) {
				w := theWorld(t)
				noPolicy.check(t, w.withoutPSKs(t).deliver(t, way.route, nil, p(t, w)))
			})
		}
	}
	for name, r := range map[string]struct {
		params CommitParams
		want   fault
	}{
		"psk-not-here":     {CommitParams{PSKs: []mls.PreSharedKeyID{{ID: []byte("water")}}}, noKey},
		"psk-twice":        {CommitParams{PSKs: []mls.PreSharedKeyID{{ID: []byte("tea")}, {ID: []byte("tea")}}}, pskTwice},
		"psk-usage-branch": {CommitParams{PSKs: []mls.PreSharedKeyID{{Resumption: true, Usage: mls.UsageBranch}}}, badUsage},
		"psk-usage-reinit": {CommitParams{PSKs: []mls.PreSharedKeyID{{Resumption: true, Usage: mls.UsageReInit}}}, badUsage},
	} {
		negative(name, "stage", func(t *testing.T) { r.want.check(t, theWorld(t).stages(t, r.params)) })
	}
}

// withoutPSKs is the world with a victim and a hub that take no pre-shared keys.
func (w *world) withoutPSKs(t *testing.T) *world {
	t.Helper()
	n := *w
	c := w.at(t, victim)
	c.cfg.PSK = nil
	c.reload()
	n.members = map[mls.LeafIndex]*client{victim: c, forger: w.members[forger], third: w.members[third]}
	var err error
	n.hub, err = mls.UnmarshalPublicGroup(w.hub.Marshal(), mls.PublicOptions{Validator: ruleValidator{}})
	must(t, err)
	return &n
}

// A ReInit is read and refused everywhere (§12.1.5): groups here end and begin
// anew.
func init() {
	for name, make := range map[string]func(w *world) *mls.ReInit{
		"reinit":                   func(w *world) *mls.ReInit { return &mls.ReInit{GroupID: []byte("next"), Version: 1, Suite: testSuite} },
		"reinit-to-a-version-less": func(w *world) *mls.ReInit { return &mls.ReInit{GroupID: []byte("next"), Suite: testSuite} },
	} {
		q := func(_ *testing.T, w *world) *mls.Proposal {
			return &mls.Proposal{Type: mls.ProposalReInit, ReInit: make(w)}
		}
		one := func(t *testing.T, w *world) []*mls.Proposal { return []*mls.Proposal{q(t, w)} }
		with := func(t *testing.T, w *world) []*mls.Proposal { return []*mls.Proposal{remove(5), q(t, w)} }
		want := fault{mls.ErrReInit, ""}
		registerMessages([]messageRule{
			{name: name, entry: "proposal", routes: rAll, want: want, make: proposes(q)},
			{name: name, entry: "commit", routes: rAll, want: want, make: commits(one)},
			{name: name + "-without-path", entry: "commit", routes: rAll, want: fault{mls.ErrPathRequired, ""}, make: noPathOf(one)},
			{name: name + "-and-another", entry: "commit", routes: rAll, want: want, make: commits(with)},
			{name: name, entry: "external-commit", routes: rOpen, want: want, make: comes(one)},
			{name: name, entry: "external-proposal", routes: rOpen, want: notFromHub,
				make: func(t *testing.T, w *world) attack { return attack{plan: w.fromHub(q(t, w))} }},
		})
	}
}

func TestEveryForgeryWithPreSharedKeysIsTakenWhenNothingIsWrong(t *testing.T) {
	keys := func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{mixing("coffee", nil)(t, w), mixing("", resuming(mls.UsageApplication, present))(t, w)}
	}
	for _, way := range routes {
		t.Run(way.prefix+"commit", func(t *testing.T) {
			w := theWorld(t)
			must(t, w.deliver(t, way.route, nil, commits(keys)(t, w).plan))
		})
	}
	for _, way := range []route{rPublic, rHub} {
		w := theWorld(t)
		one := func(t *testing.T, w *world) []*mls.Proposal { return keys(t, w)[:1] }
		must(t, w.deliver(t, way, nil, comes(one)(t, w).plan))
	}
	w, x := theWorld(t), newcomer(t, "x")
	must(t, tryJoin(t, x, w.welcomeWith(t, x, mixing("coffee", nil)(t, w), mixing("tea", nil)(t, w)), nil))
}
