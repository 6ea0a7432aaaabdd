package group_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
)

// directory stands for the Authentication Service (RFC 9750 §4): a real one says
// whether the key belongs to the name. This one knows that names do not change.
type directory struct{}

func (directory) ValidateLeaf(c mls.LeafCheck) error {
	if c.Old != nil && !c.Old.Credential.Equal(c.New.Credential) {
		return errors.New("directory: another name")
	}
	return nil
}

// person is a device: its configuration, and the secrets of one KeyPackage.
type person struct {
	name    string
	cfg     group.Config
	offer   []byte // the KeyPackage, for others to take
	secrets *group.KeyPackageSecrets
	state   *group.State
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func (p *person) credential() mls.Credential {
	return mls.Credential{Type: mls.CredentialBasic, Identity: []byte(p.name)}
}

func newPerson(name string) *person {
	_, key, err := ed25519.GenerateKey(nil)
	check(err)
	p := &person{name: name, cfg: group.Config{Validator: directory{}, Signer: key}}
	p.offer, p.secrets, err = group.NewKeyPackage(group.KeyPackageParams{
		Suite: mls.SuiteX25519AES128, Signer: key, Credential: p.credential(),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	})
	check(err)
	return p
}

// newPair is what Example does in full: Alice makes a group and invites Bob.
func newPair() (alice, bob *person) {
	alice, bob = newPerson("alice"), newPerson("bob")
	var err error
	alice.state, err = group.Create(alice.cfg, group.CreateParams{
		Suite: mls.SuiteX25519AES128, GroupID: []byte("tea"), Credential: alice.credential()})
	check(err)
	current, staged, err := alice.state.Stage(group.CommitParams{Adds: [][]byte{bob.offer}, WelcomeTree: true})
	check(err)
	alice.state, err = staged.Apply(current)
	check(err)
	bob.state, _, err = group.Join(bob.cfg, staged.Welcome, nil, bob.secrets)
	check(err)
	bob.secrets.Erase()
	return alice, bob
}

// Alice makes a group, invites Bob by his KeyPackage, and they write to each other.
func Example() {
	alice, bob := newPerson("alice"), newPerson("bob")
	var err error
	alice.state, err = group.Create(alice.cfg, group.CreateParams{
		Suite: mls.SuiteX25519AES128, GroupID: []byte("tea"), Credential: alice.credential()})
	check(err)

	// A Commit is staged first: it counts once the Delivery Service has accepted it.
	current, staged, err := alice.state.Stage(group.CommitParams{Adds: [][]byte{bob.offer}, WelcomeTree: true})
	check(err)
	alice.state, err = staged.Apply(current)
	check(err)

	// Bob joins, and erases the keys that only joining needed.
	bob.state, _, err = group.Join(bob.cfg, staged.Welcome, nil, bob.secrets)
	check(err)
	bob.secrets.Erase()

	// Every operation gives a new state; store it before the bytes leave.
	next, message, err := alice.state.Encrypt(nil, []byte("milk?"), 64)
	check(err)
	alice.state = next
	next, received, err := bob.state.Decrypt(message)
	check(err)
	bob.state = next
	fmt.Printf("%s: %s\n", received.Credential.Identity, received.Data)

	// A message is opened once.
	_, _, err = bob.state.Decrypt(message)
	fmt.Println(errors.Is(err, group.ErrReplay))

	// What people compare to know that nobody stands between them.
	fmt.Println(string(alice.state.EpochAuthenticator()) == string(bob.state.EpochAuthenticator()))
	// Output:
	// alice: milk?
	// true
	// true
}

// Two members commit at once. The Delivery Service takes one Commit for each
// epoch; the other member forgets its own and processes the first.
func ExampleStaged_Apply_race() {
	alice, bob := newPair()
	aliceNow, aliceCommit, err := alice.state.Stage(group.CommitParams{})
	check(err)
	bobNow, bobCommit, err := bob.state.Stage(group.CommitParams{})
	check(err)

	// Bob's was first.
	bob.state, err = bobCommit.Apply(bobNow)
	check(err)
	alice.state, _, err = aliceNow.Process(bobCommit.Commit)
	check(err)

	var epoch *mls.EpochError
	_, err = aliceCommit.Apply(alice.state)
	fmt.Println("alice's own is too late:", errors.As(err, &epoch))
	fmt.Println("both in epoch", alice.state.Epoch(), bob.state.Epoch())
	// Output:
	// alice's own is too late: true
	// both in epoch 2 2
}

// Carol comes in without an invitation: a GroupInfo is all that she needs.
func ExampleExternalJoin() {
	alice, bob := newPair()
	info, err := alice.state.GroupInfo(true)
	check(err)

	carol := newPerson("carol")
	staged, err := group.ExternalJoin(carol.cfg, info, nil, group.ExternalParams{Credential: carol.credential()})
	check(err)

	// The members see who comes before they keep the new state: policy is theirs.
	for _, p := range []*person{alice, bob} {
		next, effects, err := p.state.Process(staged.Commit)
		check(err)
		fmt.Printf("%s sees %s come\n", p.name, effects.Added[0].Node.Credential.Identity)
		p.state = next
	}
	carol.state, err = staged.Apply(nil)
	check(err)
	fmt.Println(len(carol.state.Members()), "members")
	// Output:
	// alice sees carol come
	// bob sees carol come
	// 3 members
}

// A server checks Commits without holding a secret.
func Example_hub() {
	alice, bob := newPair()
	info, err := alice.state.GroupInfo(true)
	check(err)
	hub, err := mls.NewPublicGroup(info, nil, mls.PublicOptions{Validator: directory{}, Now: time.Now})
	check(err)

	_, staged, err := bob.state.Stage(group.CommitParams{Removes: []mls.LeafIndex{alice.state.OwnLeaf()}})
	check(err)
	next, effects, err := hub.Process(staged.Commit)
	check(err)
	check(next.CheckBundle(staged.GroupInfo, staged.Tree))
	fmt.Printf("%s is removed, %d left\n", effects.Removed[0].Node.Credential.Identity, len(next.Members()))

	_, _, err = next.Process(staged.Commit) // again
	var epoch *mls.EpochError
	fmt.Println("of an epoch that is over:", errors.As(err, &epoch))
	// Output:
	// alice is removed, 1 left
	// of an epoch that is over: true
}

// A state is a set of records, sealed and stored by the application. What a message
// changes are two small ones.
func ExampleRestore() {
	alice, bob := newPair()
	_, message, err := alice.state.Encrypt(nil, []byte("still there?"), 0)
	check(err)

	records := bob.state.Records(nil) // all
	restarted, err := group.Restore(bob.cfg, records)
	check(err)
	next, received, err := restarted.Decrypt(message)
	check(err)
	fmt.Printf("%s\n", received.Data)

	var written, deleted int
	for _, r := range next.Records(restarted) { // what is different from the state stored last
		if r.Value == nil {
			deleted++ // what opened alice's first message
		} else {
			written++
		}
	}
	fmt.Println(written, "written,", deleted, "deleted")
	// Output:
	// still there?
	// 2 written, 1 deleted
}

// A member proposes, another one commits what was proposed.
func ExampleState_ProposeUpdate() {
	alice, bob := newPair()
	next, proposal, err := bob.state.ProposeUpdate(nil, nil)
	check(err)
	bob.state = next
	alice.state, _, err = alice.state.Process(proposal)
	check(err)
	current, staged, err := alice.state.Stage(group.CommitParams{ByReference: true})
	check(err)
	alice.state, err = staged.Apply(current)
	check(err)
	next, effects, err := bob.state.Process(staged.Commit)
	check(err)
	bob.state = next
	fmt.Println(len(effects.Updated), "leaves have fresh keys")
	// Output: 2 leaves have fresh keys
}
