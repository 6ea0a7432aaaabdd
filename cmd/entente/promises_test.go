package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each promise of docs/design.md, P1 to P7, is shown by a script that names it in its first
// line; and a first line names none that is not one.
func TestEachPromiseIsNamedByAScript(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	named := make(map[string]bool)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(b), "\n")
		if !strings.HasPrefix(first, "# ") {
			t.Errorf("%s does not say in its first line what it shows", f)
		}
		for _, p := range regexp.MustCompile(`\bP\d+\b`).FindAllString(first, -1) {
			named[p] = true
		}
	}
	for _, p := range []string{"P1", "P2", "P3", "P4", "P5", "P6", "P7"} {
		if !named[p] {
			t.Errorf("no script shows %s", p)
		}
		delete(named, p)
	}
	for p := range named {
		t.Errorf("there is no promise %s", p)
	}
}
