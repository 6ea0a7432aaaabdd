package directory

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/vrf"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/mod/sumdb/tlog"
)

var ctx = context.Background()

func TestEnrolledMemberIsFoundByNameIDAndDeviceAlsoAfterARestart(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	check := func() {
		t.Helper()
		m, err := w.Lookup("alice")
		w.must(err)
		again, err := w.Get(alice.id)
		w.must(err)
		id, active := w.ByDevice(alice.device)
		if m.ID != alice.id || again != m || id != alice.id || !active || m.Version != 1 || len(w.Members()) != 1 {
			t.Errorf("found %v, %v, %v %v", m.ID, again.ID, id, active)
		}
		chain, err := w.Chain(alice.id)
		w.must(err)
		if _, err := identity.VerifyChain(chain, w.org.ID, w.clock.Now()); err != nil {
			t.Errorf("the chain that others get: %v", err)
		}
	}
	check()
	w.restart()
	check()
	_, err := w.Lookup("bob")
	code(t, err, pb.Code_CODE_UNKNOWN_MEMBER)
	_, err = w.Get(wire.MemberID{})
	code(t, err, pb.Code_CODE_UNKNOWN_MEMBER)
	_, err = w.Chain(wire.MemberID{1})
	code(t, err, pb.Code_CODE_UNKNOWN_MEMBER)
}

func (w *world) revocation(p *person, by string, key ed25519.PrivateKey) string {
	w.t.Helper()
	note, err := identity.SignRevocation(identity.Revocation{Organization: w.org.ID, Member: p.id, Device: p.device, Issued: w.clock.Now(), By: by}, "acme.example", key)
	w.must(err)
	return note
}

func TestRevokedDeviceIsInactiveAtOnceAndForEver(t *testing.T) {
	w := newWorld(t)
	for _, by := range []string{"member", "organization"} {
		p := w.enrolled("by-" + by)
		if _, err := w.Publish(ctx, p.device, packages(3, 1), []byte("last"), false); err != nil {
			t.Fatal(err)
		}
		before, err := w.Get(p.id)
		w.must(err)
		note, err := w.SignRevocation(p.device)
		w.must(err)
		if by == "member" {
			note = w.revocation(p, by, p.key)
		}
		w.must(w.RevokeDevice(ctx, note))
		w.must(w.RevokeDevice(ctx, note)) // repeated: the answer may have been lost
		check := func() {
			t.Helper()
			m, err := w.Get(p.id)
			w.must(err)
			if _, active := w.ByDevice(p.device); active || len(m.Devices) != 0 || m.Version != 2 || len(m.Revoked) != 1 || m.Revoked[0] != p.device {
				t.Errorf("revoked by the %s: %+v", by, m)
			}
			w.must(m.Supersedes(before))
			if n := w.KeyPackages(p.device); n != 0 {
				t.Errorf("%d KeyPackages of a revoked device are left", n)
			}
			_, err = w.Claim(ctx, w.org.ID, make([]byte, 32), p.id)
			code(t, err, pb.Code_CODE_NO_KEY_PACKAGE)
			_, err = w.Publish(ctx, p.device, packages(1, 2), nil, false)
			code(t, err, pb.Code_CODE_REVOKED)
			_, err = w.SignRevocation(p.device)
			code(t, err, pb.Code_CODE_UNKNOWN_DEVICE)
		}
		check()
		w.restart()
		check()
	}
}

