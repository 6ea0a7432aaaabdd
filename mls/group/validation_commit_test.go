package group

import (
	"bytes"
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
)

// noPathOf is a Commit of these proposals without a path.
func noPathOf(make func(t *testing.T, w *world) []*mls.Proposal) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack {
		a := commits(make)(t, w)
		a.plan.noPath = true
		return a
	}
}

func onePath(edit func(*plan)) func(*testing.T, *world) attack {
	return func(*testing.T, *world) attack { var p plan; edit(&p); return attack{plan: p} }
}

// encrypted changes a path after its secrets were encrypted; the signature and
// the confirmation tag cover the change.
func encrypted(f func(*mls.UpdatePath)) func(*testing.T, *world) attack {
	return onePath(func(p *plan) { p.encrypted = f })
}

func pathed(f func(*newPath, *mls.StagedCommit)) func(*testing.T, *world) attack {
	return onePath(func(p *plan) { p.path = f })
}

// pathKey changes the public key of a node of the path, in the tree too.
func pathKey(i int, key func(w *world, old []byte) []byte) func(*testing.T, *world) attack {
	return func(_ *testing.T, w *world) attack {
		return attack{plan: plan{encrypted: func(u *mls.UpdatePath) {
			u.Nodes[i].EncryptionKey = key(w, slices.Clone(u.Nodes[i].EncryptionKey))
		}}}
	}
}

var (
	needsPath = fault{mls.ErrPathRequired, ""}
	badTag    = fault{mls.ErrCrypto, ""}
	// A hub cannot see what only secrets show; these it takes.
	memberOnly = rPublic | rPrivate
)

