package identity

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// makeVectors signs everything that testdata/notes.json holds.
func makeVectors(t testing.TB) *vectorFile {
	acme, globex := newHouse(t, "acme.example"), newHouse(t, "globex.example")
	alice := acme.member(t, "alice", "alice laptop", "alice phone")
	f := &vectorFile{Comment: "each note stands (accept) or is refused, against the organizations and the member given here, at the time given here",
		Now: now, Organization: acme.Notes, Partner: globex.Notes, Genesis: alice.genesis}
	m := maker{t, f}
	m.manifests(acme, globex)
	m.nodes(acme, globex)
	m.members(alice)
	m.devices(alice)
	m.revocations(alice)
	m.agreements(acme, globex)
	m.complaints(alice)
	m.partnerRevocations(acme, globex)
	return f
}

func (m maker) manifests(acme, globex *house) {
	root := acme.RootKey()
	root.Private = acme.root.Root
	good := acme.Notes[0]
	m.form(manifestType, good, root)
	m.refuse("of another organization", "another organization", manifestType, globex.Notes[0])
	m.refuse("no manifest", "0 manifests", manifestType)
	peer, key := acme.Manifest.Nodes[0].Peer.String(), wire.FormatKey(acme.Manifest.Hub)
	m.edits(manifestType, good, []wire.NoteKey{root}, [][4]string{
		{"name without a dot", "name", "name acme.example", "name acme"},
		{"sequence with a leading zero", "not a number", "sequence 0", "sequence 00"},
		{"genesis with a sequence number", "does not follow", "sequence 0", "sequence 1"},
		{"time with a zone", "not a time", "issued 2026-11-23T00:00:00Z", "issued 2026-11-23T00:00:00+00:00"},
		{"key without its kind", "hub", "hub ed25519 ", "hub "},
		{"one key for two uses", "two uses", wire.FormatKey(acme.Manifest.Node), key},
		{"a peer's key for another use", "two uses", key, wire.FormatKey(acme.Manifest.Nodes[0].Peer.PublicKey())},
		{"peer of no role", "peer", peer + " active 1", peer + " leader 1"},
		{"peer twice", "peer twice", "peer " + peer + " active 1\n", "peer " + peer + " active 1\npeer " + peer + " standby 1\n"},
		{"no peer", "no peer", "peer " + peer + " active 1\n", ""},
		{"capability of no version", "capability", "capability entente 1 1", "capability entente 2 1"},
		{"address of 300 bytes", "bytes", "address /ip4/192.0.2.1/tcp/4001", "address /" + strings.Repeat("a", 299)},
		{"17 addresses", "address", "address /ip4/192.0.2.1/tcp/4001\n", strings.Repeat("address /a\n", 17)},
		{"custodians of whom none decides", "custodians", "threshold 0\n", "threshold 0\ncustodian " + wire.FormatKey(public(seeded("custodian"))) + "\n"},
		{"a threshold without custodians", "custodians", "threshold 0\n", "threshold 1\n"},
	})
	next := func(change func(*Manifest), by ed25519.PrivateKey) string {
		s, err := acme.Successor(now.Add(time.Hour))
		must(m.t, err)
		s.Nonce = [32]byte{1}
		change(&s)
		text, err := s.record().Text()
		must(m.t, err)
		return sign(m.t, text, noteKey("acme.example/root", by))
	}
	second := next(func(*Manifest) {}, acme.root.Root)
	rotate := func(s *Manifest) { s.Root, s.NextRoot = public(acme.root.Next), NextRootHash(public(seeded("third"))) }
	m.accept("successor", manifestType, good, second)
	m.accept("successor with the root that was committed to", manifestType, good, next(rotate, acme.root.Next))
	m.accept("with custodians", manifestType, good, next(func(s *Manifest) { s.Threshold, s.Custodians = 1, []ed25519.PublicKey{public(seeded("custodian"))} }, acme.root.Root))
	m.refuse("successor with a root that was not committed to", "did not commit", manifestType, good,
		next(func(s *Manifest) { s.Root = public(seeded("thief")) }, seeded("thief")))
	m.refuse("new root signed by the old one", "signature", manifestType, good, next(rotate, acme.root.Root))
	m.refuse("successor signed by a working key", "signature", manifestType, good, next(func(*Manifest) {}, acme.keys.Node))
	renamed := func(s *Manifest) { s.Name = "acme.test" }
	m.accept("successor of another name", manifestType, good, next(renamed, acme.root.Root))
	renamedText, err := acme.Successor(now.Add(time.Hour))
	must(m.t, err)
	renamed(&renamedText)
	ofTheNewName, err := renamedText.record().Text()
	must(m.t, err)
	m.refuse("new name that signs for itself", "acme.example/root", manifestType, good, sign(m.t, ofTheNewName, noteKey("acme.test/root", acme.root.Root)))
	told := func(s *Manifest) { s.Incidents = []Incident{{s.Issued, "a copy of our node ran beside it"}} }
	m.accept("incident", manifestType, good, next(told, acme.root.Root))
	m.refuse("incident of another time", "other incidents", manifestType, good, next(func(s *Manifest) { told(s); s.Incidents[0].At = now }, acme.root.Root))
	m.refuse("successor of another manifest", "does not follow", manifestType, good, next(func(s *Manifest) { s.Previous[0] ^= 1 }, acme.root.Root))
	m.refuse("successor that skips one", "does not follow", manifestType, good, next(func(s *Manifest) { s.Sequence = 2 }, acme.root.Root))
	m.refuse("successor without its genesis", "does not follow", manifestType, second)
	m.refuse("genesis twice", "does not follow", manifestType, good, good)
	m.recoveries()
}

