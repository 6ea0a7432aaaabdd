package device

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// chainOf is what bob's organization answers alice's device about bob.
func (p *pair) chainOf(d *Device) (wire.OrganizationID, *pb.MemberChain) {
	a, err := call(p.acme.t.Context(), p.alice.home.Device.Resolve, &pb.ResolveRequest{Address: d.Address().String()})
	if err != nil {
		p.acme.t.Fatal(err)
	}
	return wire.OrganizationID(a.Organization), a.Chain
}

func TestADeviceGradesADirectoryByItsOwnOrganizationsWitnesses(t *testing.T) {
	p := newPair(t)
	if _, err := p.alice.Account(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := memberKey{p.bob.account.Organization, p.bob.account.Member}
	eventually(t, "acme's node has cosigned globex's head", func() error {
		org, chain := p.chainOf(p.bob)
		if _, err := p.alice.learn(org, chain); err != nil {
			return err
		}
		if g := p.alice.directoryOf(k); g.Grade != "witnessed" || g.Witnesses != 1 || g.Recognized != 1 || g.Version != 1 {
			return errors.New(g.Text())
		}
		return nil
	})
	// Of its own organization only the partner counts.
	eventually(t, "globex's node has cosigned acme's head", func() error {
		if _, err := p.alice.Account(t.Context()); err != nil {
			return err
		}
		if g := p.alice.OwnDirectory(); g.Grade != "witnessed" || g.Recognized != 1 {
			return errors.New(g.Text())
		}
		return nil
	})
}

func TestARecordWithoutAProofThatItIsTheLatestIsNotTaken(t *testing.T) {
	p := newPair(t)
	org, chain := p.chainOf(p.bob)
	for name, change := range map[string]func(*pb.Currency){
		"another head":      func(c *pb.Currency) { c.Checkpoint = strings.Replace(c.Checkpoint, "\n2\n", "\n4\n", 1) },
		"another nonce":     func(c *pb.Currency) { c.Nonce[0] ^= 1 },
		"another label":     func(c *pb.Currency) { c.Vrf[3] ^= 1 },
		"a head too long":   func(c *pb.Currency) { c.Checkpoint += strings.Repeat("x", maxHeadRow) },
		"of another member": func(c *pb.Currency) { _, own := p.chainOf2(t); c.Map, c.Vrf, c.Nonce = own.Map, own.Vrf, own.Nonce },
	} {
		_, bad := p.chainOf(p.bob)
		change(bad.Currency)
		if _, err := p.alice.learn(org, bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := p.alice.learn(org, chain); err != nil {
		t.Error(err)
	}
}

func (p *pair) chainOf2(t *testing.T) (wire.OrganizationID, *pb.Currency) {
	a, err := call(t.Context(), p.alice.home.Device.Account, &pb.AccountRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return p.alice.account.Organization, a.Chain.Currency
}

func TestTwoHeadsOfOneSizeEndTheTrustInAnOrganizationUntilItTellsOfTheIncident(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	org, chain := p.chainOf(p.bob)
	m, err := p.alice.learn(org, chain)
	if err != nil {
		t.Fatal(err)
	}
	// What alice was shown before is another head of the same size: her node, or bob's,
	// has shown others something else.
	keys, err := identity.OpenNodeKeys(p.globex.dir+"/"+node.KeysFile, testPass)
	if err != nil {
		t.Fatal(err)
	}
	head, err := identity.VerifyCheckpoint(chain.Currency.Checkpoint, m.Organization)
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.SignCheckpoint(m.Organization, head.Size, [32]byte{1}, keys.Directory)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.alice.vault.update(func(t *txn) error {
		return t.putMetaJSON(headKey(org), headRow{Size: head.Size, Root: append([]byte{1}, make([]byte, 31)...), Note: other})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.alice.learn(org, chain); !errors.Is(err, ErrForked) {
		t.Fatalf("another root of one size: %v", err)
	}
	proof, err := p.alice.Fork(org)
	if err != nil || !strings.Contains(string(proof), identity.ForkType) {
		t.Errorf("the proof: %v %s", err, proof)
	}
	if _, err := p.alice.learn(org, chain); !errors.Is(err, ErrForked) {
		t.Errorf("the same again: %v", err)
	}
	k := memberKey{org, m.ID}
	if g := p.alice.directoryOf(k); g.Grade != "two pasts" {
		t.Errorf("the grade: %s", g.Text())
	}
	// The organization tells of the incident: its new log is believed, its old one no more.
	p.globex.halt()
	_, err = node.DeclareIncident(p.globex.dir, p.globex.dir+"/"+node.RootFile, testPass, "a copy was run", time.Now())
	must(t, err)
	p.globex.start()
	eventually(t, "bob's record is proved in the new log", func() error {
		a, err := call(t.Context(), p.alice.home.Device.Resolve, &pb.ResolveRequest{Address: p.bob.Address().String()})
		if err == nil {
			_, err = p.alice.learn(org, a.Chain)
		}
		if err == nil && p.alice.directoryOf(k).Version < 1_000 {
			err = fmt.Errorf("graded %+v", p.alice.directoryOf(k))
		}
		return err
	})
	if proof, err := p.alice.Fork(org); err != nil || proof != nil {
		t.Errorf("the proof is still held against it: %v", err)
	}
	if _, err := p.alice.learn(org, chain); err == nil {
		t.Error("a chain of the old log is taken")
	}
	receiveUntil(t, p.alice, "the incident", func(list []Shown) bool {
		return slices.ContainsFunc(list, func(s Shown) bool {
			return s.Event == "identity" && s.State == "incident" && s.From == "globex.example" && strings.Contains(s.Reason, "a copy was run")
		})
	})
	eventually(t, "bob is told about his record", func() error {
		_, err := p.bob.Account(t.Context())
		alarms, err2 := p.bob.Alarms()
		if err = errors.Join(err, err2); err == nil && (len(alarms) == 0 || !strings.Contains(alarms[len(alarms)-1].Text, "a copy was run")) {
			err = fmt.Errorf("told %+v", alarms)
		}
		return err
	})
}

func TestAPersonIsToldOnceWhatTheDirectoryChangedAboutThem(t *testing.T) {
	p := newPair(t)
	if _, err := p.alice.Account(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, err := p.alice.NewAlarms(); err != nil || len(a) != 0 {
		t.Fatalf("alarms of a quiet directory: %+v %v", a, err)
	}
	// The vault is as if a device had been there at the last visit that is gone now.
	if err := p.alice.vault.update(func(t *txn) error {
		return t.putMetaJSON(selfKey, selfRow{Version: 9, Devices: []wire.DeviceID{p.alice.ID(), {7}}})
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := p.alice.Account(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a, err := p.alice.NewAlarms()
	if err != nil || len(a) != 1 || !strings.Contains(a[0].Text, "has ended") {
		t.Errorf("%+v %v", a, err)
	}
	if a, err := p.alice.NewAlarms(); err != nil || len(a) != 0 {
		t.Errorf("told twice: %+v %v", a, err)
	}
}
