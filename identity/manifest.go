package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
)

const (
	manifestType   = "entente.im/manifest/v1"
	nextRootDomain = "entente.im/next-root/v1\n"

	maxPeers        = 8
	maxAddresses    = 16
	maxAPIs         = 8
	maxCapabilities = 32
	maxCustodians   = 16
	maxAddressLen   = 256
	maxManifests    = 1_000

	// maxChain bounds all notes of a chain of manifests, and maxMember those of one member
	// beside them, in bytes. Notes may carry lines of anybody; whoever verifies a chain keeps
	// it, and proofs hold two.
	maxChain  = 1 << 20
	maxMember = 512 << 10
)

// sizeOf is the length of notes in bytes.
func sizeOf(notes ...string) (n int) {
	for _, s := range notes {
		n += len(s)
	}
	return n
}

// ErrNotStanding is wrapped by every refusal of a Verify function.
var ErrNotStanding = errors.New("identity: does not stand")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotStanding, fmt.Sprintf(format, args...))
}

// Plain is what an error of this package says to people: without the words that programs
// know it by.
func Plain(err error) string {
	return strings.ReplaceAll(err.Error(), ErrNotStanding.Error()+": ", "")
}

// NodeEntry is a node of an organization, by its peer.
type NodeEntry struct {
	Peer        wire.DeviceID
	Role        string // active or standby
	Incarnation uint64 // raised when the node has lost records
}

// Capability is something that an organization's nodes understand.
type Capability struct {
	Name     string
	Min, Max uint32
}

// Manifest is an organization's statement about itself (package comment).
type Manifest struct {
	Name                                string
	Sequence                            uint64
	Previous                            [32]byte
	Issued                              time.Time
	Nonce                               [32]byte
	Root                                ed25519.PublicKey
	NextRoot                            [32]byte
	Directory, Cosigner, VRF, Hub, Node ed25519.PublicKey
	Nodes                               []NodeEntry
	Addresses                           []string
	API                                 []string
	Capabilities                        []Capability

	// Custodians may together bring in a new root when both roots are lost
	// (recovery.go). Witnesses say how long such a recovery has been public.
	Threshold  uint64 // how many of the custodians; 0 when there are none
	Custodians []ed25519.PublicKey
	Witnesses  []Cosigner

	Incidents []Incident // each has begun a log (incident.go), the oldest first

	first string // the genesis manifest's name, in any other: of its keys in signatures
}

// Organization is a verified chain of manifests.
type Organization struct {
	ID       wire.OrganizationID
	Manifest Manifest // the current one
	Notes    []string // from genesis to the current one
	Causes   []Cause  // of each, by what it stands

	chain []Manifest // of each
	tip   [32]byte   // hash of the last one's text
}

// RootKey is the key that signs the next manifest.
func (o *Organization) RootKey() wire.NoteKey {
	return wire.NoteKey{Owner: o.KeyName() + "/root", Public: o.Manifest.Root}
}

// NodeKey checks the organization's agreements, notices and node certificates.
func (o *Organization) NodeKey() wire.NoteKey {
	return wire.NoteKey{Owner: o.KeyName() + "/node", Public: o.Manifest.Node}
}

// DirectoryKey checks the organization's member records.
func (o *Organization) DirectoryKey() wire.NoteKey {
	return wire.NoteKey{Owner: o.KeyName() + "/directory", Public: o.Manifest.Directory}
}

// directoryKeys are the organization's directory key and those before it, each once, the
// newest first.
func (o *Organization) directoryKeys() []wire.NoteKey {
	out := []wire.NoteKey{o.DirectoryKey()}
	for _, m := range slices.Backward(o.chain) {
		had := slices.ContainsFunc(out, func(k wire.NoteKey) bool { return k.Public.Equal(m.Directory) })
		if !had {
			out = append(out, wire.NoteKey{Owner: o.KeyName() + "/directory", Public: m.Directory})
		}
	}
	return out
}

// hadRoot reports whether a fingerprint is of the present root or of one before it.
func (o *Organization) hadRoot(fingerprint [32]byte) bool {
	for _, note := range o.Notes {
		text, err := wire.NoteText(note)
		if err != nil {
			return false
		}
		if m, err := parseManifest(text); err == nil && RootFingerprint(m.Root) == fingerprint {
			return true
		}
	}
	return false
}

// Tip is the hash of the current manifest's text.
func (o *Organization) Tip() []byte { return bytes.Clone(o.tip[:]) }

// Incarnation returns a node's incarnation, 0 for a peer that is none.
func (o *Organization) Incarnation(peer wire.DeviceID) uint64 {
	for _, n := range o.Manifest.Nodes {
		if n.Peer == peer {
			return n.Incarnation
		}
	}
	return 0
}