func TestRevocationsThatNobodyEntitledHasSignedChangeNothing(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	other := *bob
	other.id = alice.id // alice's member ID with bob's device
	nobody := *alice
	nobody.id = wire.MemberID{1}
	size, root, err := w.Head()
	w.must(err)
	for name, c := range map[string]struct {
		note string
		want pb.Code
	}{
		"another member's key":         {w.revocation(alice, "member", bob.key), pb.Code_CODE_FORBIDDEN},
		"the member for the house":     {w.revocation(alice, "organization", alice.key), pb.Code_CODE_FORBIDDEN},
		"the house for the member":     {w.revocation(alice, "member", w.keys.Directory), pb.Code_CODE_FORBIDDEN},
		"a working key of the house":   {w.revocation(alice, "organization", w.keys.Node), pb.Code_CODE_FORBIDDEN},
		"a member's of other's device": {w.revocation(&other, "member", alice.key), pb.Code_CODE_UNKNOWN_DEVICE},
		"no member":                    {w.revocation(&nobody, "organization", w.keys.Directory), pb.Code_CODE_UNKNOWN_MEMBER},
		"no note":                      {"", pb.Code_CODE_MALFORMED},
		"another kind of note":         {alice.enrol.Genesis, pb.Code_CODE_MALFORMED},
	} {
		t.Run(name, func(t *testing.T) { code(t, w.RevokeDevice(ctx, c.note), c.want) })
	}
	for _, p := range []*person{alice, bob} {
		if _, active := w.ByDevice(p.device); !active {
			t.Error("a device is no longer active")
		}
	}
	if s, r, err := w.Head(); err != nil || s != size || r != root {
		t.Errorf("the log has moved to %d, %v", s, err)
	}
}

func TestLogHoldsOneLeafPerRecordAndProvesThem(t *testing.T) {
	w := newWorld(t)
	if size, root, err := w.Head(); err != nil || size != 0 || [32]byte(root) != [32]byte(emptyRoot(t)) {
		t.Fatalf("an empty log: %d, %x, %v", size, root, err)
	}
	people := []*person{w.enrolled("alice"), w.enrolled("bob"), w.enrolled("carol")}
	w.must(w.RevokeDevice(ctx, w.revocation(people[1], "member", people[1].key)))
	w.restart()
	size, root, err := w.Head()
	w.must(err)
	if size != 8 { // each followed by the map's root
		t.Fatalf("%d leaves", size)
	}
	var leaves [][]byte
	for i := range size {
		leaf, err := w.Leaf(i)
		w.must(err)
		leaves = append(leaves, leaf)
		proof, err := tlog.ProveRecord(int64(size), int64(i), hashReader{w.store})
		w.must(err)
		w.must(tlog.CheckRecord(proof, int64(size), tlog.Hash(root), int64(i), tlog.RecordHash(leaf)))
	}
	// The leaf is (label, version, commitment), and the label proves whose it is.
	e, err := w.entry(people[1].id)
	w.must(err)
	leaf := leaves[e.row.Leaf]
	output, proof, err := vrf.Prove(w.keys.VRF, identity.LabelInput(people[1].id))
	w.must(err)
	verified, err := vrf.Verify(w.org.Manifest.VRF, identity.LabelInput(people[1].id), proof[:])
	w.must(err)
	text, err := wire.NoteText(e.row.Record)
	w.must(err)
	label, commitment := identity.Label(output), identity.Commitment([32]byte(e.row.Nonce), text)
	if verified != output || len(leaf) != LeafLen || string(leaf[:32]) != string(label[:]) || leaf[39] != 2 || string(leaf[40:]) != string(commitment[:]) {
		t.Errorf("leaf %x", leaf)
	}
	// Both versions of bob stand under one label, alice's under another.
	if string(leaves[2][:32]) != string(leaves[6][:32]) || string(leaves[0][:32]) == string(leaves[2][:32]) {
		t.Error("labels do not follow members")
	}
	for _, p := range people {
		for _, leaf := range leaves {
			if strings.Contains(string(leaf), string(p.id[:])) {
				t.Error("a leaf names its member")
			}
		}
	}
	// A larger log contains the smaller one.
	w.enrolled("dave")
	bigger, newRoot, err := w.Head()
	w.must(err)
	tree, err := tlog.ProveTree(int64(bigger), int64(size), hashReader{w.store})
	w.must(err)
	w.must(tlog.CheckTree(tree, int64(bigger), tlog.Hash(newRoot), int64(size), tlog.Hash(root)))
}

