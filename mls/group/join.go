package group

import (
	"bytes"

	"github.com/entente-im/entente/mls"
)

// JoinInfo says by whom and into what a Welcome brought us.
type JoinInfo struct {
	Inviter    mls.LeafIndex // who signed the GroupInfo
	Extensions []mls.Extension
	LastResort bool // our KeyPackage stays good
}

// opened is a Welcome as far as it can be read without the tree.
type opened struct {
	suite   *mls.Suite
	kp      *mls.KeyPackage
	secrets *mls.GroupSecrets
	info    *mls.GroupInfo
	psk     []byte // psk_secret
}

// openWelcome decrypts our part of a Welcome and the GroupInfo in it (RFC 9420
// §12.4.3.1).
func openWelcome(cfg Config, welcome []byte, k *KeyPackageSecrets) (*opened, error) {
	m, err := mls.ParseMessage(welcome)
	if err != nil {
		return nil, err
	}
	if m.Welcome == nil {
		return nil, mls.ErrWireFormat
	}
	w := m.Welcome
	o := &opened{}
	if o.suite, err = mls.LookupSuite(w.Suite); err != nil {
		return nil, err
	}
	if o.kp, err = mls.ParseKeyPackage(k.KeyPackage); err != nil {
		return nil, err
	}
	for i := range w.Secrets {
		if o.kp.Suite != w.Suite || !bytes.Equal(w.Secrets[i].NewMember, k.Ref) {
			continue
		}
		plain, err := o.suite.DecryptWithLabel(k.init, "Welcome", w.GroupInfo, w.Secrets[i].Secrets)
		if err != nil {
			return nil, err
		}
		o.secrets, err = mls.ParseGroupSecrets(plain)
		erase(plain)
		if err != nil {
			return nil, err
		}
		return o, o.openInfo(cfg, w.GroupInfo)
	}
	return nil, ErrNotForUs
}

func (o *opened) openInfo(cfg Config, ciphertext []byte) (err error) {
	s := o.suite
	if len(o.secrets.PSKs) > 0 && cfg.PSK == nil {
		return mls.ErrPolicy
	}
	if err := s.CheckPSKs(o.secrets.PSKs); err != nil {
		return err
	}
	if len(o.secrets.JoinerSecret) != s.HashLen() || o.secrets.PathSecret != nil && len(o.secrets.PathSecret) != s.HashLen() {
		return mls.ErrCrypto
	}
	if o.psk, err = pskSecret(s, o.secrets.PSKs, cfg.psk); err != nil {
		return err
	}
	welcome := welcomeSecret(s, o.secrets.JoinerSecret, o.psk)
	defer erase(welcome)
	key, nonce := welcomeKey(s, welcome)
	defer erase(key)
	plain, err := s.Open(key, nonce, nil, ciphertext)
	if err != nil {
		return err
	}
	o.info, err = mls.ParseGroupInfo(plain)
	if err != nil {
		return err
	}
	if o.info.Context.Suite != s.ID {
		return mls.ErrSuite
	}
	return nil
}

// WelcomeInfo is what a Welcome tells before its tree is there.
type WelcomeInfo struct {
	GroupID  []byte
	Epoch    uint64
	TreeHash []byte // the tree to fetch
	HasTree  bool   // the Welcome brings it itself
}

// PeekWelcome opens a Welcome far enough to learn which tree to fetch. Nothing
// of it is verified yet.
func PeekWelcome(cfg Config, welcome []byte, k *KeyPackageSecrets) (*WelcomeInfo, error) {
	o, err := openWelcome(cfg, welcome, k)
	if err != nil {
		return nil, err
	}
	erase(o.psk)
	erase(o.secrets.JoinerSecret)
	erase(o.secrets.PathSecret)
	c := o.info.Context
	_, has := mls.FindExtension(o.info.Extensions, mls.ExtensionRatchetTree)
	return &WelcomeInfo{GroupID: c.GroupID, Epoch: c.Epoch, TreeHash: c.TreeHash, HasTree: has}, nil
}

// Join joins a group by a Welcome (an MLSMessage). tree is the content of the
// ratchet_tree extension, checked against the hash in the Welcome; nil when the
// Welcome brings the tree. The secrets stay the caller's, to erase once the new
// state is stored. That the group ID is new to the device is the caller's to
// check.
func Join(cfg Config, welcome, tree []byte, k *KeyPackageSecrets) (*State, *JoinInfo, error) {
	o, err := openWelcome(cfg, welcome, k)
	if err != nil {
		return nil, nil, err
	}
	s := o.suite
	if err := cfg.check(s); err != nil {
		return nil, nil, err
	}
	g, err := mls.OpenGroupInfo(o.info, tree, cfg.public())
	if err != nil {
		return nil, nil, err
	}
	t := g.RatchetTree()
	own, ok := t.FindLeaf(o.kp.Leaf.SignatureKey)
	if !ok || !bytes.Equal(t.Leaf(own).Encode(), o.kp.Leaf.Encode()) {
		return nil, nil, ErrNotForUs
	}
	if pub, _ := s.CheckSigner(cfg.Signer); !bytes.Equal(pub, o.kp.Leaf.SignatureKey) || o.info.Signer == own {
		return nil, nil, mls.ErrSender
	}
	priv := privateTree{leaf: own, keys: map[mls.NodeIndex][]byte{own.Node(): bytes.Clone(k.encryption)}}
	if err := priv.joinPath(s, t, o); err != nil {
		return nil, nil, err
	}
	e := fromJoiner(s, o.secrets.JoinerSecret, o.psk, g.Context())
	defer erase(o.psk)
	defer erase(e.joiner)
	defer erase(e.welcome)
	if !s.VerifyMAC(e.confirmation, g.GroupContext().ConfirmedTranscriptHash, o.info.ConfirmationTag) {
		return nil, nil, mls.ErrCrypto
	}
	st, err := enter(cfg, g, priv, e, nil)
	if err != nil {
		return nil, nil, err
	}
	return st, &JoinInfo{Inviter: o.info.Signer, Extensions: o.info.Extensions, LastResort: o.kp.LastResort()}, nil
}

// joinPath derives the private keys above us from the Welcome's path secret and
// compares each with the public key in the tree.
func (p privateTree) joinPath(s *mls.Suite, t *mls.Tree, o *opened) error {
	if o.secrets.PathSecret == nil {
		return nil
	}
	var nodes []mls.NodeIndex
	var publics [][]byte
	signer := make(map[mls.NodeIndex]bool)
	for _, step := range t.FilteredPath(o.info.Signer) {
		signer[step.Node] = true
	}
	for x := mls.CommonAncestor(p.leaf.Node(), o.info.Signer.Node()); ; x = x.Parent() {
		if signer[x] {
			nodes, publics = append(nodes, x), append(publics, t.NodeKey(x))
		}
		if x == t.Root() {
			break
		}
	}
	last, err := p.pathSecrets(s, o.secrets.PathSecret, nodes, publics)
	erase(o.secrets.PathSecret)
	erase(last) // the commit secret is in the joiner secret already
	return err
}