var commitRules = []messageRule{
	// §12.4: the path
	{name: "commit-empty-without-path", routes: rAll, want: needsPath, make: noPathOf(func(*testing.T, *world) []*mls.Proposal { return nil })},
	{name: "commit-remove-without-path", routes: rAll, want: needsPath, make: noPathOf(func(*testing.T, *world) []*mls.Proposal {
		return []*mls.Proposal{remove(5)}
	})},
	{name: "commit-extensions-without-path", routes: rAll, want: needsPath, make: noPathOf(func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{sameExtensionsAgain(t, w)}
	})},
	{name: "commit-add-and-remove-without-path", routes: rAll, want: needsPath, make: noPathOf(func(t *testing.T, w *world) []*mls.Proposal {
		return []*mls.Proposal{addOfX(t, w), remove(5)}
	})},
	{name: "commit-update-without-path", routes: rAll, want: needsPath, make: func(t *testing.T, w *world) attack {
		msg, list := w.pendingUpdate(t, func(*world, *draft) {})
		return attack{plan: plan{list: list, noPath: true}, before: [][]byte{msg}}
	}},
	{name: "commit-remove-by-reference-without-path", routes: rAll, want: needsPath, make: func(t *testing.T, w *world) attack {
		msg, sent := w.received(t, third, remove(5))
		return attack{plan: plan{list: []mls.Sent{sent}, noPath: true}, before: [][]byte{msg}}
	}},
	// §12.4.2: the path's public part
	{name: "path-parent-hash", routes: rAll, want: fault{mls.ErrCommit, "parent hash of the path leaf"},
		make: onePath(func(p *plan) {
			p.leaf = func(_ *world, d *draft) { d.leaf.ParentHash = mls.Random(len(d.leaf.ParentHash)) }
		})},
	{name: "path-parent-hash-empty", routes: rAll, want: fault{mls.ErrCommit, "parent hash of the path leaf"},
		make: onePath(func(p *plan) { p.leaf = func(_ *world, d *draft) { d.leaf.ParentHash = nil } })},
	{name: "path-node-too-few", routes: rAll, want: fault{mls.ErrCommit, "path has"},
		make: encrypted(func(u *mls.UpdatePath) { u.Nodes = u.Nodes[:len(u.Nodes)-1] })},
	{name: "path-node-too-many", routes: rAll, want: fault{mls.ErrCommit, "path has"},
		make: encrypted(func(u *mls.UpdatePath) {
			u.Nodes = append(u.Nodes, mls.UpdatePathNode{EncryptionKey: u.Nodes[0].EncryptionKey})
		})},
	{name: "path-without-nodes", routes: rAll, want: fault{mls.ErrCommit, "path has 0 nodes"},
		make: encrypted(func(u *mls.UpdatePath) { u.Nodes = nil })},
	{name: "path-secret-too-few", routes: rAll, want: fault{mls.ErrCommit, "secrets, want"},
		make: encrypted(func(u *mls.UpdatePath) {
			n := &u.Nodes[len(u.Nodes)-1]
			n.Secrets = n.Secrets[:len(n.Secrets)-1]
		})},
	{name: "path-secret-too-many", routes: rAll, want: fault{mls.ErrCommit, "secrets, want"},
		make: encrypted(func(u *mls.UpdatePath) { u.Nodes[0].Secrets = append(u.Nodes[0].Secrets, u.Nodes[0].Secrets[0]) })},
	{name: "path-secret-for-a-member-added", routes: rAll, want: fault{mls.ErrCommit, "secrets, want"}, make: func(t *testing.T, w *world) attack {
		return attack{plan: plan{list: []mls.Sent{byForger(addOfX(t, w))}, encrypted: func(u *mls.UpdatePath) {
			u.Nodes[1].Secrets = append(u.Nodes[1].Secrets, u.Nodes[0].Secrets[0])
		}}}
	}},
	{name: "path-key-short", routes: rAll, want: fault{mls.ErrCommit, "path key 0"},
		make: pathKey(0, func(_ *world, k []byte) []byte { return k[1:] })},
	{name: "path-key-zero", routes: rAll, want: fault{mls.ErrCommit, "path key 1"},
		make: pathKey(1, func(_ *world, k []byte) []byte { return endingIn(make([]byte, 32))(k) })},
	{name: "path-key-low-order", routes: rAll, want: fault{mls.ErrCommit, "path key 1"},
		make: pathKey(1, func(_ *world, k []byte) []byte { return endingIn(lowOrderPoint)(k) })},
	{name: "path-key-not-of-the-parent-hash", routes: rAll, want: fault{mls.ErrCommit, "parent hash of the path leaf"},
		make: pathKey(0, func(w *world, _ []byte) []byte { _, k, _ := w.hub.Suite().GenerateKeyPair(); return k })},
	{name: "path-key-of-a-leaf", routes: rAll, want: fault{mls.ErrTree, "key that is used already"},
		make: rekeyed(0, func(w *world, _ *newPath) []byte { return w.hub.Member(memberKey).EncryptionKey })},
	{name: "path-key-of-a-parent", routes: rAll, want: fault{mls.ErrTree, "key that is used already"},
		make: rekeyed(0, func(w *world, _ *newPath) []byte { return w.hub.RatchetTree().NodeKey(11) })},
	{name: "path-key-twice", routes: rAll, want: fault{mls.ErrTree, "key that is used already"},
		make: rekeyed(0, func(_ *world, p *newPath) []byte { return p.update.Nodes[1].EncryptionKey })},
	{name: "path-key-of-the-path-leaf", routes: rAll, want: fault{mls.ErrTree, "key that is used already"},
		make: rekeyed(1, func(_ *world, p *newPath) []byte { return p.update.Leaf.EncryptionKey })},
	// §12.4.2, §7.5: its secrets, which members alone see
	{name: "path-secret-of-another-key", routes: memberOnly, want: badTag, make: pathed(func(p *newPath, st *mls.StagedCommit) {
		p.secrets[st.Steps[0].Node] = mls.Random(32)
	})},
	{name: "path-secret-short", routes: memberOnly, want: badTag, make: pathed(func(p *newPath, st *mls.StagedCommit) {
		p.secrets[st.Steps[0].Node] = mls.Random(31)
	})},
	{name: "path-secret-empty", routes: memberOnly, want: badTag, make: pathed(func(p *newPath, st *mls.StagedCommit) {
		p.secrets[st.Steps[0].Node] = nil
	})},
	{name: "path-secret-for-another-context", routes: memberOnly, want: badTag, make: func(t *testing.T, w *world) attack {
		var secret []byte
		return attack{plan: plan{
			path: func(p *newPath, st *mls.StagedCommit) { secret = p.secrets[st.Steps[0].Node] },
			encrypted: func(u *mls.UpdatePath) { // the present context, not the provisional one
				c, err := w.hub.Suite().EncryptWithLabel(w.hub.Member(victim).EncryptionKey, "UpdatePathNode", w.hub.Context(), secret)
				must(t, err)
				u.Nodes[0].Secrets[0] = c
			},
		}}
	}},
	{name: "path-secret-ciphertext", routes: memberOnly, want: badTag, make: encrypted(func(u *mls.UpdatePath) {
		u.Nodes[0].Secrets[0].Ciphertext[5] ^= 1
	})},
	{name: "path-secret-ciphertext-empty", routes: memberOnly, want: badTag, make: encrypted(func(u *mls.UpdatePath) {
		u.Nodes[0].Secrets[0].Ciphertext = nil
	})},
	{name: "path-secret-kem-output", routes: memberOnly, want: badTag, make: encrypted(func(u *mls.UpdatePath) {
		u.Nodes[0].Secrets[0].KEMOutput[5] ^= 1
	})},
	{name: "path-secret-kem-output-short", routes: memberOnly, want: badTag, make: encrypted(func(u *mls.UpdatePath) {
		u.Nodes[0].Secrets[0].KEMOutput = u.Nodes[0].Secrets[0].KEMOutput[1:]
	})},
	{name: "path-secret-kem-output-low-order", routes: memberOnly, want: badTag, make: encrypted(func(u *mls.UpdatePath) {
		c := &u.Nodes[0].Secrets[0]
		c.KEMOutput = endingIn(make([]byte, 32))(slices.Clone(c.KEMOutput))
	})},
	// §12.4.2: the confirmation tag covers the new epoch
	{name: "confirmation-tag", routes: memberOnly, want: badTag, make: onePath(func(p *plan) {
		p.signed = func(c *mls.Content) { c.ConfirmationTag[9] ^= 1 }
	})},
	{name: "confirmation-tag-of-zeros", routes: memberOnly, want: badTag, make: onePath(func(p *plan) {
		p.signed = func(c *mls.Content) { clear(c.ConfirmationTag) }
	})},
	{name: "confirmation-tag-empty", routes: rAll, want: fault{mls.ErrCommit, "confirmation tag length"}, make: onePath(func(p *plan) {
		p.signed = func(c *mls.Content) { c.ConfirmationTag = nil }
	})},
	{name: "confirmation-tag-short", routes: rAll, want: fault{mls.ErrCommit, "confirmation tag length"}, make: onePath(func(p *plan) {
		p.signed = func(c *mls.Content) { c.ConfirmationTag = c.ConfirmationTag[:31] }
	})},
	{name: "confirmation-tag-long", routes: rAll, want: fault{mls.ErrCommit, "confirmation tag length"}, make: onePath(func(p *plan) {
		p.signed = func(c *mls.Content) { c.ConfirmationTag = append(c.ConfirmationTag, 0) }
	})},
	{name: "confirmation-of-another-epoch", routes: memberOnly, want: badTag, make: context(func(c *mls.GroupContext) { c.Epoch++ })},
	{name: "confirmation-of-another-group", routes: memberOnly, want: badTag, make: context(func(c *mls.GroupContext) { c.GroupID = []byte("w") })},
	{name: "confirmation-of-another-tree", routes: memberOnly, want: badTag, make: context(func(c *mls.GroupContext) { c.TreeHash = mls.Random(32) })},
	{name: "confirmation-of-another-transcript", routes: memberOnly, want: badTag, make: context(func(c *mls.GroupContext) {
		c.ConfirmedTranscriptHash = mls.Random(32)
	})},
	{name: "confirmation-of-other-extensions", routes: memberOnly, want: badTag, make: context(func(c *mls.GroupContext) { c.Extensions = nil })},
	{name: "confirmation-of-another-init-secret", routes: memberOnly, want: badTag, make: onePath(func(p *plan) { p.init = make([]byte, 32) })},
	{name: "confirmation-of-another-commit-secret", routes: memberOnly, want: badTag, make: pathed(func(p *newPath, _ *mls.StagedCommit) {
		p.commitSecret = make([]byte, 32)
	})},
	// §12.4: the encoding
	{name: "commit-proposal-or-ref-unknown", routes: rOpen, want: fault{mls.ErrDecode, ""}, make: onePath(func(p *plan) {
		p.content = func(c *mls.Content) {
			c.Commit.Proposals = append(c.Commit.Proposals, mls.ProposalOrRef{Proposal: &mls.Proposal{Type: 0x0A0A}})
		}
	})},
}

