package mls

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/entente-im/entente/mls/internal/tls"
	"github.com/entente-im/entente/mls/internal/vectors"
)

type hexBytes = vectors.Hex

// implemented skips the suites that have no row; how many ran is asserted by ran.
func implemented(id uint16) *Suite {
	s, err := LookupSuite(SuiteID(id))
	if err != nil {
		return nil
	}
	return s
}

func ran(t *testing.T, n int) {
	t.Helper()
	if n == 0 {
		t.Fatal("no vector of this family was run")
	}
	t.Logf("%d vectors", n)
}

func eq(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s = %x, want %x", what, got, want)
	}
}

func TestVectorsTreeMath(t *testing.T) {
	var list []struct {
		NLeaves uint32 `json:"n_leaves"`
		NNodes  uint32 `json:"n_nodes"`
		Root    NodeIndex
		Left    []*NodeIndex
		Right   []*NodeIndex
		Parent  []*NodeIndex
		Sibling []*NodeIndex
	}
	vectors.Load(t, "tree-math", &list)
	for _, v := range list {
		if Root(v.NLeaves) != v.Root || 2*v.NLeaves-1 != v.NNodes {
			t.Fatalf("%d leaves: root %d", v.NLeaves, Root(v.NLeaves))
		}
		for i := range v.NNodes {
			x := NodeIndex(i)
			check := func(name string, want *NodeIndex, f func() NodeIndex) {
				if want != nil && f() != *want {
					t.Fatalf("%s(%d) = %d, want %d", name, x, f(), *want)
				}
			}
			check("left", v.Left[i], x.Left)
			check("right", v.Right[i], x.Right)
			check("parent", v.Parent[i], x.Parent)
			check("sibling", v.Sibling[i], x.Sibling)
		}
	}
	ran(t, len(list))
}

func TestVectorsDeserialization(t *testing.T) {
	var list []struct {
		Header hexBytes `json:"vlbytes_header"`
		Length int
	}
	vectors.Load(t, "deserialization", &list)
	for _, v := range list {
		r := tls.NewReader(v.Header)
		if n := r.VectorLen(); n != v.Length || r.Done() != nil {
			t.Fatalf("header %x = %d, want %d", v.Header, n, v.Length)
		}
	}
	ran(t, len(list))
}

func TestVectorsCryptoBasics(t *testing.T) {
	var list []struct {
		Suite   uint16 `json:"cipher_suite"`
		RefHash struct {
			Label      string
			Value, Out hexBytes
		} `json:"ref_hash"`
		Expand struct {
			Label                string
			Secret, Context, Out hexBytes
			Length               int
		} `json:"expand_with_label"`
		Derive struct {
			Label       string
			Secret, Out hexBytes
		} `json:"derive_secret"`
		Tree struct {
			Label       string
			Secret, Out hexBytes
			Generation  uint32
			Length      int
		} `json:"derive_tree_secret"`
		Sign struct {
			Label                         string
			Priv, Pub, Content, Signature hexBytes
		} `json:"sign_with_label"`
		Encrypt struct {
			Label                         string
			Priv, Pub, Context, Plaintext hexBytes
			KEMOutput                     hexBytes `json:"kem_output"`
			Ciphertext                    hexBytes
		} `json:"encrypt_with_label"`
	}
	vectors.Load(t, "crypto-basics", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		eq(t, "RefHash", s.RefHash(v.RefHash.Label, v.RefHash.Value), v.RefHash.Out)
		eq(t, "ExpandWithLabel", s.ExpandWithLabel(v.Expand.Secret, v.Expand.Label, v.Expand.Context, v.Expand.Length), v.Expand.Out)
		eq(t, "DeriveSecret", s.DeriveSecret(v.Derive.Secret, v.Derive.Label), v.Derive.Out)
		eq(t, "DeriveTreeSecret", s.DeriveTreeSecret(v.Tree.Secret, v.Tree.Label, v.Tree.Generation, v.Tree.Length), v.Tree.Out)
		if !s.VerifyWithLabel(v.Sign.Pub, v.Sign.Label, v.Sign.Content, v.Sign.Signature) {
			t.Fatal("signature of the vector refused")
		}
		sig, err := s.SignWithLabel(ed25519.NewKeyFromSeed(v.Sign.Priv), v.Sign.Label, v.Sign.Content)
		if err != nil {
			t.Fatal(err)
		}
		eq(t, "SignWithLabel", sig, v.Sign.Signature)
		e := v.Encrypt
		got, err := s.DecryptWithLabel(e.Priv, e.Label, e.Context, HPKECiphertext{e.KEMOutput, e.Ciphertext})
		if err != nil {
			t.Fatal(err)
		}
		eq(t, "DecryptWithLabel", got, e.Plaintext)
		c, err := s.EncryptWithLabel(e.Pub, e.Label, e.Context, e.Plaintext)
		if err != nil {
			t.Fatal(err)
		}
		got, err = s.DecryptWithLabel(e.Priv, e.Label, e.Context, c)
		if err != nil {
			t.Fatal(err)
		}
		eq(t, "round trip", got, e.Plaintext)
	}
	ran(t, n)
}

