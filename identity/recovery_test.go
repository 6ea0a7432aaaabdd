package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// guarded is an organization of two custodians of three and three witnesses of the time.
func guarded(t testing.TB) *house {
	t.Helper()
	h := newHouse(t, "acme.example")
	m := h.successor(t, 0)
	m.Threshold = 2
	for i := range 3 {
		m.Custodians = append(m.Custodians, public(custodian(i)))
		m.Witnesses = append(m.Witnesses, Cosigner{witnessName(i), public(timeWitness(i))})
	}
	h.extend(t, m, h.root.Root)
	return h
}

func custodian(i int) ed25519.PrivateKey   { return seeded(fmt.Sprint("custodian ", i)) }
func timeWitness(i int) ed25519.PrivateKey { return seeded(fmt.Sprint("witness ", i)) }
func witnessName(i int) string             { return fmt.Sprintf("w%d.example/cosigner", i) }

// successor is the next manifest, the same in every run.
func (h *house) successor(t testing.TB, nonce byte) Manifest {
	t.Helper()
	m, err := h.Successor(now.Add(time.Hour))
	must(t, err)
	m.Nonce = [32]byte{nonce}
	return m
}

func (h *house) extend(t testing.TB, m Manifest, by ed25519.PrivateKey) {
	t.Helper()
	h.Organization = grown(t, h.Organization, m, by)
}

func grown(t testing.TB, o *Organization, m Manifest, by ed25519.PrivateKey) *Organization {
	t.Helper()
	signed, err := m.Sign(by)
	must(t, err)
	o, err = VerifyManifests(append(o.Notes[:len(o.Notes):len(o.Notes)], signed), o.ID)
	must(t, err)
	return o
}

// recovery is a recovery to a root, signed by some custodians and seen by some witnesses at
// the start and after a time.
func (h *house) recovery(t testing.TB, root string, custodians, witnesses int, after time.Duration) string {
	t.Helper()
	m := h.successor(t, 7)
	m.Root, m.NextRoot = public(seeded(root)), NextRootHash(public(seeded(root+" next")))
	signed, err := m.Sign(seeded(root))
	must(t, err)
	for i := range custodians {
		signed, err = SignRecovery(h.Organization, signed, custodian(i))
		must(t, err)
	}
	for i := range witnesses {
		for _, at := range []time.Time{now, now.Add(after)} {
			signed, err = AddSeen(signed, witnessName(i), timeWitness(i), at)
			must(t, err)
		}
	}
	return signed
}

func (h *house) with(notes ...string) []string {
	return append(h.Notes[:len(h.Notes):len(h.Notes)], notes...)
}

func TestRecoveryStandsAfterItsDelayByAMajorityOfWitnesses(t *testing.T) {
	acme := guarded(t)
	for _, c := range []struct {
		custodians, witnesses int
		after                 time.Duration
		because               string
	}{
		{2, 2, RecoveryDelay, ""},
		{3, 3, RecoveryDelay + time.Hour, ""},
		{0, 3, RecoveryDelay, "did not commit"},
		{1, 3, RecoveryDelay, "1 custodians of 2"},
		{2, 1, RecoveryDelay, "1 witnesses of 2"},
		{2, 3, RecoveryDelay - time.Second, "0 witnesses of 2"},
		{3, 0, 0, "0 witnesses of 2"},
	} {
		o, err := VerifyManifests(acme.with(acme.recovery(t, "third", c.custodians, c.witnesses, c.after)), acme.ID)
		if c.because != "" {
			refused(t, err, c.because)
			continue
		}
		must(t, err)
		if !o.Manifest.Root.Equal(public(seeded("third"))) || o.Causes[2] != ByCustodians || o.ID != acme.ID {
			t.Errorf("%+v: root %x by %s", c, o.Manifest.Root, o.Causes[2])
		}
	}
}

func TestCustodiansCannotStandInForEachOtherNorForWitnesses(t *testing.T) {
	acme := guarded(t)
	pending := acme.recovery(t, "third", 1, 2, RecoveryDelay)
	twice, err := SignRecovery(acme.Organization, pending, custodian(0))
	must(t, err)
	_, err = VerifyManifests(acme.with(twice), acme.ID)
	refused(t, err, "1 custodians of 2")
	_, err = SignRecovery(acme.Organization, pending, seeded("stranger"))
	refused(t, err, "no custodian")
	// A custodian that signs under a witness's name, two days' word for three, an ordinary
	// cosignature of the witness on the same text.
	pending = acme.recovery(t, "third", 2, 1, RecoveryDelay)
	for _, at := range []time.Time{now, now.Add(RecoveryDelay)} {
		pending, err = AddSeen(pending, witnessName(1), custodian(1), at)
		must(t, err)
		pending, err = AddSeen(pending, witnessName(1), timeWitness(2), at)
		must(t, err)
	}
	_, err = VerifyManifests(acme.with(pending), acme.ID)
	refused(t, err, "1 witnesses of 2")
}