// recoveries are chains whose third manifest brings in a root by custodians (2.15).
func (m maker) recoveries() {
	acme := guarded(m.t)
	chain := func(custodians, witnesses int, after time.Duration) []string {
		return acme.with(acme.recovery(m.t, "recovered", custodians, witnesses, after))
	}
	m.accept("recovery by two custodians of three, seen for 72 h by two witnesses of three", manifestType, chain(2, 2, RecoveryDelay)...)
	m.accept("recovery by all", manifestType, chain(3, 3, RecoveryDelay)...)
	m.refuse("recovery below the threshold", "1 custodians of 2", manifestType, chain(1, 3, RecoveryDelay)...)
	m.refuse("recovery a second before its time", "0 witnesses of 2", manifestType, chain(2, 3, RecoveryDelay-time.Second)...)
	m.refuse("recovery that a minority has seen", "1 witnesses of 2", manifestType, chain(2, 1, RecoveryDelay)...)
	m.refuse("recovery without witnesses", "0 witnesses of 2", manifestType, chain(3, 0, 0)...)
	m.refuse("recovery without custodians", "0 custodians of 2", manifestType, chain(0, 3, RecoveryDelay)...)
}

func (m maker) nodes(acme, globex *house) {
	key := noteKey("acme.example/node", acme.keys.Node)
	m.form(nodeType, acme.cert, key)
	other := deviceID("a spare peer")
	m.edits(nodeType, acme.cert, []wire.NoteKey{key}, [][4]string{
		{"of another organization", "another organization", acme.ID.String(), globex.ID.String()},
		{"of another peer", "another peer", acme.Manifest.Nodes[0].Peer.String(), other.String()},
		{"of another role", "does not list", "role active", "role standby"},
		{"of a lower incarnation", "does not list", "incarnation 1", "incarnation 0"},
		{"over", "valid from", "not-after 2027", "not-after 2026"},
		{"not begun", "valid from", "not-before 2026-11-22", "not-before 2026-11-24"},
	})
}

