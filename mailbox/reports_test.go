package mailbox

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReportsAreKeptCountedAndDestroyed(t *testing.T) {
	w := newWorld(t)
	alice, bob := wire.MemberID{1}, wire.MemberID{2}
	first, err := w.box.PutReport(t.Context(), alice, []byte("a report"))
	must(t, err)
	for range wire.ReportsPerMember - 1 {
		_, err := w.box.PutReport(t.Context(), alice, []byte("another"))
		must(t, err)
	}
	if _, err := w.box.PutReport(t.Context(), alice, []byte("one too many")); err == nil {
		t.Error("a member fills the node")
	}
	if _, err := w.box.PutReport(t.Context(), bob, bytes.Repeat([]byte("x"), wire.MaxReport+1)); err == nil {
		t.Error("a report without end is taken")
	}
	second, err := w.box.PutReport(t.Context(), bob, []byte("bob's"))
	must(t, err)
	list, err := w.box.Reports()
	must(t, err)
	if len(list) != wire.ReportsPerMember+1 || list[0].ID != first || list[0].Reporter != alice || list[0].Body != nil {
		t.Errorf("%d reports, the first %+v", len(list), list[0])
	}
	r, err := w.box.Report(second)
	if err != nil || string(r.Body) != "bob's" || r.Reporter != bob {
		t.Errorf("bob's: %+v, %v", r, err)
	}
	must(t, w.box.DropReport(t.Context(), first))
	for _, id := range []uint64{0, first, second + 1_000} {
		if _, err := w.box.Report(id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("report %d: %v", id, err)
		}
		if err := w.box.DropReport(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("report %d dropped: %v", id, err)
		}
	}
	// Nobody is told of one whose time is over, and it is gone.
	w.clock.advance(wire.ReportLife + 24*time.Hour)
	w.sweep()
	if list, err := w.box.Reports(); err != nil || len(list) != 0 {
		t.Errorf("after its time: %d, %v", len(list), err)
	}
}

func TestReportsOfAllMembersAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range wire.ReportsPerNode {
		_, err := w.box.PutReport(t.Context(), wire.MemberID{byte(i / wire.ReportsPerMember), 1}, []byte("a report"))
		must(t, err)
	}
	if _, err := w.box.PutReport(t.Context(), wire.MemberID{0xff}, []byte("one more")); wire.StatusOf(err).Code != pb.Code_CODE_FULL {
		t.Errorf("one more: %v", err)
	}
	w.close()
	w.open()
	if list, err := w.box.Reports(); err != nil || len(list) != wire.ReportsPerNode {
		t.Errorf("after a restart: %d, %v", len(list), err)
	}
}
