package group

import (
	"bytes"
	"crypto"
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
)

// draft is a leaf before it is signed, with all that the signature depends on.
// A case changes one thing of it; everything else stays right.
type draft struct {
	leaf    mls.LeafNode
	signer  crypto.Signer
	groupID []byte
	index   mls.LeafIndex
	spoil   func(*mls.LeafNode) // after signing

	initKey []byte                // KeyPackage only: when not nil
	kp      func(*mls.KeyPackage) // KeyPackage only: before it is signed
	kpSpoil func(*mls.KeyPackage) // KeyPackage only: after it is signed
}

func (d *draft) sign(t testing.TB) *mls.LeafNode {
	t.Helper()
	s, err := mls.LookupSuite(testSuite)
	must(t, err)
	leaf := d.leaf
	must(t, leaf.Sign(s, d.signer, d.groupID, d.index))
	if d.spoil != nil {
		d.spoil(&leaf)
	}
	return &leaf
}

// packed makes a KeyPackage of a client with an edited leaf.
func packed(t testing.TB, c *client, w *world, edit func(*world, *draft)) *mls.KeyPackage {
	t.Helper()
	kp, err := mls.ParseKeyPackage(c.kp)
	must(t, err)
	s, err := mls.LookupSuite(testSuite)
	must(t, err)
	d := &draft{leaf: *kp.Leaf, signer: c.cfg.Signer}
	edit(w, d)
	kp.Leaf = d.sign(t)
	if d.initKey != nil {
		kp.InitKey = d.initKey
	}
	if d.kp != nil {
		d.kp(kp)
	}
	must(t, kp.Sign(s, d.signer))
	if d.kpSpoil != nil {
		d.kpSpoil(kp)
	}
	return kp
}

// updated makes an Update proposal of a member with an edited leaf.
func updated(t testing.TB, w *world, l mls.LeafIndex, edit func(*world, *draft)) *mls.Proposal {
	t.Helper()
	c := w.at(t, l)
	_, pub, err := c.st.pub.Suite().GenerateKeyPair()
	must(t, err)
	d := &draft{leaf: *c.st.pub.Member(l), signer: c.cfg.Signer, groupID: c.st.GroupID(), index: l}
	d.leaf.EncryptionKey, d.leaf.Source, d.leaf.ParentHash = pub, mls.SourceUpdate, nil
	d.leaf.NotBefore, d.leaf.NotAfter = 0, 0
	edit(w, d)
	return &mls.Proposal{Type: mls.ProposalUpdate, Update: d.sign(t)}
}

// plan is a Commit to forge. The zero value is an honest empty Commit of the
// forger. Each function breaks one rule at its place; signatures, tags, path
// secrets and the key schedule are made after it and fit.
type plan struct {
	by        mls.LeafIndex
	proposal  *mls.Proposal // a proposal alone, no Commit
	joiner    *client       // an external Commit of this client
	list      []mls.Sent    // Ref is set for those by reference
	noPath    bool
	leaf      func(*world, *draft)              // the path leaf, before it is signed
	path      func(*newPath, *mls.StagedCommit) // the path, before its secrets are encrypted
	encrypted func(*mls.UpdatePath)             // the path, after
	context   func(*mls.GroupContext)           // of the new epoch, for the confirmation tag
	content   func(*mls.Content)                // before signing
	signed    func(*mls.Content)                // before the membership tag
	public    func(*mls.PublicMessage)          // at the end
	private   bool
	signer    crypto.Signer                                     // of the message, when not the sender's
	init      []byte                                            // the init secret, when not the right one
	psks      func([]*mls.PreSharedKeyID) []*mls.PreSharedKeyID // those of psk_secret, when not the list's
	place     func(*mls.Applied, *mls.LeafNode)                 // of an external joiner, when not the leftmost blank leaf
}

// forged is a Commit that was made without looking, and the epoch after it.
type forged struct {
	w       *world
	by      *client
	msg     []byte
	content *mls.Content
	applied *mls.Applied
	path    *newPath
	ctx     mls.GroupContext
	epoch   *newEpoch
	signer  crypto.Signer // of the committer's leaf
	psks    []*mls.PreSharedKeyID
}

