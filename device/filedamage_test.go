package device

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestAFileThatIsDamagedAtItsOwnersNodeIsRefusedAtOnceWithWords(t *testing.T) {
	p := newPair(t)
	path, _ := fileOf(t, "a.bin", 10_000)
	must(t, p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep))
	id := idOf(t, p.bob.theFile(t))
	found, err := filepath.Glob(filepath.Join(p.acme.dir, node.BlobFolder, "*.data"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	whole, err := os.ReadFile(found[0])
	must(t, err)
	altered := append([]byte(nil), whole...)
	altered[len(altered)/2] ^= 1
	for name, harm := range map[string]func() error{
		"altered":   func() error { return os.WriteFile(found[0], altered, 0o600) },
		"truncated": func() error { return os.Truncate(found[0], 10) },
		"missing":   func() error { return os.Remove(found[0]) },
	} {
		must(t, os.WriteFile(found[0], whole, 0o600))
		must(t, harm())
		for who, d := range map[string]*Device{"the owner": p.alice, "a partner": p.bob} {
			start := time.Now()
			ctx, stop := context.WithTimeout(t.Context(), patience)
			dir := t.TempDir()
			_, err := d.GetFile(ctx, id, filepath.Join(dir, "saved"), false, noStep)
			stop()
			if wire.StatusOf(err).Code != pb.Code_CODE_DAMAGED || !strings.Contains(err.Error(), "ask the sender to send it again") || time.Since(start) > patience/2 {
				t.Errorf("%s, %s, after %s: %v", name, who, time.Since(start), err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%s, %s: %v, %v stay in the folder", name, who, err, left)
			}
		}
	}
}

func TestAFileThatWaitsSaysWhy(t *testing.T) {
	p := newPair(t)
	path, _ := fileOf(t, "a.bin", 10_000)
	must(t, p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep))
	id := idOf(t, p.bob.theFile(t))
	times := 0
	p.bob.home.Device = &badOwner{p.bob.home.Device, func(_ context.Context, _ uint32, b []byte) ([]byte, error) {
		if times++; times < 3 {
			return nil, wire.Refuse(pb.Code_CODE_UNREACHABLE, "acme.example does not answer")
		}
		return b, nil
	}}
	var said []FileProgress
	_, err := p.bob.GetFile(t.Context(), id, filepath.Join(t.TempDir(), "saved"), false, func(f FileProgress) { said = append(said, f) })
	must(t, err)
	waits := 0
	for _, f := range said {
		if f.Event == "waiting" && strings.Contains(f.Reason, "acme.example does not answer") && f.Name == "a.bin" {
			waits++
		}
	}
	if waits != 2 {
		t.Errorf("said: %+v", said)
	}
}
