package group

import (
	"bytes"
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
)

// A PrivateMessage that somebody on the way has changed (RFC 9420 §6.3).
var privateRules = []struct {
	name string
	edit func(*mls.PrivateMessage)
	want fault
}{
	{"private-content-type-zero", func(p *mls.PrivateMessage) { p.Type = 0 }, fault{mls.ErrDecode, ""}},
	{"private-content-type-unknown", func(p *mls.PrivateMessage) { p.Type = 4 }, fault{mls.ErrDecode, ""}},
	{"private-of-another-group", func(p *mls.PrivateMessage) { p.GroupID = []byte("worlds") }, fault{mls.ErrWrongGroup, ""}},
	{"private-of-a-later-epoch", func(p *mls.PrivateMessage) { p.Epoch++ }, fault{errAnEpoch, ""}},
	{"private-of-the-first-epoch", func(p *mls.PrivateMessage) { p.Epoch = 0 }, fault{errAnEpoch, ""}},
	{"private-authenticated-data", func(p *mls.PrivateMessage) { p.AAD = []byte("more") }, badTag},
	{"private-sender-data", func(p *mls.PrivateMessage) { p.SenderData[1] ^= 1 }, badTag},
	{"private-sender-data-short", func(p *mls.PrivateMessage) { p.SenderData = p.SenderData[:5] }, badTag},
	{"private-sender-data-empty", func(p *mls.PrivateMessage) { p.SenderData = nil }, badTag},
	{"private-ciphertext", func(p *mls.PrivateMessage) { p.Ciphertext[len(p.Ciphertext)-1] ^= 1 }, badTag},
	{"private-ciphertext-sample", func(p *mls.PrivateMessage) { p.Ciphertext[0] ^= 1 }, badTag},
	{"private-ciphertext-short", func(p *mls.PrivateMessage) { p.Ciphertext = p.Ciphertext[:15] }, badTag},
	{"private-ciphertext-empty", func(p *mls.PrivateMessage) { p.Ciphertext = nil }, badTag},
}

func init() {
	process := func(c *client, msg []byte) error { return c.tell(msg) }
	decrypt := func(c *client, msg []byte) error {
		return c.attempt(func(s *State) (*State, error) { n, _, err := s.Decrypt(msg); return n, err })
	}
	for _, way := range []struct {
		entry string
		make  func(t *testing.T, w *world) []byte
		tell  func(*client, []byte) error
	}{
		{"private-commit", func(t *testing.T, w *world) []byte { return w.forge(t, plan{private: true}).msg }, process},
		{"private-proposal", func(t *testing.T, w *world) []byte {
			return w.forge(t, plan{proposal: remove(5), private: true}).msg
		}, process},
		{"decrypt", func(t *testing.T, w *world) []byte {
			_, msg, err := w.at(t, third).st.Encrypt([]byte("aad"), []byte("text"), 0)
			must(t, err)
			return msg
		}, decrypt},
	} {
		for _, r := range privateRules {
			negative(r.name, way.entry, func(t *testing.T) {
				w := theWorld(t)
				msg := way.make(t, w)
				m, err := mls.ParseMessage(bytes.Clone(msg))
				must(t, err)
				must(t, way.tell(w.at(t, victim), msg))
				r.edit(m.PrivateMessage)
				r.want.check(t, way.tell(w.at(t, victim), m.Encode()))
			})
		}
		if way.entry == "decrypt" {
			continue
		}
		negative("private-content-type-changed", way.entry, func(t *testing.T) {
			w := theWorld(t)
			m, err := mls.ParseMessage(way.make(t, w))
			must(t, err)
			m.PrivateMessage.Type = mls.ContentProposal + mls.ContentCommit - m.PrivateMessage.Type
			badTag.check(t, process(w.at(t, victim), m.Encode()))
		})
	}
}

// Without a validator nothing is believed (§5.3.1).
func init() {
	none := fault{mls.ErrCredential, ""}
	for entry, try := range map[string]func(t *testing.T, w *world) error{
		"verify": func(t *testing.T, _ *world) error {
			c := newcomer(t, "x")
			return c.keyPackageOf().Verify(c.cfg.now(), nil)
		},
		"create": func(t *testing.T, _ *world) error {
			_, err := Create(Config{Signer: newcomer(t, "x").cfg.Signer}, CreateParams{Suite: testSuite, GroupID: []byte("g"), Credential: credential("x")})
			return err
		},
		"join": func(t *testing.T, w *world) error {
			msg, x := welcomeRule{}.message(t, w)
			x.cfg.Validator = nil
			return tryJoin(t, x, msg, nil)
		},
		"external-join": func(t *testing.T, w *world) error {
			info, err := w.at(t, forger).st.GroupInfo(true)
			must(t, err)
			_, err = ExternalJoin(Config{Signer: newcomer(t, "x").cfg.Signer}, info, nil, ExternalParams{Credential: credential("x")})
			return err
		},
		"observe": func(t *testing.T, w *world) error {
			info, err := w.at(t, forger).st.GroupInfo(true)
			must(t, err)
			_, err = mls.NewPublicGroup(info, nil, mls.PublicOptions{})
			return err
		},
	} {
		negative("validator-missing", entry, func(t *testing.T) { none.check(t, try(t, theWorld(t))) })
	}
}

// Private keys that are not those of the KeyPackage.
func init() {
	for name, edit := range map[string]func(k, other *KeyPackageSecrets){
		"package-init-key-of-another":       func(k, o *KeyPackageSecrets) { k.init = o.init },
		"package-encryption-key-of-another": func(k, o *KeyPackageSecrets) { k.encryption = o.encryption },
		"package-private-key-short":         func(k, _ *KeyPackageSecrets) { k.init = slices.Clone(k.init[1:]) },
		"package-private-key-empty":         func(k, _ *KeyPackageSecrets) { k.encryption = nil },
	} {
		negative(name, "unmarshal-keys", func(t *testing.T) {
			k := newcomer(t, "x").kps
			edit(k, newcomer(t, "y").kps)
			got, err := UnmarshalKeyPackageSecrets(k.Marshal())
			badTag.check(t, err)
			if got != nil {
				t.Fatal("an error came with keys")
			}
		})
	}
}
