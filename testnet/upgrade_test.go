package testnet

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/node"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// The folders of an organization and of its two members as a version has written
// them: alice has a room with bob, one message that bob has stored, and one that
// waits for him at the node.
const (
	firstVersion  = "v0.1.0"
	writeTestdata = "ENTENTE_WRITE_TESTDATA" // set to make the archive anew, before a release
	archivedText  = "kept by v0.1.0"
	waitingText   = "still waiting in v0.1.0"
)

func archivePath(version string) string { return filepath.Join("testdata", version+".tar.gz") }

// fixedClock stands still at the moment at which an archive was written, so that its
// certificates and deadlines are good for ever.
type fixedClock struct{ at time.Time }

func (c fixedClock) Now() time.Time      { return c.at }
func (c fixedClock) Boot() time.Duration { return time.Hour }

// TestFoldersOfEveryVersionOpen: what an earlier version wrote is read, whole.
func TestFoldersOfEveryVersionOpen(t *testing.T) {
	if os.Getenv(writeTestdata) != "" {
		writeArchive(t, archivePath(firstVersion))
	}
	dir := t.TempDir()
	written := unpack(t, archivePath(firstVersion), dir)
	n, err := node.Open(t.Context(), node.Options{Dir: filepath.Join(dir, "acme"), Passphrase: []byte(passphrase), Clock: fixedClock{written},
		Configure: func(c *node.Config) { c.Listen, c.Federation = "127.0.0.1:0", []string{"/ip4/127.0.0.1/tcp/0"} }})
	if err != nil {
		t.Fatal(err)
	}
	stop := runNode(t, n)
	status, err := node.DialOperator(filepath.Join(dir, "acme")).Status(t.Context(), connect.NewRequest(&pb.NodeStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if s := status.Msg; s.Members != 2 || s.Devices != 2 || s.Rooms != 1 || len(s.Problems) != 0 {
		t.Errorf("the node holds %d members, %d devices, %d rooms; problems %v", s.Members, s.Devices, s.Rooms, s.Problems)
	}
	waiting := uint64(0)
	for _, m := range status.Msg.Mailboxes {
		if m.Member == "bob@acme.example" {
			waiting = m.Count
		}
	}
	if waiting != 1 {
		t.Errorf("%d envelopes wait for bob, not 1", waiting)
	}
	for _, name := range []string{"alice", "bob"} {
		d, err := device.Open(filepath.Join(dir, "device-"+name), []byte(passphrase))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if rooms := d.Rooms(); len(rooms) != 1 || rooms[0].Devices != 2 || d.Address().Name != name {
			t.Errorf("%s has the rooms %+v", d.Address(), rooms)
		}
		d.Close()
	}
}

// runNode runs a node until the function that it returns is called.
func runNode(t *testing.T, n *node.Node) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the node ended with %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("the node closed with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func writeArchive(t *testing.T, path string) {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	_ = l.Close()
	c := node.DefaultConfig()
	c.Listen, c.Federation, c.TrustClock = listen, []string{"/ip4/127.0.0.1/tcp/0"}, true
	acme := filepath.Join(dir, "acme")
	if _, err := node.Init(acme, "acme.example", []byte(passphrase), c); err != nil {
		t.Fatal(err)
	}
	n, err := node.Open(t.Context(), node.Options{Dir: acme, Passphrase: []byte(passphrase)})
	if err != nil {
		t.Fatal(err)
	}
	stop := runNode(t, n)
	alice, bob := enrolFor(t, acme, dir, "alice"), enrolFor(t, acme, dir, "bob")
	send := func(text string) {
		if err := alice.Send(t.Context(), bob.Address(), text, device.SendOptions{Expires: 29 * 24 * time.Hour}, func(device.Progress) {}); err != nil {
			t.Fatal(err)
		}
	}
	send(archivedText)
	if err := bob.Receive(t.Context(), false, func(device.Shown) error { return nil }); err != nil {
		t.Fatal(err)
	}
	send(waitingText)
	alice.Close()
	bob.Close()
	stop()
	pack(t, dir, path)
}

func enrolFor(t *testing.T, data, dir, name string) *device.Device {
	t.Helper()
	added, err := node.DialOperator(data).AddMember(t.Context(), connect.NewRequest(&pb.AddMemberRequest{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	d, err := device.Enroll(t.Context(), filepath.Join(dir, "device-"+name), []byte(passphrase), added.Msg.Link)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func pack(t *testing.T, dir, path string) {
	t.Helper()
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w := tar.NewWriter(z)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "lock" || strings.HasPrefix(d.Name(), "spare") {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(content)), ModTime: time.Now()}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// unpack lays an archive out and returns when it was written.
func unpack(t *testing.T, path, dir string) (written time.Time) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return written
		}
		if err != nil {
			t.Fatal(err)
		}
		if !filepath.IsLocal(h.Name) {
			t.Fatal(fmt.Errorf("%s leads out of the archive", h.Name))
		}
		p := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := os.OpenFile(p, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.CopyN(out, r, h.Size)
		if e := out.Close(); err != nil || e != nil {
			t.Fatal(err, e)
		}
		written = h.ModTime
	}
}