func (m maker) members(alice *person) {
	m.form(genesisType, alice.genesis, noteKey(MemberKeyName(alice.id), alice.key))
	m.edits(genesisType, alice.genesis, []wire.NoteKey{noteKey("", alice.key)}, [][4]string{
		{"name with a space", "name", "name alice", "name alice b"},
		{"name in capitals", "name", "name alice", "name Alice"},
		{"key of another", "signature", wire.FormatKey(public(alice.key)), wire.FormatKey(public(seeded("mallory")))},
	})
	r := alice.record("alice")
	r.Revoked = []wire.DeviceID{deviceID("alice tablet")}
	good, err := r.Sign("acme.example", alice.house.keys.Directory)
	must(m.t, err)
	key := noteKey("acme.example/directory", alice.house.keys.Directory)
	m.form(recordType, good, key)
	laptop := "device " + r.Devices[0].Device.String() + " " + wire.FormatHash(r.Devices[0].Certificate) + "\n"
	m.edits(recordType, good, []wire.NoteKey{key}, [][4]string{
		{"version 0", "version 0", "version 1", "version 0"},
		{"second version without the first", "previous", "version 1", "version 2"},
		{"first version with one before it", "previous", "previous " + strings.Repeat("a", 52), "previous " + wire.FormatHash([32]byte{1})},
		{"device twice", "twice", laptop, laptop + laptop},
		{"device without its certificate", "device", laptop, "device " + r.Devices[0].Device.String() + "\n"},
		{"device that is revoked", "revoked", "revoked " + r.Revoked[0].String(), "revoked " + r.Devices[0].Device.String()},
		{"revoked twice", "revoked", "revoked " + r.Revoked[0].String() + "\n", strings.Repeat("revoked "+r.Revoked[0].String()+"\n", 2)},
		{"neither enabled nor disabled", "disabled", "disabled false", "disabled no"},
		{"17 devices", "more than 16", laptop, strings.Repeat(laptop, 16)},
	})
}

func (m maker) devices(alice *person) {
	key := noteKey(MemberKeyName(alice.id), alice.key)
	good := alice.devices[0].Note
	m.form(deviceType, good, key)
	m.edits(deviceType, good, []wire.NoteKey{key}, [][4]string{
		{"of another member", "another member", "member " + alice.id.String(), "member " + wire.MemberID{1}.String()},
		{"that ends before it begins", "lifetime", "expires 2027", "expires 2025"},
		{"no device ID", "device ID", "device " + alice.devices[0].Device.String(), "device QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"},
	})
}

func (m maker) revocations(alice *person) {
	r := Revocation{Organization: alice.house.ID, Member: alice.id, Device: alice.devices[1].Device, Issued: now, By: "member"}
	byMember, err := SignRevocation(r, "acme.example", alice.key)
	must(m.t, err)
	key := noteKey(MemberKeyName(alice.id), alice.key)
	m.form(revocationType, byMember, key)
	r.By = "organization"
	byOrganization, err := SignRevocation(r, "acme.example", alice.house.keys.Directory)
	must(m.t, err)
	m.accept("by the organization", revocationType, byOrganization)
	m.edits(revocationType, byMember, []wire.NoteKey{key}, [][4]string{
		{"by the organization, signed by the member", "signature", "by member", "by organization"},
		{"by nobody", "cannot be checked", "by member", "by nobody"},
		{"of another organization", "another organization", alice.house.ID.String(), wire.OrganizationID{1}.String()},
		{"of another member", "cannot be checked", "member " + alice.id.String(), "member " + wire.MemberID{1}.String()},
	})
	m.refuse("by the member, signed by the organization", "signature", revocationType,
		sign(m.t, textOf(m.t, byMember), noteKey("acme.example/directory", alice.house.keys.Directory)))
}

