package node

import (
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestADisabledMemberLeavesEveryRoomAndIsReachedByNobody(t *testing.T) {
	w := newWorld(t)
	a, err := w.acme.disableMember(t.Context(), &pb.DisableMemberRequest{Name: "bob", Why: "left on Friday"})
	must(t, err)
	if a.Devices != 1 || a.Rooms != 1 || a.Member.State != "disabled" || a.Member.Why != "left on Friday" || a.Member.Devices != 0 {
		t.Errorf("%v", a)
	}
	_, g := w.acme.shown(w.room)
	if got := waitingRemovals(t, w, g); len(got) != 1 || got[0].device != w.bob.id {
		t.Fatalf("proposed: %+v", got)
	}
	w.commits()
	w.acme.refuses(w.room, pb.Code_CODE_REVOKED, "", func() *pb.Status { return w.bob.submit(w.bob.message(w.room, "still here")) })
	claim := &pb.ClaimQuery{Member: w.bob.member[:], Requester: w.alice.member[:]}
	for _, from := range []wire.OrganizationID{w.acme.org.ID, w.globex.org.ID} {
		if _, err := w.acme.claimLocal(t.Context(), from, claim); wire.StatusOf(err).Code != forbidden || !strings.Contains(err.Error(), "bob@acme.example is disabled") {
			t.Errorf("a claim: %v", err)
		}
	}
	if _, err := w.acme.resetMember(t.Context(), &pb.ResetMemberRequest{Name: "bob"}); wire.StatusOf(err).Code != forbidden {
		t.Errorf("a reset lets him in: %v", err)
	}
	again, err := w.acme.disableMember(t.Context(), &pb.DisableMemberRequest{Name: "bob", Why: "left on Friday"})
	must(t, err)
	if again.Devices != 0 || again.Member.Version != a.Member.Version {
		t.Errorf("said again: %v", again)
	}
	for _, why := range []string{strings.Repeat("x", 257), "two\nlines"} {
		if _, err := w.acme.disableMember(t.Context(), &pb.DisableMemberRequest{Name: "carol", Why: why}); wire.StatusOf(err).Code != malformed {
			t.Errorf("a reason of %d bytes: %v", len(why), err)
		}
	}
	if !w.acme.active(w.carol.id) {
		t.Error("carol's device is gone")
	}
	if _, err := w.acme.enableMember(t.Context(), &pb.ResetMemberRequest{Name: "carol"}); wire.StatusOf(err).Code != forbidden {
		t.Errorf("enabling who is not disabled: %v", err)
	}
	link, err := w.acme.enableMember(t.Context(), &pb.ResetMemberRequest{Name: "bob"})
	must(t, err)
	if !strings.HasPrefix(link.Link, "entente://") {
		t.Errorf("%v", link)
	}
	// A link that was not used admits nobody once he is disabled again.
	_, err = w.acme.disableMember(t.Context(), &pb.DisableMemberRequest{Name: "bob"})
	must(t, err)
	links, err := w.acme.Node.dir.Links()
	must(t, err)
	for _, l := range links {
		if l.Name == "bob" && l.State == "open" {
			t.Errorf("an open link: %+v", l)
		}
	}
}

// TestADisablingThatACrashInterruptedRevokesTheDevices: the record says disabled, and no room
// was told before the node went down.
func TestADisablingThatACrashInterruptedRevokesTheDevices(t *testing.T) {
	w := newWorld(t)
	bob, err := w.acme.Node.dir.Get(w.bob.member)
	must(t, err)
	_, err = w.acme.revokeAll(t.Context(), bob)
	must(t, err)
	must(t, w.acme.Node.dir.Disable(t.Context(), "bob", "")) // and here the process dies
	w.acme.halt()
	w.acme.start()
	eventually(t, "bob's device leaves", func() bool {
		_, g := w.acme.shown(w.room)
		return len(waitingRemovals(t, w, g)) == 1
	})
	eventually(t, "it is done", func() bool {
		_, err := w.acme.store.Get(goneKey(w.bob.id))
		return err != nil
	})
	if m, err := w.acme.Node.dir.Get(w.bob.member); err != nil || !m.Disabled || len(m.Devices) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}
