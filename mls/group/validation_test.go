package group

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
)

// commitAs stages a Commit without looking and returns it.
func (c *client) commitAs(p CommitParams) *Staged {
	c.t.Helper()
	_, st, err := c.st.Stage(p)
	must(c.t, err)
	return st
}

// deny makes a member's validator refuse an identity.
func (c *client) deny(name string) {
	c.cfg.Validator = testValidator{denied: map[string]bool{name: true}}
	c.reload()
}

func TestTheValidatorIsAskedAtEveryEntry(t *testing.T) {
	refused := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, mls.ErrCredential) || !errors.Is(err, errDenied) {
			t.Fatalf("error %v, want the validator's", err)
		}
	}
	denyEvil := testValidator{denied: map[string]bool{"evil": true}}
	evil := newEvil(t, "evil")
	t.Run("key package", func(t *testing.T) {
		kp, err := mls.ParseKeyPackage(evil.kp)
		must(t, err)
		refused(t, kp.Verify(time.Now(), denyEvil))
		must(t, kp.Verify(time.Now(), testValidator{}))
	})
	t.Run("create", func(t *testing.T) {
		_, err := Create(Config{Validator: denyEvil, Signer: evil.cfg.Signer}, CreateParams{Suite: testSuite, GroupID: []byte("x"), Credential: credential("evil")})
		refused(t, err)
	})
	t.Run("add proposal, add commit, tree", func(t *testing.T) {
		room := newRoom(t, 3)
		room[1].deny("evil")
		_, prop, err := room[0].st.ProposeAdd(evil.kp, nil)
		must(t, err)
		room[1].refuses(prop, mls.ErrCredential)
		st := room[0].commitAs(CommitParams{Adds: [][]byte{evil.kp}})
		room[1].refuses(st.Commit, mls.ErrCredential)
		other := newClient(t, "other")
		st = room[0].commit(CommitParams{Adds: [][]byte{evil.kp, other.kp}})
		other.cfg.Validator = denyEvil
		_, _, err = Join(other.cfg, st.Welcome, st.Tree, other.kps)
		refused(t, err)
		_, err = mls.NewPublicGroup(st.GroupInfo, st.Tree, mls.PublicOptions{Validator: denyEvil})
		refused(t, err)
		_, err = ExternalJoin(other.cfg, st.GroupInfo, st.Tree, ExternalParams{Credential: credential("other")})
		refused(t, err)
	})
	t.Run("update and path", func(t *testing.T) {
		room := newRoom(t, 3)
		room[1].deny("c0")
		room[1].refuses(room[0].update(func(*mls.LeafNode) {}), mls.ErrCredential)
		room[1].refuses(room[0].commitAs(CommitParams{}).Commit, mls.ErrCredential)
	})
	t.Run("external commit", func(t *testing.T) {
		room := newRoom(t, 3)
		msg := externalCommit(t, room, evil)
		room[1].deny("evil")
		room[1].refuses(msg, mls.ErrCredential)
	})
	t.Run("no validator", func(t *testing.T) {
		_, err := Create(Config{Signer: evil.cfg.Signer}, CreateParams{Suite: testSuite, GroupID: []byte("x"), Credential: credential("evil")})
		if !errors.Is(err, mls.ErrCredential) {
			t.Fatal(err)
		}
	})
}

func TestAMemberCannotChangeWhoItIs(t *testing.T) {
	room := newRoom(t, 2)
	evil := newEvil(t, "evil")
	st := room[0].commit(CommitParams{Adds: [][]byte{evil.kp}})
	room[1].process(st.Commit)
	evil.join(st)
	other := credential("c1")
	room[1].refuses(evil.update(func(l *mls.LeafNode) { l.Credential = other }), mls.ErrCredential)
	room[1].refuses(evil.commitAs(CommitParams{Credential: &other}).Commit, mls.ErrCredential)
	if _, _, err := room[0].st.Stage(CommitParams{Credential: &other}); !errors.Is(err, mls.ErrCredential) {
		t.Fatalf("made a Commit that everybody refuses: %v", err)
	}
}

