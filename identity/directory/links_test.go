package directory

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestLinkAdmitsOnceAndSaysSoAfterwards(t *testing.T) {
	w := newWorld(t)
	l := w.link("alice")
	if info, err := w.DescribeLink(l.ID); err != nil || info.State != "open" || info.Name != "alice" {
		t.Errorf("described as %+v, %v", info, err)
	}
	alice := w.applicant("alice", l.Secret)
	chain, err := w.Enroll(ctx, alice.enrol, nil)
	w.must(err)
	w.restart()
	// The answer was lost: the same notes get the same chain, and nothing new happens.
	size, _, err := w.Head()
	w.must(err)
	again, err := w.Enroll(ctx, alice.enrol, func(*store.Batch, wire.DeviceID) { t.Error("a repetition adds to a batch") })
	w.must(err)
	if again.Record != chain.Record {
		t.Error("a repetition gets another record")
	}
	_, err = w.Enroll(ctx, w.applicant("alice", l.Secret).enrol, nil)
	code(t, err, pb.Code_CODE_LINK_USED)
	// A second device under the same genesis is no repetition: it must not hear of a
	// success that it has no part in.
	second, err := identity.SignDeviceCertificate(w.org.ID, alice.id, wire.DeviceID(newKey(t).Public().(ed25519.PublicKey)), alice.key, w.clock.Now())
	w.must(err)
	_, err = w.Enroll(ctx, Enrolment{Secret: l.Secret, Genesis: alice.enrol.Genesis, Device: second.Note}, nil)
	code(t, err, pb.Code_CODE_LINK_USED)
	code(t, w.RevokeLink(ctx, l.ID), pb.Code_CODE_LINK_USED)
	if info, err := w.DescribeLink(l.ID); err != nil || info.State != "used" {
		t.Errorf("described as %+v, %v", info, err)
	}
	if after, _, err := w.Head(); err != nil || after != size {
		t.Errorf("the log grew from %d to %d", size, after)
	}
}

func TestLinksThatDoNotAdmit(t *testing.T) {
	w := newWorld(t)
	w.enrolled("taken")
	apply := func(name string, secret [32]byte) error {
		_, err := w.Enroll(ctx, w.applicant(name, secret).enrol, nil)
		return err
	}
	code(t, apply("alice", [32]byte{}), pb.Code_CODE_LINK_UNKNOWN)
	l := w.link("alice")
	wrong := l.Secret
	wrong[31] ^= 1
	code(t, apply("alice", wrong), pb.Code_CODE_LINK_UNKNOWN)
	code(t, apply("mallory", l.Secret), pb.Code_CODE_FORBIDDEN)

	w.must(w.RevokeLink(ctx, l.ID))
	code(t, apply("alice", l.Secret), pb.Code_CODE_LINK_USED)
	code(t, w.RevokeLink(ctx, [16]byte{1}), pb.Code_CODE_LINK_UNKNOWN)
	if _, err := w.DescribeLink([16]byte{1}); err == nil {
		t.Error("an unknown link is described")
	}

	l = w.link("alice")
	w.clock.advance(wire.LinkLifetime - time.Second)
	if info, _ := w.DescribeLink(l.ID); info.State != "open" {
		t.Errorf("a second before its end it is %s", info.State)
	}
	w.clock.advance(time.Second)
	code(t, apply("alice", l.Secret), pb.Code_CODE_LINK_EXPIRED)
	if info, _ := w.DescribeLink(l.ID); info.State != "expired" {
		t.Errorf("at its end it is %s", info.State)
	}

	_, err := w.CreateLink(ctx, "taken", time.Hour)
	code(t, err, pb.Code_CODE_NAME_TAKEN)
	for _, c := range []struct {
		name string
		ttl  time.Duration
	}{{"Alice", time.Hour}, {"", time.Hour}, {"alice", 0}, {"alice", -1}, {"alice", wire.LinkLifetime + 1}} {
		_, err := w.CreateLink(ctx, c.name, c.ttl)
		code(t, err, pb.Code_CODE_MALFORMED)
	}
	if len(w.Members()) != 1 {
		t.Errorf("%d members", len(w.Members()))
	}
}

func TestTwoLinksForOneNameMakeOneMember(t *testing.T) {
	w := newWorld(t)
	first, second := w.link("alice"), w.link("alice")
	_, err := w.Enroll(ctx, w.applicant("alice", first.Secret).enrol, nil)
	w.must(err)
	_, err = w.Enroll(ctx, w.applicant("alice", second.Secret).enrol, nil)
	code(t, err, pb.Code_CODE_NAME_TAKEN)
	if info, err := w.DescribeLink(second.ID); err != nil || info.State != "open" {
		t.Errorf("a refused enrolment changed its link: %+v, %v", info, err)
	}
}

