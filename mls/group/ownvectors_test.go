package group

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
	"github.com/entente-im/entente/mls/internal/vectors"
)

type entry = map[string]any

// TestWriteVectors writes, when MLS_WRITE_VECTORS is set, vectors like the official
// ones for the suite that has none, to mls/testdata/vectors. What is committed
// there is checked by the TestVectors tests of this package and of package mls.
func TestWriteVectors(t *testing.T) {
	if os.Getenv("MLS_WRITE_VECTORS") == "" || testSuite != mls.SuiteXWingChaCha20 {
		t.Skip("MLS_WRITE_VECTORS is not set, or another suite's turn")
	}
	s, err := mls.LookupSuite(testSuite)
	must(t, err)
	for family, list := range map[string]any{
		"crypto-basics":          []entry{basicsVector(t, s)},
		"key-schedule":           []entry{keyScheduleVector(t, s, 3)},
		"secret-tree":            []entry{secretTreeVector(t, s, 1), secretTreeVector(t, s, 8)},
		"message-protection":     []entry{protectionVector(t, s)},
		"treekem":                []entry{treeKEMVector(t, s, 2), treeKEMVector(t, s, 5)},
		"welcome":                []entry{welcomeVector(t)},
		"passive-client-welcome": []entry{passiveVector(t, 2, nil), passiveVector(t, 5, nil)},
		"passive-client-random":  []entry{passiveVector(t, 4, randomSteps)},
	} {
		b, err := json.MarshalIndent(list, "", " ")
		must(t, err)
		must(t, os.MkdirAll(filepath.Dir(vectors.Own(family)), 0o755))
		must(t, os.WriteFile(vectors.Own(family), append(b, '\n'), 0o644))
	}
}

func random(n int) hexBytes { return mls.Random(n) }

func newKey(t *testing.T) (ed25519.PrivateKey, hexBytes, hexBytes) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	return key, key.Seed(), hexBytes(pub)
}

func basicsVector(t *testing.T, s *mls.Suite) entry {
	value, secret, context := random(32), random(32), random(40)
	key, seed, pub := newKey(t)
	sig, err := s.SignWithLabel(key, "SignWithLabel", value)
	must(t, err)
	priv, encPub, err := s.GenerateKeyPair()
	must(t, err)
	c, err := s.EncryptWithLabel(encPub, "EncryptWithLabel", context, value)
	must(t, err)
	return entry{
		"cipher_suite": s.ID,
		"ref_hash":     entry{"label": "RefHash", "value": value, "out": hexBytes(s.RefHash("RefHash", value))},
		"expand_with_label": entry{"secret": secret, "label": "ExpandWithLabel", "context": context, "length": 48,
			"out": hexBytes(s.ExpandWithLabel(secret, "ExpandWithLabel", context, 48))},
		"derive_secret": entry{"secret": secret, "label": "DeriveSecret", "out": hexBytes(s.DeriveSecret(secret, "DeriveSecret"))},
		"derive_tree_secret": entry{"secret": secret, "label": "DeriveTreeSecret", "generation": 0xa0a0a0a0, "length": 16,
			"out": hexBytes(s.DeriveTreeSecret(secret, "DeriveTreeSecret", 0xa0a0a0a0, 16))},
		"sign_with_label": entry{"priv": seed, "pub": pub, "content": value, "label": "SignWithLabel", "signature": hexBytes(sig)},
		"encrypt_with_label": entry{"priv": hexBytes(priv), "pub": hexBytes(encPub), "label": "EncryptWithLabel", "context": context,
			"plaintext": value, "kem_output": hexBytes(c.KEMOutput), "ciphertext": hexBytes(c.Ciphertext)},
	}
}

