package group

import (
	"bytes"
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
)

// welcomeRule is a rule about a Welcome (RFC 9420 §12.4.3.1). What shows before
// the tree is there is refused by PeekWelcome too.
type welcomeRule struct {
	name  string
	plan  welcomePlan
	make  func(t *testing.T, w *world, x *client) ([]byte, *client) // instead of a plan
	bytes func(w *world, welcome []byte) []byte
	peeks bool
	want  fault
}

func sealedSecrets(f func(*mls.HPKECiphertext)) welcomePlan {
	return welcomePlan{welcome: func(m *mls.Welcome) { f(&m.Secrets[0].Secrets) }}
}

func secrets(f func(*mls.GroupSecrets)) welcomePlan { return welcomePlan{secrets: f} }

var (
	welcomeCrypto = fault{mls.ErrCrypto, ""}
	notForUs      = fault{ErrNotForUs, ""}
)

var welcomeRules = []welcomeRule{
	// find our entry
	{name: "welcome-for-another-package", peeks: true, want: notForUs, plan: welcomePlan{ref: bytes.Repeat([]byte{1}, 32)}},
	{name: "welcome-for-an-empty-reference", peeks: true, want: notForUs, plan: welcomePlan{ref: []byte{}}},
	{name: "welcome-for-nobody", peeks: true, want: notForUs, plan: welcomePlan{welcome: func(m *mls.Welcome) { m.Secrets = nil }}},
	{name: "welcome-suite-unknown", peeks: true, want: fault{mls.ErrSuite, ""}, plan: welcomePlan{welcome: func(m *mls.Welcome) { m.Suite = 0x0A0A }}},
	{name: "welcome-suite-of-another-package", peeks: true, want: notForUs, plan: welcomePlan{welcome: func(m *mls.Welcome) { m.Suite = otherSuite() }}},
	// decrypt the secrets
	{name: "welcome-for-another-init-key", peeks: true, want: welcomeCrypto, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
		f := w.forge(t, plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}})
		_, pub, err := w.hub.Suite().GenerateKeyPair()
		must(t, err)
		return f.welcome(t, x, welcomePlan{initKey: pub}), x
	}},
	{name: "welcome-secrets-ciphertext", peeks: true, want: welcomeCrypto, plan: sealedSecrets(func(c *mls.HPKECiphertext) { c.Ciphertext[0] ^= 1 })},
	{name: "welcome-secrets-ciphertext-empty", peeks: true, want: welcomeCrypto, plan: sealedSecrets(func(c *mls.HPKECiphertext) { c.Ciphertext = nil })},
	{name: "welcome-kem-output", peeks: true, want: welcomeCrypto, plan: sealedSecrets(func(c *mls.HPKECiphertext) { c.KEMOutput[0] ^= 1 })},
	{name: "welcome-kem-output-short", peeks: true, want: welcomeCrypto, plan: sealedSecrets(func(c *mls.HPKECiphertext) { c.KEMOutput = c.KEMOutput[1:] })},
	{name: "welcome-kem-output-low-order", peeks: true, want: welcomeCrypto, plan: sealedSecrets(func(c *mls.HPKECiphertext) {
		c.KEMOutput = endingIn(make([]byte, 32))(slices.Clone(c.KEMOutput))
	})},
	{name: "welcome-info-not-of-the-secrets", peeks: true, want: welcomeCrypto, plan: welcomePlan{welcome: func(m *mls.Welcome) { m.GroupInfo[3] ^= 1 }}},
	{name: "welcome-info-missing", peeks: true, want: welcomeCrypto, plan: welcomePlan{welcome: func(m *mls.Welcome) { m.GroupInfo = nil }}},
	// decrypt the GroupInfo
	{name: "welcome-info-under-another-key", peeks: true, want: welcomeCrypto, plan: welcomePlan{wrongKey: true}},
	{name: "welcome-joiner-secret", peeks: true, want: welcomeCrypto, plan: secrets(func(g *mls.GroupSecrets) { g.JoinerSecret = mls.Random(32) })},
	{name: "welcome-joiner-secret-short", peeks: true, want: welcomeCrypto, plan: secrets(func(g *mls.GroupSecrets) { g.JoinerSecret = g.JoinerSecret[:31] })},
	{name: "welcome-joiner-secret-empty", peeks: true, want: welcomeCrypto, plan: secrets(func(g *mls.GroupSecrets) { g.JoinerSecret = nil })},
	{name: "welcome-info-malformed", peeks: true, want: infoMalformed, plan: welcomePlan{reseal: func([]byte) []byte { return []byte{0, 1} }}},
	// our leaf
	{name: "welcome-without-our-leaf", want: notForUs, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
		y := newcomer(t, "y")
		f := w.forge(t, plan{list: []mls.Sent{byForger(add(y.keyPackageOf()))}})
		kp := x.keyPackageOf()
		return f.welcome(t, y, welcomePlan{ref: kp.Ref(), initKey: kp.InitKey}), x
	}},
	{name: "welcome-with-another-leaf-of-ours", want: notForUs, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
		other := packed(t, x, w, func(w *world, d *draft) { _, d.leaf.EncryptionKey, _ = w.hub.Suite().GenerateKeyPair() })
		f := w.forge(t, plan{list: []mls.Sent{byForger(add(other))}})
		return f.welcome(t, x, welcomePlan{}), x
	}},
	{name: "welcome-from-ourselves", want: fault{mls.ErrSender, ""}, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
		f := w.forge(t, plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}})
		f.signer = x.cfg.Signer
		return f.welcome(t, x, welcomePlan{info: func(gi *mls.GroupInfo) { gi.Signer = vacant }}), x
	}},
	{name: "welcome-for-another-signer", want: fault{mls.ErrSender, ""}, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
		f := w.forge(t, plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}})
		other := *x
		other.cfg.Signer = newcomer(t, "y").cfg.Signer
		return f.welcome(t, x, welcomePlan{}), &other
	}},
	// the path secret: private keys fit the public ones
	{name: "welcome-path-secret", want: welcomeCrypto, plan: secrets(func(g *mls.GroupSecrets) { g.PathSecret = mls.Random(32) })},
	{name: "welcome-path-secret-short", peeks: true, want: welcomeCrypto, plan: secrets(func(g *mls.GroupSecrets) { g.PathSecret = g.PathSecret[:31] })},
	{name: "welcome-path-secret-empty", peeks: true, want: welcomeCrypto, plan: secrets(func(g *mls.GroupSecrets) { g.PathSecret = []byte{} })},
	{name: "welcome-path-secret-of-another-node", want: welcomeCrypto, make: func(t *testing.T, w *world, x *client) ([]byte, *client) {
		f := w.forge(t, plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}})
		root := f.path.secrets[f.applied.Tree.Root()]
		return f.welcome(t, x, secrets(func(g *mls.GroupSecrets) { g.PathSecret = bytes.Clone(root) })), x
	}},
	// the encoding
	{name: "welcome-truncated", peeks: true, want: infoMalformed, bytes: func(_ *world, b []byte) []byte { return b[:len(b)-1] }},
	{name: "welcome-too-long", peeks: true, want: infoMalformed, bytes: func(_ *world, b []byte) []byte { return append(b, 0) }},
	{name: "welcome-empty", peeks: true, want: infoMalformed, bytes: func(*world, []byte) []byte { return nil }},
	{name: "welcome-version", peeks: true, want: fault{mls.ErrDecode, "protocol version 2"}, bytes: func(_ *world, b []byte) []byte { b[1] = 2; return b }},
	{name: "welcome-wire-format", peeks: true, want: fault{mls.ErrWireFormat, ""}, bytes: func(w *world, _ []byte) []byte { return w.members[memberKey].kp }},
}

