package group

import (
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
)

// kind is a set of the ways by which a leaf gets into a group.
type kind uint

const (
	kVerify     kind = 1 << iota // KeyPackage.Verify, after a download
	kPropose                     // making an Add proposal
	kStage                       // making a Commit with an Add
	kAddProp                     // receiving an Add proposal
	kAddCommit                   // receiving a Commit with an Add
	kHubAddProp                  // a hub receiving an Add proposal
	kHubAdd                      // a hub receiving a Commit with an Add
	kUpdateProp                  // receiving an Update proposal
	kUpdate                      // receiving a Commit of an Update that came before
	kPath                        // the committer's leaf
	kExternal                    // an external Commit that joins
	kResync                      // an external Commit that replaces a leaf
	kTreeAdded                   // a tree on joining: a leaf of a KeyPackage
	kTreeUpdate                  // a leaf of an Update
	kTreePath                    // the leaf of a committer
	kTreeOwn                     // one's own leaf
	kCreate                      // making a group, or a way into one
)

// The usual sets. What a leaf has to be by itself shows at every entry; what it
// has to be to the group's extensions, not before there is a group; what it has
// to be to the other leaves, in a Commit.
const (
	kSends   = kVerify | kPropose | kStage | kHubAddProp | kHubAdd // who checks lifetimes
	kPackage = kVerify | kPropose | kStage | kAddProp | kAddCommit | kHubAddProp | kHubAdd
	kTrees   = kTreeAdded | kTreeUpdate | kTreePath | kTreeOwn
	kBound   = kUpdateProp | kPath | kExternal | kResync | kTreeUpdate | kTreePath // signed for a place
	kAlone   = kPackage | kUpdateProp | kPath | kExternal | kResync | kTrees
	kContext = kAlone&^kVerify&^kUpdateProp | kUpdate
	kAmong   = kContext &^ (kPropose | kAddProp | kHubAddProp)
)

// wayIn is a way in: it makes everything right around an edited leaf, gives it
// to who has to check it, and returns what that one said.
type wayIn struct {
	name string
	kind kind
	try  func(t *testing.T, w *world, edit func(*world, *draft)) error
}

// toMember and toHub give a message to who has to refuse it.
func toMember(t *testing.T, w *world, msg []byte) error { return w.at(t, victim).tell(msg) }
func toHub(t *testing.T, w *world, msg []byte) error    { return tellHub(t, w.hub, msg) }

func add(kp *mls.KeyPackage) *mls.Proposal {
	return &mls.Proposal{Type: mls.ProposalAdd, Add: kp}
}

// leafEntries are all the ways in that there are.
var leafEntries = []wayIn{
	{"verify", kVerify, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		kp, err := mls.ParseKeyPackage(packed(t, newcomer(t, "x"), w, edit).Encode())
		if err != nil {
			return err
		}
		return kp.Verify(time.Now(), ruleValidator{})
	}},
	{"propose-add", kPropose, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		kp := packed(t, newcomer(t, "x"), w, edit).Encode()
		return w.at(t, victim).attempt(func(s *State) (*State, error) {
			n, _, err := s.ProposeAdd(kp, nil)
			return n, err
		})
	}},
	{"stage-add", kStage, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		return w.stages(t, CommitParams{Adds: [][]byte{packed(t, newcomer(t, "x"), w, edit).Encode()}})
	}},
	addEntry("add-proposal", kAddProp, toMember, false),
	addEntry("private-add-proposal", kAddProp, toMember, true),
	addEntry("hub-add-proposal", kHubAddProp, toHub, false),
	addCommitEntry("add-commit", kAddCommit, toMember, false),
	addCommitEntry("private-add-commit", kAddCommit, toMember, true),
	addCommitEntry("hub-add-commit", kHubAdd, toHub, false),
	updateEntry("update-proposal", toMember, false),
	updateEntry("private-update-proposal", toMember, true),
	updateEntry("hub-update-proposal", toHub, false),
	{"update-commit", kUpdate, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		msg, list := w.pendingUpdate(t, edit)
		c := w.at(t, victim)
		c.process(msg)
		return c.tell(w.forge(t, plan{list: list}).msg)
	}},
	{"hub-update-commit", kUpdate, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		msg, list := w.pendingUpdate(t, edit)
		hub, _, err := w.hub.Process(msg)
		must(t, err)
		return tellHub(t, hub, w.forge(t, plan{list: list}).msg)
	}},
	pathEntry("path", toMember, false),
	pathEntry("private-path", toMember, true),
	pathEntry("hub-path", toHub, false),
	externalEntry("external-commit", toMember),
	externalEntry("hub-external-commit", toHub),
	resyncEntry("resync", toMember),
	resyncEntry("hub-resync", toHub),
	treeEntry("added-leaf-join", kTreeAdded, joins, withAdded),
	treeEntry("added-leaf-external-join", kTreeAdded, joinsFromOutside, withAdded),
	treeEntry("added-leaf-observe", kTreeAdded, observes, withAdded),
	treeEntry("updated-leaf-join", kTreeUpdate, joins, withUpdated),
	treeEntry("updated-leaf-external-join", kTreeUpdate, joinsFromOutside, withUpdated),
	treeEntry("updated-leaf-observe", kTreeUpdate, observes, withUpdated),
	treeEntry("committer-leaf-join", kTreePath, joins, withPathLeaf),
	treeEntry("committer-leaf-external-join", kTreePath, joinsFromOutside, withPathLeaf),
	treeEntry("committer-leaf-observe", kTreePath, observes, withPathLeaf),
	{"own-leaf-join", kTreeOwn, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		x := newcomer(t, "x")
		kp := packed(t, x, w, edit)
		x.kp, x.kps.KeyPackage, x.kps.Ref = kp.Encode(), kp.Encode(), kp.Ref()
		f := w.forge(t, plan{list: []mls.Sent{byForger(add(kp))}})
		return tryJoin(t, x, f.welcomeOf(t, kp, welcomePlan{}), nil)
	}},
	{"create", kCreate, creates},
	{"external-join-with", kCreate, joinsWith},
}

