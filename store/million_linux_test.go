package store

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestMemoryAndStartAtAMillionReferences measures what the index costs; ENTENTE_REFERENCES
// is the number of references, each with a body of 256 bytes of its own.
func TestMemoryAndStartAtAMillionReferences(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("ENTENTE_REFERENCES"))
	if err != nil || n < 1 {
		t.Skip("set ENTENTE_REFERENCES=1000000 to measure")
	}
	o := Options{Dir: t.TempDir(), SealKey: [32]byte{1}, Reserve: -1}
	empty := heapNow()
	s := openStore(t, o)
	body := make([]byte, 256)
	for done := 0; done < n; {
		var b Batch
		for i := range min(1_000, n-done) {
			b.Deposit(Deposit{Body: body, Deadline: time.Now().Add(7 * 24 * time.Hour), Queues: []QueueID{QueueID((done + i) % 10_000)}})
		}
		commit(t, s, &b)
		done += len(b.ops)
	}
	full := heapNow()
	closeStore(t, s)
	before := heapNow()
	begun := time.Now()
	s = openStore(t, o)
	start := time.Since(begun)
	opened := heapNow()
	healthy(t, s)
	st := s.Status()
	want(t, "references", st.Refs, n)
	t.Logf("%d references, log %d MB: index %d MB after filling (%d B a reference), %d MB after a start of %v; resident at most %d MB",
		n, st.Bytes>>20, (full-empty)>>20, (full-empty)/uint64(n), (opened-before)>>20, start.Round(time.Millisecond), peakResident()>>10)
	closeStore(t, s)
}

func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// peakResident returns the most memory that this process has had resident, in KiB.
func peakResident() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Maxrss
}
