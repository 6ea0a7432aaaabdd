package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/encoding/protojson"
)

// What this device knows of directories beside certificates: that a member's record was
// the latest of its log, under which head, and who has seen that head (docs/protocol.md
// 2.13). It is shown as a grade; only a log with two pasts is refused.

// ErrForked says that the directory of an organization has signed two pasts: nothing that
// it says counts until it has explained itself.
var ErrForked = errors.New("device: this organization's directory has shown two pasts, which is proved")

// headRow is the highest head of an organization's log that this device was shown.
type headRow struct {
	Log  uint64    `json:"log,omitempty"`
	Size uint64    `json:"size"`
	Root []byte    `json:"root"`
	Note string    `json:"note"` // with the cosignatures
	Seen time.Time `json:"seen"`
}

// provedRow is when a member's record was last proved to be the latest, and as of which
// head.
type provedRow struct {
	Size    uint64    `json:"size"`
	Version uint64    `json:"version"`
	At      time.Time `json:"at"`
}

const (
	maxHeadRow   = 32 << 10
	witnessesKey = "witnesses"
)

func headKey(org wire.OrganizationID) string { return "head/" + org.String() }
func forkKey(org wire.OrganizationID) string { return "fork/" + org.String() }
func provedKey(k memberKey) string           { return "proved/" + k.Org.String() + "/" + k.Member.String() }

// checkCurrency verifies the proof that comes with a chain; nil when none does. A head
// that contradicts the one that this device has seen proves a fork, which is stored.
func (d *Device) checkCurrency(m *identity.Member, chain *pb.MemberChain) (*identity.Checkpoint, error) {
	if err := d.forked(m.Organization); err != nil {
		return nil, err
	}
	if chain.Currency == nil {
		return nil, nil
	}
	if len(chain.Currency.Checkpoint) > maxHeadRow {
		return nil, errors.New("device: a head that is too long")
	}
	head, err := identity.VerifyCurrency(chain.Currency, m.Organization, m.ID, chain.Record)
	if err != nil {
		return nil, fmt.Errorf("device: the record of %s is not proved to be the latest: %w", m.Address(), err)
	}
	var known headRow
	err = d.vault.view(func(t *txn) error { return t.metaJSON(headKey(m.Organization.ID), &known) })
	if err == nil && known.Log > head.Log {
		return nil, fmt.Errorf("device: a directory of %s from before the incident that it has told of", m.Organization.Manifest.Name)
	}
	if err != nil || known.Log != head.Log || known.Size != head.Size || string(known.Root) == string(head.Root[:]) {
		return head, nil
	}
	before, err := identity.VerifyHead(known.Note, m.Organization)
	if err != nil {
		return nil, err
	}
	return nil, d.proveFork(m.Organization, before, head)
}

func (d *Device) proveFork(o *identity.Organization, a, b *identity.Checkpoint) error {
	proof, err := identity.ProveFork(o, a, b, nil)
	if err != nil {
		return err
	}
	raw, err := protojson.Marshal(proof)
	if err != nil {
		return fmt.Errorf("device: a proof: %w", err)
	}
	if err := d.vault.update(func(t *txn) error { return t.putMeta([]byte(forkKey(o.ID)), raw) }); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrForked, o.Manifest.Name)
}

// forked refuses an organization whose fork was proved, unless its root has told of an
// incident since, and with that begun another log.
func (d *Device) forked(o *identity.Organization) error {
	raw, err := d.Fork(o.ID)
	if err != nil || len(raw) == 0 {
		return err
	}
	if log, err := forkedLog(raw); err != nil || log >= o.Manifest.Log() {
		return errors.Join(ErrForked, err)
	}
	return nil
}

// forkedLog is the number of the log that a stored proof is about.
func forkedLog(raw []byte) (uint64, error) {
	f := &pb.Fork{}
	if err := protojson.Unmarshal(raw, f); err != nil {
		return 0, fmt.Errorf("device: a stored proof: %w", err)
	}
	proved, err := identity.VerifyFork(f)
	if err != nil {
		return 0, err
	}
	return proved.Older.Log, nil
}

// settle forgets a proof that a chain's organization has answered for.
func (t *txn) settle(l *learned) error {
	raw, err := t.meta([]byte(forkKey(l.Org)))
	if errors.Is(err, errNoRecord) {
		return nil
	}
	if err != nil {
		return err
	}
	log, err := forkedLog(raw)
	if err != nil || log >= l.member.Organization.Manifest.Log() {
		return err
	}
	return t.deleteMeta([]byte(forkKey(l.Org)))
}

// Fork returns the proof (JSON, docs/protocol.md 2.12) that an organization's directory has
// two pasts, as this device was shown them; nil when there is none.
func (d *Device) Fork(org wire.OrganizationID) (proof []byte, err error) {
	err = d.vault.view(func(t *txn) (err error) { proof, err = t.meta([]byte(forkKey(org))); return err })
	if errors.Is(err, errNoRecord) {
		err = nil
	}
	return proof, err
}

