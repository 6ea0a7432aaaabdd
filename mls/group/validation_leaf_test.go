package group

import (
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
)

// leafRule is a rule of RFC 9420 §7.2, §7.3 or §13.4 about a leaf, broken by
// edit at each entry of its kinds. other has the faults of entries that see it
// in another light.
type leafRule struct {
	name  string
	kinds kind
	edit  func(*world, *draft)
	want  fault
	other map[kind]fault
}

func capable(f func(*mls.Capabilities)) func(*world, *draft) {
	return func(_ *world, d *draft) {
		c := d.leaf.Capabilities
		c.Extensions, c.Proposals, c.Credentials = slices.Clone(c.Extensions), slices.Clone(c.Proposals), slices.Clone(c.Credentials)
		f(&c)
		d.leaf.Capabilities = c
	}
}

func without[T comparable](list []T, v T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return x == v })
}

// encryptionKey gives a leaf this key.
func encryptionKey(key func(*world) []byte) func(*world, *draft) {
	return func(w *world, d *draft) { d.leaf.EncryptionKey = key(w) }
}

// keyBytes changes the bytes of a leaf's own key; a hybrid key ends with the
// X25519 one.
func keyBytes(f func([]byte) []byte) func(*world, *draft) {
	return func(_ *world, d *draft) { d.leaf.EncryptionKey = f(slices.Clone(d.leaf.EncryptionKey)) }
}

func endingIn(end []byte) func([]byte) []byte {
	return func(k []byte) []byte { return append(k[:len(k)-len(end)], end...) }
}

func lifetime(from, to time.Duration) func(*world, *draft) {
	return func(_ *world, d *draft) {
		if d.leaf.Source == mls.SourceKeyPackage {
			d.leaf.NotBefore, d.leaf.NotAfter = uint64(time.Now().Add(from).Unix()), uint64(time.Now().Add(to).Unix())
		}
	}
}

// lowOrderPoint is a public key with which every shared secret is zero.
var lowOrderPoint = []byte{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
	0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00}

const memberKey = 5 // whose keys others try to use again

