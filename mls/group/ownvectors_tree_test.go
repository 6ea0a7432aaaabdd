package group

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"maps"
	"testing"

	"github.com/entente-im/entente/mls"
)

// treeKEMVector is a tree with a path made by its first and by its last member,
// and two more paths over it.
func treeKEMVector(t *testing.T, s *mls.Suite, members int) entry {
	groupID, confirmed := random(32), random(32)
	private, signers := []privateTree{}, []ed25519.PrivateKey{}
	var tree *mls.Tree
	for i := range members {
		c := newClient(t, fmt.Sprint(i))
		kp, err := mls.ParseKeyPackage(c.kp)
		must(t, err)
		if i == 0 {
			tree = mls.NewTree(s, kp.Leaf)
		} else if _, err := tree.Add(kp.Leaf); err != nil {
			t.Fatal(err)
		}
		private = append(private, privateTree{leaf: mls.LeafIndex(i), keys: map[mls.NodeIndex][]byte{mls.LeafIndex(i).Node(): c.kps.encryption}})
		signers = append(signers, c.cfg.Signer.(ed25519.PrivateKey))
	}
	secrets := map[mls.NodeIndex][]byte{} // of the nodes as they are in the tree
	for _, by := range []int{0, members - 1} {
		p, _ := vectorPath(t, s, groupID, tree, private, signers, by)
		for _, x := range tree.Path(mls.LeafIndex(by)) {
			delete(secrets, x)
		}
		maps.Copy(secrets, p.secrets)
		private[by] = p.private
	}
	v := entry{"cipher_suite": s.ID, "group_id": groupID, "epoch": 3, "confirmed_transcript_hash": confirmed, "tree_hash": hexBytes(tree.Hash()), "ratchet_tree": hexBytes(tree.Encode())}
	leaves := []entry{}
	for i, p := range private {
		list := []entry{}
		for _, x := range tree.Path(p.leaf) {
			if secrets[x] != nil {
				list = append(list, entry{"node": x, "path_secret": hexBytes(secrets[x])})
				_, err := p.pathSecrets(s, bytes.Clone(secrets[x]), []mls.NodeIndex{x}, [][]byte{tree.NodeKey(x)})
				must(t, err)
			}
		}
		leaves = append(leaves, entry{"index": i, "encryption_priv": hexBytes(p.keys[p.leaf.Node()]), "signature_priv": hexBytes(signers[i].Seed()), "path_secrets": list})
	}
	updates := []entry{}
	for _, by := range []int{1, members - 1} {
		after := tree.Copy()
		p, st := vectorPath(t, s, groupID, after, private, signers, by)
		ctx := mls.GroupContext{Suite: s.ID, GroupID: groupID, Epoch: 3, TreeHash: after.Hash(), ConfirmedTranscriptHash: confirmed}
		must(t, p.encrypt(s, st, ctx.Encode()))
		given := []any{}
		for i := range members {
			if i == by {
				given = append(given, nil)
			} else {
				given = append(given, hexBytes(p.forNewMember(mls.LeafIndex(i))))
			}
		}
		updates = append(updates, entry{"sender": by, "update_path": hexBytes(mls.EncodeUpdatePath(p.update)), "path_secrets": given,
			"commit_secret": hexBytes(p.commitSecret), "tree_hash_after": hexBytes(after.Hash())})
	}
	v["leaves_private"], v["update_paths"] = leaves, updates
	return v
}

// vectorPath puts a path into tree.
func vectorPath(t *testing.T, s *mls.Suite, groupID []byte, tree *mls.Tree, private []privateTree, signers []ed25519.PrivateKey, by int) (*newPath, *mls.StagedCommit) {
	t.Helper()
	st := &mls.StagedCommit{Applied: &mls.Applied{Tree: tree, Committer: mls.LeafIndex(by)}}
	p, err := makePath(s, groupID, st, *tree.Leaf(mls.LeafIndex(by)), private[by], signers[by])
	must(t, err)
	return p, st
}

