package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

// A SelfRemove (draft-ietf-mls-extensions) is public, of a member, about itself,
// by reference, and committed by another.
func leaving(*testing.T, *world) *mls.Proposal {
	return &mls.Proposal{Type: mls.ProposalSelfRemove}
}

func leavingOf(l mls.LeafIndex) func(*testing.T, *world) byMember {
	return func(*testing.T, *world) byMember { return byMember{l: {{Type: mls.ProposalSelfRemove}}} }
}

var selfRemoveRules = []messageRule{
	{name: "self-remove-private", entry: "proposal", routes: rPrivate, want: fault{mls.ErrProposal, "private"}, make: proposes(leaving)},
	{name: "self-remove-of-the-external-sender", entry: "external-proposal", routes: rOpen, want: notFromHub,
		make: func(t *testing.T, w *world) attack { return attack{plan: w.fromHub(leaving(t, w))} }},
	{name: "self-remove-by-value", entry: "commit", routes: rAll, want: fault{mls.ErrCommit, "by value"},
		make: commits(func(t *testing.T, w *world) []*mls.Proposal { return []*mls.Proposal{leaving(t, w)} })},
	{name: "self-remove-by-value", entry: "external-commit", routes: rOpen, want: fault{mls.ErrCommit, "by value"},
		make: comes(func(t *testing.T, w *world) []*mls.Proposal { return []*mls.Proposal{leaving(t, w)} })},
	{name: "self-remove-of-the-committer", entry: "commit", routes: rAll, want: itself, make: listed(leavingOf(forger), nil)},
	{name: "self-remove-and-remove", entry: "commit", routes: rAll, want: twice, make: listed(leavingOf(third),
		func(*testing.T, *world) []*mls.Proposal { return []*mls.Proposal{remove(third)} })},
	{name: "self-remove-and-remove", entry: "external-commit", routes: rOpen, want: twice, make: func(t *testing.T, w *world) attack {
		a := listed(leavingOf(third), nil)(t, w)
		p := w.resync(t, third, nil)
		p.list = append(p.list, a.plan.list...)
		return attack{plan: p, before: a.before}
	}},
	{name: "self-remove-and-update", entry: "commit", routes: rAll, want: twice, make: listed(func(t *testing.T, w *world) byMember {
		return byMember{third: {updateOfThird(t, w), leaving(t, w)}}
	}, nil)},
	{name: "self-remove-without-path", entry: "commit", routes: rAll, want: needsPath, make: func(t *testing.T, w *world) attack {
		a := listed(leavingOf(third), nil)(t, w)
		a.plan.noPath = true
		return a
	}},
	{name: "self-remove-not-received", entry: "commit", routes: rAll, want: fault{mls.ErrUnknownProposal, ""}, make: func(t *testing.T, w *world) attack {
		a := listed(leavingOf(third), nil)(t, w)
		a.before = nil
		return a
	}},
	{name: "self-remove-not-received", entry: "external-commit", routes: rOpen, want: fault{mls.ErrUnknownProposal, ""}, make: func(t *testing.T, w *world) attack {
		a := listed(leavingOf(third), nil)(t, w)
		return attack{plan: plan{joiner: newcomer(t, "x"), list: a.plan.list}}
	}},
}

func init() {
	registerMessages(selfRemoveRules)
	for _, way := range routes {
		if way.route == rPrivate {
			continue
		}
		negative("self-remove-twice", way.prefix+"proposal", func(t *testing.T) {
			w := theWorld(t)
			first, _ := w.received(t, third, leaving(t, w))
			again := plan{by: third, proposal: leaving(t, w), content: func(c *mls.Content) { c.AAD = []byte("again") }}
			fault{mls.ErrProposal, "second self-remove"}.check(t, w.deliver(t, way.route, [][]byte{first}, again))
		})
		// §12.2, §13.2: a proposal type that some member does not know
		negative("self-remove-unknown-to-a-member", way.prefix+"proposal", func(t *testing.T) {
			w := theWorld(t)
			forget := capable(func(c *mls.Capabilities) { c.Proposals = without(c.Proposals, mls.ProposalSelfRemove) })
			w = w.after(t, w.forge(t, plan{leaf: forget}).msg)
			fault{mls.ErrProposal, "does not know self-removes"}.check(t, w.deliver(t, way.route, nil, plan{by: third, proposal: leaving(t, w)}))
		})
	}
}

// after is the world after a Commit, as the victim, the third and the hub see it.
func (w *world) after(t *testing.T, commit []byte) *world {
	t.Helper()
	n := *w
	n.members = map[mls.LeafIndex]*client{}
	for _, l := range []mls.LeafIndex{victim, third} {
		n.members[l] = w.at(t, l)
		n.members[l].process(commit)
	}
	var err error
	n.hub, _, err = w.hub.Process(commit)
	must(t, err)
	return &n
}

func TestEveryForgeryWithASelfRemoveIsTakenWhenNothingIsWrong(t *testing.T) {
	for _, way := range routes {
		t.Run(way.prefix+"commit", func(t *testing.T) {
			w := theWorld(t)
			a := listed(leavingOf(third), nil)(t, w)
			must(t, w.deliver(t, way.route, a.before, a.plan))
		})
	}
	for _, way := range []route{rPublic, rHub} {
		w := theWorld(t)
		a := listed(leavingOf(third), nil)(t, w)
		must(t, w.deliver(t, way, a.before, plan{joiner: newcomer(t, "x"), list: a.plan.list}))
	}
}
