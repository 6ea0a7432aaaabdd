package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// copyFolder copies regular files: a node that stands still has no others that matter.
func copyFolder(t testing.TB, to, from string) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		rel, err2 := filepath.Rel(from, path)
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		switch {
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	}))
}

// setBack replaces a halted site's folder by a copy that was made before.
func (s *site) setBack(copied string) {
	s.t.Helper()
	must(s.t, os.RemoveAll(s.dir))
	copyFolder(s.t, s.dir, copied)
}

// kept copies a halted site's folder.
func (s *site) kept() string {
	s.t.Helper()
	to := filepath.Join(s.t.TempDir(), "backup")
	copyFolder(s.t, to, s.dir)
	return to
}

func TestANodeRestoredFromABackupTakesItsLogBackAndIsNoLiar(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	a, b, c := sites[0], sites[1], sites[2]
	alice := a.client("alice")
	b.follows(a)
	a.halt()
	backup := a.kept()
	a.start()
	a.client("bob") // a member whose record will be lost
	note, err := a.Node.dir.SignRevocation(alice.id)
	must(t, err)
	must(t, a.Node.dir.RevokeDevice(t.Context(), note))
	alice.knownTo(b) // version 2, which will be lost
	b.follows(a)
	c.follows(a)
	lost := a.headOf()

	a.halt()
	a.setBack(backup)
	a.start()
	eventually(t, "the log is taken back, and goes on", func() bool {
		size, _, err := a.Node.dir.Head()
		must(t, err)
		return size > lost.Size && !a.directoryBehind()
	})
	b.follows(a)
	c.follows(a)
	for _, s := range []*site{b, c} {
		if r, err := s.replicas.of(a.org.ID); err != nil || r.Forked() != nil || r.State().Problem != "" {
			t.Errorf("the partner's opinion of the honest node: %+v %v", r.State(), err)
		}
	}
	m, err := a.Node.dir.Get(alice.member)
	must(t, err)
	if m.Version != 4 || len(m.Devices) != 1 {
		t.Errorf("alice is back with version %d and %d devices", m.Version, len(m.Devices))
	}
	alice.chain = nil
	alice.knownTo(b) // who knew the lost record takes the one after
	a.client("carol")
	b.follows(a)
	a.halt()
	a.start()
	b.follows(a)
	if got := b.copyOf(a); got.Size != lost.Size+4+2 || got.Problem != "" {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestLeavesThatPartnersHoldAreTakenBackWithoutTheirRecords(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	hidden := with(with(a.leavesOf(), "one"), "two")
	b.isShown(a, hidden) // what it has lost
	a.replicas.due(b.org.ID)
	eventually(t, "the log is taken back", func() bool {
		size, _, err := a.Node.dir.Head()
		must(t, err)
		return size == 6 && a.signs() == nil
	})
	b.follows(a)
}

func TestANodeThatWentOnAfterARestoreSaysSoAndChangesNothing(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	b.isShown(a, with(with(a.leavesOf(), "one"), "two")) // signed before the restore
	a.adopting.mu.Lock()                                 // acme does not get to ask before it goes on
	a.client("bob")
	a.adopting.mu.Unlock()
	before := a.leavesOf()
	a.replicas.due(b.org.ID)
	eventually(t, "the two pasts are noticed", func() bool {
		a.replicas.due(b.org.ID)
		return a.adopting.ahead.Load() || a.adopting.forked.Load()
	})
	if string(a.leavesOf()) != string(before) {
		t.Error("the log was changed")
	}
}
