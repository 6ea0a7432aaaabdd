package testnet

import (
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/entente-im/entente/"

// mayImport is the table of docs/design.md, "The house": for each package, what
// of ours its code may import. A name without a slash stands for itself and all
// folders under it, unless one of them has a row of its own.
var mayImport = map[string][]string{
	"wire":      {"wire"},
	"mls":       {"mls"},
	"mls/group": {"mls", "mls/group"},
	// The driver is a program for interoperability tests, not part of the binary.
	"mls/driver": {"mls", "mls/group"},
	// Growth measures.
	"mls/growth": {"mls", "mls/group"},
	// A program for pages, no part of the binary.
	"mls/wasm":   {"mls", "mls/group"},
	"store":      {"store", "store/slot"},
	"store/slot": {"store/slot"},
	// What devices share of identity opens no store.
	"identity":           {"identity", "wire"},
	"identity/directory": {"identity", "identity/directory", "store", "wire"},
	"identity/replica":   {"identity", "identity/replica", "store", "wire"},
	"mailbox":            {"mailbox", "store", "wire"},
	// Files of ciphertext beside the store, each with a key slot of its own.
	"mailbox/blob": {"mailbox/blob", "store/slot", "wire"},
	"federation":   {"federation", "identity", "store", "wire"},
	// What hub and devices hold a room to, in one place.
	"policy":      {"policy", "mls", "wire"},
	"device":      {"device", "identity", "mls", "mls/group", "policy", "store/slot", "wire"},
	"node":        {"node", "federation", "identity", "identity/directory", "identity/replica", "mailbox", "mailbox/blob", "mls", "policy", "store", "wire"},
	"testnet":     {"testnet", "node", "device", "federation", "identity", "identity/directory", "mailbox", "mls", "policy", "store", "store/slot", "wire"},
	"cmd/entente": {"node", "device", "identity", "testnet", "wire"},
}

// rowOf returns the row that holds for a package: its own, or its nearest parent's.
func rowOf(pkg string) string {
	for p := pkg; p != "." && p != ""; p = filepath.ToSlash(filepath.Dir(p)) {
		if _, ok := mayImport[p]; ok {
			return p
		}
	}
	return ""
}

func TestImportTableHolds(t *testing.T) {
	checked := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel("..", path)
		rel = filepath.ToSlash(rel)
		if strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || d.Name() == "bin" {
			return filepath.SkipDir
		}
		p, err := build.ImportDir(path, 0)
		if err != nil || rel == "." {
			return nil // no Go files there
		}
		row := rowOf(rel)
		if row == "" {
			t.Errorf("package %s is not in the table", rel)
			return nil
		}
		checked++
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, modulePath)
			if ours && !slices.Contains(mayImport[row], rowOf(target)) {
				t.Errorf("%s imports %s, which the table of docs/design.md does not allow", rel, target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 10 {
		t.Errorf("only %d packages were looked at", checked)
	}
}

// TestDeviceLinksNoBadger: what a device is built from holds no database server.
func TestDeviceLinksNoBadger(t *testing.T) {
	out := listDependencies(t, "./device")
	for _, dep := range out {
		if strings.HasPrefix(dep, "github.com/dgraph-io/badger") || dep == modulePath+"store" {
			t.Errorf("device depends on %s", dep)
		}
	}
}

// TestNodeLinksNoPrivateMLS: P4 read off the import graph.
func TestNodeLinksNoPrivateMLS(t *testing.T) {
	if slices.Contains(listDependencies(t, "./node"), modulePath+"mls/group") {
		t.Error("node depends on mls/group")
	}
}
