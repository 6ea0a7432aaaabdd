package group

import (
	"bytes"
	"crypto/ed25519"
	"maps"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
	"github.com/entente-im/entente/mls/internal/vectors"
)

type hexBytes = vectors.Hex

func implemented(id uint16) *mls.Suite {
	s, err := mls.LookupSuite(mls.SuiteID(id))
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

func TestVectorsKeySchedule(t *testing.T) {
	var list []struct {
		Suite   uint16   `json:"cipher_suite"`
		GroupID hexBytes `json:"group_id"`
		Init    hexBytes `json:"initial_init_secret"`
		Epochs  []struct {
			TreeHash     hexBytes `json:"tree_hash"`
			Confirmed    hexBytes `json:"confirmed_transcript_hash"`
			Commit       hexBytes `json:"commit_secret"`
			PSK          hexBytes `json:"psk_secret"`
			Context      hexBytes `json:"group_context"`
			Joiner       hexBytes `json:"joiner_secret"`
			Welcome      hexBytes `json:"welcome_secret"`
			Init         hexBytes `json:"init_secret"`
			SenderData   hexBytes `json:"sender_data_secret"`
			Encryption   hexBytes `json:"encryption_secret"`
			Exporter     hexBytes `json:"exporter_secret"`
			Auth         hexBytes `json:"epoch_authenticator"`
			External     hexBytes `json:"external_secret"`
			ExternalPub  hexBytes `json:"external_pub"`
			Confirmation hexBytes `json:"confirmation_key"`
			Membership   hexBytes `json:"membership_key"`
			Resumption   hexBytes `json:"resumption_psk"`
			Export       struct {
				Label           string
				Context, Secret hexBytes
				Length          int
			} `json:"exporter"`
		}
	}
	vectors.Load(t, "key-schedule", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		init := []byte(v.Init)
		for i, e := range v.Epochs {
			ctx := mls.GroupContext{Suite: s.ID, GroupID: v.GroupID, Epoch: uint64(i), TreeHash: e.TreeHash, ConfirmedTranscriptHash: e.Confirmed}
			eq(t, "context", ctx.Encode(), e.Context)
			got := advance(s, init, e.Commit, e.PSK, e.Context)
			eq(t, "joiner", got.joiner, e.Joiner)
			eq(t, "welcome", got.welcome, e.Welcome)
			eq(t, "welcome of a joiner", welcomeSecret(s, got.joiner, e.PSK), e.Welcome)
			eq(t, "init", got.initSecret, e.Init)
			eq(t, "sender data", got.senderData, e.SenderData)
			eq(t, "encryption", got.encryption, e.Encryption)
			eq(t, "exporter", got.exporter, e.Exporter)
			eq(t, "authenticator", got.authenticator, e.Auth)
			eq(t, "external", got.external, e.External)
			eq(t, "confirmation", got.confirmation, e.Confirmation)
			eq(t, "membership", got.membership, e.Membership)
			eq(t, "resumption", got.resumption, e.Resumption)
			_, pub, err := s.DeriveKeyPair(got.external)
			must(t, err)
			eq(t, "external pub", pub, e.ExternalPub)
			eq(t, "export", exporter(s, got.exporter, e.Export.Label, e.Export.Context, e.Export.Length), e.Export.Secret)
			init = got.initSecret
		}
	}
	ran(t, n)
}

func TestVectorsSecretTree(t *testing.T) {
	var list []struct {
		Suite      uint16   `json:"cipher_suite"`
		Encryption hexBytes `json:"encryption_secret"`
		SenderData struct {
			Secret     hexBytes `json:"sender_data_secret"`
			Ciphertext hexBytes
			Key, Nonce hexBytes
		} `json:"sender_data"`
		Leaves [][]struct {
			Generation uint32
			AppKey     hexBytes `json:"application_key"`
			AppNonce   hexBytes `json:"application_nonce"`
			HSKey      hexBytes `json:"handshake_key"`
			HSNonce    hexBytes `json:"handshake_nonce"`
		}
	}
	vectors.Load(t, "secret-tree", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		k, nonce := senderDataKey(s, v.SenderData.Secret, v.SenderData.Ciphertext)
		eq(t, "sender data key", k, v.SenderData.Key)
		eq(t, "sender data nonce", nonce, v.SenderData.Nonce)
		tree := newSecretTree(s, uint32(len(v.Leaves)), v.Encryption)
		for l, generations := range v.Leaves {
			for _, g := range generations {
				for _, hs := range []bool{true, false} {
					wantKey, wantNonce := g.AppKey, g.AppNonce
					if hs {
						wantKey, wantNonce = g.HSKey, g.HSNonce
					}
					next, key, nonce, err := tree.take(mls.LeafIndex(l), hs, g.Generation, time.Now())
					must(t, err)
					eq(t, "key", key, wantKey)
					eq(t, "nonce", nonce, wantNonce)
					tree = next.expire(time.Now().Add(time.Hour)) // vectors skip more than we keep
				}
			}
		}
	}
	ran(t, n)
}

func TestVectorsMessageProtection(t *testing.T) {
	var list []struct {
		Suite      uint16   `json:"cipher_suite"`
		GroupID    hexBytes `json:"group_id"`
		Epoch      uint64
		TreeHash   hexBytes `json:"tree_hash"`
		Confirmed  hexBytes `json:"confirmed_transcript_hash"`
		SigPriv    hexBytes `json:"signature_priv"`
		SigPub     hexBytes `json:"signature_pub"`
		Encryption hexBytes `json:"encryption_secret"`
		SenderData hexBytes `json:"sender_data_secret"`
		Membership hexBytes `json:"membership_key"`

		Proposal, Commit, Application hexBytes
		ProposalPriv                  hexBytes `json:"proposal_priv"`
		ProposalPub                   hexBytes `json:"proposal_pub"`
		CommitPriv                    hexBytes `json:"commit_priv"`
		CommitPub                     hexBytes `json:"commit_pub"`
		ApplicationPriv               hexBytes `json:"application_priv"`
	}
	vectors.Load(t, "message-protection", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		gc := mls.GroupContext{Suite: s.ID, GroupID: v.GroupID, Epoch: v.Epoch, TreeHash: v.TreeHash, ConfirmedTranscriptHash: v.Confirmed}
		ctx := gc.Encode()
		body := func(c *mls.Content) []byte {
			var w tls.Writer
			if c.Type == mls.ContentApplication {
				return c.Application
			}
			c.WriteBody(&w)
			return w.B
		}
		for _, m := range []struct{ pub, want []byte }{{v.ProposalPub, v.Proposal}, {v.CommitPub, v.Commit}} {
			p, err := mls.ParseMessage(m.pub)
			must(t, err)
			must(t, p.PublicMessage.Content.VerifySignature(s, v.SigPub, ctx))
			must(t, p.PublicMessage.VerifyMembership(s, v.Membership, ctx))
			eq(t, "public content", body(p.PublicMessage.Content), m.want)
		}
		for _, m := range []struct{ priv, want []byte }{{v.ProposalPriv, v.Proposal}, {v.CommitPriv, v.Commit}, {v.ApplicationPriv, v.Application}} {
			p, err := mls.ParseMessage(m.priv)
			must(t, err)
			open := func(msg *mls.PrivateMessage) *mls.Content {
				_, c, _, err := openPrivate(s, msg, newSecretTree(s, 2, v.Encryption), v.SenderData, 0, Config{})
				must(t, err)
				must(t, c.VerifySignature(s, v.SigPub, ctx))
				eq(t, "private content", body(c), m.want)
				return c
			}
			c := open(p.PrivateMessage)
			must(t, c.Sign(s, ed25519.NewKeyFromSeed(v.SigPriv), ctx))
			_, key, nonce, err := newSecretTree(s, 2, v.Encryption).take(1, c.Type != mls.ContentApplication, 0, time.Now())
			must(t, err)
			again, err := seal(s, c, v.SenderData, 0, key, nonce, 32)
			must(t, err)
			open(again)
		}
	}
	ran(t, n)
}

func TestVectorsTreeKEM(t *testing.T) {
	var list []struct {
		Suite     uint16   `json:"cipher_suite"`
		GroupID   hexBytes `json:"group_id"`
		Epoch     uint64
		Confirmed hexBytes `json:"confirmed_transcript_hash"`
		Tree      hexBytes `json:"ratchet_tree"`
		Private   []struct {
			Index   mls.LeafIndex
			EncPriv hexBytes `json:"encryption_priv"`
			SigPriv hexBytes `json:"signature_priv"`
			Secrets []struct {
				Node   mls.NodeIndex
				Secret hexBytes `json:"path_secret"`
			} `json:"path_secrets"`
		} `json:"leaves_private"`
		Updates []struct {
			Sender    mls.LeafIndex
			Path      hexBytes   `json:"update_path"`
			Secrets   []hexBytes `json:"path_secrets"`
			Commit    hexBytes   `json:"commit_secret"`
			TreeAfter hexBytes   `json:"tree_hash_after"`
		} `json:"update_paths"`
	}
	vectors.Load(t, "treekem", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		tree, err := mls.ParseTree(s, v.Tree)
		must(t, err)
		members := map[mls.LeafIndex]privateTree{}
		signers := map[mls.LeafIndex]ed25519.PrivateKey{}
		for _, p := range v.Private {
			priv := privateTree{leaf: p.Index, keys: map[mls.NodeIndex][]byte{p.Index.Node(): p.EncPriv}}
			for _, ps := range p.Secrets {
				_, err := priv.pathSecrets(s, bytes.Clone(ps.Secret), []mls.NodeIndex{ps.Node}, [][]byte{tree.NodeKey(ps.Node)})
				must(t, err)
			}
			members[p.Index], signers[p.Index] = priv, ed25519.NewKeyFromSeed(p.SigPriv)
		}
		base := mls.GroupContext{Suite: s.ID, GroupID: v.GroupID, Epoch: v.Epoch, TreeHash: tree.Hash(), ConfirmedTranscriptHash: v.Confirmed}
		for _, u := range v.Updates {
			path, err := mls.ParseUpdatePath(u.Path)
			must(t, err)
			after := tree.Copy()
			st := &mls.StagedCommit{Applied: &mls.Applied{Tree: after, Committer: u.Sender}, Path: path, Steps: after.FilteredPath(u.Sender)}
			var keys [][]byte
			for _, node := range path.Nodes {
				keys = append(keys, node.EncryptionKey)
			}
			ph, err := after.SetPath(u.Sender, keys)
			must(t, err)
			eq(t, "parent hash", ph, path.Leaf.ParentHash)
			after.SetLeaf(u.Sender, path.Leaf)
			eq(t, "tree hash", after.Hash(), u.TreeAfter)
			ctx := base
			ctx.TreeHash = u.TreeAfter
			st.Provisional = ctx.Encode()
			for leaf, priv := range members {
				if leaf == u.Sender {
					continue
				}
				_, commit, err := priv.openPathInto(s, st, after)
				must(t, err)
				eq(t, "commit secret", commit, u.Commit)
			}
			ownPathOpens(t, s, v.GroupID, base, tree, members, u.Sender, signers[u.Sender])
		}
	}
	ran(t, n)
}

// ownPathOpens makes a path of our own over the vector's tree and opens it as
// each of its members.
func ownPathOpens(t *testing.T, s *mls.Suite, groupID []byte, base mls.GroupContext, tree *mls.Tree, members map[mls.LeafIndex]privateTree, sender mls.LeafIndex, signer ed25519.PrivateKey) {
	t.Helper()
	after := tree.Copy()
	st := &mls.StagedCommit{Applied: &mls.Applied{Tree: after, Committer: sender}}
	p, err := makePath(s, groupID, st, *tree.Leaf(sender), members[sender], signer)
	must(t, err)
	ctx := base
	ctx.TreeHash = after.Hash()
	must(t, p.encrypt(s, st, ctx.Encode()))
	st.Path, st.Provisional = p.update, ctx.Encode()
	for leaf, priv := range members {
		if leaf == sender {
			continue
		}
		before := maps.Clone(priv.keys)
		_, commit, err := priv.openPathInto(s, st, after)
		must(t, err)
		eq(t, "commit secret of our path", commit, p.commitSecret)
		if !maps.EqualFunc(before, priv.keys, bytes.Equal) {
			t.Fatal("opening a path changed the member")
		}
	}
}

func TestVectorsWelcome(t *testing.T) {
	var list []struct {
		Suite      uint16   `json:"cipher_suite"`
		InitPriv   hexBytes `json:"init_priv"`
		SignerPub  hexBytes `json:"signer_pub"`
		KeyPackage hexBytes `json:"key_package"`
		Welcome    hexBytes
	}
	vectors.Load(t, "welcome", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		kp, err := mls.ParseKeyPackage(v.KeyPackage)
		must(t, err)
		o, err := openWelcome(Config{}, v.Welcome, &KeyPackageSecrets{KeyPackage: v.KeyPackage, Ref: kp.Ref(), init: v.InitPriv})
		must(t, err)
		must(t, o.info.VerifySignature(s, v.SignerPub))
		e := fromJoiner(s, o.secrets.JoinerSecret, noPSK(s), o.info.Context.Encode())
		if !s.VerifyMAC(e.confirmation, o.info.Context.ConfirmedTranscriptHash, o.info.ConfirmationTag) {
			t.Fatal("confirmation tag refused")
		}
	}
	ran(t, n)
}

func TestVectorsPassiveClients(t *testing.T) {
	for _, family := range []string{"passive-client-welcome", "passive-client-handling-commit", "passive-client-random"} {
		t.Run(family, func(t *testing.T) { passiveClients(t, family) })
	}
}

func passiveClients(t *testing.T, family string) {
	var list []struct {
		Suite      uint16   `json:"cipher_suite"`
		KeyPackage hexBytes `json:"key_package"`
		SigPriv    hexBytes `json:"signature_priv"`
		EncPriv    hexBytes `json:"encryption_priv"`
		InitPriv   hexBytes `json:"init_priv"`
		Welcome    hexBytes
		Tree       hexBytes `json:"ratchet_tree"`
		Auth       hexBytes `json:"initial_epoch_authenticator"`
		External   []struct {
			ID     hexBytes `json:"psk_id"`
			Secret hexBytes `json:"psk"`
		} `json:"external_psks"`
		Epochs []struct {
			Proposals []hexBytes
			Commit    hexBytes
			Auth      hexBytes `json:"epoch_authenticator"`
		}
	}
	vectors.Load(t, family, &list)
	n, psk, epochs := 0, 0, 0
	for i, v := range list {
		if implemented(v.Suite) == nil {
			continue
		}
		kp, err := mls.ParseKeyPackage(v.KeyPackage)
		must(t, err)
		c := &client{t: t, cfg: Config{Validator: openValidator{}, Signer: ed25519.NewKeyFromSeed(v.SigPriv)}}
		c.cfg.PSK = func(id mls.PreSharedKeyID) []byte {
			for _, p := range v.External {
				if !id.Resumption && bytes.Equal(p.ID, id.ID) {
					return bytes.Clone(p.Secret) // it will be erased
				}
			}
			return nil
		}
		keys := storedKeys(t, &KeyPackageSecrets{KeyPackage: v.KeyPackage, Ref: kp.Ref(), init: v.InitPriv, encryption: v.EncPriv})
		c.st, _, err = Join(c.cfg, v.Welcome, v.Tree, keys)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		c.reload()
		eq(t, "first authenticator", c.st.EpochAuthenticator(), v.Auth)
		n++
		if len(v.External) > 0 {
			psk++
		}
		for j, e := range v.Epochs {
			for _, msg := range append(e.Proposals, e.Commit) {
				c.process(msg) // reloads
			}
			epochs++
			if !bytes.Equal(c.st.EpochAuthenticator(), e.Auth) {
				t.Fatalf("entry %d epoch %d: authenticator differs", i, j)
			}
		}
	}
	t.Logf("%d joined, %d of them with pre-shared keys at hand, %d epochs", n, psk, epochs)
	ran(t, n)
}

// storedKeys are the secrets as read back from the disk.
func storedKeys(t *testing.T, k *KeyPackageSecrets) *KeyPackageSecrets {
	t.Helper()
	k, err := UnmarshalKeyPackageSecrets(k.Marshal())
	must(t, err)
	return k
}

func TestVectorsPSKSecret(t *testing.T) {
	var list []struct {
		Suite uint16 `json:"cipher_suite"`
		PSKs  []struct {
			ID    hexBytes `json:"psk_id"`
			PSK   hexBytes
			Nonce hexBytes `json:"psk_nonce"`
		}
		Secret hexBytes `json:"psk_secret"`
	}
	vectors.Load(t, "psk_secret", &list)
	n := 0
	for _, v := range list {
		s := implemented(v.Suite)
		if s == nil {
			continue
		}
		n++
		var ids []*mls.PreSharedKeyID
		for _, p := range v.PSKs {
			ids = append(ids, &mls.PreSharedKeyID{ID: p.ID, Nonce: p.Nonce})
		}
		next := 0
		got, err := pskSecret(s, ids, func(*mls.PreSharedKeyID) []byte { next++; return bytes.Clone(v.PSKs[next-1].PSK) })
		must(t, err)
		eq(t, "psk_secret", got, v.Secret)
	}
	ran(t, n)
}

type openValidator struct{}

func (openValidator) ValidateLeaf(mls.LeafCheck) error                        { return nil }
func (openValidator) ValidateExtensions(_ []byte, _, _ []mls.Extension) error { return nil }
