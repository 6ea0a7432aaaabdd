package group

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
)

// testValidator accepts basic credentials, refuses the identities in denied and
// every change of identity.
type testValidator struct {
	denied map[string]bool
	seen   *[]mls.LeafCheck
}

var errDenied = errors.New("denied")

func (v testValidator) ValidateLeaf(c mls.LeafCheck) error {
	if v.seen != nil {
		*v.seen = append(*v.seen, c)
	}
	if v.denied[string(c.New.Credential.Identity)] {
		return errDenied
	}
	if c.Old != nil && !c.Old.Credential.Equal(c.New.Credential) {
		return errors.New("identity changed")
	}
	return nil
}

type client struct {
	t    testing.TB
	name string
	cfg  Config
	kp   []byte
	kps  *KeyPackageSecrets
	st   *State
	disk disk
}

// noPSK is the psk_secret when there are no pre-shared keys (RFC 9420 §8.4).
func noPSK(s *mls.Suite) []byte { return make([]byte, s.HashLen()) }

func credential(name string) mls.Credential {
	return mls.Credential{Type: mls.CredentialBasic, Identity: []byte(name)}
}

func newClient(t testing.TB, name string) *client {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	c := &client{t: t, name: name, cfg: Config{Validator: testValidator{}, Signer: key}}
	c.freshKeyPackage()
	return c
}

func (c *client) freshKeyPackage() []byte {
	c.t.Helper()
	now := time.Now()
	var err error
	c.kp, c.kps, err = NewKeyPackage(KeyPackageParams{
		Suite: testSuite, Signer: c.cfg.Signer, Credential: credential(c.name),
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
	})
	must(c.t, err)
	return c.kp
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *client) create(ext ...mls.Extension) {
	c.t.Helper()
	var err error
	c.st, err = Create(c.cfg, CreateParams{Suite: testSuite, GroupID: []byte("room"), Credential: credential(c.name), Extensions: ext})
	must(c.t, err)
}

// commit stages, applies and returns the Commit.
func (c *client) commit(p CommitParams) *Staged {
	c.t.Helper()
	cur, st, err := c.st.Stage(p)
	must(c.t, err)
	c.st, err = st.Apply(cur)
	must(c.t, err)
	return st
}

func (c *client) join(st *Staged) {
	c.t.Helper()
	var err error
	c.st, _, err = Join(c.cfg, st.Welcome, st.Tree, c.kps)
	must(c.t, err)
}

func (c *client) process(msg []byte) *mls.Effects {
	c.t.Helper()
	n, e, err := c.st.Process(msg)
	if err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
	c.st = n
	c.reload()
	return e
}

func (c *client) send(text string) []byte {
	c.t.Helper()
	n, msg, err := c.st.Encrypt([]byte("aad"), []byte(text), 64)
	must(c.t, err)
	c.st = n
	return msg
}

func (c *client) recv(msg []byte) string {
	c.t.Helper()
	n, r, err := c.st.Decrypt(msg)
	if err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
	c.st = n
	c.reload()
	return string(r.Data)
}

// newRoom makes a group of n clients, all added by the first in one Commit.
func newRoom(t testing.TB, n int, ext ...mls.Extension) []*client {
	t.Helper()
	out := []*client{newClient(t, "c0")}
	out[0].create(ext...)
	var kps [][]byte
	for i := 1; i < n; i++ {
		c := newClient(t, fmt.Sprintf("c%d", i))
		out, kps = append(out, c), append(kps, c.kp)
	}
	if n > 1 {
		st := out[0].commit(CommitParams{Adds: kps})
		for _, c := range out[1:] {
			c.join(st)
		}
	}
	return out
}

func agree(t testing.TB, room []*client) {
	t.Helper()
	for _, c := range room[1:] {
		if string(c.st.EpochAuthenticator()) != string(room[0].st.EpochAuthenticator()) {
			t.Fatalf("%s and %s disagree on epoch %d", c.name, room[0].name, c.st.Epoch())
		}
	}
}

func everybodyTalks(t testing.TB, room []*client) {
	t.Helper()
	agree(t, room)
	for _, from := range room {
		msg := from.send("hello from " + from.name)
		for _, to := range room {
			if to == from {
				continue
			}
			if got := to.recv(msg); got != "hello from "+from.name {
				t.Fatalf("%s got %q", to.name, got)
			}
		}
	}
}

// reload stores the state and takes it up again, as after a restart.
func (c *client) reload() {
	c.t.Helper()
	stored := c.disk.store(c.st)
	if !sameRecords(stored, c.st.Records(nil)) {
		c.t.Fatal("what was written little by little is not the state")
	}
	n, err := Restore(c.cfg, stored)
	must(c.t, err)
	if !sameRecords(stored, n.Records(nil)) {
		c.t.Fatal("a state read back encodes to something else")
	}
	c.st, c.disk.last = n, n
}