// forge makes the Commit of a plan, as who checks nothing.
func (w *world) forge(t testing.TB, p plan) *forged {
	t.Helper()
	f := &forged{w: w, by: w.at(t, p.by)}
	if p.proposal != nil {
		f.propose(t, p)
		return f
	}
	g, s := f.by.st.pub, f.by.st.pub.Suite()
	sender := mls.Sender{Type: mls.SenderMember, Index: uint32(p.by)}
	initSecret := bytes.Clone(f.by.st.secrets.initSecret)
	list := p.list
	if p.joiner != nil {
		sender = mls.Sender{Type: mls.SenderNewMemberCommit}
		_, pub, err := s.DeriveKeyPair(f.by.st.secrets.external)
		must(t, err)
		var out []byte
		out, initSecret, err = s.ExternalInitSend(pub)
		must(t, err)
		list = append([]mls.Sent{{Proposal: &mls.Proposal{Type: mls.ProposalExternalInit, KEMOutput: out}, Sender: sender}}, list...)
	}
	f.content = &mls.Content{
		WireFormat: mls.WirePublicMessage, GroupID: g.GroupID(), Epoch: g.Epoch(), Sender: sender,
		Type: mls.ContentCommit, Commit: &mls.Commit{},
	}
	if p.private {
		f.content.WireFormat = mls.WirePrivateMessage
	}
	for _, q := range list {
		if q.Ref != nil {
			f.content.Commit.Proposals = append(f.content.Commit.Proposals, mls.ProposalOrRef{Ref: q.Ref})
		} else {
			f.content.Commit.Proposals = append(f.content.Commit.Proposals, mls.ProposalOrRef{Proposal: q.Proposal})
		}
	}
	f.applied = applyUnchecked(g, list, p.by)
	commitSecret := make([]byte, s.HashLen())
	signer := f.by.cfg.Signer
	f.signer = signer
	if !p.noPath {
		commitSecret, signer = f.makePath(t, p)
	}
	if p.content != nil {
		p.content(f.content)
	}
	if p.signer != nil {
		signer = p.signer
	}
	if p.init != nil {
		initSecret = p.init
	}
	must(t, f.content.Sign(s, signer, g.Context()))
	f.ctx = g.ProvisionalContext(f.applied)
	framed := *f.content
	framed.ConfirmationTag = nil
	enc := framed.Encode() // ends with the empty tag's length
	f.ctx.ConfirmedTranscriptHash = s.Hash(g.InterimTranscriptHash(), enc[:len(enc)-1])
	if p.context != nil {
		p.context(&f.ctx)
	}
	f.epoch = advance(s, initSecret, commitSecret, f.pskSecret(t, p), f.ctx.Encode())
	f.content.ConfirmationTag = s.MAC(f.epoch.confirmation, f.ctx.ConfirmedTranscriptHash)
	if p.signed != nil {
		p.signed(f.content)
	}
	f.msg = f.by.wrap(f.content, p.public)
	return f
}

// pskSecret is psk_secret of the Commit's pre-shared keys (§8.4).
func (f *forged) pskSecret(t testing.TB, p plan) []byte {
	t.Helper()
	for _, q := range p.list {
		if q.Proposal.PSK != nil {
			f.psks = append(f.psks, q.Proposal.PSK)
		}
	}
	list := f.psks
	if p.psks != nil {
		list = p.psks(list)
	}
	secret, err := pskSecret(f.by.st.pub.Suite(), list, func(id *mls.PreSharedKeyID) []byte {
		if key := f.by.st.psk(id); key != nil {
			return key
		}
		return []byte("a key that nobody has")
	})
	must(t, err)
	return secret
}

// applyUnchecked applies a list of proposals as §12.3 has it, and checks none.
func applyUnchecked(g *mls.PublicGroup, list []mls.Sent, by mls.LeafIndex) *mls.Applied {
	a := &mls.Applied{Tree: g.RatchetTree().Copy(), Extensions: g.Extensions(), Committer: by}
	for _, q := range list {
		switch q.Proposal.Type {
		case mls.ProposalGroupContextExtensions:
			a.Extensions = q.Proposal.Extensions
		case mls.ProposalUpdate:
			if a.Tree.Leaf(mls.LeafIndex(q.Sender.Index)) != nil {
				a.Tree.Update(mls.LeafIndex(q.Sender.Index), q.Proposal.Update)
			}
		}
	}
	for _, q := range list {
		l := q.Proposal.Remove
		if q.Proposal.Type == mls.ProposalSelfRemove {
			l = mls.LeafIndex(q.Sender.Index)
		} else if q.Proposal.Type != mls.ProposalRemove {
			continue
		}
		if l != by && a.Tree.Leaf(l) != nil {
			a.Tree.Remove(l)
		}
	}
	for _, q := range list {
		if q.Proposal.Type == mls.ProposalAdd {
			if l, err := a.Tree.Add(q.Proposal.Add.Leaf); err == nil {
				a.Added = append(a.Added, mls.Member{Leaf: l, Node: q.Proposal.Add.Leaf})
				a.AddedKeys = append(a.AddedKeys, q.Proposal.Add)
			}
		}
	}
	return a
}

