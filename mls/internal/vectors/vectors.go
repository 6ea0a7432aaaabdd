// Package vectors reads MLS test vectors for tests, the official ones and our own:
// JSON files of one family each, with bytes in hex.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
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

// MarshalJSON writes it.
func (h Hex) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(h)) }

// Load reads a family into the slice that out points to: the official entries and
// after them the project's own, of mls/testdata/vectors, for the suites that have
// no official ones. The folder of the official ones is named by MLS_VECTORS and is
// by default ../shared/mls-vectors beside the module's root. Without it only the
// project's own run, said aloud; a family that has none is skipped.
func Load(t *testing.T, family string, out any) {
	t.Helper()
	dir := os.Getenv("MLS_VECTORS")
	if dir == "" {
		dir = filepath.Join(mls(), "..", "..", "shared", "mls-vectors")
	}
	official := read(t, filepath.Join(dir, family+".json"), out)
	if !official {
		os.Stderr.WriteString("MLS VECTORS MISSING: official ones of " + family + " not run; set MLS_VECTORS\n")
	}
	list := reflect.ValueOf(out).Elem()
	own := reflect.New(list.Type())
	if read(t, Own(family), own.Interface()) {
		list.Set(reflect.AppendSlice(list, own.Elem()))
	} else if !official {
		t.Skipf("MLS VECTORS MISSING: %s not run; set MLS_VECTORS", family)
	}
}

// Own is the file of the project's own vectors of a family.
func Own(family string) string { return filepath.Join(mls(), "testdata", "vectors", family+".json") }

func mls() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(self), "..", "..")
}

func read(t *testing.T, name string, out any) bool {
	t.Helper()
	b, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return false
	}
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return true
}