// NextRootHash is what a manifest commits to for the root after it.
func NextRootHash(k ed25519.PublicKey) [32]byte {
	return sha256.Sum256(append([]byte(nextRootDomain), k...))
}

// Sign signs the manifest with a root key.
func (m Manifest) Sign(root ed25519.PrivateKey) (string, error) {
	return wire.SignNote(m.record(), noteKey(m.keyName()+"/root", root))
}

func (m Manifest) record() wire.Record {
	r := wire.Record{Type: manifestType}
	r.Add("name", "%s", m.Name)
	r.Add("sequence", "%d", m.Sequence)
	r.Add("previous", "%s", wire.FormatHash(m.Previous))
	r.Add("issued", "%s", wire.FormatTime(m.Issued))
	r.Add("nonce", "%s", wire.FormatHash(m.Nonce))
	r.Add("root", "%s", wire.FormatKey(m.Root))
	r.Add("next-root", "%s", wire.FormatHash(m.NextRoot))
	r.Add("directory", "%s", wire.FormatKey(m.Directory))
	r.Add("cosigner", "%s", wire.FormatKey(m.Cosigner))
	r.Add("vrf", "%s", wire.FormatKey(m.VRF))
	r.Add("hub", "%s", wire.FormatKey(m.Hub))
	r.Add("node", "%s", wire.FormatKey(m.Node))
	for _, n := range m.Nodes {
		r.Add("peer", "%s %s %d", n.Peer, n.Role, n.Incarnation)
	}
	for _, a := range m.Addresses {
		r.Add("address", "%s", a)
	}
	for _, a := range m.API {
		r.Add("api", "%s", a)
	}
	for _, c := range m.Capabilities {
		r.Add("capability", "%s %d %d", c.Name, c.Min, c.Max)
	}
	r.Add("threshold", "%d", m.Threshold)
	for _, k := range m.Custodians {
		r.Add("custodian", "%s", wire.FormatKey(k))
	}
	for _, w := range m.Witnesses {
		r.Add("witness", "%s %s", w.Owner, wire.FormatKey(w.Public))
	}
	for _, i := range m.Incidents {
		r.Add("incident", "%s %s", wire.FormatTime(i.At), i.Reason)
	}
	return r
}

// parseManifest reads a manifest's text; nothing is signed yet.
func parseManifest(text string) (m Manifest, err error) {
	f := wire.Read(text, manifestType)
	m.Name = f.One("name")
	if err := wire.CheckOrganizationName(m.Name); err != nil {
		f.Fail("name: %v", err)
	}
	m.Sequence = f.Uint("sequence")
	m.Previous = f.Hash("previous")
	m.Issued = f.Time("issued")
	m.Nonce = f.Hash("nonce")
	m.Root = f.Key("root")
	m.NextRoot = f.Hash("next-root")
	m.Directory, m.Cosigner, m.VRF = f.Key("directory"), f.Key("cosigner"), f.Key("vrf")
	m.Hub, m.Node = f.Key("hub"), f.Key("node")
	for _, v := range f.All("peer", maxPeers) {
		m.Nodes = append(m.Nodes, parseNodeEntry(f, v))
	}
	m.Addresses = f.All("address", maxAddresses)
	m.API = f.All("api", maxAPIs)
	for _, v := range f.All("capability", maxCapabilities) {
		m.Capabilities = append(m.Capabilities, parseCapability(f, v))
	}
	m.Threshold = f.Uint("threshold")
	for _, v := range f.All("custodian", maxCustodians) {
		k, err := wire.ParseKey(v)
		if err != nil {
			f.Fail("custodian %.80q", v)
		}
		m.Custodians = append(m.Custodians, k)
	}
	for _, v := range f.All("witness", maxWitnesses) {
		owner, key, _ := strings.Cut(v, " ")
		k, err := wire.ParseKey(key)
		if err != nil || owner == "" || strings.Contains(owner, "+") {
			f.Fail("witness %.80q", v)
		}
		m.Witnesses = append(m.Witnesses, Cosigner{owner, k})
	}
	for _, v := range f.All("incident", MaxIncidents) {
		m.Incidents = append(m.Incidents, parseIncident(f, v))
	}
	if err := f.Done(); err != nil {
		return m, err
	}
	return m, m.check()
}