// message makes the Welcome, and who is to believe it.
func (r welcomeRule) message(t *testing.T, w *world) ([]byte, *client) {
	t.Helper()
	x := newcomer(t, "x")
	if r.make != nil {
		return r.make(t, w, x)
	}
	f := w.forge(t, plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}})
	msg := f.welcome(t, x, r.plan)
	if r.bytes != nil {
		msg = r.bytes(w, msg)
	}
	return msg, x
}

func init() { registerWelcomes(welcomeRules) }

func registerWelcomes(rules []welcomeRule) {
	for _, r := range rules {
		negative(r.name, "join", func(t *testing.T) {
			msg, x := r.message(t, theWorld(t))
			r.want.check(t, tryJoin(t, x, msg, nil))
		})
		if r.bytes != nil {
			negative(r.name, "refs", func(t *testing.T) {
				msg, _ := r.message(t, theWorld(t))
				refs, err := mls.WelcomeRefs(msg)
				r.want.check(t, err)
				if refs != nil {
					t.Fatal("an error came with references")
				}
			})
		}
		if !r.peeks {
			continue
		}
		negative(r.name, "peek", func(t *testing.T) {
			msg, x := r.message(t, theWorld(t))
			before := string(x.kps.Marshal())
			info, err := PeekWelcome(x.cfg, msg, x.kps)
			r.want.check(t, err)
			if info != nil || string(x.kps.Marshal()) != before {
				t.Fatal("an error came with something")
			}
		})
	}
}

// A Welcome that is not peeked into wrongly is joined by.
func TestAWelcomeThatIsRightIsJoinedBy(t *testing.T) {
	w := theWorld(t)
	msg, x := welcomeRule{}.message(t, w)
	if _, err := PeekWelcome(x.cfg, msg, x.kps); err != nil {
		t.Fatal(err)
	}
	must(t, tryJoin(t, x, msg, nil))
}