// stages makes the victim stage a Commit.
func (w *world) stages(t *testing.T, p CommitParams) error {
	t.Helper()
	return w.at(t, victim).attempt(func(s *State) (*State, error) {
		n, st, err := s.Stage(p)
		if err != nil && st != nil {
			t.Fatal("an error came with a staged commit")
		}
		return n, err
	})
}

func addEntry(name string, k kind, to func(*testing.T, *world, []byte) error, private bool) wayIn {
	return wayIn{name, k, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		msg, _ := w.proposed(t, third, add(packed(t, newcomer(t, "x"), w, edit)), private)
		return to(t, w, msg)
	}}
}

func addCommitEntry(name string, k kind, to func(*testing.T, *world, []byte) error, private bool) wayIn {
	return wayIn{name, k, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		kp := packed(t, newcomer(t, "x"), w, edit)
		return to(t, w, w.forge(t, plan{list: []mls.Sent{byForger(add(kp))}, private: private}).msg)
	}}
}

func updateEntry(name string, to func(*testing.T, *world, []byte) error, private bool) wayIn {
	return wayIn{name, kUpdateProp, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		msg, _ := w.proposed(t, third, updated(t, w, third, edit), private)
		return to(t, w, msg)
	}}
}

// pendingUpdate is an Update proposal and the list of a Commit that refers to it.
func (w *world) pendingUpdate(t *testing.T, edit func(*world, *draft)) (msg []byte, list []mls.Sent) {
	t.Helper()
	p := updated(t, w, third, edit)
	msg, ref := w.proposed(t, third, p, false)
	return msg, []mls.Sent{{Proposal: p, Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(third)}, Ref: ref}}
}

func pathEntry(name string, to func(*testing.T, *world, []byte) error, private bool) wayIn {
	return wayIn{name, kPath, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		return to(t, w, w.forge(t, plan{leaf: edit, private: private}).msg)
	}}
}

func externalEntry(name string, to func(*testing.T, *world, []byte) error) wayIn {
	return wayIn{name, kExternal, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		return to(t, w, w.forge(t, plan{joiner: newcomer(t, "x"), leaf: edit}).msg)
	}}
}

// resyncEntry is an external Commit of the third, who removes its old leaf.
func resyncEntry(name string, to func(*testing.T, *world, []byte) error) wayIn {
	return wayIn{name, kResync, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		return to(t, w, w.forge(t, w.resync(t, third, edit)).msg)
	}}
}

func (w *world) resync(t *testing.T, l mls.LeafIndex, edit func(*world, *draft)) plan {
	return plan{
		joiner: w.at(t, l), leaf: edit,
		list: []mls.Sent{{Proposal: remove(l), Sender: mls.Sender{Type: mls.SenderNewMemberCommit}}},
	}
}

