package group

import (
	"maps"
	"testing"

	"github.com/entente-im/entente/mls"
)

// proposalRule is a rule of RFC 9420 §12.1 about one proposal, wherever it
// stands. alone and inCommit are the faults there; a nil error: no such case.
type proposalRule struct {
	name     string
	make     func(t *testing.T, w *world) *mls.Proposal
	alone    fault
	inCommit fault
	outside  fault // in an external Commit
	fromHub  fault // of the external sender
}

func extensionsOf(list func(w *world) []mls.Extension) func(*testing.T, *world) *mls.Proposal {
	return func(_ *testing.T, w *world) *mls.Proposal {
		return &mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: list(w)}
	}
}

func just(p *mls.Proposal) func(*testing.T, *world) *mls.Proposal {
	return func(*testing.T, *world) *mls.Proposal { return p }
}

// more are the world's extensions with one more, or another of the same type.
func (w *world) more(e mls.Extension) []mls.Extension {
	var out []mls.Extension
	for _, x := range w.ext {
		if x.Type != e.Type {
			out = append(out, x)
		}
	}
	return append(out, e)
}

func requires(rc mls.RequiredCapabilities) func(*testing.T, *world) *mls.Proposal {
	return extensionsOf(func(w *world) []mls.Extension { return w.more(rc.Extension()) })
}

var (
	notOutside = fault{mls.ErrCommit, "proposals not allowed in an external commit"}
	notFromHub = fault{mls.ErrSender, "external sender with proposal type"}
)

var proposalRules = []proposalRule{
	// §12.1.3
	{name: "remove-of-a-blank-leaf", make: just(remove(vacant)), alone: fault{mls.ErrProposal, "blank leaf 3"},
		inCommit: fault{mls.ErrProposal, "blank leaf 3"}, outside: fault{mls.ErrProposal, "blank leaf 3"}, fromHub: fault{mls.ErrProposal, "blank leaf 3"}},
	{name: "remove-outside-the-tree", make: just(remove(1 << 20)), alone: fault{mls.ErrProposal, "blank leaf"},
		inCommit: fault{mls.ErrProposal, "blank leaf"}, outside: fault{mls.ErrProposal, "blank leaf"}, fromHub: fault{mls.ErrProposal, "blank leaf"}},
	{name: "remove-of-the-last-index", make: just(remove(1<<32 - 1)), alone: fault{mls.ErrProposal, "blank leaf"},
		inCommit: fault{mls.ErrProposal, "blank leaf"}, outside: fault{mls.ErrProposal, "blank leaf"}, fromHub: fault{mls.ErrProposal, "blank leaf"}},
	// §12.1.6
	{name: "external-init-of-a-member", make: just(&mls.Proposal{Type: mls.ProposalExternalInit, KEMOutput: make([]byte, 32)}),
		alone: fault{mls.ErrProposal, "external init outside"}, inCommit: fault{mls.ErrCommit, "external init by a member"},
		outside: notOutside, fromHub: notFromHub},
	// §12.1.7, §11.1, §13.4
	{name: "extensions-twice", make: extensionsOf(func(w *world) []mls.Extension { return append(w.ext[:1:1], w.ext...) }),
		alone: fault{mls.ErrDecode, "twice"}, inCommit: fault{mls.ErrDecode, "twice"}, outside: fault{mls.ErrDecode, "twice"}, fromHub: fault{mls.ErrDecode, "twice"}},
	{name: "extensions-refused-by-policy", make: extensionsOf(func(w *world) []mls.Extension { return w.more(mls.Extension{Type: 0xF0AD}) }),
		alone: fault{mls.ErrCredential, "denied"}, inCommit: fault{mls.ErrCredential, "denied"}, outside: notOutside, fromHub: notFromHub},
	{name: "extensions-with-malformed-requirements",
		make: extensionsOf(func(w *world) []mls.Extension {
			return w.more(mls.Extension{Type: mls.ExtensionRequiredCapabilities, Data: []byte{1, 0}})
		}),
		alone: fault{mls.ErrDecode, ""}, inCommit: fault{mls.ErrDecode, ""}, outside: notOutside, fromHub: notFromHub},
	{name: "extensions-with-malformed-senders",
		make: extensionsOf(func(w *world) []mls.Extension {
			return w.more(mls.Extension{Type: mls.ExtensionExternalSenders, Data: []byte{3, 1, 0}})
		}),
		alone: fault{mls.ErrDecode, ""}, inCommit: fault{mls.ErrDecode, ""}, outside: notOutside, fromHub: notFromHub},
	{name: "extensions-not-supported-by-all", make: extensionsOf(func(w *world) []mls.Extension { return w.more(mls.Extension{Type: 0xF123}) }),
		inCommit: fault{mls.ErrLeaf, "no capability for the group's extension"}, outside: notOutside, fromHub: notFromHub},
	{name: "extensions-requiring-an-extension", make: requires(mls.RequiredCapabilities{Extensions: []mls.ExtensionType{0xF123}}),
		inCommit: fault{mls.ErrLeaf, "lacks required extension"}, outside: notOutside, fromHub: notFromHub},
	{name: "extensions-requiring-a-proposal", make: requires(mls.RequiredCapabilities{Proposals: []mls.ProposalType{0xF123}}),
		inCommit: fault{mls.ErrLeaf, "lacks required proposal"}, outside: notOutside, fromHub: notFromHub},
	{name: "extensions-requiring-a-credential", make: requires(mls.RequiredCapabilities{Credentials: []mls.CredentialType{strange}}),
		inCommit: fault{mls.ErrLeaf, "lacks required credential"}, outside: notOutside, fromHub: notFromHub},
	// §12.1.8, and ours: the external sender removes, and does nothing else
	{name: "add-of-the-external-sender", make: addOfX, outside: notOutside, fromHub: notFromHub},
	{name: "update-of-the-external-sender", make: updateOfThird, outside: fault{mls.ErrCommit, "by value"}, fromHub: notFromHub},
}

