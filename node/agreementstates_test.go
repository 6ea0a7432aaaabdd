package node

import (
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestDevicesAreToldOfAnAgreementsStateOnceAndAskForNoMoreThanARoomHas(t *testing.T) {
	w := newWorld(t)
	told := func() (n int) {
		list, err := w.acme.mail.Fetch(t.Context(), w.bob.id, 0, 100, 1<<20)
		must(t, err)
		for _, x := range list {
			core, err := wire.ParseCore(x.Envelope.Core)
			must(t, err)
			if core.Kind == pb.Kind_KIND_AGREEMENT {
				n++
			}
		}
		return n
	}
	before := told()
	must(t, w.acme.fed.Suspend(t.Context(), w.globex.org.ID, ""))
	for range 2 {
		must(t, w.acme.tellState(t.Context(), w.globex.org.ID))
	}
	if n := told() - before; n != 1 {
		t.Errorf("told %d times", n)
	}
	globex, stranger := w.globex.org.ID, wire.OrganizationID{9}
	a, err := w.acme.agreementFor(w.acme.org.ID[:], [][]byte{globex[:], stranger[:]})
	must(t, err)
	if len(a.States) != 1 || a.States[0].State != wire.AgreementSuspended {
		t.Errorf("%v", a.States)
	}
	for name, states := range map[string][][]byte{"one of 31 bytes": {make([]byte, 31)}, "more than a room has": make([][]byte, wire.AgreementStates+1)} {
		if _, err := w.acme.agreementFor(w.acme.org.ID[:], states); wire.StatusOf(err).Code != malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