func TestWordsOfWitnessesAreOfOneTextAlone(t *testing.T) {
	acme := guarded(t)
	seenLong := acme.recovery(t, "third", 2, 3, RecoveryDelay)
	other := acme.recovery(t, "thief", 2, 0, 0)
	_, err := MergeRecovery(acme.Organization, other, seenLong)
	refused(t, err, "another recovery")
	lines := seenLong[len(textOf(t, seenLong))+1:]
	_, err = VerifyManifests(acme.with(other+lines), acme.ID)
	refused(t, err, "0 witnesses of 2")
}

func TestPendingRecoveryShowsWhoBeganItAndSince(t *testing.T) {
	acme := guarded(t)
	r, err := OpenRecovery(acme.Organization, acme.recovery(t, "third", 1, 1, 0))
	must(t, err)
	if len(r.Custodians) != 1 || !r.Custodians[0].Equal(public(custodian(0))) || r.Threshold != 2 || !r.Begun().IsZero() {
		t.Errorf("recovery %+v begun %s", r, r.Begun())
	}
	a, b := acme.recovery(t, "third", 1, 1, 0), acme.recovery(t, "third", 0, 2, time.Hour)
	both, err := MergeRecovery(acme.Organization, a, b)
	must(t, err)
	r, err = OpenRecovery(acme.Organization, both)
	must(t, err)
	if len(r.Custodians) != 1 || len(r.First) != 2 || !r.Begun().Equal(now) || !r.Last[0].At.Equal(now.Add(time.Hour)) {
		t.Errorf("merged %+v begun %s", r, r.Begun())
	}
	again, err := MergeRecovery(acme.Organization, both, both)
	must(t, err)
	if again != both {
		t.Errorf("merged with itself it is\n%s\nnot\n%s", again, both)
	}
	rotation := acme.successor(t, 1)
	rotation.Root, rotation.NextRoot = public(acme.root.Next), NextRootHash(public(seeded("third")))
	signed, err := rotation.Sign(acme.root.Next)
	must(t, err)
	_, err = OpenRecovery(acme.Organization, signed)
	refused(t, err, "needs none")
}

// branch is a way in which a chain may go on.
type branch struct {
	name string
	grow func(t testing.TB, h *house) *Organization
}

func rotatedTo(t testing.TB, o *Organization, nonce byte, root, next ed25519.PrivateKey) *Organization {
	t.Helper()
	m, err := o.Successor(now.Add(time.Hour))
	must(t, err)
	m.Nonce, m.Root, m.NextRoot = [32]byte{nonce}, public(root), NextRootHash(public(next))
	return grown(t, o, m, root)
}

func byRoot(nonce byte) func(testing.TB, *house) *Organization {
	return func(t testing.TB, h *house) *Organization {
		return grown(t, h.Organization, h.successor(t, nonce), h.root.Root)
	}
}

func byNext(t testing.TB, h *house) *Organization {
	return rotatedTo(t, h.Organization, 3, h.root.Next, seeded("third"))
}

func byCustodians(t testing.TB, h *house) *Organization {
	o, err := VerifyManifests(h.with(h.recovery(t, "recovered", 2, 2, RecoveryDelay)), h.ID)
	must(t, err)
	return o
}

// byThief has the root alone: he commits to a root of his own, appoints himself custodian,
// and then does what the holders of such keys may.
func byThief(t testing.TB, h *house) *Organization {
	m := h.successor(t, 66)
	m.NextRoot = NextRootHash(public(seeded("thief0")))
	m.Custodians, m.Threshold = []ed25519.PublicKey{public(seeded("thief custodian"))}, 1
	o := grown(t, h.Organization, m, h.root.Root)
	for i := range 20 {
		o = rotatedTo(t, o, byte(i), seeded(fmt.Sprint("thief", i)), seeded(fmt.Sprint("thief", i+1)))
	}
	return o
}

