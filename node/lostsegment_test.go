package node

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A file that is missing in the middle of the log may have held a revocation or a place: the node
// signs nothing until its operator accepts that.
func TestANodeThatHasLostTheMiddleOfItsLogSignsNothing(t *testing.T) {
	w := newWorld(t)
	w.says(1)
	for range 2 { // each start begins a segment
		w.acme.halt()
		w.acme.reopen(false)
		var b store.Batch
		b.Put([]byte("nd/test"), []byte("kept"))
		_, err := w.acme.store.Commit(t.Context(), &b)
		must(t, err)
	}
	w.acme.halt()
	segments, err := filepath.Glob(filepath.Join(w.acme.dir, StoreFolder, "log", "*.seg"))
	must(t, err)
	slices.Sort(segments)
	must(t, os.Remove(segments[len(segments)-2]))
	w.acme.reopen(false)
	if !w.acme.recovering() {
		t.Fatal("the node does not know that it has lost records")
	}
	_, err = w.acme.addMember(t.Context(), &pb.AddMemberRequest{Name: "erin"})
	if wire.StatusOf(err).Code != pb.Code_CODE_RECOVERING {
		t.Errorf("a member: %v", err)
	}
	w.acme.halt()
	w.acme.reopen(true)
	if w.acme.store.Status().Recovering {
		t.Error("the loss was accepted, and is named again")
	}
}
