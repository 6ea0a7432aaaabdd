package identity

import (
	"errors"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// RootForkType is the type of a proof that a root has signed two successors of one manifest.
const RootForkType = "entente.im/root-fork/v1"

// ProvedRoots is what such a proof shows: two chains, and the first manifest that they do not
// share.
type ProvedRoots struct {
	One, Other *Organization
	At         int
}

// ProveRootFork makes the proof that two chains of an organization part and neither takes
// precedence. It returns an error when one does.
func ProveRootFork(id wire.OrganizationID, one, other []string) (*pb.RootFork, error) {
	f := &pb.RootFork{Type: RootForkType, Organization: id.String(), One: one, Other: other}
	_, err := VerifyRootFork(f)
	return f, err
}

// VerifyRootFork checks, from the proof alone, that an organization's root has signed two
// successors of one manifest, neither of which takes precedence (docs/protocol.md 2.15).
func VerifyRootFork(f *pb.RootFork) (*ProvedRoots, error) {
	if f.GetType() != RootForkType {
		return nil, refuse("a proof of type %.60q", f.GetType())
	}
	id, err := wire.ParseOrganizationID(f.Organization)
	if err != nil {
		return nil, refuse("a proof about no organization")
	}
	p := &ProvedRoots{}
	if p.One, err = VerifyManifests(f.One, id); err != nil {
		return nil, err
	}
	if p.Other, err = VerifyManifests(f.Other, id); err != nil {
		return nil, err
	}
	if _, err := Prevailing(p.One, p.Other); !errors.Is(err, ErrManifestFork) {
		return nil, errors.Join(refuse("two chains of which one stands"), err)
	}
	p.At, err = parting(p.One, p.Other)
	return p, err
}

// SettledBy reports whether a chain takes precedence over both: the next root, or custodians,
// have decided.
func (p *ProvedRoots) SettledBy(o *Organization) bool {
	for _, x := range []*Organization{p.One, p.Other} {
		if stands, err := Prevailing(x, o); err != nil || stands != o {
			return false
		}
	}
	return true
}
