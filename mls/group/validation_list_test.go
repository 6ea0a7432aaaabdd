package group

import (
	"bytes"
	"testing"

	"github.com/entente-im/entente/mls"
)

// A list of proposals may be wrong although each of them is right (§12.2).
// byRef makes the attack of a Commit with proposals received before and others
// by value.
func listed(refs func(t *testing.T, w *world) map[mls.LeafIndex][]*mls.Proposal, values func(t *testing.T, w *world) []*mls.Proposal) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack {
		var a attack
		if refs != nil {
			for by, list := range refs(t, w) {
				for _, p := range list {
					msg, sent := w.received(t, by, p)
					a.before, a.plan.list = append(a.before, msg), append(a.plan.list, sent)
				}
			}
		}
		if values != nil {
			for _, p := range values(t, w) {
				a.plan.list = append(a.plan.list, byForger(p))
			}
		}
		return a
	}
}

type byMember = map[mls.LeafIndex][]*mls.Proposal

func twoOf(f func(t *testing.T, w *world) *mls.Proposal) func(*testing.T, *world) []*mls.Proposal {
	return func(t *testing.T, w *world) []*mls.Proposal { p := f(t, w); return []*mls.Proposal{p, p} }
}

var (
	twice     = fault{mls.ErrCommit, "two proposals for leaf"}
	itself    = fault{mls.ErrCommit, "committer updates or removes itself"}
	byValueUp = fault{mls.ErrCommit, "by value"}
	excluded  = fault{mls.ErrCommit, "proposals that exclude each other"}
	already   = fault{mls.ErrCommit, "client is a member already"}
)

func sameExtensionsAgain(_ *testing.T, w *world) *mls.Proposal {
	return &mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: w.ext}
}

