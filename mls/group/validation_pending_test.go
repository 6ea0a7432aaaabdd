package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

// What may be received in an epoch although no Commit can have it. None of it
// keeps an honest member from committing.
func TestAPendingProposalThatSpoilsACommitIsLeftOut(t *testing.T) {
	w := theWorld(t)
	good, sent := w.received(t, 6, remove(5))
	for name, make := range map[string]func(t *testing.T) *mls.Proposal{
		"update with the key of a leaf": func(t *testing.T) *mls.Proposal {
			return updated(t, w, third, encryptionKey(func(w *world) []byte { return w.hub.Member(memberKey + 1).EncryptionKey }))
		},
		"update with the key of a parent": func(t *testing.T) *mls.Proposal {
			return updated(t, w, third, encryptionKey(func(w *world) []byte { return w.hub.RatchetTree().NodeKey(1) }))
		},
		"update with the signature key of another": func(t *testing.T) *mls.Proposal {
			return updated(t, w, third, func(w *world, d *draft) {
				d.leaf.SignatureKey, d.signer = w.hub.Member(6).SignatureKey, w.members[6].cfg.Signer
			})
		},
		"update without a required extension": func(t *testing.T) *mls.Proposal {
			return updated(t, w, third, capable(func(c *mls.Capabilities) { c.Extensions = without(c.Extensions, oddExtension) }))
		},
		"update with a credential nobody knows": func(t *testing.T) *mls.Proposal {
			return updated(t, w, third, func(w *world, d *draft) {
				capable(func(c *mls.Capabilities) { c.Credentials = append(c.Credentials, strange) })(w, d)
				d.leaf.Credential.Type = strange
			})
		},
		"add with the key of a leaf": func(t *testing.T) *mls.Proposal {
			return add(packed(t, newcomer(t, "x"), w, encryptionKey(func(w *world) []byte { return w.hub.Member(6).EncryptionKey })))
		},
		"add of a member": func(t *testing.T) *mls.Proposal { return add(w.members[6].keyPackageOf()) },
		"add that does not know a credential in use": func(t *testing.T) *mls.Proposal {
			return add(packed(t, newcomer(t, "x"), w, func(w *world, d *draft) {
				capable(func(c *mls.Capabilities) { c.Credentials = []mls.CredentialType{mls.CredentialEntente} })(w, d)
				d.leaf.Credential.Type = mls.CredentialEntente
			}))
		},
		"extensions that nobody has": func(*testing.T) *mls.Proposal {
			return &mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: w.more(mls.Extension{Type: 0xF123})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.at(t, victim)
			bad, _ := w.received(t, third, make(t))
			for _, msg := range [][]byte{bad, good} {
				n, _, err := c.st.Process(msg)
				must(t, err)
				c.st = n
			}
			_, st, err := c.st.Stage(CommitParams{ByReference: true})
			must(t, err)
			if len(st.Effects.Committed) != 1 || string(st.Effects.Committed[0]) != string(sent.Ref) {
				t.Fatalf("%d proposals committed, want the good one", len(st.Effects.Committed))
			}
		})
	}
}

func TestAMemberCannotUpdateItselfOutOfItsRemoval(t *testing.T) {
	w := theWorld(t)
	c := w.at(t, victim)
	c.process(w.forge(t, plan{by: third, proposal: updateOfThird(t, w)}).msg)
	_, st, err := c.st.Stage(CommitParams{ByReference: true, Removes: []mls.LeafIndex{third}})
	must(t, err)
	if len(st.Effects.Removed) != 1 || st.Effects.Removed[0].Leaf != third || len(st.Effects.Committed) != 0 {
		t.Fatalf("effects %+v", st.Effects)
	}
	if _, _, err := w.at(t, memberKey).st.Process(st.Commit); err != nil {
		t.Fatal(err)
	}
}

func TestNewExtensionsCountForTheAddsOfTheirCommit(t *testing.T) {
	w := theWorld(t)
	var fewer []mls.Extension
	for _, e := range w.ext {
		if e.Type != mls.ExtensionRequiredCapabilities {
			fewer = append(fewer, e)
		}
	}
	for _, way := range routes {
		t.Run(way.prefix+"commit", func(t *testing.T) {
			x := packed(t, newcomer(t, "x"), w, capable(func(c *mls.Capabilities) { c.Extensions = without(c.Extensions, oddExtension) }))
			list := []mls.Sent{byForger(add(x)), byForger(&mls.Proposal{Type: mls.ProposalGroupContextExtensions, Extensions: fewer})}
			must(t, w.deliver(t, way.route, nil, plan{list: list}))
		})
	}
}

// RFC 9420 §12.4: whom somebody proposed to remove does not read what is said
// afterwards. Who cannot commit the proposal, here the one who leaves, is not held up.
func TestNoMessageGoesBeforeTheCommitOfWhatWasProposed(t *testing.T) {
	room := newRoom(t, 4)
	leaves := room[3].leave()
	for _, c := range room[:3] {
		c.process(leaves)
		before := string(c.st.EncodeRatchets())
		if n, msg, err := c.st.Encrypt(nil, []byte("x"), 0); err != ErrPending || n != nil || msg != nil || !c.st.MustCommit() {
			t.Fatalf("%s sent before the Commit: %v", c.name, err)
		}
		if string(c.st.EncodeRatchets()) != before {
			t.Fatal("a message that was not sent used a key")
		}
	}
	if got := room[0].recv(room[3].send("farewell")); got != "farewell" {
		t.Fatalf("got %q", got)
	}
	st := room[0].commit(CommitParams{ByReference: true})
	for _, c := range room[1:3] {
		c.process(st.Commit)
	}
	everybodyTalks(t, room[:3])
}
