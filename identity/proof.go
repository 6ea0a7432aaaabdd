package identity

import (
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// ProofType is the type of a directory proof that stands in a file.
const ProofType = "entente.im/directory-proof/v1"

// Proved is what a directory proof shows.
type Proved struct {
	Organization *Organization
	Head         *Checkpoint
	Member       *Member // nil: the log has no such member
}

// VerifyProof checks a directory proof from itself alone: manifests from the
// organization's ID downwards, the member's chain, and that the log of the checkpoint has
// just this record of it, or none.
func VerifyProof(p *pb.DirectoryProof, now time.Time) (*Proved, error) {
	if p.Type != ProofType {
		return nil, refuse("a proof of type %.60q", p.Type)
	}
	id, err := wire.ParseOrganizationID(p.Organization)
	if err != nil {
		return nil, refuse("a proof of no organization")
	}
	member, err := wire.Bytes32(p.Member)
	if err != nil || p.Chain == nil {
		return nil, refuse("a proof of no member")
	}
	out := &Proved{}
	if out.Organization, err = VerifyManifests(p.Chain.Manifests, id); err != nil {
		return nil, err
	}
	if out.Head, err = VerifyCurrency(p.Currency, out.Organization, member, p.Chain.Record); err != nil {
		return nil, err
	}
	if p.Chain.Record == "" {
		return out, nil
	}
	if out.Member, err = VerifyChain(p.Chain, id, now); err != nil {
		return nil, err
	}
	if out.Member.ID != member || out.Member.Address().String() != p.Address {
		return nil, refuse("a proof of another member")
	}
	return out, nil
}
