//go:build !race

package identity

import "testing"

func TestWhatIsSealedCostsWhatRFC9106Recommends(t *testing.T) {
	b, err := Seal([]byte("correct horse"), []byte("x"), "test")
	must(t, err)
	if passes, memory, threads, err := parseSealed(b); err != nil || passes != 3 || memory != 64<<10 || threads != 4 {
		t.Errorf("%d passes over %d KiB with %d threads: %v", passes, memory, threads, err)
	}
}