func TestVectorsMessages(t *testing.T) {
	var list []map[string]hexBytes
	vectors.Load(t, "messages", &list)
	proposal := func(kind ProposalType) func([]byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) { // the vectors leave the type out
			p, err := ParseProposal(append([]byte{0, byte(kind)}, b...))
			if err != nil {
				return nil, err
			}
			return EncodeProposal(p)[2:], nil
		}
	}
	whole := func(b []byte) ([]byte, error) {
		m, err := ParseMessage(b)
		if err != nil {
			return nil, err
		}
		return m.Encode(), nil
	}
	codecs := map[string]func([]byte) ([]byte, error){
		"mls_welcome": whole, "mls_group_info": whole, "mls_key_package": whole,
		"public_message_application": whole, "public_message_proposal": whole,
		"public_message_commit": whole, "private_message": whole,
		"add_proposal": proposal(ProposalAdd), "update_proposal": proposal(ProposalUpdate),
		"remove_proposal": proposal(ProposalRemove), "pre_shared_key_proposal": proposal(ProposalPSK),
		"re_init_proposal": proposal(ProposalReInit), "external_init_proposal": proposal(ProposalExternalInit),
		"group_context_extensions_proposal": proposal(ProposalGroupContextExtensions),
		"commit": func(b []byte) ([]byte, error) {
			c, err := ParseCommit(b)
			if err != nil {
				return nil, err
			}
			return EncodeCommit(c), nil
		},
		"group_secrets": func(b []byte) ([]byte, error) {
			g, err := ParseGroupSecrets(b)
			if err != nil {
				return nil, err
			}
			return g.Encode(), nil
		},
		"ratchet_tree": func(b []byte) ([]byte, error) {
			tree, err := ParseTree(suites[0], b)
			if err != nil {
				return nil, err
			}
			return tree.Encode(), nil
		},
	}
	for i, v := range list {
		if len(v) != len(codecs) {
			t.Fatalf("vector %d has %d fields, want %d", i, len(v), len(codecs))
		}
		for name, b := range v {
			got, err := codecs[name](b)
			if err != nil {
				t.Fatalf("vector %d %s: %v", i, name, err)
			}
			eq(t, name, got, b)
		}
	}
	ran(t, len(list))
}

func TestVectorsTreeOperations(t *testing.T) {
	var list []struct {
		Suite          uint16    `json:"cipher_suite"`
		Proposal       hexBytes  `json:"proposal"`
		Sender         LeafIndex `json:"proposal_sender"`
		TreeBefore     hexBytes  `json:"tree_before"`
		TreeHashBefore hexBytes  `json:"tree_hash_before"`
		TreeAfter      hexBytes  `json:"tree_after"`
		TreeHashAfter  hexBytes  `json:"tree_hash_after"`
	}
	vectors.Load(t, "tree-operations", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		before, err := ParseTree(s, v.TreeBefore)
		if err != nil {
			t.Fatal(err)
		}
		eq(t, "tree hash before", before.Hash(), v.TreeHashBefore)
		p, err := ParseProposal(v.Proposal)
		if err != nil {
			t.Fatal(err)
		}
		after := before.Copy()
		switch p.Type {
		case ProposalAdd:
			if _, err := after.Add(p.Add.Leaf); err != nil {
				t.Fatal(err)
			}
		case ProposalUpdate:
			after.Update(v.Sender, p.Update)
		case ProposalRemove:
			after.Remove(p.Remove)
		}
		eq(t, "tree after", after.Encode(), v.TreeAfter)
		eq(t, "tree hash after", after.Hash(), v.TreeHashAfter)
		eq(t, "the tree that was copied", before.Encode(), v.TreeBefore)
	}
	ran(t, n)
}

func TestVectorsTreeValidation(t *testing.T) {
	var list []struct {
		Suite       uint16        `json:"cipher_suite"`
		Tree        hexBytes      `json:"tree"`
		GroupID     hexBytes      `json:"group_id"`
		Hashes      []hexBytes    `json:"tree_hashes"`
		Resolutions [][]NodeIndex `json:"resolutions"`
	}
	vectors.Load(t, "tree-validation", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		tree, err := ParseTree(s, v.Tree)
		if err != nil {
			t.Fatal(err)
		}
		for x := range v.Hashes {
			eq(t, "tree hash", tree.NodeHash(NodeIndex(x)), v.Hashes[x])
			got := tree.Resolution(NodeIndex(x))
			if len(got) != len(v.Resolutions[x]) {
				t.Fatalf("resolution of %d: %v, want %v", x, got, v.Resolutions[x])
			}
			for i := range got {
				if got[i] != v.Resolutions[x][i] {
					t.Fatalf("resolution of %d: %v, want %v", x, got, v.Resolutions[x])
				}
			}
		}
		if err := tree.Verify(v.GroupID, nil, acceptAll{}); err != nil {
			t.Fatal(err)
		}
	}
	ran(t, n)
}

type acceptAll struct{}

func (acceptAll) ValidateLeaf(LeafCheck) error { return nil }

func TestVectorsTranscriptHashes(t *testing.T) {
	var list []struct {
		Suite         uint16   `json:"cipher_suite"`
		Key           hexBytes `json:"confirmation_key"`
		Content       hexBytes `json:"authenticated_content"`
		InterimBefore hexBytes `json:"interim_transcript_hash_before"`
		Confirmed     hexBytes `json:"confirmed_transcript_hash_after"`
		InterimAfter  hexBytes `json:"interim_transcript_hash_after"`
	}
	vectors.Load(t, "transcript-hashes", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		c, err := ParseContent(v.Content)
		if err != nil {
			t.Fatal(err)
		}
		confirmed := s.confirmedHash(v.InterimBefore, c)
		eq(t, "confirmed", confirmed, v.Confirmed)
		eq(t, "interim", s.interimHash(confirmed, c.ConfirmationTag), v.InterimAfter)
		if !s.VerifyMAC(v.Key, confirmed, c.ConfirmationTag) {
			t.Fatal("confirmation tag refused")
		}
	}
	ran(t, n)
}