// makePath is makePath of treekem.go, with a leaf and a path that may be wrong.
func (f *forged) makePath(t testing.TB, p plan) (commitSecret []byte, signer crypto.Signer) {
	t.Helper()
	g, s, a := f.by.st.pub, f.by.st.pub.Suite(), f.applied
	who, old := f.by, f.by.st.priv
	template := *g.Member(p.by)
	if p.joiner != nil {
		who, old = p.joiner, privateTree{}
		caps := worldCapabilities()
		leaf, err := newLeaf(s, who.cfg.Signer, credential(who.name), &caps, nil)
		must(t, err)
		template = *leaf
		if p.place != nil {
			p.place(a, &template)
		} else {
			l, err := a.Tree.Add(&template)
			must(t, err)
			a.Committer = l
		}
		a.Added = append(a.Added, mls.Member{Leaf: a.Committer, Node: &template})
		a.AddedKeys = append(a.AddedKeys, nil)
	}
	st := &mls.StagedCommit{Applied: a}
	path, err := makePath(s, g.GroupID(), st, template, old, who.cfg.Signer)
	must(t, err)
	d := &draft{leaf: *path.update.Leaf, signer: who.cfg.Signer, groupID: g.GroupID(), index: a.Committer}
	if p.leaf != nil {
		p.leaf(f.w, d)
		path.update.Leaf = d.sign(t)
		a.Tree.SetLeaf(a.Committer, path.update.Leaf)
	}
	if p.path != nil {
		p.path(path, st)
	}
	ctx := g.ProvisionalContext(a)
	encryptAnyhow(t, s, path, st, ctx.Encode())
	if p.encrypted != nil {
		p.encrypted(path.update)
	}
	f.path, f.content.Commit.Path, f.signer = path, path.update, d.signer
	if p.joiner != nil {
		return path.commitSecret, d.signer
	}
	return path.commitSecret, who.cfg.Signer
}

// encryptAnyhow is encrypt of treekem.go; who cannot be encrypted to, because a
// case has spoilt its key, gets noise.
func encryptAnyhow(t testing.TB, s *mls.Suite, p *newPath, st *mls.StagedCommit, context []byte) {
	t.Helper()
	for i, step := range st.Steps {
		for _, x := range st.Applied.Recipients(step.Copath) {
			c, err := s.EncryptWithLabel(st.Applied.Tree.NodeKey(x), "UpdatePathNode", context, p.secrets[step.Node])
			if err != nil {
				c = mls.HPKECiphertext{KEMOutput: mls.Random(32), Ciphertext: mls.Random(48)}
			}
			p.update.Nodes[i].Secrets = append(p.update.Nodes[i].Secrets, c)
		}
	}
}

// wrap makes the message of a content that is signed.
func (c *client) wrap(m *mls.Content, edit func(*mls.PublicMessage)) []byte {
	c.t.Helper()
	s := c.st.pub.Suite()
	if m.WireFormat == mls.WirePrivateMessage {
		_, key, nonce := c.st.own.hs.step(s)
		p, err := seal(s, m, c.st.secrets.senderData, c.st.own.hs.generation, key, nonce, 0)
		must(c.t, err)
		return p.Encode()
	}
	p := &mls.PublicMessage{Content: m}
	if m.Sender.Type == mls.SenderMember {
		p.MembershipTag = m.MembershipTag(s, c.st.secrets.membership, c.st.pub.Context())
	}
	if edit != nil {
		edit(p)
	}
	return p.Encode()
}

// propose makes the message of a plan with a proposal alone.
func (f *forged) propose(t testing.TB, p plan) {
	t.Helper()
	c := f.by
	m := &mls.Content{
		WireFormat: mls.WirePublicMessage, GroupID: c.st.GroupID(), Epoch: c.st.Epoch(),
		Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(p.by)}, Type: mls.ContentProposal, Proposal: p.proposal,
	}
	if p.private {
		m.WireFormat = mls.WirePrivateMessage
	}
	if p.content != nil {
		p.content(m)
	}
	signer := c.cfg.Signer
	if p.signer != nil {
		signer = p.signer
	}
	must(t, m.Sign(c.st.pub.Suite(), signer, c.st.pub.Context()))
	if p.signed != nil {
		p.signed(m)
	}
	f.content, f.msg = m, c.wrap(m, p.public)
}

