package identity

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

func TestNewOrganizationStandsWithItsNode(t *testing.T) {
	root, keys, err := NewKeys()
	must(t, err)
	o, cert, err := CreateOrganization(Creation{Name: "acme.example", Root: root, Keys: keys, Addresses: []string{"/ip4/127.0.0.1/tcp/1"}, API: []string{"https://localhost:1"}, Now: now})
	must(t, err)
	again, err := VerifyManifests(o.Notes, o.ID)
	must(t, err)
	if again.ID != wire.OrganizationID(wire.TextHash(textOf(t, o.Notes[0]))) || again.Manifest.Name != "acme.example" {
		t.Errorf("verified as %s, %s", again.ID, again.Manifest.Name)
	}
	c, err := VerifyNodeCertificate(cert, o, wire.DeviceID(public(keys.Peer)), now)
	must(t, err)
	if c.Incarnation != 1 || o.Incarnation(c.Peer) != 1 || o.Incarnation(wire.DeviceID{}) != 0 {
		t.Errorf("incarnation %d, %d", c.Incarnation, o.Incarnation(c.Peer))
	}
	_, err = VerifyNodeCertificate(cert, o, c.Peer, now.Add(wire.NodeCertLifetime))
	refused(t, err, "valid from")
}

func TestOrganizationsOfOneNameAreNotOne(t *testing.T) {
	for _, name := range []string{"acme", "Acme.example", "acme.example ", "acme.example\nroot x", ""} {
		root, keys, err := NewKeys()
		must(t, err)
		if _, _, err := CreateOrganization(Creation{Name: name, Root: root, Keys: keys, Now: now}); err == nil {
			t.Errorf("an organization %q is created", name)
		}
	}
	root, keys, err := NewKeys()
	must(t, err)
	real := newHouse(t, "acme.example")
	twin, _, err := CreateOrganization(Creation{Name: "acme.example", Root: root, Keys: keys, Now: now})
	must(t, err)
	_, err = VerifyManifests(twin.Notes, real.ID)
	refused(t, err, "another organization")
	_, err = VerifyManifests(append(append([]string{}, real.Notes...), twin.Notes...), real.ID)
	refused(t, err, "does not follow")
}

func TestRemanifestKeepsTheIDAndNeedsTheRoot(t *testing.T) {
	acme := newHouse(t, "acme.example")
	later := now.Add(time.Hour)
	moved, err := acme.Remanifest(acme.root.Root, nil, []string{"/ip4/192.0.2.9/tcp/1"}, []string{"https://new.acme.example:1"}, later)
	must(t, err)
	if moved.ID != acme.ID || moved.Manifest.Sequence != 1 || moved.Manifest.Addresses[0] != "/ip4/192.0.2.9/tcp/1" || len(acme.Notes) != 1 {
		t.Errorf("moved to %+v, the old chain has %d notes", moved.Manifest, len(acme.Notes))
	}
	if acme.Manifest.Addresses[0] != "/ip4/192.0.2.1/tcp/4001" {
		t.Error("the new manifest wrote into the old one")
	}
	_, err = moved.Remanifest(acme.keys.Node, nil, nil, nil, later)
	refused(t, err, "new root")
	_, err = moved.Remanifest(seeded("thief"), public(seeded("thief's next")), nil, nil, later)
	refused(t, err, "did not commit")
	rotated, err := moved.Remanifest(acme.root.Next, public(seeded("third")), nil, nil, later)
	must(t, err)
	_, err = rotated.Remanifest(acme.root.Root, public(seeded("back")), nil, nil, later)
	refused(t, err, "did not commit")
	// The rotation also pre-commits anew without changing the root.
	_, err = rotated.Remanifest(acme.root.Next, public(seeded("fourth")), nil, nil, later)
	must(t, err)
}

