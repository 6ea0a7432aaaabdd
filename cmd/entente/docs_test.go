package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingIsLeftToFillInInTheDocs: output in them is from real nodes.
func TestNothingIsLeftToFillInInTheDocs(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, p := range append(pages, "../../README.md", "../../CHANGELOG.md") {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(b), "\n") {
			if strings.Contains(line, "@@") {
				t.Errorf("%s:%d: %s", filepath.Base(p), n+1, line)
			}
		}
	}
}