func TestPrecedenceOfTwoChainsThatPart(t *testing.T) {
	acme := guarded(t)
	root, custodians, next, thief := branch{"root", byRoot(1)}, branch{"custodians", byCustodians}, branch{"next root", byNext}, branch{"thief of the root", byThief}
	longer := branch{"next root, used later", func(t testing.TB, h *house) *Organization {
		return rotatedTo(t, byRoot(9)(t, h), 4, h.root.Next, seeded("third"))
	}}
	for _, c := range []struct{ wins, loses branch }{
		{custodians, root}, {next, root}, {next, custodians}, {next, thief}, {custodians, thief}, {longer, thief}, {longer, custodians},
	} {
		w, l := c.wins.grow(t, acme), c.loses.grow(t, acme)
		for _, pair := range [][2]*Organization{{w, l}, {l, w}} {
			got, err := Prevailing(pair[0], pair[1])
			if err != nil || got != w {
				t.Errorf("%s against %s: %v, %v", c.wins.name, c.loses.name, got == w, err)
			}
		}
	}
	for _, c := range [][2]branch{{root, {"root again", byRoot(2)}}, {root, thief}, {next, longer}} {
		a, b := c[0].grow(t, acme), c[1].grow(t, acme)
		if _, err := Prevailing(a, b); !errors.Is(err, ErrManifestFork) {
			t.Errorf("%s against %s: %v, not a fork", c[0].name, c[1].name, err)
		}
	}
}

func TestLongerChainContinuesAndAReplayedOlderOneDoesNotReplace(t *testing.T) {
	acme := guarded(t)
	longer := byNext(t, acme)
	for _, pair := range [][2]*Organization{{longer, acme.Organization}, {acme.Organization, longer}} {
		if got, err := Prevailing(pair[0], pair[1]); err != nil || got != longer {
			t.Errorf("%v, %v", got == longer, err)
		}
	}
	_, err := Prevailing(acme.Organization, newHouse(t, "globex.example").Organization)
	refused(t, err, "another organization")
}

// A thief of the present root, which was committed to once, goes back to before it came in.
func TestRootInOfficeCannotComeInASecondTime(t *testing.T) {
	acme := guarded(t)
	known := rotatedTo(t, byRoot(9)(t, acme), 4, acme.root.Next, seeded("third"))
	stolen := rotatedTo(t, acme.Organization, 66, acme.root.Next, seeded("thief"))
	if _, err := Prevailing(known, stolen); !errors.Is(err, ErrManifestFork) {
		t.Errorf("%v, not a fork", err)
	}
}

func TestCustodiansOfAnEarlierManifestHaveNoSayAfterARotation(t *testing.T) {
	acme := guarded(t)
	dismissed := byNext(t, acme)
	if got, err := Prevailing(dismissed, byCustodians(t, acme)); err != nil || got != dismissed {
		t.Errorf("%v, %v", got == dismissed, err)
	}
}

func TestManifestsThatUndoTheirOwnRecoveryAreRefused(t *testing.T) {
	acme := guarded(t)
	for because, change := range map[string]func(*Manifest){
		"own successor":      func(m *Manifest) { m.NextRoot = NextRootHash(m.Root) },
		"two uses":           func(m *Manifest) { m.Witnesses[0].Public = m.Custodians[0] },
		"without custodians": func(m *Manifest) { m.Threshold, m.Custodians = 0, nil },
	} {
		m := acme.successor(t, 1)
		change(&m)
		signed, err := m.Sign(acme.root.Root)
		must(t, err)
		_, err = VerifyManifests(acme.with(signed), acme.ID)
		refused(t, err, because)
	}
	_, err := VerifyManifests(acme.with(acme.recovery(t, "third", 2, 2, RecoveryDelay)), wire.OrganizationID{1})
	refused(t, err, "another organization")
}

func TestThiefWhoAppointsCustodiansAndWitnessesGainsNoAuthority(t *testing.T) {
	acme := guarded(t)
	thief := &house{root: acme.root}
	m := acme.successor(t, 66)
	m.Threshold, m.Custodians = 1, []ed25519.PublicKey{public(custodian(0))}
	m.Witnesses = []Cosigner{{"thief.example/cosigner", public(seeded("thief's witness"))}}
	thief.Organization = grown(t, acme.Organization, m, acme.root.Root)
	recovery := thief.recovery(t, "thief", 1, 0, 0)
	for _, at := range []time.Time{now, now.Add(RecoveryDelay)} {
		var err error
		recovery, err = AddSeen(recovery, "thief.example/cosigner", seeded("thief's witness"), at)
		must(t, err)
	}
	stolen, err := VerifyManifests(thief.with(recovery), acme.ID)
	must(t, err)
	if _, err := Prevailing(byRoot(1)(t, acme), stolen); !errors.Is(err, ErrManifestFork) {
		t.Errorf("against the root: %v, not a fork", err)
	}
	if got, err := Prevailing(stolen, byCustodians(t, acme)); err != nil || got == stolen {
		t.Errorf("against the custodians: %v, %v", got == stolen, err)
	}
}