func TestCertificateOfTheNodeBeforeARaisedIncarnationIsRefused(t *testing.T) {
	acme := newHouse(t, "acme.example")
	s, err := acme.Successor(now)
	must(t, err)
	s.Nodes[0].Incarnation = 2
	signed, err := s.Sign(acme.root.Root)
	must(t, err)
	o, err := VerifyManifests(append(acme.Notes, signed), acme.ID)
	must(t, err)
	_, err = VerifyNodeCertificate(acme.cert, o, o.Manifest.Nodes[0].Peer, now)
	refused(t, err, "does not list")
	cert, err := SignNodeCertificate(o, o.Manifest.Nodes[0], acme.keys.Node, now)
	must(t, err)
	_, err = VerifyNodeCertificate(cert, o, o.Manifest.Nodes[0].Peer, now)
	must(t, err)
}

func TestChainsOfTooManyManifestsAreRefusedUnread(t *testing.T) {
	acme := newHouse(t, "acme.example")
	notes := make([]string, maxManifests+1)
	for i := range notes {
		notes[i] = acme.Notes[0]
	}
	_, err := VerifyManifests(notes, acme.ID)
	refused(t, err, "1001 manifests")
}

// Notes may carry lines of anybody. They do not make a chain as long as somebody likes, which
// whoever verifies it would keep.
func TestNotesFilledUpWithLinesOfNobodyAreRefused(t *testing.T) {
	acme := newHouse(t, "acme.example")
	alice := acme.member(t, "alice", "phone")
	padded := func(note string) string {
		return note + "\u2014 nobody " + strings.Repeat("AAAA", (wire.MaxNote-len(note)-32)/4) + "AAAAAAA=\n"
	}
	o := acme.Organization
	for i := range maxChain / wire.MaxNote {
		m, err := o.Successor(now)
		must(t, err)
		note, err := m.Sign(acme.root.Root)
		must(t, err)
		next, err := VerifyManifests(append(slices.Clone(o.Notes), padded(note)), acme.ID)
		if i == maxChain/wire.MaxNote-1 { // with the genesis manifest it is too much
			refused(t, err, "at most 1048576 are taken")
			break
		}
		must(t, err)
		o = next
	}
	chain := alice.chain(t, alice.record("alice"))
	whole, err := VerifyChain(chain, acme.ID, now)
	must(t, err)
	chain.Genesis, chain.Devices[0] = padded(chain.Genesis), padded(chain.Devices[0])
	_, err = VerifyChain(chain, acme.ID, now)
	refused(t, err, "at most 524288 are taken")
	kept := whole.Lasting()
	must(t, kept.Supersedes(whole))
	must(t, whole.Supersedes(kept))
	for id, c := range kept.Devices {
		if c.Note != "" || whole.Devices[id].Note == "" || c.Hash != whole.Devices[id].Hash {
			t.Errorf("a certificate is kept as %+v", c)
		}
	}
	if len(kept.Organization.Notes) > 0 || kept.Address() != whole.Address() {
		t.Errorf("the organization is kept as %+v", kept.Organization)
	}
}

func TestAgreementOutlivesANewRoot(t *testing.T) {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	text, err := NewAgreement(acme.Organization, globex.Organization, DefaultTerms(now, now.Add(time.Hour))).Text()
	must(t, err)
	signed := sign(t, text, noteKey("acme.example/node", acme.keys.Node), noteKey("globex.example/node", globex.keys.Node))
	rotated, err := globex.Remanifest(globex.root.Next, public(seeded("third")), nil, nil, now)
	must(t, err)
	a, err := VerifyAgreement(signed, acme.Organization, rotated)
	must(t, err)
	if a.Partner(acme.ID).ID != globex.ID || a.Partner(globex.ID).ID != acme.ID || a.Terms.Contact != ContactOpen {
		t.Errorf("agreement %+v", a)
	}
	if again, err := a.Text(); err != nil || again != text || a.Hash != wire.TextHash(text) {
		t.Errorf("re-encodes to %q, %v", again, err)
	}
	// Order of the two does not matter, and a third is refused.
	_, err = VerifyAgreement(signed, globex.Organization, acme.Organization)
	must(t, err)
	_, err = VerifyAgreement(signed, acme.Organization, newHouse(t, "initech.example").Organization)
	refused(t, err, "signature")
}
