package testnet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// The third part of the walk: what happens to a person's devices.

// linksTablet has alice link a second device, which takes part from then on.
func (w *walk) linksTablet(ctx context.Context) (_ string, err error) {
	c := exec.CommandContext(ctx, w.alice.binary, "device", "link", "--yes", "--json", "--device", w.alice.Dir)
	c.Env, c.Stderr = environment(), io.Discard
	out, err := c.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := c.Start(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Wait()) }()
	lines := bufio.NewReader(out)
	defer io.Copy(io.Discard, lines)
	var shown struct{ Link string }
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &shown)
	}
	if err != nil {
		return "", err
	}
	file := filepath.Join(w.root, "devicelink")
	if err := os.WriteFile(file, []byte(shown.Link+"\n"), 0o600); err != nil {
		return "", err
	}
	w.tablet = &Device{Address: w.alice.Address, Dir: filepath.Join(w.root, "tablet"), binary: w.alice.binary}
	if _, err := w.tablet.command(ctx, "device", "enroll", "--link-file", file); err != nil {
		return "", err
	}
	if _, err := lines.ReadBytes('\n'); err != nil { // it is one of alice's
		return "", err
	}
	if err := w.awaits(ctx, w.tablet, "room", "joined"); err != nil {
		return "", err
	}
	began, text := time.Now(), "to both devices "+randomText(8)
	if _, err := w.bob.command(ctx, "send", room, text); err != nil {
		return "", err
	}
	for _, d := range []*Device{w.alice, w.tablet} {
		if err := w.reads(ctx, d, w.bob.Address, text); err != nil {
			return "", err
		}
	}
	took := time.Since(began).Seconds()
	if err := w.awaits(ctx, w.bob, "identity", "device"); err != nil {
		return "", err
	}
	return fmt.Sprintf("bob writes to one person, both devices have it after %.1f s", took), nil
}

// resyncs sets bob's device back to a copy that it has outlived: it comes back into the
// room by itself.
func (w *walk) resyncs(ctx context.Context) (string, error) {
	if _, err := w.bob.command(ctx, "receive"); err != nil {
		return "", err
	}
	old := filepath.Join(w.root, "bob.backup")
	if err := os.CopyFS(old, os.DirFS(w.bob.Dir)); err != nil {
		return "", err
	}
	for range 3 {
		if _, err := w.bob.command(ctx, "send", room, "lost with the disk "+randomText(8)); err != nil {
			return "", err
		}
	}
	if _, err := w.alice.command(ctx, "room", "role", room, w.carol.Address, "guest"); err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(w.bob.Dir), os.Rename(old, w.bob.Dir)); err != nil {
		return "", err
	}
	began := time.Now()
	if err := w.awaits(ctx, w.bob, "room", "resynced"); err != nil {
		return "", err
	}
	took := time.Since(began).Seconds()
	text := "back again " + randomText(8)
	if _, err := w.bob.command(ctx, "send", room, text); err != nil {
		return "", err
	}
	if err := w.reads(ctx, w.alice, w.bob.Address, text); err != nil {
		return "", err
	}
	return fmt.Sprintf("back in the room with new keys after %.1f s", took), w.agrees(ctx, w.alice, w.bob, w.carol)
}