func context(f func(*mls.GroupContext)) func(*testing.T, *world) attack {
	return onePath(func(p *plan) { p.context = f })
}

// rekeyed gives a node of the path a key that is in use elsewhere, with the
// parent hashes that go with it.
func rekeyed(i int, key func(*world, *newPath) []byte) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack {
		return attack{plan: plan{path: func(p *newPath, st *mls.StagedCommit) {
			a, s := st.Applied, w.hub.Suite()
			p.update.Nodes[i].EncryptionKey = key(w, p)
			var keys [][]byte
			for _, n := range p.update.Nodes {
				keys = append(keys, n.EncryptionKey)
			}
			hash, err := a.Tree.SetPath(a.Committer, keys)
			must(t, err)
			leaf := *p.update.Leaf
			leaf.ParentHash = hash
			must(t, leaf.Sign(s, w.members[forger].cfg.Signer, w.hub.GroupID(), a.Committer))
			p.update.Leaf = &leaf
			a.Tree.SetLeaf(a.Committer, &leaf)
		}}}
	}
}

// An external Commit (§8.3, §12.4.3.2).
func outsider(edit func(w *world, x *client, p *plan)) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack {
		x := newcomer(t, "x")
		p := plan{joiner: x}
		edit(w, x, &p)
		return attack{plan: p}
	}
}

