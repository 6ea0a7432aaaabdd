package mailbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

// flipBody changes one bit in the body of the n-th large deposit of the log
// (docs/disk.md 3: header of 56 bytes, head, body).
func (w *world) flipBody(n int) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "log", "*.seg"))
	if err != nil || len(files) == 0 {
		w.t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], []byte("ENT1"))
			if i < 0 || at+i+56 > len(b) {
				break
			}
			at += i
			head, body := binary.LittleEndian.Uint32(b[at+12:]), binary.LittleEndian.Uint32(b[at+16:])
			if b[at+8] != 1 || body < 20_000 || int(head+body) > len(b)-at {
				continue
			}
			if n--; n == 0 {
				b[at+56+int(head)+10_000] ^= 4
				if err := os.WriteFile(name, b, 0o600); err != nil {
					w.t.Fatal(err)
				}
				return
			}
		}
	}
	w.t.Fatal("no such deposit")
}

// A damaged copy is named, holds up nothing, and its sender is told that it was not
// readable: as soon as the device has passed it, or at its deadline.
func TestADamagedCopyIsNamedAndReportedAsUnreadable(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.put(Delivery{Item: w.message(30_000), Devices: []wire.DeviceID{dev(1), dev(2)}})
	}
	w.close()
	w.flipBody(2)
	w.open()
	for _, d := range []wire.DeviceID{dev(1), dev(2)} {
		got, err := w.box.Fetch(context.Background(), d, 0, 10, 1<<20)
		if err != nil || len(got) != 3 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		for i, e := range got {
			want(t, fmt.Sprint("entry is damaged ", i), e.Err != nil, i == 1)
			want(t, fmt.Sprint("envelope is there ", i), e.Envelope != nil, i != 1)
		}
		if d == dev(1) {
			w.ack(d, got[2].Seq)
		} else {
			w.ack(d, got[0].Seq)
		}
	}
	want(t, "acknowledged", fmt.Sprint(states(w.seen())), "map[acknowledged:3 unreadable:1]")
	w.pass(time.Hour + HandoutGrace)
	w.sweep()
	want(t, "at the deadline", fmt.Sprint(states(w.seen())), "map[expired:1 unreadable:1]")
	want(t, "left", w.box.Totals().Inboxes.Messages, 0)
}