// check holds what the form alone does not: a peer stands once, a key has one use
// (docs/protocol.md 1.4), a threshold can be met.
func (m Manifest) check() error {
	peers := make(map[wire.DeviceID]bool)
	for _, n := range m.Nodes {
		if peers[n.Peer] {
			return errors.New("a peer twice")
		}
		peers[n.Peer] = true
	}
	keys := make(map[string]bool)
	all := append([]ed25519.PublicKey{m.Root, m.Directory, m.Cosigner, m.VRF, m.Hub, m.Node}, m.Custodians...)
	for _, w := range m.Witnesses {
		all = append(all, w.Public)
	}
	for _, k := range all {
		if keys[string(k)] || peers[wire.DeviceID(k)] {
			return errors.New("a key with two uses")
		}
		keys[string(k)] = true
	}
	for _, s := range slices.Concat(m.Addresses, m.API) {
		if len(s) > maxAddressLen {
			return fmt.Errorf("an address of %d bytes", len(s))
		}
	}
	switch {
	case len(m.Nodes) == 0:
		return errors.New("no peer")
	case m.Threshold > uint64(len(m.Custodians)) || m.Threshold == 0 && len(m.Custodians) > 0:
		return fmt.Errorf("%d of %d custodians", m.Threshold, len(m.Custodians))
	case len(m.Witnesses) > 0 && m.Threshold == 0:
		return errors.New("witnesses of a recovery without custodians")
	case NextRootHash(m.Root) == m.NextRoot:
		return errors.New("a root that is committed to as its own successor")
	case !m.checkIncidents():
		return errors.New("incidents that are not in the order of their times")
	}
	return nil
}

func parseNodeEntry(f *wire.Fields, v string) (n NodeEntry) {
	words := strings.Split(v, " ")
	if len(words) != 3 || words[1] != "active" && words[1] != "standby" {
		f.Fail("peer %.80q", v)
		return n
	}
	peer, err := wire.ParseDeviceID(words[0])
	incarnation, err2 := strconv.ParseUint(words[2], 10, 64)
	if err != nil || err2 != nil || strconv.FormatUint(incarnation, 10) != words[2] {
		f.Fail("peer %.80q", v)
	}
	return NodeEntry{peer, words[1], incarnation}
}

func parseCapability(f *wire.Fields, v string) (c Capability) {
	words := strings.Split(v, " ")
	if len(words) != 3 {
		f.Fail("capability %.80q", v)
		return c
	}
	lo, err := strconv.ParseUint(words[1], 10, 32)
	hi, err2 := strconv.ParseUint(words[2], 10, 32)
	c = Capability{words[0], uint32(lo), uint32(hi)}
	if err != nil || err2 != nil || hi < lo || fmt.Sprintf("%s %d %d", c.Name, c.Min, c.Max) != v {
		f.Fail("capability %.80q", v)
	}
	return c
}

// VerifyManifests verifies a chain from genesis to the current manifest. The hash
// of the first one's text is the organization's ID and has to be want, unless want
// is zero (first contact, where somebody else has pinned it).
func VerifyManifests(notes []string, want wire.OrganizationID) (*Organization, error) {
	if len(notes) == 0 || len(notes) > maxManifests {
		return nil, refuse("a chain of %d manifests", len(notes))
	}
	if n := sizeOf(notes...); n > maxChain {
		return nil, refuse("a chain of manifests of %d bytes: at most %d are taken", n, maxChain)
	}
	o := &Organization{Notes: notes}
	var before [32]byte
	for i, note := range notes {
		text, m, cause, err := openManifest(note, i, before, &o.Manifest)
		if err != nil {
			return nil, err
		}
		before = wire.TextHash(text)
		o.tip = before
		if i == 0 {
			o.ID = before
		}
		o.Manifest, o.Causes, o.chain = m, append(o.Causes, cause), append(o.chain, m)
	}
	if len(o.Names()) > MaxNames {
		return nil, refuse("an organization that has had more than %d names", MaxNames)
	}
	if !want.IsZero() && o.ID != want {
		return nil, refuse("a genesis manifest of another organization")
	}
	return o, nil
}

// readManifest reads manifest i of a chain; nothing is verified yet.
func readManifest(note string, i int) (string, Manifest, error) {
	text, err := wire.NoteText(note)
	if err != nil {
		return "", Manifest{}, refuse("manifest %d: %v", i, err)
	}
	m, err := parseManifest(text)
	if err != nil {
		return "", Manifest{}, refuse("manifest %d: %v", i, err)
	}
	return text, m, nil
}