var leafRules = []leafRule{
	// §7.3, first to fourth point
	{name: "leaf-credential", kinds: kAlone | kCreate, want: fault{mls.ErrCredential, "denied"},
		edit: func(_ *world, d *draft) { d.leaf.Credential = credential("denied") }},
	{name: "leaf-identity-change", kinds: kUpdateProp | kPath | kResync, want: fault{mls.ErrCredential, "denied"},
		edit: func(_ *world, d *draft) { d.leaf.Credential = credential("changed") }},
	{name: "leaf-signature", kinds: kAlone, want: fault{mls.ErrLeaf, "signature"},
		edit: func(_ *world, d *draft) {
			d.spoil = func(l *mls.LeafNode) { l.Signature = slices.Clone(l.Signature); l.Signature[40] ^= 1 }
		}},
	{name: "leaf-signature-empty", kinds: kAlone, want: fault{mls.ErrLeaf, "signature"},
		edit: func(_ *world, d *draft) { d.spoil = func(l *mls.LeafNode) { l.Signature = nil } }},
	{name: "leaf-signed-before-change", kinds: kAlone, want: fault{mls.ErrLeaf, "signature"},
		edit: func(_ *world, d *draft) {
			d.spoil = func(l *mls.LeafNode) {
				l.Capabilities.Proposals = append(slices.Clone(l.Capabilities.Proposals), 0xF0FF)
			}
		}},
	{name: "leaf-signed-for-another-group", kinds: kBound, want: fault{mls.ErrLeaf, "signature"},
		edit: func(_ *world, d *draft) { d.groupID = []byte("other") }},
	{name: "leaf-signed-for-another-place", kinds: kBound, want: fault{mls.ErrLeaf, "signature"},
		edit: func(_ *world, d *draft) { d.index++ }},
	{name: "leaf-required-extension", kinds: kContext | kCreate, want: fault{mls.ErrLeaf, "extension 61610"},
		edit: capable(func(c *mls.Capabilities) { c.Extensions = without(c.Extensions, oddExtension) })},
	{name: "leaf-required-proposal", kinds: kContext | kCreate, want: fault{mls.ErrLeaf, "lacks required proposal"},
		edit: capable(func(c *mls.Capabilities) { c.Proposals = without(c.Proposals, oddProposal) })},
	{name: "leaf-required-credential", kinds: kContext | kCreate, want: fault{mls.ErrLeaf, "lacks required credential"},
		edit: capable(func(c *mls.Capabilities) { c.Credentials = without(c.Credentials, mls.CredentialEntente) })},
	{name: "leaf-credential-unsupported", kinds: kAmong, want: fault{mls.ErrLeaf, "does not support credential type 61612"},
		edit: func(w *world, d *draft) {
			capable(func(c *mls.Capabilities) { c.Credentials = append(c.Credentials, strange) })(w, d)
			d.leaf.Credential.Type = strange
		}},
	{name: "leaf-credential-in-use", kinds: kAmong, want: fault{mls.ErrLeaf, "does not support credential type 1"},
		edit: func(w *world, d *draft) {
			capable(func(c *mls.Capabilities) { c.Credentials = []mls.CredentialType{mls.CredentialEntente} })(w, d)
			d.leaf.Credential.Type = mls.CredentialEntente
		}},
	// §7.3, lifetime: a MUST for who sends the leaf on
	{name: "leaf-lifetime-over", kinds: kSends, want: fault{mls.ErrLifetime, ""}, edit: lifetime(-2*time.Hour, -time.Hour)},
	{name: "leaf-lifetime-to-come", kinds: kSends, want: fault{mls.ErrLifetime, ""}, edit: lifetime(time.Hour, 2*time.Hour)},
	{name: "leaf-lifetime-reversed", kinds: kPackage | kTreeAdded, want: fault{mls.ErrLifetime, ""}, edit: lifetime(time.Hour, -time.Hour)},
	{name: "leaf-lifetime-long", kinds: kVerify, want: fault{mls.ErrLifetime, "longer than"}, edit: lifetime(-time.Hour, 92*24*time.Hour)},
	// §7.3, extensions; §13.4
	{name: "leaf-extension", kinds: kAlone | kCreate, want: fault{mls.ErrLeaf, "extension 61731 not among the capabilities"},
		edit: func(_ *world, d *draft) { d.leaf.Extensions = []mls.Extension{{Type: 0xF123}} }},
	{name: "leaf-extension-twice", kinds: kAlone, want: fault{mls.ErrDecode, "twice"},
		edit: func(_ *world, d *draft) {
			d.leaf.Extensions = []mls.Extension{{Type: oddExtension}, {Type: oddExtension}}
		}},
	{name: "leaf-group-extension", kinds: kContext | kCreate, want: fault{mls.ErrLeaf, "no capability for the group's extension"},
		edit: capable(func(c *mls.Capabilities) { c.Extensions = without(c.Extensions, mls.ExtensionRoom) })},
	// §7.3, leaf_node_source
	{name: "leaf-source-update", kinds: kPackage | kPath | kExternal | kResync, want: fault{mls.ErrKeyPackage, "leaf source 2"},
		edit: func(_ *world, d *draft) { d.leaf.Source = mls.SourceUpdate },
		other: map[kind]fault{
			kPath | kExternal | kResync: {mls.ErrCommit, "path leaf source 2"}, kPropose | kStage: {mls.ErrLifetime, ""},
		}},
	{name: "leaf-source-commit", kinds: kPackage | kUpdateProp, want: fault{mls.ErrKeyPackage, "leaf source 3"},
		edit:  func(_ *world, d *draft) { d.leaf.Source, d.leaf.ParentHash = mls.SourceCommit, []byte{} },
		other: map[kind]fault{kUpdateProp: {mls.ErrProposal, "update of leaf"}, kPropose | kStage: {mls.ErrLifetime, ""}}},
	{name: "leaf-source-key-package", kinds: kUpdateProp | kPath | kExternal | kResync, want: fault{mls.ErrCommit, "path leaf source 1"},
		edit: func(_ *world, d *draft) {
			d.leaf.Source = mls.SourceKeyPackage
			lifetime(-time.Hour, time.Hour)(nil, d)
		},
		other: map[kind]fault{kUpdateProp: {mls.ErrProposal, "update of leaf"}}},
	{name: "leaf-source-unknown", kinds: kAlone, want: fault{mls.ErrDecode, "leaf source 9"},
		edit: func(_ *world, d *draft) { d.leaf.Source = 9 }},
	// §7.3, keys
	{name: "leaf-keeps-key", kinds: kUpdateProp | kPath | kResync, want: fault{mls.ErrLeaf, "keeps its encryption key"},
		edit: func(w *world, d *draft) {
			for _, m := range w.hub.Members() {
				if string(m.Node.SignatureKey) == string(d.leaf.SignatureKey) {
					d.leaf.EncryptionKey = m.Node.EncryptionKey
				}
			}
		}},
	{name: "leaf-signature-key-in-use", kinds: kAmong, want: fault{mls.ErrTree, "signature key that is used already"},
		edit: func(w *world, d *draft) {
			d.leaf.SignatureKey, d.signer = w.hub.Member(memberKey).SignatureKey, w.members[memberKey].cfg.Signer
		},
		other: map[kind]fault{kStage | kAddCommit | kHubAdd: {mls.ErrCommit, "member already"}}},
	{name: "leaf-encryption-key-in-use", kinds: kAmong, want: fault{mls.ErrTree, "key that is used already"},
		edit: encryptionKey(func(w *world) []byte { return w.hub.Member(memberKey).EncryptionKey })},
	{name: "leaf-encryption-key-of-a-parent", kinds: kAmong, want: fault{mls.ErrTree, "key that is used already"},
		edit: encryptionKey(func(w *world) []byte { return w.hub.RatchetTree().NodeKey(11) })},
	{name: "leaf-encryption-key-short", kinds: kAlone, want: fault{mls.ErrLeaf, "encryption key"}, edit: keyBytes(func(k []byte) []byte { return k[1:] })},
	{name: "leaf-encryption-key-long", kinds: kAlone, want: fault{mls.ErrLeaf, "encryption key"}, edit: keyBytes(func(k []byte) []byte { return append(k, 0) })},
	{name: "leaf-encryption-key-zero", kinds: kAlone, want: fault{mls.ErrLeaf, "encryption key"}, edit: keyBytes(endingIn(make([]byte, 32)))},
	{name: "leaf-encryption-key-low-order", kinds: kAlone, want: fault{mls.ErrLeaf, "encryption key"}, edit: keyBytes(endingIn(lowOrderPoint))},
	{name: "leaf-signature-key-short", kinds: kAlone, want: fault{mls.ErrLeaf, "signature"},
		edit: func(_ *world, d *draft) { d.leaf.SignatureKey = d.leaf.SignatureKey[:31] },
		other: map[kind]fault{
			kPackage: {mls.ErrKeyPackage, "signature"}, kExternal | kResync: {mls.ErrCrypto, ""}, kTreePath: {mls.ErrGroupInfo, "signature"},
		}},
	// §7.2, §10, §11.1
	{name: "leaf-version", kinds: kAlone | kCreate, want: fault{mls.ErrLeaf, "lack the protocol version"},
		edit: capable(func(c *mls.Capabilities) { c.Versions = []uint16{2} })},
	{name: "leaf-suite", kinds: kAlone | kCreate, want: fault{mls.ErrLeaf, "lack the cipher suite"},
		edit: capable(func(c *mls.Capabilities) { c.Suites = without(c.Suites, testSuite) })},
	{name: "leaf-own-credential", kinds: kAlone | kCreate, want: fault{mls.ErrLeaf, "lack the leaf's credential type"},
		edit:  capable(func(c *mls.Capabilities) { c.Credentials = without(c.Credentials, mls.CredentialBasic) }),
		other: map[kind]fault{kTrees: {mls.ErrLeaf, "does not support credential type 1"}}},
	{name: "leaf-credential-layout", kinds: kAlone, want: fault{mls.ErrDecode, "credential type 7"},
		edit: func(w *world, d *draft) {
			capable(func(c *mls.Capabilities) { c.Credentials = append(c.Credentials, 7) })(w, d)
			d.leaf.Credential.Type = 7
		}},
	{name: "leaf-certificates", kinds: kAlone, want: fault{mls.ErrDecode, ""},
		edit: func(w *world, d *draft) {
			capable(func(c *mls.Capabilities) { c.Credentials = append(c.Credentials, mls.CredentialX509) })(w, d)
			d.leaf.Credential = mls.Credential{Type: mls.CredentialX509, Identity: []byte{9, 1}}
		}},
}

func init() { register(leafRules) }

// register makes a case of each rule at each entry of its kinds.
func register(rules []leafRule) {
	for _, r := range rules {
		for _, e := range leafEntries {
			if r.kinds&e.kind == 0 {
				continue
			}
			want := r.want
			for k, f := range r.other {
				if k&e.kind != 0 {
					want = f
				}
			}
			negative(r.name, e.name, func(t *testing.T) {
				want.check(t, e.try(t, theWorld(t), r.edit))
			})
		}
	}
}
