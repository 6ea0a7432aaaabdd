package group

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
)

// What RFC 9420 asks of who receives what it does not know, and of who makes
// something. These rows of docs/mls-validation.md are kept by accepting, or by
// what we send.

// grease are values that nobody knows (§13.5).
var grease = []uint16{0x0A0A, 0x3A3A, 0xEAEA}

func greased(_ *world, d *draft) {
	c := d.leaf.Capabilities
	for _, v := range grease {
		c.Versions = append(slices.Clone(c.Versions), v)
		c.Suites = append(slices.Clone(c.Suites), mls.SuiteID(v))
		c.Extensions = append(slices.Clone(c.Extensions), mls.ExtensionType(v))
		c.Proposals = append(slices.Clone(c.Proposals), mls.ProposalType(v))
		c.Credentials = append(slices.Clone(c.Credentials), mls.CredentialType(v))
		d.leaf.Extensions = append(slices.Clone(d.leaf.Extensions), mls.Extension{Type: mls.ExtensionType(v), Data: mls.Random(9)})
	}
	d.leaf.Capabilities = c
	d.kp = func(k *mls.KeyPackage) {
		k.Extensions = append(k.Extensions, mls.Extension{Type: 0x3A3A, Data: mls.Random(3)}, mls.Extension{Type: 0x0A0A})
	}
}

func TestEveryEntryIgnoresWhatItDoesNotKnowInALeafOrKeyPackage(t *testing.T) {
	for _, e := range leafEntries {
		t.Run(e.name, func(t *testing.T) { must(t, e.try(t, theWorld(t), greased)) })
	}
}

func TestEveryBelieverIgnoresUnknownExtensionsOfAGroupInfo(t *testing.T) {
	r := infoRule{edit: func(_ *world, gi *mls.GroupInfo) {
		gi.Extensions = append(gi.Extensions, mls.Extension{Type: 0x0A0A, Data: mls.Random(5)}, mls.Extension{Type: 0xF123})
	}}
	for _, b := range believers {
		t.Run(b.entry, func(t *testing.T) { must(t, r.give(t, theWorld(t), b.who)) })
	}
}

func TestAClientMayComeBackInTheCommitThatRemovesIt(t *testing.T) {
	for _, way := range routes {
		t.Run(way.prefix+"commit", func(t *testing.T) {
			w := theWorld(t)
			kp := packed(t, w.at(t, memberKey), w, func(w *world, d *draft) {
				_, d.leaf.EncryptionKey, _ = w.hub.Suite().GenerateKeyPair()
			})
			must(t, w.deliver(t, way.route, nil, plan{list: []mls.Sent{byForger(remove(memberKey)), byForger(add(kp))}}))
		})
	}
}

func TestEveryKeyPackageHasFreshKeys(t *testing.T) {
	seen := map[string]bool{}
	x := newcomer(t, "x")
	for range 5 {
		kp, err := mls.ParseKeyPackage(x.freshKeyPackage())
		must(t, err)
		for _, k := range [][]byte{kp.InitKey, kp.Leaf.EncryptionKey} {
			if seen[string(k)] {
				t.Fatal("a key twice")
			}
			seen[string(k)] = true
		}
	}
}

func TestOurCapabilitiesListWhatIsNotDefaultAndNoGrease(t *testing.T) {
	c := mls.DefaultCapabilities(mls.CredentialBasic)
	if !slices.Contains(c.Versions, mls.ProtocolVersion) || !slices.Contains(c.Suites, testSuite) {
		t.Fatal("lacks what this very package has")
	}
	for _, e := range c.Extensions {
		if e <= 5 || slices.Contains(grease, uint16(e)) {
			t.Fatalf("lists extension %d", e)
		}
	}
	for _, p := range c.Proposals {
		if p <= 7 || slices.Contains(grease, uint16(p)) {
			t.Fatalf("lists proposal type %d", p)
		}
	}
}