func (m maker) agreements(acme, globex *house) {
	a := NewAgreement(acme.Organization, globex.Organization, DefaultTerms(now, now.Add(wire.AgreementLifetime)))
	text, err := a.Text()
	must(m.t, err)
	ours, theirs := noteKey("acme.example/node", acme.keys.Node), noteKey("globex.example/node", globex.keys.Node)
	both := []wire.NoteKey{ours, theirs}
	good := sign(m.t, text, both...)
	m.form(agreementType, good, both...)
	third := wire.FormatHash(wire.OrganizationID{3})
	m.accept("an amendment", agreementType, sign(m.t, strings.Replace(text, "version 1\n", "version 2\nprevious "+third+"\n", 1), both...))
	m.edits(agreementType, good, both, [][4]string{
		{"of a second version that replaces nothing", "previous", "version 1\n", "version 2\n"},
		{"of a first version that replaces something", "inviter", "version 1\n", "version 1\nprevious " + third + "\n"},
		{"of version 0", "version", "version 1\n", "version 0\n"},
		{"with a third", "between others", "acceptor " + globex.ID.String(), "acceptor " + third},
		{"with itself", "with itself", "acceptor " + globex.ID.String(), "acceptor " + acme.ID.String()},
		{"under another name", "between others", "acceptor-name globex.example", "acceptor-name initech.example"},
		{"with a root that nobody had", "never had", "inviter-root " + wire.FormatHash(RootFingerprint(acme.Manifest.Root)), "inviter-root " + third},
		{"open to everything", "directory", "directory exact", "directory all"},
		{"of an unknown contact rule", "contact", "contact open", "contact maybe"},
		{"of an unknown transit rule", "transit", "transit none", "transit some"},
		{"retention over the ceiling", "ceiling", "retention 0", "retention 2592001"},
		{"that ends before it begins", "end before", "valid-until 2027", "valid-until 2025"},
		{"a line for abuse that turns the text round", "abuse", "abuse -", "abuse \u202eevil"},
	})
	m.refuse("signed by one only", "signature", agreementType, sign(m.t, text, ours))
	m.refuse("signed twice by one", "signature", agreementType, sign(m.t, text, ours, noteKey("globex.example/node", acme.keys.Node)))
}

func (m maker) partnerRevocations(acme, globex *house) {
	r := PartnerRevocation{Organization: acme.ID, Partner: globex.ID, Agreement: [32]byte{4}, Room: wire.RoomID{5}, Generation: 1, Epoch: 17, Reason: "suspended", Issued: now}
	key := noteKey("acme.example/node", acme.keys.Node)
	good, err := r.Sign(key)
	must(m.t, err)
	m.form(partnerRevocationType, good, key)
	r.Reason = "expired"
	again, err := r.Sign(key)
	must(m.t, err)
	m.accept("of an agreement that has expired", partnerRevocationType, again)
	m.edits(partnerRevocationType, good, []wire.NoteKey{key}, [][4]string{
		{"about its own organization", "its own", "partner " + globex.ID.String(), "partner " + acme.ID.String()},
		{"by another organization", "another organization", "organization " + acme.ID.String(), "organization " + wire.OrganizationID{9}.String()},
		{"for a reason that is none", "reason", "reason suspended", "reason quarantined"},
		{"a generation of 33 bits", "32 bits", "generation 1\n", "generation 4294967297\n"},
		{"an epoch with a leading zero", "not a number", "epoch 17", "epoch 017"},
		{"a room ID that is short", "room", "room " + r.Room.String(), "room " + r.Room.String()[:51]},
	})
	text := textOf(m.t, good)
	m.refuse("signed by the directory's key", "signature", partnerRevocationType, sign(m.t, text, noteKey("acme.example/directory", acme.keys.Directory)))
	m.refuse("signed by the hub's key under the node's name", "signature", partnerRevocationType, sign(m.t, text, noteKey("acme.example/node", acme.keys.Hub)))
	m.refuse("signed by the partner", "signature", partnerRevocationType, sign(m.t, text, noteKey("globex.example/node", globex.keys.Node)))
}
