package directory

import (
	"crypto/ed25519"
	"os"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
)

// tells has a world's organization tell of an incident, and opens the directory anew.
func (w *world) tells(root ed25519.PrivateKey) {
	w.t.Helper()
	var err error
	w.org, err = w.org.Declare(root, "our backup was started", w.clock.Now())
	w.must(err)
	w.restart()
}

func (w *world) restored() {
	w.t.Helper()
	_, err := w.Restore(w.t.Context())
	w.must(err)
}

// copied is a second directory on a copy of a world's disk.
func (w *world) copied() *world {
	w.t.Helper()
	w.must(w.store.Close())
	c := &world{t: w.t, dir: w.t.TempDir(), clock: w.clock, org: w.org, root: w.root, keys: w.keys}
	w.must(os.CopyFS(c.dir, os.DirFS(w.dir)))
	w.open()
	c.open()
	w.t.Cleanup(func() { c.store.Close() })
	return c
}

// whole is a world's log with its signed head.
func (w *world) whole() (leaves []byte, head *identity.Checkpoint) {
	w.t.Helper()
	signed, err := w.Checkpoint()
	w.must(err)
	head, err = identity.VerifyCheckpoint(signed, w.org)
	w.must(err)
	for i := range head.Size {
		leaf, err := w.Leaf(i)
		w.must(err)
		leaves = append(leaves, leaf...)
	}
	return leaves, head
}

func TestAfterAnIncidentANewLogHasEveryMemberAtAVersionThatNoPastHasReached(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	note, err := w.SignRevocation(bob.device)
	w.must(err)
	w.must(w.RevokeDevice(t.Context(), note))
	before, err := w.Get(alice.id)
	w.must(err)
	signed, err := w.Checkpoint()
	w.must(err)
	old, err := identity.VerifyCheckpoint(signed, w.org)
	w.must(err)
	w.tells(w.root.Root)

	// Until it is known what others hold of the new log, nothing is in it, and nothing proved.
	if size, _, err := w.Head(); err != nil || size != 0 || !w.Owes() || w.Behind() {
		t.Fatalf("%d leaves, %v", size, err)
	}
	if _, err := w.Currency(alice.id); err == nil {
		t.Error("a record is proved to be the latest of a log without it")
	}
	w.must(w.Fits(old)) // another log: nothing to compare
	w.restored()
	w.restart() // what is written holds
	m, err := w.Get(alice.id)
	w.must(err)
	w.must(m.Supersedes(before))
	if m.Version != before.Version+1+renewedBy || len(m.Devices) != 1 || w.Owes() {
		t.Errorf("alice has version %d after %d", m.Version, before.Version)
	}
	if _, active := w.ByDevice(bob.device); active {
		t.Error("a revoked device is back")
	}
	c, err := w.Currency(alice.id)
	w.must(err)
	chain, err := w.Chain(alice.id)
	w.must(err)
	head, err := identity.VerifyCurrency(c, w.org, alice.id, chain.Record)
	w.must(err)
	if head.Log != w.org.Manifest.Log() || head.Size != 4 {
		t.Errorf("the head is %+v", head)
	}
	w.enrolled("carol")
	if a, err := w.Audit(t.Context()); err != nil || len(a.Problems) > 0 || a.Members != 3 {
		t.Errorf("the audit: %+v %v", a, err)
	}
}

func TestALogThatWasBegunHalfWayGoesOn(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"alice", "bob", "carol"} {
		w.enrolled(name)
	}
	w.tells(w.root.Root)
	w.Directory.write.Lock()
	w.must(w.renewMember(t.Context(), w.members[w.owed[0]]))
	w.Directory.write.Unlock()
	w.restart() // a crash between two members
	if size, _, err := w.Head(); err != nil || size != 2 || len(w.owed) != 2 {
		t.Fatalf("%d leaves, %d owed, %v", size, len(w.owed), err)
	}
	// Who changes meanwhile is put there by the change.
	id := w.owed[1]
	for device := range w.members[id].member.Devices {
		note, err := w.SignRevocation(device)
		w.must(err)
		w.must(w.RevokeDevice(t.Context(), note))
	}
	if m, err := w.Get(id); err != nil || m.Version != 2+renewedBy {
		t.Errorf("version %d, %v", m.Version, err)
	}
	w.restored()
	if size, _, err := w.Head(); err != nil || size != 6 || w.Owes() {
		t.Errorf("%d leaves, %v", size, err)
	}
	w.clock.advance(time.Hour)
	w.tells(w.root.Root) // and once more
	w.restored()
	if a, err := w.Audit(t.Context()); err != nil || len(a.Problems) > 0 || a.Leaves != 6 {
		t.Errorf("the audit: %+v %v", a, err)
	}
}

// A backup from before the statement is restored with the manifest of after it: what partners
// hold of the new log is taken back, and nothing of it is signed twice.
func TestANewLogThatPartnersHoldIsTakenBackBeforeMembersArePutIn(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	w.tells(w.root.Root)
	other := w.copied() // of now
	w.restored()
	leaves, head := w.whole()
	other.must(other.Adopt(t.Context(), head, leaves))
	if !other.Behind() || other.Owes() {
		t.Error("alice's newer record is not missed")
	}
	other.restored()
	m, err := other.Get(alice.id)
	other.must(err)
	known, err := w.Get(alice.id)
	w.must(err)
	w.must(m.Supersedes(known))
	if a, err := other.Audit(t.Context()); err != nil || len(a.Problems) > 0 || a.Leaves != 6 {
		t.Errorf("the audit: %+v %v", a, err)
	}
}

func TestADirectoryDoesNotGoBackToALogBeforeItsLast(t *testing.T) {
	w := newWorld(t)
	w.enrolled("alice")
	before := w.org
	w.tells(w.root.Root)
	w.must(w.store.Close())
	w.openStore()
	w.org = before
	if _, err := w.openDirectory(); err == nil {
		t.Error("opened with the manifest of before the incident")
	}
}