func TestAGroupBeginsInEpochZeroWithAnEmptyTranscript(t *testing.T) {
	a := newClient(t, "a")
	a.create()
	c := a.st.pub.GroupContext()
	if c.Epoch != 0 || len(c.ConfirmedTranscriptHash) != 0 || string(c.TreeHash) != string(a.st.pub.RatchetTree().Hash()) {
		t.Fatalf("context %+v", c)
	}
	if len(a.st.pub.ConfirmationTag()) != a.st.pub.Suite().HashLen() || len(a.st.Members()) != 1 {
		t.Fatal("not a group of one with a tag")
	}
}

func TestATreeIsSentWithoutBlanksAtItsEnd(t *testing.T) {
	room := newRoom(t, 6)
	for _, l := range []mls.LeafIndex{5, 4, 3, 2} {
		room[0].commit(CommitParams{Removes: []mls.LeafIndex{l}})
		list := rawTree(room[0].st.Tree())
		if last := list[len(list)-1]; last.leaf == nil && last.parent == nil {
			t.Fatalf("after removing leaf %d the tree ends in a blank", l)
		}
	}
}

func TestAWelcomeCoversEverybodyWhoWasAdded(t *testing.T) {
	room := newRoom(t, 2)
	x, y, z := newClient(t, "x"), newClient(t, "y"), newClient(t, "z")
	n, prop, err := room[1].st.ProposeAdd(z.kp, nil)
	must(t, err)
	room[1].st = n
	room[0].process(prop)
	st := room[0].commit(CommitParams{Adds: [][]byte{x.kp, y.kp}, ByReference: true})
	refs, err := mls.WelcomeRefs(st.Welcome)
	must(t, err)
	for _, c := range []*client{x, y, z} {
		if !slices.ContainsFunc(refs, func(r []byte) bool { return string(r) == string(c.kps.Ref) }) {
			t.Fatalf("nothing for %s", c.name)
		}
		c.join(st)
	}
	room[1].process(st.Commit)
	everybodyTalks(t, []*client{room[0], room[1], x, y, z})
}

func TestEveryCommitThatWeMakeHasAPath(t *testing.T) {
	room := newRoom(t, 4)
	for _, p := range []CommitParams{
		{}, {Adds: [][]byte{newClient(t, "x").kp}}, {Removes: []mls.LeafIndex{3}},
	} {
		m, err := mls.ParseMessage(room[0].commitAs(p).Commit)
		must(t, err)
		if m.PublicMessage.Content.Commit.Path == nil {
			t.Fatalf("%+v has no path", p)
		}
	}
}

func TestAHubsProposalIsPublic(t *testing.T) {
	w := theWorld(t)
	msg, err := w.hub.NewExternalRemove(w.hubKey, 0, 5, nil)
	must(t, err)
	m, err := mls.ParseMessage(msg)
	must(t, err)
	if m.PublicMessage == nil || m.PublicMessage.Content.Sender.Type != mls.SenderExternal {
		t.Fatal("not a public message of an external sender")
	}
}

func TestNobodyMakesOrJoinsAGroupWithAKeyOfAnotherScheme(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	w := theWorld(t)
	info, err := w.at(t, forger).st.GroupInfo(true)
	must(t, err)
	for name, signer := range map[string]crypto.Signer{"none": nil, "P-256": other} {
		cfg := Config{Validator: ruleValidator{}, Signer: signer, PSK: worldKeys}
		if st, err := Create(cfg, CreateParams{Suite: testSuite, GroupID: []byte("g"), Credential: credential("x")}); err == nil || st != nil {
			t.Fatalf("%s: created", name)
		}
		if st, err := ExternalJoin(cfg, info, nil, ExternalParams{Credential: credential("x")}); err == nil || st != nil {
			t.Fatalf("%s: joined from outside", name)
		}
		msg, x := welcomeRule{}.message(t, w)
		x.cfg.Signer = signer
		if err := tryJoin(t, x, msg, nil); err == nil {
			t.Fatalf("%s: joined", name)
		}
		if b, k, err := NewKeyPackage(KeyPackageParams{Suite: testSuite, Signer: signer, Credential: credential("x"), NotBefore: time.Now(), NotAfter: time.Now()}); err == nil || b != nil || k != nil {
			t.Fatalf("%s: made a key package", name)
		}
	}
}
