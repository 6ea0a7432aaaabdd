// Package vectors reads the official MLS test vectors for tests: JSON files of
// one family each, with bytes in hex.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Hex is bytes written as hexadecimal text; null is nil.
type Hex []byte

// UnmarshalJSON reads the text.
func (h *Hex) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	v, err := hex.DecodeString(*s)
	*h = v
	return err
}

// Load reads a family into out. The folder is named by MLS_VECTORS and is by
// default ../shared/mls-vectors beside the module's root. Without it the test is
// skipped, aloud: the project's own vectors still run.
func Load(t *testing.T, family string, out any) {
	t.Helper()
	dir := os.Getenv("MLS_VECTORS")
	if dir == "" {
		_, self, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(self), "..", "..", "..", "..", "shared", "mls-vectors")
	}
	b, err := os.ReadFile(filepath.Join(dir, family+".json"))
	if os.IsNotExist(err) {
		os.Stderr.WriteString("MLS VECTORS MISSING: " + family + " not run; set MLS_VECTORS\n")
		t.Skipf("MLS VECTORS MISSING: %s not run; set MLS_VECTORS", family)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
}
