package group

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
)

// Numbers that a world requires of its members beside what we implement. They
// are of the private-use ranges and mean nothing.
const (
	oddExtension mls.ExtensionType  = 0xF0AA
	oddProposal  mls.ProposalType   = 0xF0AB
	strange      mls.CredentialType = 0xF0AC // a credential type that nobody has
)

// ruleValidator refuses the identity "denied", a leaf whose identity becomes
// "changed", and group extensions with the type 0xF0AD. The rest is for the
// package to refuse.
type ruleValidator struct{}

func (ruleValidator) ValidateLeaf(c mls.LeafCheck) error {
	id := string(c.New.Credential.Identity)
	if id == "denied" || c.Old != nil && id == "changed" {
		return errDenied
	}
	return nil
}

func (ruleValidator) ValidateExtensions(_ []byte, _, list []mls.Extension) error {
	if _, ok := mls.FindExtension(list, 0xF0AD); ok {
		return errDenied
	}
	return nil
}

// world is a room in which every rule has something to bite on: blank leaves 3
// and 7, an unmerged leaf 4, required capabilities, an external sender. States
// are values, so that all cases share one.
type world struct {
	members map[mls.LeafIndex]*client
	hub     *mls.PublicGroup
	hubKey  crypto.Signer
	ext     []mls.Extension
}

const (
	forger mls.LeafIndex = 0 // who ignores every rule
	victim mls.LeafIndex = 1 // who must not believe it
	third  mls.LeafIndex = 2 // whose proposals are committed
	vacant mls.LeafIndex = 3 // where the next new member comes
)

var worlds = map[mls.SuiteID]*world{}

// theWorld is the world of the suite that runs.
func theWorld(t testing.TB) *world {
	t.Helper()
	if worlds[testSuite] == nil {
		worlds[testSuite] = newWorld(t)
	}
	return worlds[testSuite]
}

// worldCapabilities are those of every member.
func worldCapabilities() mls.Capabilities {
	c := mls.DefaultCapabilities(mls.CredentialBasic)
	c.Extensions = append(c.Extensions, oddExtension)
	c.Proposals = append(c.Proposals, oddProposal)
	c.Credentials = append(c.Credentials, mls.CredentialEntente)
	return c
}

func worldExtensions(hub crypto.Signer) []mls.Extension {
	key := hub.Public().(ed25519.PublicKey)
	return []mls.Extension{
		{Type: mls.ExtensionRoom, Data: []byte("room")},
		mls.RequiredCapabilities{
			Extensions: []mls.ExtensionType{oddExtension}, Proposals: []mls.ProposalType{oddProposal},
			Credentials: []mls.CredentialType{mls.CredentialEntente},
		}.Extension(),
		mls.ExternalSendersExtension([]mls.ExternalSender{{SignatureKey: key, Credential: credential("hub")}}),
	}
}

// worldKeys are the pre-shared keys that everybody has.
func worldKeys(id mls.PreSharedKeyID) []byte {
	if name := string(id.ID); name == "coffee" || name == "tea" {
		return []byte("a pre-shared key of " + name)
	}
	return nil
}

// newcomer is a client that may join a world.
func newcomer(t testing.TB, name string) *client {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	c := &client{t: t, name: name, cfg: Config{Validator: ruleValidator{}, Signer: key, PSK: worldKeys}}
	caps, now := worldCapabilities(), time.Now()
	c.kp, c.kps, err = NewKeyPackage(KeyPackageParams{
		Suite: testSuite, Signer: key, Credential: credential(name), Capabilities: &caps,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
	})
	must(t, err)
	return c
}