// Many devices that have got hold of one link: one is admitted, whoever it is, and
// all the others are told that it was used.
func TestOneLinkRedeemedByManyAtOnceAdmitsOne(t *testing.T) {
	w := newWorld(t)
	l := w.link("alice")
	applicants := make([]*person, 16)
	for i := range applicants {
		applicants[i] = w.applicant("alice", l.Secret)
	}
	errs := make([]error, len(applicants))
	var wg sync.WaitGroup
	for i, p := range applicants {
		wg.Go(func() { _, errs[i] = w.Enroll(ctx, p.enrol, nil) })
	}
	wg.Wait()
	admitted := 0
	for i, err := range errs {
		if err == nil {
			admitted++
			if _, active := w.ByDevice(applicants[i].device); !active {
				t.Error("an admitted device is not active")
			}
			continue
		}
		code(t, err, pb.Code_CODE_LINK_USED)
	}
	if size, _, err := w.Head(); admitted != 1 || len(w.Members()) != 1 || size != 2 || err != nil {
		t.Errorf("%d admitted, %d members, %d leaves, %v", admitted, len(w.Members()), size, err)
	}
}

func TestEnrolmentsWhoseNotesDoNotStandUseNothingUp(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	alice, bob := w.applicant("alice", [32]byte{}), w.enrolled("bob")
	thief := w.applicant("alice", [32]byte{})
	sameDevice, err := identity.SignDeviceCertificate(w.org.ID, alice.id, bob.device, alice.key, w.clock.Now())
	w.must(err)
	byOther, err := identity.SignDeviceCertificate(w.org.ID, alice.id, alice.device, thief.key, w.clock.Now())
	w.must(err)
	elsewhere, err := identity.SignDeviceCertificate(other.org.ID, alice.id, alice.device, alice.key, w.clock.Now())
	w.must(err)
	old, err := identity.SignDeviceCertificate(w.org.ID, alice.id, alice.device, alice.key, w.clock.Now().Add(-wire.DeviceCertLifetime))
	w.must(err)
	abroad, abroadID, err := identity.NewGenesis(other.org.ID, "alice", alice.key, w.clock.Now())
	w.must(err)
	ours, err := identity.SignDeviceCertificate(w.org.ID, abroadID, alice.device, alice.key, w.clock.Now())
	w.must(err)
	l := w.link("alice")
	for name, c := range map[string]struct {
		e    Enrolment
		want pb.Code
	}{
		"nothing":                            {Enrolment{}, pb.Code_CODE_MALFORMED},
		"no certificate":                     {Enrolment{Genesis: alice.enrol.Genesis}, pb.Code_CODE_MALFORMED},
		"a genesis of another organization":  {Enrolment{Genesis: abroad, Device: ours.Note}, pb.Code_CODE_MALFORMED},
		"the certificate of another member":  {Enrolment{Genesis: alice.enrol.Genesis, Device: thief.enrol.Device}, pb.Code_CODE_MALFORMED},
		"a certificate by another key":       {Enrolment{Genesis: alice.enrol.Genesis, Device: byOther.Note}, pb.Code_CODE_MALFORMED},
		"a certificate for another house":    {Enrolment{Genesis: alice.enrol.Genesis, Device: elsewhere.Note}, pb.Code_CODE_MALFORMED},
		"a certificate that is over":         {Enrolment{Genesis: alice.enrol.Genesis, Device: old.Note}, pb.Code_CODE_MALFORMED},
		"a device that is another member's":  {Enrolment{Genesis: alice.enrol.Genesis, Device: sameDevice.Note}, pb.Code_CODE_EXISTS},
		"too many KeyPackages":               {Enrolment{Genesis: alice.enrol.Genesis, Device: alice.enrol.Device, KeyPackages: packages(wire.KeyPackagePool+1, 0)}, pb.Code_CODE_TOO_LARGE},
		"a KeyPackage over the limit":        {Enrolment{Genesis: alice.enrol.Genesis, Device: alice.enrol.Device, KeyPackages: [][]byte{make([]byte, wire.KeyPackageMax+1)}}, pb.Code_CODE_TOO_LARGE},
		"a genesis under a name not offered": {w.applicant("alicia", [32]byte{}).enrol, pb.Code_CODE_FORBIDDEN},
	} {
		t.Run(name, func(t *testing.T) {
			c.e.Secret = l.Secret
			_, err := w.Enroll(ctx, c.e, func(*store.Batch, wire.DeviceID) { t.Error("something is added to a refused enrolment") })
			code(t, err, c.want)
		})
	}
	alice.enrol.Secret = l.Secret
	alice.enrol.KeyPackages = packages(2, 9)
	var told wire.DeviceID
	_, err = w.Enroll(ctx, alice.enrol, func(b *store.Batch, d wire.DeviceID) { told = d; b.Put([]byte("nd/beside"), d[:]) })
	w.must(err)
	w.restart()
	beside, err := w.store.Get([]byte("nd/beside"))
	w.must(err)
	if told != alice.device || string(beside) != string(alice.device[:]) || w.KeyPackages(alice.device) != 2 {
		t.Errorf("told of %s, %d KeyPackages", told, w.KeyPackages(alice.device))
	}
}

