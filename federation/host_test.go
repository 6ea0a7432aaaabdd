package federation

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/multiformats/go-multiaddr"
)

// listening makes a host that listens on these addresses.
func listening(t *testing.T, at ...string) (host.Host, error) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var all []multiaddr.Multiaddr
	for _, a := range at {
		all = append(all, multiaddr.StringCast(a))
	}
	h, err := newHost(key, all, nil, &gater{})
	if err == nil {
		t.Cleanup(func() { _ = h.Close() })
	}
	return h, err
}

// Two nodes on one port would get half of the connections each, and neither would say so.
func TestAPortThatAnotherNodeHasIsNotListenedOn(t *testing.T) {
	at := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", freePort(t))
	h, err := listening(t, at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listening(t, at); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("a second node listens on %s: %v", at, err)
	}
	if CanListen(multiaddr.StringCast(at)) == nil {
		t.Errorf("config test takes %s for free", at)
	}
	_ = h.Close()
	if _, err := listening(t, at); err != nil {
		t.Errorf("the port of a node that has ended: %v", err)
	}
}

func TestANodeListensOnAllOfItsAddressesOrNotAtAll(t *testing.T) {
	taken, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	quic := fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", taken.LocalAddr().(*net.UDPAddr).Port)
	if _, err := listening(t, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", freePort(t)), quic); err == nil || !strings.Contains(err.Error(), quic) {
		t.Errorf("a node goes on without %s: %v", quic, err)
	}
	if CanListen(multiaddr.StringCast(quic)) == nil {
		t.Errorf("config test takes %s for free", quic)
	}
}
