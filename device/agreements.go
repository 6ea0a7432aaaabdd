package device

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// agreed is what this device knows of the agreement between its organization and another:
// verified by both signatures, and the newest that it was ever shown (docs/protocol.md 7.15).
// State record "agreement/" ‖ organization ID; of the own organization it has the last
// three fields only.
type agreed struct {
	Name     string         `json:",omitempty"`
	Version  uint64         `json:",omitempty"`
	Hash     [32]byte       `json:",omitzero"`
	Terms    identity.Terms `json:",omitzero"`
	State    string         `json:",omitempty"` // what the node makes of it now: wire.AgreementInForce …; empty: not known
	Refused  [32]byte       `json:",omitzero"`  // the last one that was shown and not taken
	Checked  time.Time      // when the node was asked last
	Keep     time.Duration  `json:",omitempty"` // the own organization's retention
	FileSize uint64         `json:",omitempty"` // and its largest file, bytes
	Verify   bool           `json:",omitempty"` // and whether outsiders have to be verified
}

// agreementEvery is how often a device asks its node for what is agreed; a change is told
// at once besides.
const agreementEvery = time.Hour

func agreementKey(org wire.OrganizationID) []byte { return append([]byte("agreement/"), org[:]...) }

// agreement reads what is known; nil: nothing.
func (t *txn) agreement(org wire.OrganizationID) (*agreed, error) {
	v, err := t.state(agreementKey(org))
	if errors.Is(err, errNoRecord) {
		return nil, nil
	}
	a := &agreed{}
	if err == nil {
		err = json.Unmarshal(v, a)
	}
	if err != nil {
		return nil, fmt.Errorf("device: what is known of an agreement: %w", err)
	}
	return a, nil
}

func (t *txn) putAgreement(org wire.OrganizationID, a *agreed) error {
	v, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return t.putState(agreementKey(org), v)
}

// openAgreement verifies what a node shows of an agreement: manifests of both sides from
// their IDs downwards, and both signatures.
func (d *Device) openAgreement(body *pb.AgreementBody) (*identity.Agreement, identity.Party, error) {
	var them identity.Party
	org, err := wire.Bytes32(body.GetOrganization())
	if err != nil || org == d.account.Organization || org == (wire.OrganizationID{}) {
		return nil, them, fmt.Errorf("device: an agreement with nobody: %w", identity.ErrNotStanding)
	}
	ours, err := identity.VerifyManifests(body.Ours, d.account.Organization)
	if err != nil {
		return nil, them, err
	}
	theirs, err := identity.VerifyManifests(body.Theirs, org)
	if err != nil {
		return nil, them, err
	}
	a, err := identity.VerifyAgreement(body.Note, ours, theirs)
	if err != nil {
		return nil, them, err
	}
	return a, a.Partner(d.account.Organization), nil
}

// older reports whether an agreement that is shown goes behind the one that is known: an
// older version, another text of the same version, or a new agreement that began before it. Both
// organizations have signed it once; that it is in force again nobody has signed.
func (a *agreed) older(shown *identity.Agreement) bool {
	switch {
	case a == nil || a.Version == 0 || shown.Hash == a.Hash:
		return false
	case shown.Version > 1 && shown.Version <= a.Version:
		return true
	}
	return shown.Version == 1 && !shown.Terms.ValidFrom.After(a.Terms.ValidFrom)
}

// takeAgreement keeps what the node shows, and tells the rooms concerned what has changed;
// one that goes behind what is known is refused, and the terms that are known hold on.
func (d *Device) takeAgreement(t *txn, body *pb.AgreementBody) error {
	shown, them, err := d.openAgreement(body)
	if err != nil {
		return err
	}
	known, err := t.agreement(them.ID)
	if err != nil {
		return err
	}
	was := ""
	if known != nil {
		was = known.State
	}
	state := wire.ReadAgreementState(body.State)
	next := &agreed{State: state, Name: them.Name, Version: shown.Version, Hash: shown.Hash, Terms: shown.Terms, Checked: d.now()}
	said := ""
	switch {
	case known.older(shown):
		next = known
		next.Checked, next.State = d.now(), state
		if known.Refused != shown.Hash {
			said = fmt.Sprintf("your node shows version %d of the agreement with %s, version %d is known: the known terms hold, ask your administrator", shown.Version, them.Name, known.Version)
		}
		next.Refused = shown.Hash
	case known != nil && known.Version != 0 && known.Hash != shown.Hash:
		said = fmt.Sprintf("the agreement with %s has changed (version %d): %s", them.Name, shown.Version, strings.ReplaceAll(oneLine(known.Terms.Changes(shown.Terms)), ", would be ", ", now "))
	}
	if said != "" {
		if err := d.tellRooms(t, d.roomsWith(them.ID), "terms", them.Name, said); err != nil {
			return err
		}
	}
	return errors.Join(d.tellState(t, them.ID, them.Name, was, state), t.putAgreement(them.ID, next))
}