func TestPrivateCredentialsAreKeptVerbatim(t *testing.T) {
	odd := []byte{0, 0xff, 0x40, 0x80, 0, 0, 1}
	for _, cred := range []mls.Credential{
		{Type: mls.CredentialEntente, Identity: odd},
		{Type: mls.CredentialEntente, Identity: []byte{}},
		{Type: mls.CredentialX509, Identity: []byte{2, 1, 2, 0, 3, 0, 0, 0}},
	} {
		_, key, err := ed25519.GenerateKey(nil)
		must(t, err)
		b, _, err := NewKeyPackage(KeyPackageParams{Suite: testSuite, Signer: key, Credential: cred, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
		must(t, err)
		kp, err := mls.ParseKeyPackage(b)
		must(t, err)
		if !kp.Leaf.Credential.Equal(cred) || string(kp.Encode()) != string(b) {
			t.Fatalf("credential %v came back as %v", cred, kp.Leaf.Credential)
		}
		must(t, kp.Verify(time.Now(), testValidator{}))
	}
}

// badLeaves are the rules of RFC 9420 §7.3 and §10.1, each broken.
func badLeaves() map[string]struct {
	edit func(*mls.KeyPackage)
	want error
} {
	type bad = struct {
		edit func(*mls.KeyPackage)
		want error
	}
	caps := func(f func(*mls.Capabilities)) func(*mls.KeyPackage) {
		return func(k *mls.KeyPackage) { f(&k.Leaf.Capabilities) }
	}
	return map[string]bad{
		"no version":          {caps(func(c *mls.Capabilities) { c.Versions = []uint16{2} }), mls.ErrLeaf},
		"no suite":            {caps(func(c *mls.Capabilities) { c.Suites = []mls.SuiteID{otherSuite()} }), mls.ErrLeaf},
		"no own credential":   {caps(func(c *mls.Capabilities) { c.Credentials = []mls.CredentialType{2} }), mls.ErrLeaf},
		"unlisted extension":  {func(k *mls.KeyPackage) { k.Leaf.Extensions = []mls.Extension{{Type: 0xF123}} }, mls.ErrLeaf},
		"package extension":   {func(k *mls.KeyPackage) { k.Extensions = []mls.Extension{{Type: 0xF123}} }, mls.ErrKeyPackage},
		"zero encryption key": {func(k *mls.KeyPackage) { clear(k.Leaf.EncryptionKey) }, mls.ErrLeaf},
		"short key":           {func(k *mls.KeyPackage) { k.Leaf.EncryptionKey = k.Leaf.EncryptionKey[:31] }, mls.ErrLeaf},
		"init is leaf key":    {func(k *mls.KeyPackage) { k.InitKey = k.Leaf.EncryptionKey }, mls.ErrKeyPackage},
		"leaf of an update":   {func(k *mls.KeyPackage) { k.Leaf.Source = mls.SourceUpdate }, mls.ErrKeyPackage},
		"ends before begin":   {func(k *mls.KeyPackage) { k.Leaf.NotBefore, k.Leaf.NotAfter = 2, 1 }, mls.ErrLifetime},
		"unknown suite":       {func(k *mls.KeyPackage) { k.Suite = 0xF00F }, mls.ErrSuite},
		"unknown version":     {func(k *mls.KeyPackage) { k.Version = 9 }, mls.ErrKeyPackage},
	}
}

func TestBadLeavesAreRefusedAtEveryEntry(t *testing.T) {
	for name, b := range badLeaves() {
		t.Run(name, func(t *testing.T) {
			room := newRoom(t, 2)
			x := newClient(t, "x")
			msg := x.keyPackage(b.edit)
			kp, err := mls.ParseKeyPackage(msg)
			must(t, err)
			if err := kp.Verify(time.Now(), testValidator{}); !errors.Is(err, b.want) {
				t.Fatalf("Verify: %v, want %v", err, b.want)
			}
			add := &mls.Proposal{Type: mls.ProposalAdd, Add: kp}
			room[1].refuses(room[0].forge(byValue(add)), b.want)
			room[1].refuses(room[0].forge(func(c *mls.Content) {
				c.Type, c.Commit, c.ConfirmationTag, c.Proposal = mls.ContentProposal, nil, nil, add
			}), b.want)
			if _, _, err := room[0].st.Stage(CommitParams{Adds: [][]byte{msg}}); err == nil {
				t.Fatal("committed")
			}
			if b.want == mls.ErrLeaf && name != "unlisted extension" { // capabilities and keys, at the other entries
				up := room[0].update(func(l *mls.LeafNode) {
					k := &mls.KeyPackage{Leaf: l}
					b.edit(k)
				})
				room[1].refuses(up, mls.ErrLeaf)
			}
		})
	}
}

func TestSuiteLifetimeAndSignaturesOfAKeyPackage(t *testing.T) {
	room := newRoom(t, 2)
	x := newClient(t, "x")
	now := time.Now()
	old := x.keyPackage(func(k *mls.KeyPackage) { k.Leaf.NotBefore, k.Leaf.NotAfter = 1, uint64(now.Unix()-10) })
	long := x.keyPackage(func(k *mls.KeyPackage) { k.Leaf.NotAfter = 1 << 62 })
	for _, b := range [][]byte{old, long} {
		kp, err := mls.ParseKeyPackage(b)
		must(t, err)
		if err := kp.Verify(now, testValidator{}); !errors.Is(err, mls.ErrLifetime) {
			t.Fatal(err)
		}
	}
	if _, _, err := room[0].st.Stage(CommitParams{Adds: [][]byte{old}}); !errors.Is(err, mls.ErrLifetime) {
		t.Fatal(err)
	}
	info, err := room[0].st.GroupInfo(true)
	must(t, err)
	hub, err := mls.NewPublicGroup(info, nil, mls.PublicOptions{Validator: testValidator{}, Now: time.Now})
	must(t, err)
	kp, err := mls.ParseKeyPackage(old)
	must(t, err)
	if _, _, err := hub.Process(room[0].forge(byValue(&mls.Proposal{Type: mls.ProposalAdd, Add: kp}))); !errors.Is(err, mls.ErrLifetime) {
		t.Fatal(err)
	}
	other, _, err := NewKeyPackage(KeyPackageParams{Suite: otherSuite(), Signer: x.cfg.Signer, Credential: credential("x"),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
	must(t, err)
	if _, _, err := room[0].st.Stage(CommitParams{Adds: [][]byte{other}}); !errors.Is(err, mls.ErrKeyPackage) {
		t.Fatal(err)
	}
	for i, field := range []func(*mls.KeyPackage){
		func(k *mls.KeyPackage) { k.Signature[0] ^= 1 },
		func(k *mls.KeyPackage) { k.Signature = nil },
		func(k *mls.KeyPackage) {
			k.Leaf.Signature[0] ^= 1
			s, _ := mls.LookupSuite(testSuite)
			must(t, k.Sign(s, x.cfg.Signer))
		},
	} {
		kp, err := mls.ParseKeyPackage(x.kp)
		must(t, err)
		field(kp)
		room[1].refuses(room[0].forge(byValue(&mls.Proposal{Type: mls.ProposalAdd, Add: kp})), []error{mls.ErrKeyPackage, mls.ErrKeyPackage, mls.ErrLeaf}[i])
	}
}

func TestRequiredCapabilitiesBindEveryEntry(t *testing.T) {
	room := newRoom(t, 2, mls.RequiredCapabilities{Extensions: []mls.ExtensionType{mls.ExtensionRoom}}.Extension())
	x := newClient(t, "x")
	weak := x.keyPackage(func(k *mls.KeyPackage) { k.Leaf.Capabilities.Extensions = []mls.ExtensionType{mls.ExtensionLastResort} })
	kp, err := mls.ParseKeyPackage(weak)
	must(t, err)
	room[1].refuses(room[0].forge(byValue(&mls.Proposal{Type: mls.ProposalAdd, Add: kp})), mls.ErrLeaf)
	evil := newEvil(t, "evil")
	info, err := room[0].st.GroupInfo(false)
	must(t, err)
	caps := mls.DefaultCapabilities(mls.CredentialBasic)
	caps.Extensions = nil
	if _, err := ExternalJoin(evil.cfg, info, room[0].st.Tree(), ExternalParams{Credential: credential("evil"), Capabilities: &caps}); !errors.Is(err, mls.ErrLeaf) {
		t.Fatal(err)
	}
	_, key, _ := ed25519.GenerateKey(nil)
	_, err = Create(Config{Validator: testValidator{}, Signer: key}, CreateParams{Suite: testSuite, GroupID: []byte("g"), Credential: credential("x"), Capabilities: &caps,
		Extensions: []mls.Extension{{Type: mls.ExtensionRoom, Data: []byte("r")}}})
	if !errors.Is(err, mls.ErrLeaf) {
		t.Fatal(err)
	}
}

func TestKeysAreUniqueInATree(t *testing.T) {
	room := newRoom(t, 3)
	x := newClient(t, "x")
	taken := room[2].st.pub.Member(2).EncryptionKey
	kp, err := mls.ParseKeyPackage(x.keyPackage(func(k *mls.KeyPackage) { k.Leaf.EncryptionKey = taken }))
	must(t, err)
	room[1].refuses(room[0].forge(byValue(&mls.Proposal{Type: mls.ProposalAdd, Add: kp})), mls.ErrTree)
	parent := room[0].st.pub.RatchetTree().NodeKey(1)
	if parent == nil {
		t.Fatal("no parent node to take a key from")
	}
	kp, err = mls.ParseKeyPackage(x.keyPackage(func(k *mls.KeyPackage) { k.Leaf.EncryptionKey = parent }))
	must(t, err)
	room[1].refuses(room[0].forge(byValue(&mls.Proposal{Type: mls.ProposalAdd, Add: kp})), mls.ErrTree)
	own := room[0].st.pub.Member(0).EncryptionKey
	room[1].refuses(room[0].update(func(l *mls.LeafNode) { l.EncryptionKey = own }), mls.ErrLeaf)
}

func TestEveryByteOfAHandshakeIsCovered(t *testing.T) {
	room := newRoom(t, 3)
	st := room[0].commitAs(CommitParams{Removes: []mls.LeafIndex{2}})
	group, ratchets := string(room[1].st.EncodeGroup()), string(room[1].st.EncodeRatchets())
	for i := range st.Commit {
		bad := append([]byte{}, st.Commit...)
		bad[i] ^= 1 << (i % 8)
		if _, _, err := room[1].st.Process(bad); err == nil {
			t.Fatalf("byte %d flipped and accepted", i)
		}
	}
	for i := range st.Commit {
		if _, _, err := room[1].st.Process(st.Commit[:i]); err == nil {
			t.Fatalf("accepted with %d bytes", i)
		}
	}
	if group != string(room[1].st.EncodeGroup()) || ratchets != string(room[1].st.EncodeRatchets()) {
		t.Fatal("a refused message changed the state")
	}
	room[1].process(st.Commit)
}

func TestEmptyAndTruncatedTagsAreRefused(t *testing.T) {
	room := newRoom(t, 3)
	good, err := mls.ParseMessage(room[0].commitAs(CommitParams{}).Commit)
	must(t, err)
	p := good.PublicMessage
	tag, member := p.Content.ConfirmationTag, p.MembershipTag
	s, ctx := room[0].st.pub.Suite(), room[0].st.pub.Context()
	for _, n := range []int{0, 1, 16, 31} {
		p.MembershipTag = member[:n]
		room[1].refuses(p.Encode(), mls.ErrCrypto)
		p.Content.ConfirmationTag = tag[:n]
		p.MembershipTag = p.Content.MembershipTag(s, room[0].st.secrets.membership, ctx)
		room[1].refuses(p.Encode(), mls.ErrCommit)
		p.Content.ConfirmationTag, p.MembershipTag = tag, member
	}
	p.Content.ConfirmationTag = make([]byte, 32)
	p.MembershipTag = p.Content.MembershipTag(s, room[0].st.secrets.membership, ctx)
	room[1].refuses(p.Encode(), mls.ErrCrypto)
	p.Content.ConfirmationTag, p.MembershipTag = tag, member
	room[1].process(p.Encode())
}

func TestPendingProposalsAreBounded(t *testing.T) {
	room := newRoom(t, 2)
	for i := range mls.MaxPending + 1 {
		msg := room[0].forge(func(c *mls.Content) {
			c.Type, c.Commit, c.ConfirmationTag, c.Proposal = mls.ContentProposal, nil, nil, remove(0)
			c.AAD = fmt.Append(nil, i)
		})
		n, _, err := room[1].st.Process(msg)
		if i < mls.MaxPending {
			must(t, err)
			room[1].st = n
		} else if !errors.Is(err, mls.ErrLimit) {
			t.Fatal(err)
		}
	}
}
