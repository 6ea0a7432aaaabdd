package policy

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

func TestARoomTakesNoSuiteBelowItsFloor(t *testing.T) {
	for _, c := range []struct {
		floor uint32
		suite mls.SuiteID
		good  bool
	}{
		{1, 1, true}, {1, 3, true}, {3, 1, true}, {1, mls.SuiteXWingChaCha20, true},
		{uint32(mls.SuiteXWingChaCha20), mls.SuiteXWingChaCha20, true},
		{uint32(mls.SuiteXWingChaCha20), 1, false}, {uint32(mls.SuiteXWingChaCha20), 3, false},
		{0, 1, false}, {2, 1, false}, {1, 2, false}, {0x10001, 1, false},
	} {
		if err := CheckSuite(c.floor, c.suite); (err == nil) != c.good {
			t.Errorf("floor %d, suite %d: %v", c.floor, c.suite, err)
		}
	}
	for _, s := range mls.Suites() {
		if strength[s] == 0 {
			t.Errorf("suite %d has no rank", s)
		}
	}
}