var listRules = []messageRule{
	{name: "list-own-update", make: listed(func(t *testing.T, w *world) byMember {
		return byMember{forger: {updated(t, w, forger, func(*world, *draft) {})}}
	}, nil), want: itself},
	{name: "list-own-update-by-value", make: commits(func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{updated(t, w, forger, func(*world, *draft) {})}
	}), want: byValueUp},
	{name: "list-update-of-another-by-value", make: commits(func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{updateOfThird(t, w)}
	}), want: byValueUp},
	{name: "list-removes-its-committer", make: commits(func(*testing.T, *world) []*mls.Proposal {
		return []*mls.Proposal{remove(forger)}
	}), want: itself},
	{name: "list-removes-its-committer-by-reference", make: listed(func(*testing.T, *world) byMember {
		return byMember{third: {remove(forger)}}
	}, nil), want: itself},
	{name: "list-two-removes", make: commits(twoOf(func(*testing.T, *world) *mls.Proposal { return remove(5) })), want: twice},
	{name: "list-two-removes-by-reference", make: listed(func(*testing.T, *world) byMember {
		return byMember{third: {remove(5)}, 6: {remove(5)}}
	}, nil), want: twice},
	{name: "list-remove-by-reference-and-value", make: listed(func(*testing.T, *world) byMember {
		return byMember{third: {remove(5)}}
	}, func(*testing.T, *world) []*mls.Proposal { return []*mls.Proposal{remove(5)} }), want: twice},
	{name: "list-update-and-remove", make: listed(func(t *testing.T, w *world) byMember {
		return byMember{third: {updateOfThird(t, w)}}
	}, func(*testing.T, *world) []*mls.Proposal { return []*mls.Proposal{remove(third)} }), want: twice},
	{name: "list-two-updates", make: listed(func(t *testing.T, w *world) byMember {
		return byMember{third: {updateOfThird(t, w), updateOfThird(t, w)}}
	}, nil), want: twice},
	{name: "list-one-client-twice", make: commits(twoOf(addOfX)), want: already},
	{name: "list-one-client-by-two-packages", make: commits(func(t *testing.T, w *world) []*mls.Proposal {
		x := newcomer(t, "x")
		other := packed(t, x, w, func(_ *world, d *draft) {
			_, d.leaf.EncryptionKey, _ = w.hub.Suite().GenerateKeyPair()
		})
		return []*mls.Proposal{add(x.keyPackageOf()), add(other)}
	}), want: already},
	{name: "list-one-client-by-reference-and-value", make: func(t *testing.T, w *world) attack {
		p := addOfX(t, w)
		msg, sent := w.received(t, third, p)
		return attack{plan: plan{list: []mls.Sent{sent, byForger(p)}}, before: [][]byte{msg}}
	}, want: already},
	{name: "list-adds-a-member", make: commits(func(_ *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{add(w.members[memberKey].keyPackageOf())}
	}), want: already},
	{name: "list-adds-a-member-by-reference", make: listed(func(_ *testing.T, w *world) byMember {
		return byMember{third: {add(w.members[memberKey].keyPackageOf())}}
	}, nil), want: already},
	{name: "list-adds-its-committer", make: commits(func(_ *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{add(w.founderPackage())}
	}), want: already},
	{name: "list-two-newcomers-with-one-key", make: commits(func(t *testing.T, w *world) []*mls.Proposal {
		x := newcomer(t, "x")
		y := packed(t, newcomer(t, "y"), w, encryptionKey(func(*world) []byte { return x.keyPackageOf().Leaf.EncryptionKey }))
		return []*mls.Proposal{add(x.keyPackageOf()), add(y)}
	}), want: fault{mls.ErrTree, "key that is used already"}},
	{name: "list-add-takes-the-key-of-an-update", make: func(t *testing.T, w *world) attack {
		msg, list := w.pendingUpdate(t, func(*world, *draft) {})
		y := packed(t, newcomer(t, "y"), w, encryptionKey(func(*world) []byte { return list[0].Proposal.Update.EncryptionKey }))
		return attack{plan: plan{list: append(list, byForger(add(y)))}, before: [][]byte{msg}}
	}, want: fault{mls.ErrTree, "key that is used already"}},
	{name: "list-two-extensions", make: commits(twoOf(sameExtensionsAgain)), want: excluded},
	{name: "list-two-extensions-by-reference-and-value", make: func(t *testing.T, w *world) attack {
		p := sameExtensionsAgain(t, w)
		msg, sent := w.received(t, third, p)
		return attack{plan: plan{list: []mls.Sent{sent, byForger(p)}}, before: [][]byte{msg}}
	}, want: excluded},
	{name: "list-add-against-new-requirements", make: commits(func(t *testing.T, w *world) []*mls.Proposal {
		// everybody here supports 0x000A; x does not
		x := packed(t, newcomer(t, "x"), w, capable(func(c *mls.Capabilities) { c.Extensions = without(c.Extensions, mls.ExtensionLastResort) }))
		rc := mls.RequiredCapabilities{Extensions: []mls.ExtensionType{mls.ExtensionLastResort}}
		return []*mls.Proposal{add(x), {Type: mls.ProposalGroupContextExtensions, Extensions: w.more(rc.Extension())}}
	}), want: fault{mls.ErrLeaf, "lacks required extension"}},
	{name: "list-same-reference-twice", make: func(t *testing.T, w *world) attack {
		msg, sent := w.received(t, third, addOfX(t, w))
		return attack{plan: plan{list: []mls.Sent{sent, sent}}, before: [][]byte{msg}}
	}, want: fault{mls.ErrCommit, "referred to twice"}},
	{name: "list-unknown-reference", make: func(t *testing.T, w *world) attack {
		_, sent := w.received(t, third, remove(5))
		return attack{plan: plan{list: []mls.Sent{sent}}}
	}, want: fault{mls.ErrUnknownProposal, ""}},
	{name: "list-shortened-reference", make: func(t *testing.T, w *world) attack {
		msg, sent := w.received(t, third, remove(5))
		sent.Ref = sent.Ref[:16]
		return attack{plan: plan{list: []mls.Sent{sent}}, before: [][]byte{msg}}
	}, want: fault{mls.ErrUnknownProposal, ""}},
	{name: "list-empty-reference", make: func(t *testing.T, w *world) attack {
		msg, sent := w.received(t, third, remove(5))
		sent.Ref = []byte{}
		return attack{plan: plan{list: []mls.Sent{sent}}, before: [][]byte{msg}}
	}, want: fault{mls.ErrUnknownProposal, ""}},
	{name: "list-too-long", make: commits(func(*testing.T, *world) []*mls.Proposal {
		list := make([]*mls.Proposal, mls.MaxProposals+1)
		for i := range list {
			list[i] = remove(mls.LeafIndex(i + 1000))
		}
		return list
	}), want: fault{mls.ErrLimit, "proposals in a commit"}},
}

// founderPackage is a KeyPackage of the forger, who came without one.
func (w *world) founderPackage() *mls.KeyPackage { return w.members[forger].keyPackageOf() }