func emptyRoot(t *testing.T) tlog.Hash {
	t.Helper()
	h, err := tlog.TreeHash(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Two records that say the same have different commitments, so that a commitment
// cannot be guessed by whoever guesses the record.
func TestCommitmentHidesTheRecord(t *testing.T) {
	if identity.Commitment([32]byte{1}, "x\n") == identity.Commitment([32]byte{2}, "x\n") || identity.Commitment([32]byte{1}, "x\n") == identity.Commitment([32]byte{1}, "y\n") {
		t.Error("nonce or text do not count")
	}
}

// Whoever can write to the store but holds no keys cannot bring anything in that
// the directory believes when it opens.
func TestTamperedRowsAreNamedAtOpen(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	e, err := w.entry(alice.id)
	w.must(err)
	old := e.row
	w.must(w.RevokeDevice(ctx, w.revocation(alice, "member", alice.key)))
	e, err = w.entry(alice.id)
	w.must(err)
	current := e.row
	bobs, err := w.entry(bob.id)
	w.must(err)
	row := func(change func(*memberRow)) []byte {
		r := current
		change(&r)
		b, err := json.Marshal(r)
		w.must(err)
		return b
	}
	key := append([]byte(memberPrefix), alice.id[:]...)
	otherRow, err := json.Marshal(bobs.row)
	w.must(err)
	for name, c := range map[string]struct{ key, value []byte }{
		"a rolled back record":         {key, row(func(r *memberRow) { r.Record, r.Devices = old.Record, old.Devices })},
		"a record with its old leaf":   {key, row(func(r *memberRow) { *r = old; r.Leaf = current.Leaf })},
		"a whole old row":              {key, row(func(r *memberRow) { *r = old })},
		"another member's row":         {key, otherRow},
		"another nonce":                {key, row(func(r *memberRow) { r.Nonce = make([]byte, 32) })},
		"no nonce":                     {key, row(func(r *memberRow) { r.Nonce = nil })},
		"a leaf of another":            {key, row(func(r *memberRow) { r.Leaf = bobs.row.Leaf })},
		"a leaf that is not there":     {key, row(func(r *memberRow) { r.Leaf = 99 })},
		"another genesis":              {key, row(func(r *memberRow) { r.Genesis = bobs.row.Genesis })},
		"a device more":                {key, row(func(r *memberRow) { r.Devices = bobs.row.Devices })},
		"a changed record":             {key, row(func(r *memberRow) { r.Record = strings.Replace(r.Record, "alice", "admin", 1) })},
		"a row of another version":     {key, row(func(r *memberRow) { r.Version = 2 })},
		"no row":                       {key, []byte("x")},
		"a size that is none":          {[]byte(sizeKey), []byte{1}},
		"a log that forgot its end":    {[]byte(sizeKey), []byte{0, 0, 0, 0, 0, 0, 0, 1}},
		"another leaf under the index": {numbered(leafPrefix, current.Leaf), make([]byte, LeafLen)},
	} {
		t.Run(name, func(t *testing.T) {
			was, err := w.store.Get(c.key)
			w.must(err)
			w.write(c.key, c.value)
			if _, err := w.openDirectory(); err == nil {
				t.Error("is believed")
			}
			w.write(c.key, was)
			_, err = w.openDirectory()
			w.must(err)
		})
	}
}

func (w *world) write(key, value []byte) {
	w.t.Helper()
	var b store.Batch
	b.Put(key, value)
	_, err := w.store.Commit(ctx, &b)
	w.must(err)
}

func TestOptionsAreRequired(t *testing.T) {
	w := newWorld(t)
	good := Options{Organization: w.org, Directory: w.keys.Directory, VRF: w.keys.VRF, Clock: w.clock}
	for name, change := range map[string]func(*Options){
		"organization":  func(o *Options) { o.Organization = nil },
		"directory key": func(o *Options) { o.Directory = nil },
		"VRF key":       func(o *Options) { o.VRF = nil },
		"clock":         func(o *Options) { o.Clock = nil },
	} {
		o := good
		change(&o)
		if _, err := Open(ctx, w.store, o); err == nil {
			t.Errorf("opens without %s", name)
		}
	}
}

// The wrong file of keys is noticed before anything is signed: labels under a VRF key
// that the manifest does not name would be in the log for ever, and prove nothing.
func TestKeysThatTheManifestDoesNotNameAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*Options){
		"directory key": func(o *Options) { o.Directory = w.keys.Node },
		"VRF key":       func(o *Options) { o.VRF = w.keys.Node },
	} {
		o := Options{Organization: w.org, Directory: w.keys.Directory, VRF: w.keys.VRF, Clock: w.clock}
		change(&o)
		if _, err := Open(ctx, w.store, o); err == nil {
			t.Errorf("opens with another %s", name)
		}
	}
}
