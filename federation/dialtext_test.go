package federation

import (
	"context"
	"fmt"
	"strings"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestWhoIsNotReachedIsNamedByAddressAndCause(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	at := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", freePort(t))
	address := at + "/p2p/" + b.fed.host.ID().String()
	_, err := a.fed.LeaveRequest(context.Background(), b.name, address, terms())
	refusedWith(t, err, pb.Code_CODE_UNREACHABLE)
	if want := "unreachable: " + at + ": connection refused"; !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%q, want %q", err, want)
	}
}