// Of an external Commit (§12.2, §12.4.3.2).
var externalListRules = []messageRule{
	{name: "external-list-second-init", make: comes(func(*testing.T, *world) []*mls.Proposal {
		return []*mls.Proposal{{Type: mls.ProposalExternalInit, KEMOutput: make([]byte, 32)}}
	}), want: notOutside},
	{name: "external-list-no-init", make: func(t *testing.T, _ *world) attack {
		return attack{plan: plan{joiner: newcomer(t, "x"), content: func(c *mls.Content) { c.Commit.Proposals = nil }}}
	}, want: notOutside},
	{name: "external-list-two-removes", make: comes(func(*testing.T, *world) []*mls.Proposal {
		return []*mls.Proposal{remove(5), remove(6)}
	}), want: notOutside},
	{name: "external-list-one-leaf-removed-twice", make: comes(func(*testing.T, *world) []*mls.Proposal {
		return []*mls.Proposal{remove(5), remove(5)}
	}), want: twice},
	{name: "external-list-remove-of-another", make: comes(func(*testing.T, *world) []*mls.Proposal {
		return []*mls.Proposal{remove(5)}
	}), want: fault{mls.ErrSender, "removes another member"}},
	{name: "external-list-add", make: comes(func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{add(newcomer(t, "y").keyPackageOf())}
	}), want: notOutside},
	{name: "external-list-update", make: comes(func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{updateOfThird(t, w)}
	}), want: byValueUp},
	{name: "external-list-extensions", make: comes(func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{sameExtensionsAgain(t, w)}
	}), want: notOutside},
	{name: "external-list-by-reference", make: func(t *testing.T, w *world) attack {
		msg, sent := w.received(t, third, remove(third))
		p := w.resync(t, third, nil)
		p.list = []mls.Sent{sent}
		return attack{plan: p, before: [][]byte{msg}}
	}, want: fault{mls.ErrCommit, "by reference in an external commit"}},
	{name: "external-list-unknown-reference", make: func(t *testing.T, _ *world) attack {
		return attack{plan: plan{joiner: newcomer(t, "x"), content: func(c *mls.Content) {
			c.Commit.Proposals = append(c.Commit.Proposals, mls.ProposalOrRef{Ref: bytes.Repeat([]byte{7}, 32)})
		}}}
	}, want: fault{mls.ErrUnknownProposal, ""}},
}

func init() {
	for i := range listRules {
		listRules[i].entry, listRules[i].routes = "commit", rAll
	}
	registerMessages(listRules)
	for i := range externalListRules {
		externalListRules[i].entry, externalListRules[i].routes = "external-commit", rOpen
	}
	registerMessages(externalListRules)
	// What a member is asked to commit itself.
	for name, r := range map[string]struct {
		make func(t *testing.T, w *world) CommitParams
		want fault
	}{
		"list-removes-its-committer": {func(*testing.T, *world) CommitParams {
			return CommitParams{Removes: []mls.LeafIndex{victim}}
		}, itself},
		"list-two-removes": {func(*testing.T, *world) CommitParams {
			return CommitParams{Removes: []mls.LeafIndex{5, 5}}
		}, twice},
		"list-one-client-twice": {func(t *testing.T, _ *world) CommitParams {
			x := newcomer(t, "x")
			return CommitParams{Adds: [][]byte{x.kp, x.kp}}
		}, already},
		"list-adds-a-member": {func(_ *testing.T, w *world) CommitParams {
			return CommitParams{Adds: [][]byte{w.members[memberKey].kp}}
		}, already},
		"list-two-newcomers-with-one-key": {func(t *testing.T, w *world) CommitParams {
			x := newcomer(t, "x")
			y := packed(t, newcomer(t, "y"), w, encryptionKey(func(*world) []byte { return x.keyPackageOf().Leaf.EncryptionKey }))
			return CommitParams{Adds: [][]byte{x.kp, y.Encode()}}
		}, fault{mls.ErrTree, "key that is used already"}},
		"list-add-against-new-requirements": {func(t *testing.T, w *world) CommitParams {
			x := packed(t, newcomer(t, "x"), w, capable(func(c *mls.Capabilities) { c.Extensions = without(c.Extensions, mls.ExtensionLastResort) }))
			rc := mls.RequiredCapabilities{Extensions: []mls.ExtensionType{mls.ExtensionLastResort}}
			return CommitParams{Adds: [][]byte{x.Encode()}, Extensions: w.more(rc.Extension())}
		}, fault{mls.ErrLeaf, "lacks required extension"}},
		"list-too-long": {func(t *testing.T, w *world) CommitParams {
			p := CommitParams{}
			for i := range mls.MaxProposals + 1 {
				p.Removes = append(p.Removes, mls.LeafIndex(i+1000))
			}
			return p
		}, fault{mls.ErrLimit, "more than"}},
	} {
		negative(name, "stage", func(t *testing.T) {
			w := theWorld(t)
			r.want.check(t, w.stages(t, r.make(t, w)))
		})
	}
}