func newWorld(t testing.TB) *world {
	t.Helper()
	_, hubKey, err := ed25519.GenerateKey(nil)
	must(t, err)
	w := &world{members: map[mls.LeafIndex]*client{}, hubKey: hubKey, ext: worldExtensions(hubKey)}
	founder, caps := newcomer(t, "m0"), worldCapabilities()
	founder.st, err = Create(founder.cfg, CreateParams{
		Suite: testSuite, GroupID: []byte("world"), Credential: credential("m0"), Capabilities: &caps, Extensions: w.ext,
	})
	must(t, err)
	w.members[0] = founder
	var list []*client
	for i := range 6 {
		list = append(list, newcomer(t, fmt.Sprintf("m%d", i+1)))
	}
	w.step(0, CommitParams{}, list...)
	w.step(2, CommitParams{})
	w.step(0, CommitParams{Removes: []mls.LeafIndex{4}})
	w.step(5, CommitParams{})
	w.step(0, CommitParams{}, newcomer(t, "late")) // unmerged at node 11
	w.step(0, CommitParams{Removes: []mls.LeafIndex{vacant}})
	w.hub = w.observe(t)
	return w
}

func (w *world) observe(t testing.TB) *mls.PublicGroup {
	t.Helper()
	info, err := w.members[forger].st.GroupInfo(true)
	must(t, err)
	hub, err := mls.NewPublicGroup(info, nil, mls.PublicOptions{Validator: ruleValidator{}, Now: time.Now, PSKs: true})
	must(t, err)
	return hub
}

// step is a Commit that everybody processes.
func (w *world) step(by mls.LeafIndex, p CommitParams, joiners ...*client) {
	for _, j := range joiners {
		p.Adds = append(p.Adds, j.kp)
	}
	st := w.members[by].commit(p)
	for l, c := range w.members {
		if l != by && c.process(st.Commit).SelfRemoved {
			delete(w.members, l)
		}
	}
	for _, j := range joiners {
		j.join(st)
		w.members[j.st.OwnLeaf()] = j
	}
}

// at is the member at a leaf, for one test.
func (w *world) at(t testing.TB, l mls.LeafIndex) *client {
	t.Helper()
	c := *w.members[l]
	c.t = t
	return &c
}

// fault is how a rule is refused: the typed error, and a part of its text that
// tells this rule from the others of its kind.
type fault struct {
	err  error
	text string
}

func (f fault) check(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if f.err == errAnEpoch {
		var e *mls.EpochError
		if !errors.As(err, &e) || e.Have == e.Got {
			t.Fatalf("error %q, want an EpochError", err)
		}
		return
	}
	if !errors.Is(err, f.err) || !strings.Contains(err.Error(), f.text) {
		t.Fatalf("error %q, want %q about %q", err, f.err, f.text)
	}
}

// errAnEpoch stands for any EpochError.
var errAnEpoch = errors.New("an EpochError")

// attempt gives a message to a member and watches its state to the byte.
func (c *client) attempt(do func(*State) (*State, error)) error {
	c.t.Helper()
	group, ratchets := string(c.st.EncodeGroup()), string(c.st.EncodeRatchets())
	n, err := do(c.st)
	if err != nil && n != nil {
		c.t.Fatal("an error came with a state")
	}
	if string(c.st.EncodeGroup()) != group || string(c.st.EncodeRatchets()) != ratchets {
		c.t.Fatal("the state changed in place")
	}
	if err != nil {
		c.tellsNoSecret(err)
	}
	return err
}

// tell is attempt with Process.
func (c *client) tell(msg []byte) error {
	c.t.Helper()
	return c.attempt(func(s *State) (*State, error) { n, _, err := s.Process(msg); return n, err })
}

// tellHub gives a message to a PublicGroup and watches its encoding.
func tellHub(t testing.TB, g *mls.PublicGroup, msg []byte) error {
	t.Helper()
	before := string(g.Marshal())
	n, e, err := g.Process(msg)
	if err != nil && (n != nil || e != nil) {
		t.Fatal("an error came with a group")
	}
	if string(g.Marshal()) != before {
		t.Fatal("the group changed in place")
	}
	return err
}
