package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

// OperatorSocket is the unix socket in the data folder on which operators'
// commands reach the running node (docs/protocol.md 8). Whoever can open it may
// use it: mode 0600 in a folder of mode 0700.
const OperatorSocket = "operator.sock"

// DialOperator returns a client of the node that runs on a data folder. It does
// not connect before the first call.
func DialOperator(dir string) ententev1connect.OperatorServiceClient {
	path := filepath.Join(dir, OperatorSocket)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialUnix(ctx, path)
	}}
	return ententev1connect.NewOperatorServiceClient(&http.Client{Transport: transport}, "http://operator")
}

// maxSocketPath is what a unix socket's address may have on every system.
const maxSocketPath = 100

// dialUnix connects to a socket of any path: a long one is reached through its
// folder, because the system's addresses are short.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// shortPath returns a name for path that fits into a socket's address.
func shortPath(path string) (string, func(), error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}

// listen opens a door on this machine's network.
func listen(network, address string) (net.Listener, error) {
	if network == "unix" {
		return listenOperator(address)
	}
	return net.Listen(network, address)
}

// listenOperator makes the socket. The data folder's lock is held, so a socket
// that is there is a dead node's.
func listenOperator(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("node: removing an old operator socket: %w", err)
	}
	short, done, err := shortPath(path)
	if err != nil {
		return nil, fmt.Errorf("node: operator socket: %w", err)
	}
	defer done()
	l, err := net.Listen("unix", short)
	if err != nil {
		return nil, fmt.Errorf("node: operator socket: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("node: operator socket: %w", err)
	}
	return l, nil
}