// openManifest checks one manifest against its predecessor, and says by what it stands.
func openManifest(note string, i int, before [32]byte, predecessor *Manifest) (string, Manifest, Cause, error) {
	text, m, err := readManifest(note, i)
	if err != nil {
		return "", Manifest{}, "", err
	}
	if m.Sequence != uint64(i) || m.Previous != before {
		return "", Manifest{}, "", refuse("manifest %d does not follow the one before it", i)
	}
	if i > 0 {
		m.first = predecessor.keyName()
	}
	if i == 0 && len(m.Incidents) > 0 || i > 0 && !m.keepsIncidents(predecessor) {
		return "", Manifest{}, "", refuse("manifest %d tells of other incidents than the one before it", i)
	}
	// The root signs for itself, whatever brought it in.
	cause := ByRoot
	switch {
	case i == 0:
		cause = ByGenesis
	case m.Root.Equal(predecessor.Root):
	case NextRootHash(m.Root) == predecessor.NextRoot:
		cause = ByNextRoot
	default:
		cause = ByCustodians
		if m.Name != predecessor.Name {
			return "", Manifest{}, "", refuse("manifest %d is a recovery that renames the organization", i)
		}
		r, err := tally(note, text, m, predecessor)
		if err == nil {
			err = r.stands()
		}
		if err != nil {
			return "", Manifest{}, "", refuse("manifest %d has %v", i, err)
		}
	}
	if err := signed(note, text, wire.NoteKey{Owner: m.keyName() + "/root", Public: m.Root}); err != nil {
		return "", Manifest{}, "", refuse("manifest %d: %v", i, err)
	}
	return text, m, cause, nil
}

// Creation is what a new organization is made of.
type Creation struct {
	Name      string
	Root      *RootKeys
	Keys      *NodeKeys
	Addresses []string // multiaddrs where partners connect
	API       []string // https URLs where devices connect
	Now       time.Time
}

// signed checks that exactly this text carries a valid signature of the key: a text
// is read to learn whose key it is before it can be checked, and what was read has
// to be what was signed.
func signed(note, text string, key wire.NoteKey) error {
	got, err := wire.OpenNote(note, key)
	if err == nil && got != text {
		err = errors.New("another text than the one that was signed")
	}
	return err
}

// CreateOrganization signs the genesis manifest and the first node certificate.
func CreateOrganization(c Creation) (*Organization, string, error) {
	m := Manifest{
		Name: c.Name, Issued: c.Now, Root: public(c.Root.Root), NextRoot: NextRootHash(public(c.Root.Next)),
		Directory: public(c.Keys.Directory), Cosigner: public(c.Keys.Cosigner), VRF: public(c.Keys.VRF),
		Hub: public(c.Keys.Hub), Node: public(c.Keys.Node),
		Nodes:     []NodeEntry{{Peer: wire.DeviceID(public(c.Keys.Peer)), Role: "active", Incarnation: 1}},
		Addresses: c.Addresses, API: c.API,
		Capabilities: []Capability{{"entente", wire.ProtocolVersion, wire.ProtocolVersion}},
	}
	if _, err := rand.Read(m.Nonce[:]); err != nil {
		return nil, "", fmt.Errorf("identity: randomness: %w", err)
	}
	note, err := m.Sign(c.Root.Root)
	if err != nil {
		return nil, "", err
	}
	o, err := VerifyManifests([]string{note}, wire.OrganizationID{})
	if err != nil {
		return nil, "", err
	}
	certificate, err := SignNodeCertificate(o, m.Nodes[0], c.Keys.Node, c.Now)
	return o, certificate, err
}

// Successor returns a copy of the current manifest, ready to be changed and signed
// as the next one.
func (o *Organization) Successor(now time.Time) (Manifest, error) {
	text, err := wire.NoteText(o.Notes[len(o.Notes)-1])
	if err != nil {
		return Manifest{}, err
	}
	m := o.Manifest
	m.Nodes, m.Addresses, m.API = slices.Clone(m.Nodes), slices.Clone(m.Addresses), slices.Clone(m.API)
	m.Capabilities, m.Custodians, m.Witnesses = slices.Clone(m.Capabilities), slices.Clone(m.Custodians), slices.Clone(m.Witnesses)
	m.Incidents, m.first = slices.Clone(m.Incidents), o.KeyName()
	m.Sequence, m.Previous, m.Issued = m.Sequence+1, wire.TextHash(text), now
	_, err = rand.Read(m.Nonce[:])
	return m, err
}

// Remanifest signs the next manifest with new addresses, and verifies the longer
// chain as everybody else will. Root may be the present root or the one committed to;
// in the second case next has to be a new key to commit to, else it is nil.
func (o *Organization) Remanifest(root ed25519.PrivateKey, next ed25519.PublicKey, addresses, api []string, now time.Time) (*Organization, error) {
	m, err := o.Successor(now)
	if err != nil {
		return nil, err
	}
	m.Addresses, m.API = addresses, api
	switch rotated := !m.Root.Equal(public(root)); {
	case rotated && next == nil:
		return nil, errors.New("identity: a new root needs a key after it to commit to")
	case next != nil:
		m.Root, m.NextRoot = public(root), NextRootHash(next)
	}
	note, err := m.Sign(root)
	if err != nil {
		return nil, err
	}
	return VerifyManifests(append(slices.Clone(o.Notes), note), o.ID)
}
