package federation

import (
	"encoding/hex"
	"fmt"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// openAgreement verifies a record's agreement between us and its organization: both
// parties and both signatures. Keys change and agreements outlive them, so each side
// is held against its manifests as they were when it was signed. Whether the
// agreement is in force is another question.
func (f *Federation) openAgreement(rec partnerRecord, other *identity.Organization) (*identity.Agreement, error) {
	ours, err := asOf(f.opts.Organization, rec.OurManifests)
	if err != nil {
		return nil, err
	}
	theirs, err := asOf(other, rec.TheirManifests)
	if err != nil {
		return nil, err
	}
	return identity.VerifyAgreement(rec.Agreement, ours, theirs)
}

// asOf returns an organization as its first n manifests show it.
func asOf(org *identity.Organization, n int) (*identity.Organization, error) {
	if n < 1 || n > len(org.Notes) {
		return nil, fmt.Errorf("federation: an agreement signed under %d manifests: %d are known", n, len(org.Notes))
	}
	if n == len(org.Notes) {
		return org, nil
	}
	return identity.VerifyManifests(org.Notes[:n], org.ID)
}

// propose writes the agreement that an inviter's terms make, signed by us.
func (f *Federation) propose(inviter *identity.Organization, terms identity.Terms) (string, error) {
	return identity.SignAgreement(identity.NewAgreement(inviter, f.opts.Organization, terms), f.opts.AgreementKey)
}

// countersign adds our signature to what an acceptor has signed, if its text is what
// our terms make, byte for byte.
func (f *Federation) countersign(note string, acceptor *identity.Organization, terms identity.Terms) (string, error) {
	text, err := wire.OpenNote(note, acceptor.NodeKey())
	if err != nil {
		return "", wire.Refuse(pb.Code_CODE_FORBIDDEN, "the agreement is not signed by %s", acceptor.Manifest.Name)
	}
	want, err := identity.NewAgreement(f.opts.Organization, acceptor, terms).Text()
	if err != nil {
		return "", err
	}
	if text != want {
		return "", wire.Refuse(pb.Code_CODE_FORBIDDEN, "the agreement is not the one that was offered")
	}
	return wire.AddSignature(note, f.opts.AgreementKey, acceptor.NodeKey())
}

// sameText reports an error when two notes do not say the same.
func sameText(a, b string) error {
	x, err := wire.NoteText(a)
	if err != nil {
		return err
	}
	y, err := wire.NoteText(b)
	if err != nil {
		return err
	}
	if x != y {
		return fmt.Errorf("%w: another text than the one that is known", identity.ErrNotStanding)
	}
	return nil
}

// verify checks all that a record says. The certificate is looked at as of the time
// when it was last checked: one that has expired since is known for what it is, and
// the partner keeps its place and is asked for a new one.
func (f *Federation) verify(id wire.OrganizationID, rec partnerRecord) (standing, error) {
	org, err := identity.VerifyManifests(rec.Manifests, id)
	if err != nil {
		return standing{}, err
	}
	device, err := wire.ParseDeviceID(rec.Peer)
	if err != nil {
		return standing{}, err
	}
	cert, err := identity.VerifyNodeCertificate(rec.Certificate, org, device, rec.Checked)
	if err != nil {
		return standing{}, err
	}
	agreement, err := f.openAgreement(rec, org)
	if err != nil {
		return standing{}, err
	}
	remote, err := PeerOf(device)
	if err != nil {
		return standing{}, err
	}
	return standing{org: org, agreement: agreement, digest: agreement.Hash, device: device, peer: remote, expires: cert.NotAfter}, nil
}

// newRecord is the record of an agreement that is concluded now.
func (f *Federation) newRecord(agreement string, manifests []string, certificate string, device wire.DeviceID, token [16]byte) partnerRecord {
	now := f.clock.Now().UTC()
	return partnerRecord{
		Version: recordVersion, Agreement: agreement, Manifests: manifests, Certificate: certificate,
		Peer: device.String(), Checked: now, Since: now, Token: hex.EncodeToString(token[:]),
		OurManifests: len(f.opts.Organization.Notes), TheirManifests: len(manifests),
	}
}

// AgreementState is what our devices are told of an agreement (wire.AgreementInForce …); empty
// where there is none, and was none.
func (f *Federation) AgreementState(id wire.OrganizationID) string {
	p := f.find(id)
	if p == nil {
		return ""
	}
	return p.agreementState(f.clock.Now())
}

// agreementState says what holds between the two, whether or not a link is up now: of the
// partner's decisions the last that its node has told.
func (p *partner) agreementState(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state := p.stateLocked(now); state {
	case wire.AgreementEnded, wire.AgreementSuspended, wire.AgreementExpired, wire.AgreementNotYet, wire.AgreementQuarantined:
		return state
	}
	switch {
	case p.link.refused == pb.Code_CODE_SUSPENDED:
		return wire.AgreementSuspendedThere
	case p.link.refused != 0 && p.link.attempts >= refusalsTold:
		return wire.AgreementRefusedThere
	case p.link.holds:
		return wire.AgreementQuarantinedThere
	}
	return wire.AgreementInForce
}

// refusalsTold is how often in a row a partner refuses a link before devices are told: while an
// amendment comes into force the two refuse each other for a moment.
const refusalsTold = 3

// AgreementBody is the last agreement with a partner, with the manifests that its signatures
// are verified by and its state, for our devices.
func (f *Federation) AgreementBody(id wire.OrganizationID) (*pb.AgreementBody, error) {
	p := f.find(id)
	if p == nil {
		return nil, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")
	}
	rec, _ := p.recorded()
	return &pb.AgreementBody{Organization: id[:], Note: rec.Agreement, State: p.agreementState(f.clock.Now()),
		Ours: f.opts.Organization.Notes[:rec.OurManifests], Theirs: rec.Manifests[:rec.TheirManifests]}, nil
}
