package node

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// TestARevocationThatARestoreHasUndoneIsMadeAgainFromWhatAPartnerHolds: globex revokes pat's
// device, which is in a room at acme, and is set back to before.
func TestARevocationThatARestoreHasUndoneIsMadeAgainFromWhatAPartnerHolds(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	w := &world{t: t, acme: sites[0], globex: sites[1]}
	w.alice, w.bob = w.acme.client("alice"), w.acme.client("bob")
	w.pat = w.globex.client("pat").knownTo(w.acme)
	rand.Read(w.room[:])
	request, _ := w.creation(w.room, w.bob, w.pat)
	if st := w.acme.createRoom(t.Context(), w.alice.id, request); st.Code != sequenced {
		t.Fatalf("the room: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	inRoom := func() bool {
		c, err := w.globex.begin(w.room)
		must(t, err)
		defer c.abandon()
		return c.room(w.room).holds(w.pat.id)
	}
	eventually(t, "globex knows the room", inRoom)
	w.acme.follows(w.globex)
	w.globex.halt()
	backup := w.globex.kept()
	w.globex.start()

	note, err := identity.SignRevocation(identity.Revocation{Organization: w.globex.org.ID, Member: w.pat.member, Device: w.pat.id,
		Issued: time.Now(), By: "member"}, w.globex.org.Manifest.Name, w.pat.master)
	must(t, err)
	r, err := identity.ReadRevocation(note)
	must(t, err)
	rooms, err := w.globex.revoke(t.Context(), note, r)
	must(t, err)
	if rooms != 1 {
		t.Fatalf("%d rooms were told", rooms)
	}
	eventually(t, "acme has been told", func() bool {
		a, err := w.acme.revocationsFor(w.globex.org.ID, &pb.RevocationsQuery{})
		must(t, err)
		return len(a.Notes) == 1 && a.Notes[0] == note
	})
	w.acme.follows(w.globex)
	w.globex.halt()
	w.globex.setBack(backup)
	w.globex.start()
	if m, err := w.globex.Node.dir.Get(w.pat.member); err != nil || len(m.Devices) != 1 {
		t.Fatalf("the restore has not undone the revocation: %v", err)
	}
	eventually(t, "the device is revoked again", func() bool { return !w.globex.active(w.pat.id) && w.globex.signs() == nil })
	eventually(t, "the directory says so", func() bool {
		m, err := w.globex.Node.dir.Get(w.pat.member)
		return err == nil && len(m.Devices) == 0 && len(m.Revoked) == 1
	})
	w.globex.isNoLiarTo(w.acme)
}

func TestAPartnerCannotHaveADeviceRevokedThatWeDidNotRevoke(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	alice, mallory := a.client("alice"), b.client("mallory")
	forged := func(by string, signer *client, name string) string {
		note, err := identity.SignRevocation(identity.Revocation{Organization: a.org.ID, Member: alice.member, Device: alice.id, Issued: time.Now(), By: by}, name, signer.master)
		must(t, err)
		return note
	}
	for what, note := range map[string]string{
		"another's member key":   forged("member", mallory, a.org.Manifest.Name),
		"another's organization": forged("organization", mallory, a.org.Manifest.Name),
		"no note":                "revoke alice",
		"too long":               string(make([]byte, wire.MaxNote+1)),
	} {
		if did, err := a.revokeOneAgain(t.Context(), note); did || err != nil || !a.active(alice.id) {
			t.Errorf("%s: %v %v", what, did, err)
		}
	}
	if did, err := a.revokeOneAgain(t.Context(), forged("member", alice, "")); !did || err != nil || a.active(alice.id) {
		t.Errorf("alice's own word: %v %v", did, err) // else the others show nothing
	}
}

// A crash between taking the log back and asking for revocations must not leave them undone.
func TestANodeThatHasToAskForRevocationsKnowsItAfterARestart(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	acme, globex := sites[0], sites[1]
	acme.halt()
	globex.adopting.mu.Lock()
	must(t, globex.askAgain(t.Context()))
	globex.adopting.mu.Unlock()
	globex.halt()
	globex.start()
	if !globex.adopting.again.Load() {
		t.Error("it has forgotten")
	}
}
