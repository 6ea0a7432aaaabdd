package group

import (
	"errors"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
)

// safeAAD asks for SafeAAD in a GroupContext.
func safeAAD(t *testing.T) mls.Extension {
	t.Helper()
	data, err := mls.EncodeComponents([]mls.ComponentData{{Component: mls.ComponentSafeAAD, Data: []byte{2, 0, 5}}})
	must(t, err)
	return mls.Extension{Type: mls.ExtensionAppDataDictionary, Data: data}
}

// newSafeRoom is a room whose authenticated data is SafeAAD.
func newSafeRoom(t *testing.T, n int) []*client {
	t.Helper()
	knows := mls.DefaultCapabilities(mls.CredentialBasic)
	knows.Extensions = append(knows.Extensions, mls.ExtensionAppDataDictionary)
	var room []*client
	for i := range n {
		c := newClient(t, string(rune('a'+i)))
		var err error
		c.kp, c.kps, err = NewKeyPackage(KeyPackageParams{Suite: testSuite, Signer: c.cfg.Signer, Credential: credential(c.name),
			Capabilities: &knows, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
		must(t, err)
		room = append(room, c)
	}
	var err error
	room[0].st, err = Create(room[0].cfg, CreateParams{Suite: testSuite, GroupID: []byte("room"), Credential: credential("a"),
		Capabilities: &knows, Extensions: []mls.Extension{safeAAD(t)}})
	must(t, err)
	empty, err := mls.EncodeComponents(nil)
	must(t, err)
	st := room[0].commit(CommitParams{Adds: [][]byte{room[1].kp, room[2].kp}, AAD: empty})
	room[1].join(st)
	room[2].join(st)
	return room
}

func TestAGroupWithSafeAADTakesNothingElseAsAuthenticatedData(t *testing.T) {
	room := newSafeRoom(t, 3)
	aad, err := mls.EncodeComponents([]mls.ComponentData{{Component: 0x8002, Data: []byte("two")}, {Component: 0x8001, Data: []byte("one")}})
	must(t, err)
	bad := []byte("free text")
	if n, msg, err := room[0].st.Encrypt(bad, nil, 0); n != nil || msg != nil || !errors.Is(err, mls.ErrDecode) {
		t.Fatalf("encrypt: %v", err)
	}
	if _, _, err := room[0].st.Stage(CommitParams{AAD: bad}); !errors.Is(err, mls.ErrDecode) {
		t.Fatalf("stage: %v", err)
	}
	if _, _, err := room[0].st.ProposeRemove(2, bad); !errors.Is(err, mls.ErrDecode) {
		t.Fatalf("propose: %v", err)
	}
	for _, wrong := range [][]byte{bad, nil, append(aad[:len(aad):len(aad)], 0)} {
		room[1].refuses(room[0].forge(func(c *mls.Content) {
			c.Type, c.Commit, c.ConfirmationTag, c.Proposal, c.AAD = mls.ContentProposal, nil, nil, remove(2), wrong
		}), mls.ErrDecode)
		room[1].refuses(room[0].forge(func(c *mls.Content) { byValue(remove(2))(c); c.AAD = wrong }), mls.ErrDecode)
	}
	n, late, err := room[0].st.Encrypt(aad, []byte("late"), 0)
	must(t, err)
	wrong := room[0].sendRaw(bad)
	room[0].st = n
	before := string(room[1].st.EncodeRatchets())
	if _, _, err := room[1].st.Decrypt(wrong); !errors.Is(err, mls.ErrDecode) || string(room[1].st.EncodeRatchets()) != before {
		t.Fatalf("decrypt: %v", err)
	}
	st := room[2].commit(CommitParams{AAD: aad})
	room[0].process(st.Commit)
	if e := room[1].process(st.Commit); string(e.AAD) != string(aad) {
		t.Fatalf("effects %+v", e)
	}
	if _, _, err := room[1].st.Decrypt(wrong); !errors.Is(err, mls.ErrDecode) {
		t.Fatalf("decrypt of a past epoch: %v", err)
	}
	_, r, err := room[1].st.Decrypt(late)
	must(t, err)
	list, err := mls.ParseComponents(r.AAD)
	if err != nil || len(list) != 2 || list[0].Component != 0x8001 || string(list[1].Data) != "two" {
		t.Fatalf("components %v: %v", list, err)
	}
}

// sendRaw makes an application message with any authenticated data.
func (c *client) sendRaw(aad []byte) []byte {
	c.t.Helper()
	s, own := c.st.pub.Suite(), c.st.own.app
	m := &mls.Content{WireFormat: mls.WirePrivateMessage, GroupID: c.st.GroupID(), Epoch: c.st.Epoch(), AAD: aad,
		Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(c.st.priv.leaf)}, Type: mls.ContentApplication, Application: []byte("x")}
	must(c.t, m.Sign(s, c.cfg.Signer, c.st.pub.Context()))
	next, _, _ := own.step(s)
	_, key, nonce := next.step(s)
	p, err := seal(s, m, c.st.secrets.senderData, next.generation, key, nonce, 0)
	must(c.t, err)
	return p.Encode()
}

func TestAnAppDataDictionaryThatIsNotOneIsRefused(t *testing.T) {
	a := newClient(t, "a")
	knows := mls.DefaultCapabilities(mls.CredentialBasic)
	knows.Extensions = append(knows.Extensions, mls.ExtensionAppDataDictionary)
	for name, data := range map[string][]byte{
		"empty": {}, "twice": {6, 0, 9, 0, 0, 9, 0}, "out of order": {6, 0, 9, 0, 0, 8, 0}, "too short": {4, 0, 9, 0},
		"odd list of components": {5, 0, 2, 2, 1, 0}, "list longer than its component": {5, 0, 2, 2, 4, 0},
	} {
		_, err := Create(a.cfg, CreateParams{Suite: testSuite, GroupID: []byte("room"), Credential: credential("a"), Capabilities: &knows,
			Extensions: []mls.Extension{{Type: mls.ExtensionAppDataDictionary, Data: data}}})
		if !errors.Is(err, mls.ErrDecode) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := mls.EncodeComponents([]mls.ComponentData{{Component: 1}, {Component: 1}}); !errors.Is(err, mls.ErrDecode) {
		t.Errorf("made by ourselves: %v", err)
	}
}

func TestALastResortKeyPackageIsMarkedByExtensionOrComponent(t *testing.T) {
	a := newClient(t, "a")
	component, err := mls.EncodeComponents([]mls.ComponentData{{Component: mls.ComponentLastResort}})
	must(t, err)
	for name, c := range map[string]struct {
		ext  []mls.Extension
		want bool
	}{
		"neither":         {nil, false},
		"extension":       {[]mls.Extension{{Type: mls.ExtensionLastResort}}, true},
		"component":       {[]mls.Extension{{Type: mls.ExtensionAppDataDictionary, Data: component}}, true},
		"other component": {[]mls.Extension{{Type: mls.ExtensionAppDataDictionary, Data: []byte{3, 0, 9, 0}}}, false},
	} {
		b := a.keyPackage(func(k *mls.KeyPackage) {
			k.Extensions = c.ext
			k.Leaf.Capabilities.Extensions = append(k.Leaf.Capabilities.Extensions, mls.ExtensionAppDataDictionary)
		})
		kp, err := mls.ParseKeyPackage(b)
		must(t, err)
		must(t, kp.Verify(time.Now(), openValidator{}))
		if kp.LastResort() != c.want {
			t.Errorf("%s: %v", name, kp.LastResort())
		}
	}
	broken, err := mls.ParseKeyPackage(a.keyPackage(func(k *mls.KeyPackage) {
		k.Extensions = []mls.Extension{{Type: mls.ExtensionAppDataDictionary, Data: []byte{9}}}
		k.Leaf.Capabilities.Extensions = append(k.Leaf.Capabilities.Extensions, mls.ExtensionAppDataDictionary)
	}))
	must(t, err)
	if err := broken.Verify(time.Now(), openValidator{}); !errors.Is(err, mls.ErrDecode) {
		t.Errorf("broken: %v", err)
	}
}
