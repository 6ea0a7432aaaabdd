package federation

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// dialText says for people why nobody was reached: each address, and what stood in the way
// there, at most MaxDetail bytes. The library's text begins with the peer, twice.
func dialText(err error) string {
	var d *swarm.DialError
	if !errors.As(err, &d) || len(d.DialErrors) == 0 {
		return short(err.Error())
	}
	var out []string
	for _, e := range d.DialErrors {
		cause := e.Cause
		var op *net.OpError
		if errors.As(cause, &op) && op.Err != nil {
			cause = op.Err // without the addresses, which are said already
		}
		var call *os.SyscallError
		if errors.As(cause, &call) {
			cause = call.Err
		}
		out = append(out, fmt.Sprintf("%s: %v", e.Address, cause))
	}
	return short(strings.Join(out, "; "))
}
