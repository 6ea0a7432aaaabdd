package federation

import (
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Links that come and go after a restore bring a partner's word more than once.
func TestAPartnersWordThatComesTwiceIsNoError(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	befriend(t, a, b)
	p := a.fed.find(b.org.ID)
	word := &pb.AmendAnswer{Stopped: wire.AgreementQuarantined, StoppedMs: time.Now().Add(time.Minute).UnixMilli()}
	a.fed.making.Lock() // neither is done before both have come
	a.fed.stopAgain(p, word)
	a.fed.stopAgain(p, word)
	a.fed.making.Unlock()
	until(t, "the second word is heard", func() bool { return strings.Contains(a.logs.String(), "adds nothing") })
	if rec, _ := p.recorded(); !rec.Quarantined {
		t.Error("the partner is not stopped again")
	}
	if strings.Contains(a.logs.String(), "ERROR") {
		t.Errorf("an error was logged:\n%s", a.logs.String())
	}
}