// proposed makes a message with a proposal of a member, who checks nothing.
func (w *world) proposed(t testing.TB, by mls.LeafIndex, p *mls.Proposal, private bool) (msg []byte, ref []byte) {
	t.Helper()
	f := w.forge(t, plan{by: by, proposal: p, private: private})
	return f.msg, f.content.Ref(f.by.st.pub.Suite())
}

// byForger is a proposal by value of the forger.
func byForger(p *mls.Proposal) mls.Sent {
	return mls.Sent{Proposal: p, Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(forger)}}
}

// groupInfo is a GroupInfo of the epoch after the Commit, with its tree.
func (f *forged) groupInfo(t testing.TB, edit func(*mls.GroupInfo), spoil func(*mls.GroupInfo)) *mls.GroupInfo {
	t.Helper()
	s := f.by.st.pub.Suite()
	_, external, err := s.DeriveKeyPair(f.epoch.external)
	must(t, err)
	gi := &mls.GroupInfo{Context: f.ctx, ConfirmationTag: f.content.ConfirmationTag, Signer: f.applied.Committer}
	gi.Extensions = []mls.Extension{
		mls.ExternalPubExtension(external), {Type: mls.ExtensionRatchetTree, Data: f.applied.Tree.Encode()},
	}
	if edit != nil {
		edit(gi)
	}
	must(t, gi.Sign(s, f.signer))
	if spoil != nil {
		spoil(gi)
	}
	return gi
}

// welcomePlan says what is wrong with a Welcome; the rest of it is right.
type welcomePlan struct {
	info     func(*mls.GroupInfo)    // before it is signed
	spoil    func(*mls.GroupInfo)    // after
	secrets  func(*mls.GroupSecrets) // before they are encrypted
	ref      []byte                  // instead of the KeyPackageRef
	initKey  []byte                  // instead of the KeyPackage's
	welcome  func(*mls.Welcome)      // at the end
	reseal   func([]byte) []byte     // the encoded GroupInfo
	wrongKey bool                    // the GroupInfo under another key
}

// welcome makes the Welcome for one of those who were added.
func (f *forged) welcome(t testing.TB, to *client, p welcomePlan) []byte {
	t.Helper()
	return f.welcomeOf(t, to.keyPackageOf(), p)
}

// welcomeOf makes the Welcome for the client of a KeyPackage, which may be one
// that cannot be parsed.
func (f *forged) welcomeOf(t testing.TB, kp *mls.KeyPackage, p welcomePlan) []byte {
	t.Helper()
	s := f.by.st.pub.Suite()
	l, ok := f.applied.Tree.FindLeaf(kp.Leaf.SignatureKey)
	if !ok {
		t.Fatal("not in the tree")
	}
	key, nonce := welcomeKey(s, f.epoch.welcome)
	if p.wrongKey {
		key = mls.Random(len(key))
	}
	info := f.groupInfo(t, p.info, p.spoil).EncodeBare()
	if p.reseal != nil {
		info = p.reseal(info)
	}
	m := &mls.Welcome{Suite: s.ID}
	var err error
	m.GroupInfo, err = s.Seal(key, nonce, nil, info)
	must(t, err)
	secrets := &mls.GroupSecrets{JoinerSecret: bytes.Clone(f.epoch.joiner), PSKs: slices.Clone(f.psks)}
	if f.path != nil {
		secrets.PathSecret = bytes.Clone(f.path.forNewMember(l))
	}
	if p.secrets != nil {
		p.secrets(secrets)
	}
	initKey, ref := kp.InitKey, kp.Ref()
	if p.initKey != nil {
		initKey = p.initKey
	}
	if p.ref != nil {
		ref = p.ref
	}
	sealed, err := s.EncryptWithLabel(initKey, "Welcome", m.GroupInfo, secrets.Encode())
	must(t, err)
	m.Secrets = []mls.EncryptedGroupSecrets{{NewMember: ref, Secrets: sealed}}
	if p.welcome != nil {
		p.welcome(m)
	}
	return m.Encode()
}

// tryJoin joins by a Welcome and watches the joiner's keys, all it has so far.
func tryJoin(t testing.TB, c *client, welcome, tree []byte) error {
	t.Helper()
	before := string(c.kps.Marshal())
	st, info, err := Join(c.cfg, welcome, tree, c.kps)
	if err != nil && (st != nil || info != nil) {
		t.Fatal("an error came with a state")
	}
	if string(c.kps.Marshal()) != before {
		t.Fatal("the keys of the key package changed")
	}
	return err
}