// keepProof stores what a proof has shown, in the transaction that stores the chain.
func (t *txn) keepProof(l *learned) error {
	if err := t.settle(l); err != nil || l.head == nil {
		return err
	}
	var known headRow
	if err := t.metaJSON(headKey(l.Org), &known); err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	if l.head.Log < known.Log {
		return nil // of a log that has ended meanwhile
	}
	if l.head.Log == known.Log && l.head.Size == known.Size && string(l.head.Root[:]) != string(known.Root) {
		return ErrForked // of two answers at once; proved when it is shown again
	}
	if l.head.Log > known.Log || l.head.Size >= known.Size {
		row := headRow{l.head.Log, l.head.Size, l.head.Root[:], l.head.Note, l.at}
		if err := t.putMetaJSON(headKey(l.Org), row); err != nil {
			return err
		}
	}
	if err := t.keepHead(shownHead{l.Org, l.head.Log, l.head.Size, l.head.Root}); err != nil {
		return err
	}
	return t.putMetaJSON(provedKey(l.memberKey), provedRow{l.head.Size, l.member.Version, l.at})
}

// Directory is what is known of how an organization's directory vouches for a member.
type Directory struct {
	Grade      string    `json:"grade"` // witnessed, awaiting witnesses, stale, unwitnessed organization, unproved, two pasts
	Version    uint64    `json:"version,omitempty"`
	Proved     time.Time `json:"proved,omitzero"`
	Witnesses  int       `json:"witnesses"` // who have cosigned the newest head that we saw
	Recognized int       `json:"recognized"`
	Cosigned   time.Time `json:"cosigned,omitzero"` // the newest cosignature
}

// Text is the grade in a few words for a list.
func (g Directory) Text() string {
	if g.Recognized == 0 || g.Proved.IsZero() {
		return g.Grade
	}
	return fmt.Sprintf("%s (%d of %d)", g.Grade, g.Witnesses, min(identity.WitnessesNeeded, g.Recognized))
}

// directoryOf grades a member by this device's view.
func (d *Device) directoryOf(k memberKey) Directory {
	if proof, err := d.Fork(k.Org); err == nil && len(proof) > 0 {
		return Directory{Grade: "two pasts"}
	}
	var proved provedRow
	var head headRow
	err := d.vault.view(func(t *txn) error {
		return errors.Join(t.metaJSON(provedKey(k), &proved), t.metaJSON(headKey(k.Org), &head))
	})
	if err != nil {
		return Directory{Grade: "unproved"}
	}
	if m, err := d.chains.get(k); err == nil && m.Version != proved.Version {
		return Directory{Grade: "unproved"} // a newer record came without a proof
	}
	w := identity.Witness(head.Note, d.recognized(k.Org))
	return Directory{w.Grade(d.now()), proved.Version, proved.At, w.Have, w.Recognized, w.Newest}
}

// OwnDirectory is how the own organization's directory vouches for this member.
func (d *Device) OwnDirectory() Directory {
	return d.directoryOf(memberKey{d.account.Organization, d.account.Member})
}

// maxWitnesses bounds the list that the home node gives.
const maxWitnesses = 1_100

// witness is a row of the list of witnesses.
type witness struct {
	Name string              `json:"name"`
	Key  []byte              `json:"key"`
	Org  wire.OrganizationID `json:"org"`
}

// recognized are the witnesses that count for a log: all but its owner.
func (d *Device) recognized(owner wire.OrganizationID) []identity.Cosigner {
	var list []witness
	if err := d.vault.view(func(t *txn) error { return t.metaJSON(witnessesKey, &list) }); err != nil {
		return nil
	}
	var out []identity.Cosigner
	for _, w := range list {
		if w.Org != owner {
			out = append(out, identity.Cosigner{Owner: w.Name, Public: w.Key})
		}
	}
	return out
}

// learnWitnesses asks the home node whose cosignatures count.
func (d *Device) learnWitnesses(ctx context.Context) error {
	a, err := call(ctx, d.home.Device.ListWitnesses, &pb.ListWitnessesRequest{})
	if err != nil {
		return err
	}
	if len(a.Witnesses) > maxWitnesses {
		return fmt.Errorf("device: a list of %d witnesses", len(a.Witnesses))
	}
	var list []witness
	for _, w := range a.Witnesses {
		x := witness{Name: w.Name, Key: w.Key}
		if len(w.Key) != 32 || len(w.Name) == 0 || len(w.Name) > 512 {
			return errors.New("device: a witness without name or key")
		}
		if len(w.Organization) > 0 {
			if x.Org, err = wire.Bytes32(w.Organization); err != nil {
				return err
			}
		}
		list = append(list, x)
	}
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return d.vault.update(func(t *txn) error {
		if old, err := t.meta([]byte(witnessesKey)); err == nil && string(old) == string(b) {
			return nil
		}
		return t.putMeta([]byte(witnessesKey), b)
	})
}
