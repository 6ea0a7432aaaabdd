package group

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/entente-im/entente/mls"
)

// testSuites are the rows that every test of this package runs with.
var testSuites = []mls.SuiteID{mls.SuiteX25519AES128, mls.SuiteX25519ChaCha20, mls.SuiteXWingChaCha20}

// testSuite is the row that runs.
var testSuite = testSuites[0]

// otherSuite is a row that is not the one that runs.
func otherSuite() mls.SuiteID {
	if testSuite == testSuites[0] {
		return testSuites[1]
	}
	return testSuites[0]
}

// TestMain runs everything once for each suite; only once when fuzzing, and with
// -short.
func TestMain(m *testing.M) {
	flag.Parse()
	given = flag.Lookup("test.skip").Value.String()
	if testing.Short() || fuzzing() {
		os.Exit(m.Run())
	}
	code := 0
	for _, testSuite = range testSuites {
		fmt.Fprintf(os.Stderr, "cipher suite %#04x\n", uint16(testSuite))
		switch testSuite {
		case testSuites[0]:
		case mls.SuiteX25519ChaCha20:
			// Its KEM is the first's and its AEAD the other's: the long table of the
			// rules runs with those.
			skip("^TestVectors|^TestABrokenRule")
		default:
			skip("^TestVectors") // they name their suites themselves
		}
		code = max(code, m.Run())
	}
	os.Exit(code)
}

// given is what the caller wants skipped.
var given string

// skip leaves tests out of the next run, beside those given.
func skip(pattern string) {
	if given != "" {
		pattern += "|" + given
	}
	flag.Set("test.skip", pattern)
}

func fuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != f.DefValue {
			return true
		}
	}
	return false
}