func TestSecretsOfLinksAreNotOnDisk(t *testing.T) {
	w := newWorld(t)
	l := w.link("alice")
	row, err := w.store.Get(linkKey(l.ID))
	w.must(err)
	if bytes.Contains(row, l.Secret[:8]) {
		t.Error("the row holds the secret")
	}
	w.must(w.store.Close())
	w.must(filepath.WalkDir(w.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, l.Secret[:16]) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	}))
	w.open()
}

func TestLinksAreListedBoundedAndForgotten(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.link(fmt.Sprintf("member-%d", i))
	}
	if links, err := w.Links(); err != nil || len(links) != 3 || links[0].State != "open" {
		t.Fatalf("%+v, %v", links, err)
	}
	w.clock.advance(wire.LinkLifetime + 31*24*time.Hour)
	l := w.link("late")
	if links, err := w.Links(); err != nil || len(links) != 1 || links[0].ID != l.ID {
		t.Errorf("after a month: %+v, %v", links, err)
	}
	var b store.Batch
	for i := range 2*maxLinks - 1 { // half of them were used
		state := []string{"open", "used"}[i%2]
		w.must(addLink(&b, [16]byte{1, byte(i >> 8), byte(i)}, linkRow{Version: rowVersion, Name: "x", Expires: w.clock.Now().Add(2 * time.Hour), State: state}))
		if b.Len() == 500 || i == 2*maxLinks-2 {
			_, err := w.store.Commit(ctx, &b)
			w.must(err)
			b = store.Batch{}
		}
	}
	w.restart()
	_, err := w.CreateLink(ctx, "one-more", time.Hour)
	code(t, err, pb.Code_CODE_FULL)
	w.must(w.RevokeLink(ctx, l.ID)) // with it one more than may be wait
	_, err = w.CreateLink(ctx, "one-more", time.Hour)
	code(t, err, pb.Code_CODE_FULL)
	w.must(w.RevokeLink(ctx, [16]byte{1}))
	w.link("one-more")
	w.clock.advance(3 * time.Hour)
	w.link("later")
}

// A member row that was lost, whole, is named when the directory opens: the log
// still holds its leaf.
func TestLostMemberIsNamedAtOpen(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	w.enrolled("bob")
	var b store.Batch
	b.Delete(append([]byte(memberPrefix), alice.id[:]...))
	_, err := w.store.Commit(ctx, &b)
	w.must(err)
	if _, err := w.openDirectory(); err == nil {
		t.Error("a directory opens without one of its members")
	}
}

// A node's own keys admit nobody: a device has to bring a genesis that its member
// key has signed, also when the operator himself holds the link.
func TestOperatorCannotAddADeviceToAMember(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	spy := newKey(t)
	c, err := identity.SignDeviceCertificate(w.org.ID, alice.id, wire.DeviceID(spy.Public().(ed25519.PublicKey)), w.keys.Directory, w.clock.Now())
	w.must(err)
	e, err := w.entry(alice.id)
	w.must(err)
	rec, err := identity.VerifyRecord(e.row.Record, w.org)
	w.must(err)
	w.must(w.succeed(rec, e))
	rec.Devices = append(rec.Devices, identity.DeviceEntry{Device: c.Device, Certificate: c.Hash})
	var b store.Batch
	more := e.row
	more.Devices = append(more.Devices, c.Note)
	if _, err := w.put(&b, *rec, more); !errors.Is(err, identity.ErrNotStanding) {
		t.Errorf("the directory's own code takes it: %v", err)
	}
}

// The ID is half of the hash and travels in the open; what admits is the whole hash.
func TestSecretThatSharesOnlyTheIDDoesNotAdmit(t *testing.T) {
	w := newWorld(t)
	l := w.link("alice")
	row, err := w.Directory.link(l.ID)
	w.must(err)
	row.Hash[31] ^= 1 // as if the link had been made from another secret of the same ID
	w.must(w.putLink(ctx, l.ID, row))
	_, err = w.Enroll(ctx, w.applicant("alice", l.Secret).enrol, nil)
	code(t, err, pb.Code_CODE_LINK_UNKNOWN)
	_, err = w.Lookup("alice")
	code(t, err, pb.Code_CODE_UNKNOWN_MEMBER)
}