func welcomeVector(t *testing.T) entry {
	a, b := newClient(t, "a"), newClient(t, "b")
	a.create()
	st := a.commit(CommitParams{Adds: [][]byte{b.kp}, WelcomeTree: true})
	return entry{"cipher_suite": testSuite, "init_priv": hexBytes(b.kps.init), "key_package": hexBytes(b.kp),
		"signer_pub": hexBytes(a.cfg.Signer.Public().(ed25519.PublicKey)), "welcome": hexBytes(st.Welcome)}
}

// randomSteps are what the others do once the passive client, the last of four,
// has joined. Each returns the proposals and the Commit.
var randomSteps = []func(t *testing.T, room []*client) (proposals [][]byte, commit []byte){
	func(t *testing.T, room []*client) ([][]byte, []byte) {
		return nil, room[0].commit(CommitParams{}).Commit
	},
	func(t *testing.T, room []*client) ([][]byte, []byte) {
		return nil, room[1].commit(CommitParams{Adds: [][]byte{newClient(t, "x").kp, newClient(t, "y").kp}}).Commit
	},
	func(t *testing.T, room []*client) ([][]byte, []byte) {
		st, p, err := room[2].st.ProposeRemove(4, nil)
		must(t, err)
		room[2].st = st
		return [][]byte{p}, room[2].commit(CommitParams{ByReference: true}).Commit
	},
	func(t *testing.T, room []*client) ([][]byte, []byte) {
		room[0].cfg.Private = true
		room[0].reload()
		return nil, room[0].commit(CommitParams{Removes: []mls.LeafIndex{5}}).Commit
	},
	func(t *testing.T, room []*client) ([][]byte, []byte) {
		info, err := room[0].st.GroupInfo(true)
		must(t, err)
		st, err := ExternalJoin(newClient(t, "z").cfg, info, nil, ExternalParams{Credential: credential("z")})
		must(t, err)
		return nil, st.Commit
	},
}

func passiveVector(t *testing.T, members int, steps []func(*testing.T, []*client) ([][]byte, []byte)) entry {
	room := []*client{newClient(t, "0")}
	room[0].create()
	var st *Staged
	for i := 1; i < members; i++ {
		x := newClient(t, fmt.Sprint(i))
		st = room[0].commit(CommitParams{Adds: [][]byte{x.kp}})
		for _, o := range room[1:] {
			o.process(st.Commit)
		}
		x.join(st)
		room = append(room, x)
	}
	passive := room[members-1]
	v := entry{"cipher_suite": testSuite, "external_psks": []entry{}, "key_package": hexBytes(passive.kp),
		"signature_priv": hexBytes(passive.cfg.Signer.(ed25519.PrivateKey).Seed()), "encryption_priv": hexBytes(passive.kps.encryption),
		"init_priv": hexBytes(passive.kps.init), "welcome": hexBytes(st.Welcome), "ratchet_tree": hexBytes(st.Tree),
		"initial_epoch_authenticator": hexBytes(passive.st.EpochAuthenticator())}
	epochs := []entry{}
	for _, step := range steps {
		before := passive.st.Epoch()
		proposals, commit := step(t, room)
		list := []hexBytes{}
		for _, p := range proposals {
			list = append(list, p)
		}
		for _, o := range room {
			for _, m := range append(proposals, commit) {
				if o.st.Epoch() > before {
					break // its own
				}
				if st, _, err := o.st.Process(m); err == nil {
					o.st = st
				}
			}
		}
		agree(t, room)
		if passive.st.Epoch() != before+1 {
			t.Fatal("the passive client has not moved on")
		}
		epochs = append(epochs, entry{"proposals": list, "commit": hexBytes(commit), "epoch_authenticator": hexBytes(passive.st.EpochAuthenticator())})
	}
	v["epochs"] = epochs
	return v
}
