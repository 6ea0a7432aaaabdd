// Package ports finds loopback ports for nodes that tests and the walk start, stop and
// start again.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The kernel gives ports from 32768 on to whoever dials out (ip(7),
// ip_local_port_range): a node that is down for a moment would lose one of those to any
// connection. These are below.
const first, last = 12_000, 32_000

var (
	mu    sync.Mutex
	given = make(map[int]bool)
)

// Free returns n ports that nobody listens on, for TCP and UDP on 127.0.0.1, none of
// them given before in this process.
func Free(n int) ([]int, error) {
	mu.Lock()
	defer mu.Unlock()
	var found []int
	for tries := 0; len(found) < n; tries++ {
		if tries > last-first {
			return nil, errors.New("ports: none is free")
		}
		port := first + rand.IntN(last-first)
		if !given[port] && free(port) {
			given[port] = true
			found = append(found, port)
		}
	}
	return found, nil
}

func free(port int) bool {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
