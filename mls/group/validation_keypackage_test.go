package group

import (
	"bytes"
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
)

// packageRules are those of RFC 9420 §10 and §10.1 about a KeyPackage, beside
// those about its leaf.
var packageRules = []leafRule{
	{name: "package-version", kinds: kPackage, want: fault{mls.ErrKeyPackage, "protocol version 2"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.Version = 2 })},
	{name: "package-suite-unknown", kinds: kPackage, want: fault{mls.ErrSuite, ""},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.Suite = 0x0A0A })},
	{name: "package-suite-of-another-group", kinds: kPackage &^ kVerify, want: fault{mls.ErrKeyPackage, "in a group of suite"},
		edit: anotherSuite},
	{name: "package-extension", kinds: kPackage, want: fault{mls.ErrKeyPackage, "extension 61731 not among the capabilities"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.Extensions = []mls.Extension{{Type: 0xF123}} })},
	{name: "package-extension-twice", kinds: kPackage, want: fault{mls.ErrDecode, "twice"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) {
			k.Extensions = []mls.Extension{{Type: oddExtension}, {Type: oddExtension}}
		})},
	{name: "package-init-key-is-leaf-key", kinds: kPackage, want: fault{mls.ErrKeyPackage, "init key"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.InitKey = k.Leaf.EncryptionKey })},
	{name: "package-init-key-short", kinds: kPackage, want: fault{mls.ErrKeyPackage, "init key"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.InitKey = k.InitKey[1:] })},
	{name: "package-init-key-empty", kinds: kPackage, want: fault{mls.ErrKeyPackage, "init key"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.InitKey = nil })},
	{name: "package-init-key-zero", kinds: kPackage, want: fault{mls.ErrKeyPackage, "init key"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.InitKey = endingIn(make([]byte, 32))(slices.Clone(k.InitKey)) })},
	{name: "package-init-key-low-order", kinds: kPackage, want: fault{mls.ErrKeyPackage, "init key"},
		edit: packaged(func(_ *world, k *mls.KeyPackage) { k.InitKey = endingIn(lowOrderPoint)(slices.Clone(k.InitKey)) })},
	{name: "package-signature", kinds: kPackage, want: fault{mls.ErrKeyPackage, "signature"},
		edit: spoilt(func(_ *world, k *mls.KeyPackage) { k.Signature[7] ^= 1 })},
	{name: "package-signature-empty", kinds: kPackage, want: fault{mls.ErrKeyPackage, "signature"},
		edit: spoilt(func(_ *world, k *mls.KeyPackage) { k.Signature = nil })},
	{name: "package-signature-of-another", kinds: kPackage, want: fault{mls.ErrKeyPackage, "signature"},
		edit: spoilt(func(w *world, k *mls.KeyPackage) { _ = k.Sign(w.hub.Suite(), w.hubKey) })},
	{name: "package-signed-before-change", kinds: kPackage, want: fault{mls.ErrKeyPackage, "signature"},
		edit: spoilt(func(_ *world, k *mls.KeyPackage) { k.Extensions = []mls.Extension{{Type: oddExtension}} })},
	{name: "package-init-key-swapped", kinds: kPackage, want: fault{mls.ErrKeyPackage, "signature"},
		edit: spoilt(func(w *world, k *mls.KeyPackage) { _, k.InitKey, _ = w.hub.Suite().GenerateKeyPair() })},
	{name: "package-leaf-of-another", kinds: kPackage, want: fault{mls.ErrKeyPackage, "signature"},
		edit: spoilt(func(w *world, k *mls.KeyPackage) { k.Leaf = w.members[memberKey].keyPackageOf().Leaf })},
}

func packaged(f func(*world, *mls.KeyPackage)) func(*world, *draft) {
	return func(w *world, d *draft) { d.kp = func(k *mls.KeyPackage) { f(w, k) } }
}

func spoilt(f func(*world, *mls.KeyPackage)) func(*world, *draft) {
	return func(w *world, d *draft) {
		d.kpSpoil = func(k *mls.KeyPackage) { k.Signature = slices.Clone(k.Signature); f(w, k) }
	}
}

// anotherSuite makes a package that is valid in another suite, whose keys may
// have another length.
func anotherSuite(_ *world, d *draft) {
	o, err := mls.LookupSuite(otherSuite())
	if err != nil {
		panic(err)
	}
	_, d.leaf.EncryptionKey, _ = o.GenerateKeyPair()
	d.kp = func(k *mls.KeyPackage) {
		k.Suite = o.ID
		_, k.InitKey, _ = o.GenerateKeyPair()
	}
}

func init() { register(packageRules) }

// rawEntries are the ways in for the bytes of a KeyPackage.
var rawEntries = map[string]func(t *testing.T, w *world, kp []byte) error{
	"verify": func(_ *testing.T, _ *world, kp []byte) error { _, err := mls.ParseKeyPackage(kp); return err },
	"propose-add": func(t *testing.T, w *world, kp []byte) error {
		return w.at(t, victim).attempt(func(s *State) (*State, error) { n, _, err := s.ProposeAdd(kp, nil); return n, err })
	},
	"stage-add": func(t *testing.T, w *world, kp []byte) error {
		return w.stages(t, CommitParams{Adds: [][]byte{kp}})
	},
	"unmarshal-keys": func(t *testing.T, _ *world, kp []byte) error {
		c := newcomer(t, "x")
		c.kps.KeyPackage = kp
		_, err := UnmarshalKeyPackageSecrets(c.kps.Marshal())
		return err
	},
}

func init() {
	for name, r := range map[string]struct {
		edit func(*world, []byte) []byte
		want fault
	}{
		// §10: the version of the MLSMessage is that of the KeyPackage
		"package-message-version": {func(_ *world, b []byte) []byte { b[1] = 2; return b }, fault{mls.ErrDecode, "protocol version 2"}},
		"package-wire-format":     {func(_ *world, b []byte) []byte { b[3] = 9; return b }, fault{mls.ErrWireFormat, ""}},
		"package-wire-format-other": {func(w *world, _ []byte) []byte {
			info, err := w.members[forger].st.GroupInfo(false)
			if err != nil {
				panic(err)
			}
			return info
		}, fault{mls.ErrWireFormat, ""}},
		"package-truncated": {func(_ *world, b []byte) []byte { return b[:len(b)-1] }, fault{mls.ErrDecode, ""}},
		"package-too-long":  {func(_ *world, b []byte) []byte { return append(b, 0) }, fault{mls.ErrDecode, ""}},
		"package-empty":     {func(_ *world, b []byte) []byte { return nil }, fault{mls.ErrDecode, ""}},
	} {
		for entry, try := range rawEntries {
			negative(name, entry, func(t *testing.T) {
				w := theWorld(t)
				r.want.check(t, try(t, w, r.edit(w, bytes.Clone(newcomer(t, "x").kp))))
			})
		}
	}
}

func TestEveryEntryTakesAKeyPackageThatIsRight(t *testing.T) {
	for name, try := range rawEntries {
		t.Run(name, func(t *testing.T) {
			if name == "unmarshal-keys" {
				c := newcomer(t, "x")
				_, err := UnmarshalKeyPackageSecrets(c.kps.Marshal())
				must(t, err)
				return
			}
			must(t, try(t, theWorld(t), newcomer(t, "x").kp))
		})
	}
}
