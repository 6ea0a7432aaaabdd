package node

import (
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// TestARevocationThatACrashInterruptedIsFollowedUp: the directory says revoked, and
// no room was told before the node went down.
func TestARevocationThatACrashInterruptedIsFollowedUp(t *testing.T) {
	w := newWorld(t)
	w.takes()
	note, err := identity.SignRevocation(identity.Revocation{Organization: w.acme.org.ID, Member: w.bob.member, Device: w.bob.id,
		Issued: time.Now(), By: "member"}, w.acme.org.Manifest.Name, w.bob.master)
	must(t, err)
	var b store.Batch
	b.Put(goneKey(w.bob.id), []byte(note))
	_, err = w.acme.store.Commit(t.Context(), &b)
	must(t, err)
	must(t, w.acme.Node.dir.RevokeDevice(t.Context(), note))
	at, g := w.acme.shown(w.room)
	if len(waitingRemovals(t, w, g)) != 0 {
		t.Fatal("the room was told already: this shows nothing")
	}
	w.acme.halt()
	w.acme.start()
	eventually(t, "it is followed up once partners were waited for", func() bool {
		_, err := w.acme.store.Get(goneKey(w.bob.id))
		return err != nil
	})
	now, g := w.acme.shown(w.room)
	if got := waitingRemovals(t, w, g); len(got) != 1 || got[0].device != w.bob.id || now.seq != at.seq+1 {
		t.Errorf("after the restart the room is at %d of %d and has %d removals", now.seq, at.seq+1, len(got))
	}
	if row, err := w.acme.store.Get(goneKey(w.bob.id)); err == nil {
		t.Errorf("the revocation is still under way: %s", row)
	}
	w.acme.halt()
	w.acme.start() // once, not at every start
	if again, _ := w.acme.shown(w.room); again != now {
		t.Errorf("a further restart moved the room from %+v to %+v", now, again)
	}
	w.catchUp(w.alice)
	c, _ := w.alice.commit(w.alice.state, group.CommitParams{ByReference: true})
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), c); st.Code != sequenced {
		t.Errorf("the Commit that removes bob: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}

func TestARevocationThatWasNotToldEverywhereIsFollowedUpWithoutARestart(t *testing.T) {
	w := newWorld(t)
	w.takes()
	note, err := identity.SignRevocation(identity.Revocation{Organization: w.acme.org.ID, Member: w.bob.member, Device: w.bob.id,
		Issued: time.Now(), By: "member"}, w.acme.org.Manifest.Name, w.bob.master)
	must(t, err)
	var b store.Batch
	b.Put(goneKey(w.bob.id), []byte(note))
	_, err = w.acme.store.Commit(t.Context(), &b)
	must(t, err)
	for range 2 { // the second finds nothing to do
		must(t, w.acme.finishRevocations(t.Context()))
	}
	_, g := w.acme.shown(w.room)
	if got := waitingRemovals(t, w, g); len(got) != 1 || got[0].device != w.bob.id {
		t.Errorf("%d removals wait", len(got))
	}
	if _, err := w.acme.store.Get(goneKey(w.bob.id)); err == nil {
		t.Error("the revocation is still under way")
	}
}

func TestARevocationThatDoesNotStandLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	r := &identity.Revocation{Organization: w.acme.org.ID, Member: w.bob.member, Device: w.bob.id, Issued: time.Now(), By: "member"}
	note, err := identity.SignRevocation(*r, w.acme.org.Manifest.Name, w.carol.master)
	must(t, err)
	before := w.acme.trace()
	if _, err := w.acme.revoke(t.Context(), note, r); err == nil {
		t.Error("bob's device was revoked by carol's key")
	}
	if w.acme.trace() != before {
		t.Error("it left something behind")
	}
	w.takes()
}
