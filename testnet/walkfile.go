package testnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// walkFile is how large the file of the walk is: some chunks, the last one cut.
const walkFile = 5_000_000

// file sends a file into the room of three organizations. Bob and carol fetch it through
// their own nodes; neither its bytes nor its name stand in any node's files.
func (w *walk) file(ctx context.Context) (string, error) {
	name, marker := "plan-"+randomText(6)+".bin", "marker "+randomText(16)
	content := make([]byte, walkFile)
	rand.Read(content)
	copy(content[walkFile/2:], marker)
	path := filepath.Join(w.root, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", err
	}
	began := time.Now()
	if _, err := w.alice.command(ctx, "send", room, "--file", path); err != nil {
		return "", err
	}
	sent := time.Since(began)
	for _, d := range []*Device{w.bob, w.carol} {
		if err := w.fetches(ctx, d, name, content); err != nil {
			return "", fmt.Errorf("%s: %w", d.Address, err)
		}
	}
	places := []string{w.acme.Dir, w.globex.Dir, w.initech.Dir, w.acme.Log, w.globex.Log, w.initech.Log}
	for _, text := range []string{marker, name} {
		if hits, _, err := search(places, text); err != nil || len(hits) > 0 {
			return "", errors.Join(err, fmt.Errorf("it stands in %v", hits))
		}
	}
	return fmt.Sprintf("%.1f MB sent in %.1f s, fetched at two other organizations, in no node's files", walkFile/1e6, sent.Seconds()), nil
}

// fetches waits until a device is shown a file of that name, fetches and compares it.
func (w *walk) fetches(ctx context.Context, d *Device, name string, content []byte) error {
	var id string
	err := eventually(ctx, 20*time.Second, func() error {
		if _, err := d.command(ctx, "receive"); err != nil {
			return err
		}
		list, err := d.command(ctx, "file", "list")
		if err != nil {
			return err
		}
		for _, f := range list {
			if f["name"] == name {
				id, _ = f["id"].(string)
				return nil
			}
		}
		return fmt.Errorf("%w: no file of that name is listed", errNotYet)
	})
	if err != nil {
		return err
	}
	out := filepath.Join(w.root, filepath.Base(d.Dir)+"-"+name)
	if _, err := d.command(ctx, "file", "get", id, "-o", out); err != nil {
		return err
	}
	got, err := os.ReadFile(out)
	if err == nil && !bytes.Equal(got, content) {
		err = errors.New("the file that was fetched is another one")
	}
	return err
}
