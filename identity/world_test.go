package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/mod/sumdb/note"
)

// now is when everything in these tests happens.
var now = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// seeded is a key that is the same in every run.
func seeded(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("entente test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func deviceID(name string) wire.DeviceID { return wire.DeviceID(public(seeded(name))) }

// house is an organization whose keys a test holds: the test can be its operator,
// and a malicious one.
type house struct {
	*Organization
	root RootKeys
	keys NodeKeys
	cert string
}

func newHouse(t testing.TB, name string) *house {
	t.Helper()
	h := &house{root: RootKeys{seeded(name + "/root"), seeded(name + "/next")}}
	h.keys = NodeKeys{Directory: seeded(name + "/directory"), Cosigner: seeded(name + "/cosigner"), VRF: seeded(name + "/vrf"),
		Hub: seeded(name + "/hub"), Node: seeded(name + "/node"), Peer: seeded(name + "/peer")}
	m := Manifest{Name: name, Issued: now, Nonce: sha256.Sum256([]byte(name)), Root: public(h.root.Root), NextRoot: NextRootHash(public(h.root.Next)),
		Directory: public(h.keys.Directory), Cosigner: public(h.keys.Cosigner), VRF: public(h.keys.VRF), Hub: public(h.keys.Hub), Node: public(h.keys.Node),
		Nodes:     []NodeEntry{{deviceID(name + "/peer"), "active", 1}},
		Addresses: []string{"/ip4/192.0.2.1/tcp/4001"}, API: []string{"https://node." + name + ":4000"},
		Capabilities: []Capability{{"entente", 1, 1}}}
	text, err := m.Sign(h.root.Root)
	must(t, err)
	h.Organization, err = VerifyManifests([]string{text}, wire.OrganizationID{})
	must(t, err)
	h.cert, err = SignNodeCertificate(h.Organization, m.Nodes[0], h.keys.Node, now)
	must(t, err)
	return h
}

// person is a member with the key and devices' certificates in the test's hands.
type person struct {
	house   *house
	key     ed25519.PrivateKey
	genesis string
	id      wire.MemberID
	devices []*DeviceCertificate
}

func (h *house) member(t testing.TB, name string, devices ...string) *person {
	t.Helper()
	p := &person{house: h, key: seeded(name)}
	text := genesisText(h.ID, name, public(p.key))
	p.id = wire.TextHash(text)
	p.genesis = sign(t, text, noteKey(MemberKeyName(p.id), p.key))
	for _, d := range devices {
		c, err := SignDeviceCertificate(h.ID, p.id, deviceID(d), p.key, now)
		must(t, err)
		p.devices = append(p.devices, c)
	}
	return p
}

func genesisText(org wire.OrganizationID, name string, key ed25519.PublicKey) string {
	return genesisType + "\norganization " + org.String() + "\nname " + name + "\nkey " + wire.FormatKey(key) +
		"\ncreated 2026-11-23T00:00:00Z\nnonce " + wire.FormatHash(sha256.Sum256([]byte(name))) + "\n"
}

// record is the first record that the honest directory makes of the member.
func (p *person) record(name string) MemberRecord {
	r := MemberRecord{Organization: p.house.ID, Member: p.id, Name: name, Version: 1, Key: public(p.key), Issued: now}
	for _, c := range p.devices {
		r.Devices = append(r.Devices, DeviceEntry{c.Device, c.Hash})
	}
	return r
}

// chain is what the directory answers when it answers with this record.
func (p *person) chain(t testing.TB, r MemberRecord) *pb.MemberChain {
	t.Helper()
	signed, err := r.Sign(p.house.Manifest.Name, p.house.keys.Directory)
	must(t, err)
	c := &pb.MemberChain{Manifests: p.house.Notes, Genesis: p.genesis, Record: signed}
	for _, d := range p.devices {
		c.Devices = append(c.Devices, d.Note)
	}
	return c
}

// sign signs any text at all, also what the honest code would never sign.
func sign(t testing.TB, text string, keys ...wire.NoteKey) string {
	t.Helper()
	signers := make([]note.Signer, len(keys))
	for i, k := range keys {
		signers[i] = k
	}
	b, err := note.Sign(&note.Note{Text: text}, signers...)
	must(t, err)
	return string(b)
}

func textOf(t testing.TB, signed string) string {
	t.Helper()
	text, err := wire.NoteText(signed)
	must(t, err)
	return text
}

// replaced changes one part of a text, and fails when it is not there.
func replaced(t testing.TB, text, old, with string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q stands %d times in %s", old, strings.Count(text, old), text)
	}
	return strings.Replace(text, old, with, 1)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails unless err refuses for this reason.
func refused(t testing.TB, err error, because string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("accepted; want a refusal because of %q", because)
	case !strings.Contains(err.Error(), because):
		t.Errorf("refused because of %q; want %q", err, because)
	}
}

func flipped(b []byte, i int) []byte {
	out := bytes.Clone(b)
	out[i] ^= 1
	return out
}
