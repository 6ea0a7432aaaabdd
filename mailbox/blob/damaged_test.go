package blob

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// harms are what may happen to a file's ciphertext on a disk.
func harms(path string) map[string]func() error {
	return map[string]func() error{
		"altered": func() error {
			b, err := os.ReadFile(path)
			if err == nil {
				b[100] ^= 1
				err = os.WriteFile(path, b, 0o600)
			}
			return err
		},
		"truncated": func() error { return os.Truncate(path, 50) },
		"missing":   func() error { return os.Remove(path) },
	}
}

func TestADamagedFileIsSaidToBeSoForGoodAndLoggedOnce(t *testing.T) {
	for _, name := range []string{"altered", "truncated", "missing", "without its key"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var log bytes.Buffer
			var err error
			w.Store, err = Open(Options{Dir: w.dir, Seal: seal, Now: func() time.Time { return w.time }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			upload, id := w.whole(random(wire.FileChunk / 2))
			if name == "without its key" {
				w.uploads[upload].data = nil // as after a start
				err = os.Remove(w.path(upload, keySuffix))
			} else {
				err = harms(w.path(upload, dataSuffix))[name]()
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				_, err := w.read(id)
				refused(t, err, pb.Code_CODE_DAMAGED)
				if wire.ClassOf(wire.StatusOf(err).Code) != wire.Permanent {
					t.Error("it is said to come back")
				}
			}
			if n := strings.Count(log.String(), "nobody gets this file"); n != 1 {
				t.Errorf("logged %d times: %s", n, log.String())
			}
		})
	}
}
