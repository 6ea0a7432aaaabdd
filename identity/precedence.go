package identity

import (
	"crypto/ed25519"
	"errors"
	"slices"

	"github.com/entente-im/entente/wire"
)

// Cause is by what a manifest stands in its chain.
type Cause string

// The causes, in rising precedence from ByRoot on (docs/protocol.md 2.15).
const (
	ByGenesis    Cause = "genesis"    // the organization's ID is its hash
	ByRoot       Cause = "root"       // the root of the manifest before it
	ByCustodians Cause = "custodians" // a recovery that stands
	ByNextRoot   Cause = "next-root"  // the root that the manifest before it committed to
)

func (c Cause) rank() int {
	return slices.Index([]Cause{ByGenesis, ByRoot, ByCustodians, ByNextRoot}, c)
}

// ErrManifestFork is wrapped when two chains of one organization part and neither takes
// precedence: a root, or what outranks it, has signed two successors of one manifest.
var ErrManifestFork = errors.New("identity: two successors of one manifest")

// Prevailing returns which of two verified chains of one organization stands: the longer where
// one continues the other; where they part, the one with the higher authority of those that
// the last common manifest granted, however long the other is. A thief of the root cannot
// outrun the holder of the committed root, nor a recovery: what he appends, commits to or
// appoints afterwards is no authority of the common manifest.
func Prevailing(known, offered *Organization) (*Organization, error) {
	if known.ID != offered.ID {
		return nil, refuse("a chain of manifests of another organization")
	}
	i, err := parting(known, offered)
	switch {
	case err != nil:
		return nil, err
	case i == len(offered.Notes):
		return known, nil
	case i == len(known.Notes):
		return offered, nil
	}
	a, b := known.authority(i).rank(), offered.authority(i).rank()
	switch {
	case a > b:
		return known, nil
	case b > a:
		return offered, nil
	}
	return nil, ErrManifestFork
}

// parting is the index of the first manifest that two chains do not share, by their texts.
func parting(a, b *Organization) (int, error) {
	n := min(len(a.Notes), len(b.Notes))
	for i := range n {
		x, err := wire.NoteText(a.Notes[i])
		if err != nil {
			return 0, err
		}
		y, err := wire.NoteText(b.Notes[i])
		if err != nil {
			return 0, err
		}
		if x != y {
			return i, nil
		}
	}
	return n, nil
}

// authority is the highest one, of those that manifest i-1 grants, that stands behind the
// manifests from i on. The root that i-1 committed to counts wherever it was brought in, so
// that whoever steals it later cannot bring it in once more, earlier, against the chain where
// it has been in office and has committed to the next.
func (o *Organization) authority(i int) Cause {
	granted, best := &o.chain[i-1], ByRoot
	for j := i; j < len(o.chain); j++ {
		switch {
		case NextRootHash(o.chain[j].Root) == granted.NextRoot:
			return ByNextRoot
		case o.Causes[j] == ByCustodians && o.chain[j-1].sameCustodians(granted):
			best = ByCustodians
		}
	}
	return best
}

// sameCustodians reports whether two manifests leave a recovery to the same people.
func (m *Manifest) sameCustodians(as *Manifest) bool {
	return m.Threshold == as.Threshold &&
		slices.EqualFunc(m.Custodians, as.Custodians, func(a, b ed25519.PublicKey) bool { return a.Equal(b) }) &&
		slices.EqualFunc(m.Witnesses, as.Witnesses, func(a, b Cosigner) bool { return a.Owner == b.Owner && a.Public.Equal(b.Public) })
}

// RootCause is by what the present root came into office.
func (o *Organization) RootCause() Cause {
	for i := len(o.chain) - 1; i > 0; i-- {
		if o.Causes[i] != ByRoot {
			return o.Causes[i]
		}
	}
	return ByGenesis
}

// Manifests returns all of the chain, from genesis to the current one; Causes has one for each.
func (o *Organization) Manifests() []Manifest { return slices.Clone(o.chain) }
