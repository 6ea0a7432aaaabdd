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
	if testing.Short() || fuzzing() {
		os.Exit(m.Run())
	}
	code := 0
	for _, testSuite = range testSuites {
		fmt.Fprintf(os.Stderr, "cipher suite %#04x\n", uint16(testSuite))
		code = max(code, m.Run())
		skipVectors() // they name their suites themselves
	}
	os.Exit(code)
}

func fuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != f.DefValue {
			return true
		}
	}
	return false
}

func skipVectors() {
	f := flag.Lookup("test.skip")
	if v := f.Value.String(); v == "" {
		f.Value.Set("^TestVectors")
	} else {
		f.Value.Set("^TestVectors|" + v)
	}
}
