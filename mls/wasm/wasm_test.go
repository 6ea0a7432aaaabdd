package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entente-im/entente/mls"
)

const (
	maxGzip   = 1_700_000 // bytes; brotli makes three quarters of it
	maxBrotli = 1_400_000
)

// build makes the program as it is shipped.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a program")
	}
	out := filepath.Join(t.TempDir(), "chat.wasm")
	run(t, nil, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	return out
}

// run runs a command for js/wasm and returns what it prints.
func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return out
}

func TestTheProgramIsSmall(t *testing.T) {
	b, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w, _ := gzip.NewWriterLevel(&z, gzip.BestCompression)
	w.Write(b)
	w.Close()
	t.Logf("%d bytes, %d with gzip", len(b), z.Len())
	if z.Len() > maxGzip {
		t.Errorf("%d bytes with gzip, want at most %d", z.Len(), maxGzip)
	}
	if os.Getenv("ENTENTE_BROTLI") == "" { // it takes its time
		t.Log("ENTENTE_BROTLI is not set: brotli is not measured")
		return
	}
	n := len(run(t, b, "brotli", "-q", "11", "-w", "24", "-c"))
	t.Logf("%d with brotli", n)
	if n > maxBrotli {
		t.Errorf("%d bytes with brotli, want at most %d", n, maxBrotli)
	}
}

func TestTheProgramHasNoNetworkAndNoProtobuf(t *testing.T) {
	deps := strings.Fields(string(run(t, nil, "go", "list", "-deps", ".")))
	if len(deps) < 20 {
		t.Fatalf("only %d packages", len(deps))
	}
	for _, d := range deps {
		if d == "net" || strings.HasPrefix(d, "net/") || strings.Contains(d, "protobuf") || d == "encoding/json" {
			t.Errorf("depends on %s", d)
		}
	}
}

// The built program, in a JavaScript engine: two devices talk.
func TestTheProgramChatsInAJavaScriptEngine(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node here")
	}
	root := strings.TrimSpace(string(run(t, nil, "go", "env", "GOROOT")))
	out := run(t, nil, node, "testdata/talk.js", filepath.Join(root, "lib", "wasm", "wasm_exec.js"), build(t))
	if got := strings.TrimSpace(string(out)); got != "ana: hello" {
		t.Fatalf("it said %q", got)
	}
}

func TestTwoDevicesChat(t *testing.T) {
	for _, suite := range []mls.SuiteID{mls.SuiteX25519AES128, mls.SuiteX25519ChaCha20, mls.SuiteXWingChaCha20} {
		ana, err := newChat(mls.Random(32), []byte("ana"), suite)
		must(t, err)
		bo, err := newChat(mls.Random(32), []byte("bo"), suite)
		must(t, err)
		room := []byte("room")
		must(t, ana.create(room))
		kp, err := bo.keyPackage()
		must(t, err)
		_, welcome, err := ana.add(room, [][]byte{kp})
		must(t, err)
		id, err := bo.join(welcome)
		must(t, err)
		if _, err := bo.join(welcome); err == nil {
			t.Fatal("a Welcome was taken twice")
		}
		msg, _, err := ana.send(room, []byte("hello"))
		must(t, err)
		from, data, _, err := bo.receive(id, msg)
		must(t, err)
		if string(from) != "ana" || string(data) != "hello" {
			t.Fatalf("%s: %s", from, data)
		}
		if _, _, _, err := bo.receive(id, msg); err == nil {
			t.Fatal("a message was opened twice")
		}
		stored, err := bo.save(id)
		must(t, err)
		delete(bo.rooms, string(id))
		if _, _, err := bo.send(id, nil); !errors.Is(err, errRoom) {
			t.Fatal(err)
		}
		_, err = bo.load(stored)
		must(t, err)
		reply, _, err := bo.send(id, []byte("hello too"))
		must(t, err)
		if _, data, _, err = ana.receive(room, reply); err != nil || string(data) != "hello too" {
			t.Fatalf("%s, %v", data, err)
		}
		cy, err := newChat(mls.Random(32), []byte("cy"), suite)
		must(t, err)
		kp, err = cy.keyPackage()
		must(t, err)
		commit, _, err := ana.add(room, [][]byte{kp})
		must(t, err)
		if _, data, _, err := bo.receive(id, commit); err != nil || data != nil || len(bo.rooms[string(id)].Members()) != 3 {
			t.Fatalf("the Commit: %v", err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