// The three who believe a tree: an invited member, one who comes by external
// Commit, and a hub. x is added by the Commit and is the first of them.
func joins(t *testing.T, f *forged, x *client) error {
	return tryJoin(t, x, f.welcome(t, x, welcomePlan{}), nil)
}

func joinsFromOutside(t *testing.T, f *forged, _ *client) error {
	return fromOutside(t, f.groupInfo(t, nil, nil).Encode(), nil)
}

// fromOutside tries an external join.
func fromOutside(t *testing.T, info, tree []byte) error {
	t.Helper()
	c, caps := newcomer(t, "outsider"), worldCapabilities()
	st, err := ExternalJoin(c.cfg, info, tree, ExternalParams{Credential: credential(c.name), Capabilities: &caps})
	if err != nil && st != nil {
		t.Fatal("an error came with a staged commit")
	}
	return err
}

func observes(t *testing.T, f *forged, _ *client) error {
	return observe(t, f.groupInfo(t, nil, nil).Encode(), nil)
}

func observe(t *testing.T, info, tree []byte) error {
	t.Helper()
	g, err := mls.NewPublicGroup(info, tree, mls.PublicOptions{Validator: ruleValidator{}})
	if err != nil && g != nil {
		t.Fatal("an error came with a group")
	}
	return err
}

// A tree with one bad leaf, and x in it.
func withAdded(t *testing.T, w *world, x *client, edit func(*world, *draft)) *forged {
	bad := packed(t, newcomer(t, "y"), w, edit)
	return w.forge(t, plan{list: []mls.Sent{byForger(add(bad)), byForger(add(x.keyPackageOf()))}})
}

func withUpdated(t *testing.T, w *world, x *client, edit func(*world, *draft)) *forged {
	_, list := w.pendingUpdate(t, edit)
	return w.forge(t, plan{list: append(list, byForger(add(x.keyPackageOf())))})
}

func withPathLeaf(t *testing.T, w *world, x *client, edit func(*world, *draft)) *forged {
	return w.forge(t, plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}, leaf: edit})
}

func (c *client) keyPackageOf() *mls.KeyPackage {
	c.t.Helper()
	kp, err := mls.ParseKeyPackage(c.kp)
	must(c.t, err)
	return kp
}

func treeEntry(name string, k kind, believe func(*testing.T, *forged, *client) error,
	with func(*testing.T, *world, *client, func(*world, *draft)) *forged) wayIn {
	return wayIn{name, k, func(t *testing.T, w *world, edit func(*world, *draft)) error {
		x := newcomer(t, "x")
		return believe(t, with(t, w, x, edit), x)
	}}
}

// creates makes a group; only what its maker chooses can be edited.
func creates(t *testing.T, w *world, edit func(*world, *draft)) error {
	c := newcomer(t, "x")
	d := &draft{leaf: mls.LeafNode{Capabilities: worldCapabilities(), Credential: credential("x")}}
	edit(w, d)
	st, err := Create(c.cfg, CreateParams{
		Suite: testSuite, GroupID: []byte("new"), Credential: d.leaf.Credential, Capabilities: &d.leaf.Capabilities,
		LeafExtensions: d.leaf.Extensions, Extensions: w.ext,
	})
	if err != nil && st != nil {
		t.Fatal("an error came with a state")
	}
	return err
}

// joinsWith makes an external Commit; the leaf is made of what can be edited.
func joinsWith(t *testing.T, w *world, edit func(*world, *draft)) error {
	c := newcomer(t, "x")
	d := &draft{leaf: mls.LeafNode{Capabilities: worldCapabilities(), Credential: credential("x")}}
	edit(w, d)
	info, err := w.at(t, forger).st.GroupInfo(true)
	must(t, err)
	st, err := ExternalJoin(c.cfg, info, nil, ExternalParams{
		Credential: d.leaf.Credential, Capabilities: &d.leaf.Capabilities, Extensions: d.leaf.Extensions,
	})
	if err != nil && st != nil {
		t.Fatal("an error came with a staged commit")
	}
	return err
}

func TestEveryEntryTakesALeafThatIsRight(t *testing.T) {
	for _, e := range leafEntries {
		t.Run(e.name, func(t *testing.T) {
			must(t, e.try(t, theWorld(t), func(*world, *draft) {}))
		})
	}
}