// oneLine joins the lines of a list of changes.
func oneLine(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(out, "; ")
}

// agreement takes a node's word that an agreement was amended.
func (b *batch) agreement(core *pb.EnvelopeCore) error {
	var body pb.AgreementBody
	if err := proto.Unmarshal(core.Body, &body); err != nil {
		return err
	}
	if _, _, err := b.d.openAgreement(&body); err != nil {
		return err
	}
	b.writes = append(b.writes, func(t *txn) error { return b.d.takeAgreement(t, &body) })
	return nil
}

// checkAgreements asks the node for what is agreed with each organization in our rooms,
// once in a while; d.mu is held. What cannot be had now is asked for later: what
// is known holds on.
func (d *Device) checkAgreements(ctx context.Context) error {
	if !d.agreements.due(d) {
		return nil
	}
	for _, org := range d.partnersInRooms() {
		var known *agreed
		if err := d.vault.view(func(t *txn) (err error) { known, err = t.agreement(org); return err }); err != nil {
			return err
		}
		if known != nil && d.now().Sub(known.Checked) < agreementEvery && !known.Checked.After(d.now()) {
			continue
		}
		a, err := call(ctx, d.home.Device.GetAgreement, &pb.GetAgreementRequest{Organization: org[:]})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = d.vault.update(func(t *txn) error {
			switch {
			case err == nil && org == d.account.Organization:
				next := &agreed{Checked: d.now(), Keep: time.Duration(a.RetentionSeconds) * time.Second, FileSize: a.FileSize, Verify: a.VerifyOutsiders}
				return errors.Join(d.noteVerify(t, known, next), t.putAgreement(org, next))
			case err == nil && bytes.Equal(a.Agreement.GetOrganization(), org[:]):
				if err = d.takeAgreement(t, a.Agreement); !errors.Is(err, identity.ErrNotStanding) {
					return err
				}
			}
			if known == nil { // what does not stand says nothing: what is known holds on
				known = &agreed{}
			}
			known.Checked = d.now()
			return t.putAgreement(org, known)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// watch is when agreements were last looked at: again after a while, and when rooms have
// changed. Looking goes over the members of all rooms.
type watch struct {
	at    time.Time
	rooms uint64 // the sum of the rooms' epochs
}

func (w *watch) due(d *Device) bool {
	sum := d.epochs()
	now := d.now()
	if sum == w.rooms && now.Sub(w.at) < agreementEvery && !w.at.After(now) {
		return false
	}
	w.at, w.rooms = now, sum
	return true
}

// partnersInRooms lists the organizations in rooms of ours that go on, our own first, and
// also where there is no other: what it asks holds before the first room.
func (d *Device) partnersInRooms() []wire.OrganizationID {
	var out []wire.OrganizationID
	for _, r := range d.rooms {
		if r.state == nil || r.Ended {
			continue
		}
		for _, k := range r.others(d.account.Organization) {
			if !slices.Contains(out, k.Org) {
				out = append(out, k.Org)
			}
		}
	}
	slices.SortFunc(out, func(a, b wire.OrganizationID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Insert(out, 0, d.account.Organization)
}

// roomsWith lists the rooms that go on and have somebody of an organization.
func (d *Device) roomsWith(org wire.OrganizationID) []*room {
	var out []*room
	for _, r := range d.rooms {
		if r.state != nil && !r.Ended && d.merged(r) == nil && slices.ContainsFunc(r.others(d.account.Organization), func(k memberKey) bool { return k.Org == org }) {
			out = append(out, r)
		}
	}
	return out
}