func keyScheduleVector(t *testing.T, s *mls.Suite, epochs int) entry {
	groupID, first := random(32), random(32)
	init, list := []byte(first), []entry{}
	for i := range epochs {
		tree, confirmed, commit, psk := random(32), random(32), random(32), random(32)
		ctx := (&mls.GroupContext{Suite: s.ID, GroupID: groupID, Epoch: uint64(i), TreeHash: tree, ConfirmedTranscriptHash: confirmed}).Encode()
		e := advance(s, init, commit, psk, ctx)
		_, pub, err := s.DeriveKeyPair(e.external)
		must(t, err)
		context := random(32)
		list = append(list, entry{
			"tree_hash": tree, "confirmed_transcript_hash": confirmed, "commit_secret": commit, "psk_secret": psk,
			"group_context": hexBytes(ctx), "joiner_secret": hexBytes(e.joiner), "welcome_secret": hexBytes(e.welcome),
			"init_secret": hexBytes(e.initSecret), "sender_data_secret": hexBytes(e.senderData), "encryption_secret": hexBytes(e.encryption),
			"exporter_secret": hexBytes(e.exporter), "epoch_authenticator": hexBytes(e.authenticator), "external_secret": hexBytes(e.external),
			"external_pub": hexBytes(pub), "confirmation_key": hexBytes(e.confirmation), "membership_key": hexBytes(e.membership),
			"resumption_psk": hexBytes(e.resumption),
			"exporter": entry{"label": "exported", "context": context, "length": 32,
				"secret": hexBytes(exporter(s, e.exporter, "exported", context, 32))},
		})
		init = e.initSecret
	}
	return entry{"cipher_suite": s.ID, "group_id": groupID, "initial_init_secret": first, "epochs": list}
}

func secretTreeVector(t *testing.T, s *mls.Suite, width int) entry {
	encryption, senderData, ciphertext := random(32), random(32), random(77)
	key, nonce := senderDataKey(s, senderData, ciphertext)
	leaves := [][]entry{}
	for l := range width {
		list := []entry{}
		for _, g := range []uint32{0, 1, 15} {
			e := entry{"generation": g}
			for name, handshake := range map[string]bool{"application": false, "handshake": true} {
				tree := newSecretTree(s, uint32(width), []byte(encryption))
				_, key, nonce, err := tree.take(mls.LeafIndex(l), handshake, g, time.Now())
				must(t, err)
				e[name+"_key"], e[name+"_nonce"] = hexBytes(key), hexBytes(nonce)
			}
			list = append(list, e)
		}
		leaves = append(leaves, list)
	}
	return entry{"cipher_suite": s.ID, "encryption_secret": encryption, "leaves": leaves,
		"sender_data": entry{"sender_data_secret": senderData, "ciphertext": ciphertext, "key": hexBytes(key), "nonce": hexBytes(nonce)}}
}

func protectionVector(t *testing.T, s *mls.Suite) entry {
	key, seed, pub := newKey(t)
	groupID, tree, confirmed := random(32), random(32), random(32)
	encryption, senderData, membership := random(32), random(32), random(32)
	ctx := (&mls.GroupContext{Suite: s.ID, GroupID: groupID, Epoch: 7, TreeHash: tree, ConfirmedTranscriptHash: confirmed}).Encode()
	v := entry{"cipher_suite": s.ID, "group_id": groupID, "epoch": 7, "tree_hash": tree, "confirmed_transcript_hash": confirmed,
		"signature_priv": seed, "signature_pub": pub, "encryption_secret": encryption, "sender_data_secret": senderData, "membership_key": membership}
	proposal := &mls.Proposal{Type: mls.ProposalRemove, Remove: 3}
	for name, c := range map[string]*mls.Content{
		"proposal":    {Type: mls.ContentProposal, Proposal: proposal},
		"commit":      {Type: mls.ContentCommit, Commit: &mls.Commit{Proposals: []mls.ProposalOrRef{{Proposal: proposal}}}, ConfirmationTag: random(32)},
		"application": {Type: mls.ContentApplication, Application: random(77)},
	} {
		c.GroupID, c.Epoch, c.Sender = groupID, 7, mls.Sender{Type: mls.SenderMember, Index: 1}
		var w tls.Writer
		if c.WriteBody(&w); name == "application" {
			w.B = c.Application
		} else {
			c.WireFormat = mls.WirePublicMessage
			must(t, c.Sign(s, key, ctx))
			v[name+"_pub"] = hexBytes((&mls.PublicMessage{Content: c, MembershipTag: c.MembershipTag(s, membership, ctx)}).Encode())
		}
		v[name] = hexBytes(w.B)
		c.WireFormat = mls.WirePrivateMessage
		must(t, c.Sign(s, key, ctx))
		_, k, nonce, err := newSecretTree(s, 2, encryption).take(1, name != "application", 0, time.Now())
		must(t, err)
		p, err := seal(s, c, senderData, 0, k, nonce, 0)
		must(t, err)
		v[name+"_priv"] = hexBytes(p.Encode())
	}
	return v
}
