package budget

import (
	"runtime"
	"testing"
)

func TestAllocatingTooMuchIsNoticedEvenWhenItWasFreed(t *testing.T) {
	var sink []byte
	if err := Check(func() { sink = make([]byte, 1<<20) }); err != nil {
		t.Fatal(err)
	}
	err := Check(func() {
		for range 3 {
			sink = make([]byte, MaxAlloc/2)
			runtime.KeepAlive(sink)
			sink = nil
		}
	})
	if err == nil {
		t.Fatal("96 MiB went unnoticed")
	}
}