func addOfX(t *testing.T, _ *world) *mls.Proposal { return add(newcomer(t, "x").keyPackageOf()) }

func updateOfThird(t *testing.T, w *world) *mls.Proposal {
	return updated(t, w, third, func(*world, *draft) {})
}

func init() {
	for _, r := range proposalRules {
		var list []messageRule
		if r.alone.err != nil {
			list = append(list, messageRule{name: r.name, entry: "proposal", routes: rAll, make: proposes(r.make), want: r.alone})
		}
		if r.inCommit.err != nil {
			list = append(list, messageRule{name: r.name, entry: "commit", routes: rAll, want: r.inCommit,
				make: commits(func(t *testing.T, w *world) []*mls.Proposal { return []*mls.Proposal{r.make(t, w)} })})
		}
		if r.outside.err != nil {
			list = append(list, messageRule{name: r.name, entry: "external-commit", routes: rOpen, want: r.outside,
				make: comes(func(t *testing.T, w *world) []*mls.Proposal { return []*mls.Proposal{r.make(t, w)} })})
		}
		if r.fromHub.err != nil {
			list = append(list, messageRule{name: r.name, entry: "external-proposal", routes: rOpen, want: r.fromHub,
				make: func(t *testing.T, w *world) attack { return attack{plan: w.fromHub(r.make(t, w))} }})
		}
		registerMessages(list)
	}
}

