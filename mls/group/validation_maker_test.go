package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

// What a member is asked to propose itself, and must not (§12.1).
func init() {
	extensions := func(list func(w *world) []mls.Extension) func(*world, *State) (*State, error) {
		return func(w *world, s *State) (*State, error) {
			n, _, err := s.ProposeExtensions(list(w), nil)
			return n, err
		}
	}
	key := func(id mls.PreSharedKeyID) func(*world, *State) (*State, error) {
		return func(_ *world, s *State) (*State, error) { n, _, err := s.ProposePSK(id, nil); return n, err }
	}
	renew := func(name string) func(*world, *State) (*State, error) {
		c := credential(name)
		return func(_ *world, s *State) (*State, error) { n, _, err := s.ProposeUpdate(&c, nil); return n, err }
	}
	commit := func(p func(w *world) CommitParams) func(*world, *State) (*State, error) {
		return func(w *world, s *State) (*State, error) { n, _, err := s.Stage(p(w)); return n, err }
	}
	renewed := func(name string) func(*world) CommitParams {
		c := credential(name)
		return func(*world) CommitParams { return CommitParams{Credential: &c} }
	}
	malformed := func(t mls.ExtensionType) func(w *world) []mls.Extension {
		return func(w *world) []mls.Extension { return w.more(mls.Extension{Type: t, Data: []byte{3, 1, 0}}) }
	}
	odd := mls.Credential{Type: strange, Identity: []byte("m1")}
	for _, r := range []struct {
		rule, entry string
		try         func(*world, *State) (*State, error)
		want        fault
	}{
		{"extensions-refused-by-policy", "propose-extensions", extensions(func(w *world) []mls.Extension { return w.more(mls.Extension{Type: 0xF0AD}) }), fault{mls.ErrCredential, "denied"}},
		{"extensions-with-malformed-requirements", "propose-extensions", extensions(malformed(mls.ExtensionRequiredCapabilities)), infoMalformed},
		{"extensions-with-malformed-requirements", "stage", commit(func(w *world) CommitParams {
			return CommitParams{Extensions: malformed(mls.ExtensionRequiredCapabilities)(w)}
		}), infoMalformed},
		{"extensions-with-malformed-senders", "propose-extensions", extensions(malformed(mls.ExtensionExternalSenders)), infoMalformed},
		{"extensions-with-malformed-senders", "stage", commit(func(w *world) CommitParams {
			return CommitParams{Extensions: malformed(mls.ExtensionExternalSenders)(w)}
		}), infoMalformed},
		{"psk-usage-branch", "propose-psk", key(mls.PreSharedKeyID{Resumption: true, Usage: mls.UsageBranch}), badUsage},
		{"psk-usage-reinit", "propose-psk", key(mls.PreSharedKeyID{Resumption: true, Usage: mls.UsageReInit}), badUsage},
		{"leaf-identity-change", "propose-update", renew("changed"), fault{mls.ErrCredential, "denied"}},
		{"leaf-credential", "propose-update", renew("denied"), fault{mls.ErrCredential, "denied"}},
		{"leaf-own-credential", "propose-update", func(_ *world, s *State) (*State, error) {
			n, _, err := s.ProposeUpdate(&odd, nil)
			return n, err
		}, fault{mls.ErrLeaf, "lack the leaf's credential type"}},
		{"leaf-identity-change", "stage-path", commit(renewed("changed")), fault{mls.ErrCredential, "denied"}},
		{"leaf-credential", "stage-path", commit(renewed("denied")), fault{mls.ErrCredential, "denied"}},
		{"leaf-own-credential", "stage-path", commit(func(*world) CommitParams { return CommitParams{Credential: &odd} }),
			fault{mls.ErrLeaf, "lack the leaf's credential type"}},
	} {
		negative(r.rule, r.entry, func(t *testing.T) {
			w := theWorld(t)
			r.want.check(t, w.at(t, victim).attempt(func(s *State) (*State, error) { return r.try(w, s) }))
		})
	}
	negative("psk-without-a-policy", "propose-psk", func(t *testing.T) {
		w := theWorld(t).withoutPSKs(t)
		noPolicy.check(t, w.at(t, victim).attempt(func(s *State) (*State, error) {
			return key(mls.PreSharedKeyID{ID: []byte("coffee")})(w, s)
		}))
	})
	negative("psk-without-a-policy", "stage", func(t *testing.T) {
		w := theWorld(t).withoutPSKs(t)
		noPolicy.check(t, w.stages(t, CommitParams{PSKs: []mls.PreSharedKeyID{{ID: []byte("coffee")}}}))
	})
}

func TestAPreSharedKeyHasAFreshNonceEachTime(t *testing.T) {
	w := theWorld(t)
	seen := map[string]bool{}
	note := func(p *mls.Proposal) {
		if len(p.PSK.Nonce) != w.hub.Suite().HashLen() || seen[string(p.PSK.Nonce)] {
			t.Fatalf("nonce %x", p.PSK.Nonce)
		}
		seen[string(p.PSK.Nonce)] = true
	}
	id := mls.PreSharedKeyID{ID: []byte("coffee"), Nonce: make([]byte, w.hub.Suite().HashLen())}
	for range 2 {
		_, msg, err := w.at(t, victim).st.ProposePSK(id, nil)
		must(t, err)
		m, err := mls.ParseMessage(msg)
		must(t, err)
		note(m.PublicMessage.Content.Proposal)
		m, err = mls.ParseMessage(w.at(t, victim).commitAs(CommitParams{PSKs: []mls.PreSharedKeyID{id}}).Commit)
		must(t, err)
		note(m.PublicMessage.Content.Commit.Proposals[0].Proposal)
	}
	if len(seen) != 4 {
		t.Fatalf("%d nonces", len(seen))
	}
}