func kemOutput(f func([]byte) []byte) func(*testing.T, *world) attack {
	return outsider(func(_ *world, _ *client, p *plan) {
		p.content = func(c *mls.Content) {
			q := *c.Commit.Proposals[0].Proposal
			q.KEMOutput = f(bytes.Clone(q.KEMOutput))
			c.Commit.Proposals[0].Proposal = &q
		}
	})
}

var externalRules = []messageRule{
	{name: "external-without-path", routes: rOpen, want: needsPath, make: outsider(func(_ *world, _ *client, p *plan) {
		p.content = func(c *mls.Content) { c.Commit.Path = nil }
	})},
	{name: "external-signed-by-another", routes: rOpen, want: fault{mls.ErrCrypto, ""}, make: outsider(func(w *world, _ *client, p *plan) {
		p.signer = w.members[memberKey].cfg.Signer
	})},
	{name: "external-signature", routes: rOpen, want: fault{mls.ErrCrypto, ""}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.signed = func(c *mls.Content) { c.Signature[0] ^= 1 }
	})},
	{name: "external-from-a-member", routes: rOpen, want: fault{mls.ErrCrypto, ""}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.content = func(c *mls.Content) { c.Sender = mls.Sender{Type: mls.SenderMember, Index: uint32(memberKey)} }
	})},
	{name: "external-other-epoch", routes: rOpen, want: fault{errAnEpoch, ""}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.content = func(c *mls.Content) { c.Epoch-- }
	})},
	{name: "external-other-group", routes: rOpen, want: fault{mls.ErrWrongGroup, ""}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.content = func(c *mls.Content) { c.GroupID = []byte("w") }
	})},
	{name: "external-not-at-the-leftmost-blank", routes: rOpen, want: fault{mls.ErrLeaf, "signature"}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.place = func(a *mls.Applied, l *mls.LeafNode) {
			filler := *l
			filler.EncryptionKey = mls.Random(len(l.EncryptionKey))
			at, _ := a.Tree.Add(&filler)
			a.Committer, _ = a.Tree.Add(l)
			a.Tree.Remove(at)
		}
	})},
	{name: "external-parent-hash", routes: rOpen, want: fault{mls.ErrCommit, "parent hash of the path leaf"}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.leaf = func(_ *world, d *draft) { d.leaf.ParentHash = mls.Random(32) }
	})},
	{name: "external-path-node-too-few", routes: rOpen, want: fault{mls.ErrCommit, "path has"}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.encrypted = func(u *mls.UpdatePath) { u.Nodes = u.Nodes[1:] }
	})},
	{name: "external-confirmation-tag", routes: rPublic, want: badTag, make: outsider(func(_ *world, _ *client, p *plan) {
		p.signed = func(c *mls.Content) { c.ConfirmationTag = mls.Random(32) }
	})},
	{name: "external-confirmation-tag-empty", routes: rOpen, want: fault{mls.ErrCommit, "confirmation tag length"}, make: outsider(func(_ *world, _ *client, p *plan) {
		p.signed = func(c *mls.Content) { c.ConfirmationTag = nil }
	})},
	{name: "external-init-secret", routes: rPublic, want: badTag, make: outsider(func(w *world, _ *client, p *plan) {
		p.init = w.members[forger].st.secrets.initSecret // the epoch's own, not that of the external init
	})},
	{name: "external-kem-output", routes: rPublic, want: badTag, make: kemOutput(func(b []byte) []byte { b[0] ^= 1; return b })},
	{name: "external-kem-output-empty", routes: rPublic, want: badTag, make: kemOutput(func([]byte) []byte { return nil })},
	{name: "external-kem-output-short", routes: rPublic, want: badTag, make: kemOutput(func(b []byte) []byte { return b[1:] })},
	{name: "external-kem-output-low-order", routes: rPublic, want: badTag, make: kemOutput(func(b []byte) []byte { return endingIn(make([]byte, 32))(b) })},
}

func init() {
	for i := range commitRules {
		commitRules[i].entry = "commit"
	}
	registerMessages(commitRules)
	for i := range externalRules {
		externalRules[i].entry = "external-commit"
	}
	registerMessages(externalRules)
	// Our own rule, stricter than §12.4: the first Commit has a path, or epoch 1
	// would have no secret but that of epoch 0.
	negative("commit-first-without-path", "hub-commit", func(t *testing.T) {
		first := newClient(t, "first")
		first.create()
		needsPath.check(t, tellHub(t, hubOf(t, first), first.forge(byValue(addOf(t, newClient(t, "x"))))))
	})
}