// What a member is asked to make itself.
func init() {
	for name, r := range map[string]struct {
		try  func(t *testing.T, w *world) error
		want fault
	}{
		"remove-of-a-blank-leaf/propose":  {func(t *testing.T, w *world) error { return w.proposesRemove(t, vacant) }, fault{mls.ErrProposal, "blank leaf"}},
		"remove-outside-the-tree/propose": {func(t *testing.T, w *world) error { return w.proposesRemove(t, 1<<20) }, fault{mls.ErrProposal, "blank leaf"}},
		"remove-of-a-blank-leaf/stage": {func(t *testing.T, w *world) error {
			return w.stages(t, CommitParams{Removes: []mls.LeafIndex{vacant}})
		}, fault{mls.ErrProposal, "blank leaf"}},
		"remove-outside-the-tree/stage": {func(t *testing.T, w *world) error {
			return w.stages(t, CommitParams{Removes: []mls.LeafIndex{1 << 20}})
		}, fault{mls.ErrProposal, "blank leaf"}},
		"remove-of-a-blank-leaf/hub-propose":  {func(t *testing.T, w *world) error { return w.hubRemoves(vacant) }, fault{mls.ErrProposal, "blank leaf"}},
		"remove-outside-the-tree/hub-propose": {func(t *testing.T, w *world) error { return w.hubRemoves(1 << 20) }, fault{mls.ErrProposal, "blank leaf"}},
		"extensions-refused-by-policy/stage": {func(t *testing.T, w *world) error {
			return w.stages(t, CommitParams{Extensions: w.more(mls.Extension{Type: 0xF0AD})})
		}, fault{mls.ErrCredential, "denied"}},
		"extensions-not-supported-by-all/stage": {func(t *testing.T, w *world) error {
			return w.stages(t, CommitParams{Extensions: w.more(mls.Extension{Type: 0xF123})})
		}, fault{mls.ErrLeaf, "no capability"}},
		"extensions-requiring-an-extension/stage": {func(t *testing.T, w *world) error {
			rc := mls.RequiredCapabilities{Extensions: []mls.ExtensionType{0xF123}}
			return w.stages(t, CommitParams{Extensions: w.more(rc.Extension())})
		}, fault{mls.ErrLeaf, "lacks required extension"}},
	} {
		negatives[name] = func(t *testing.T) { r.want.check(t, r.try(t, theWorld(t))) }
	}
}

func (w *world) proposesRemove(t *testing.T, l mls.LeafIndex) error {
	return w.at(t, victim).attempt(func(s *State) (*State, error) { n, _, err := s.ProposeRemove(l, nil); return n, err })
}

func (w *world) hubRemoves(l mls.LeafIndex) error {
	_, err := w.hub.NewExternalRemove(w.hubKey, 0, l, nil)
	return err
}

// A validator that knows nothing of group extensions takes none (§12.1.7): they
// say who the hub is and what the room's rules are.
func init() {
	change := func(w *world) *mls.Proposal {
		return &mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: w.ext}
	}
	for entry, make := range map[string]func(w *world) plan{
		"proposal": func(w *world) plan { return plan{proposal: change(w)} },
		"commit":   func(w *world) plan { return plan{list: []mls.Sent{byForger(change(w))}} },
	} {
		refused := fault{mls.ErrPolicy, "group context extensions"}
		for _, way := range routes {
			negative("extensions-without-a-policy", way.prefix+entry, func(t *testing.T) {
				w := *theWorld(t)
				c := w.at(t, victim)
				c.cfg.Validator = testValidator{}
				c.reload()
				w.members = maps.Clone(w.members)
				w.members[victim] = c
				var err error
				w.hub, err = mls.UnmarshalPublicGroup(w.hub.Marshal(), mls.PublicOptions{Validator: testValidator{}})
				must(t, err)
				refused.check(t, w.deliver(t, way.route, nil, make(&w)))
			})
		}
	}
	negative("extensions-without-a-policy", "stage", func(t *testing.T) {
		w := *theWorld(t)
		c := w.at(t, victim)
		c.cfg.Validator = testValidator{}
		c.reload()
		w.members = map[mls.LeafIndex]*client{victim: c}
		fault{mls.ErrPolicy, "group context extensions"}.check(t, w.stages(t, CommitParams{Extensions: w.ext}))
	})
}
