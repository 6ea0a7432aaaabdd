package group

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/entente-im/entente/mls"
)

// negatives are the cases of docs/mls-validation.md: "rule/entry" is the name
// of both the subtest and the row's mention.
var negatives = map[string]func(*testing.T){}

// negative registers the case that breaks a rule at an entry.
func negative(rule, entry string, f func(*testing.T)) {
	name := rule + "/" + entry
	if negatives[name] != nil {
		panic("two cases named " + name)
	}
	negatives[name] = f
}

// dependsOnSuite says whether a case can end otherwise with another suite: keys
// and encapsulations have other lengths there.
func dependsOnSuite(name string) bool {
	return strings.Contains(name, "-key") || strings.Contains(name, "-kem") || strings.Contains(name, "suite")
}

func TestABrokenRuleIsRefusedAtEveryEntry(t *testing.T) {
	if testSuite == mls.SuiteX25519ChaCha20 {
		t.Skip("has the keys and hashes of suite 1, with which the same ran")
	}
	for _, name := range slices.Sorted(maps.Keys(negatives)) {
		if testSuite == testSuites[0] || dependsOnSuite(name) {
			t.Run(name, negatives[name])
		}
	}
}

// table is docs/mls-validation.md as the tests of its rows see it.
type table struct {
	sets  map[string][]string
	cases map[string]bool // "rule/entry"
	tests []string        // tests of their own
	rules []string        // what the second columns say
}

var quoted = regexp.MustCompile("`([^`]+)`")

func names(cell string) (out []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// readTable reads the rows: sets of entries have three columns, rules four.
func readTable(t *testing.T) *table {
	t.Helper()
	b, err := os.ReadFile("../../docs/mls-validation.md")
	must(t, err)
	d := &table{sets: map[string][]string{}, cases: map[string]bool{}}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(names(line)) == 0 {
			continue
		}
		switch len(cells) {
		case 3:
			d.sets[names(cells[0])[0]] = names(cells[1])
		case 4:
			d.row(t, cells)
		default:
			t.Errorf("a row of %d columns: %s", len(cells), line)
		}
	}
	return d
}

func (d *table) row(t *testing.T, cells []string) {
	t.Helper()
	d.rules = append(d.rules, cells[1])
	rules := names(cells[2])
	if len(rules) == 0 {
		t.Errorf("%q names no test", cells[1])
	}
	for _, rule := range rules {
		if strings.HasPrefix(rule, "Test") {
			d.tests = append(d.tests, rule)
			continue
		}
		entries := names(cells[3])
		if len(entries) == 0 {
			t.Errorf("%s names no entry", rule)
		}
		for _, e := range entries {
			list := d.sets[e]
			if list == nil {
				list = []string{e}
			}
			for _, e := range list {
				if d.cases[rule+"/"+e] {
					t.Errorf("%s/%s is there twice", rule, e)
				}
				d.cases[rule+"/"+e] = true
			}
		}
	}
}

// testFunctions are the tests of the two packages.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, dir := range []string{".", ".."} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		must(t, err)
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			must(t, err)
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					out[fn.Name.Name] = true
				}
			}
		}
	}
	return out
}

func (d *table) hasRule(rule string) bool {
	for name := range d.cases {
		if strings.HasPrefix(name, rule+"/") {
			return true
		}
	}
	return false
}

func TestTheTableNamesEveryCaseAndNoOther(t *testing.T) {
	d, functions := readTable(t), testFunctions(t)
	for name := range d.cases {
		if negatives[name] == nil {
			t.Errorf("the table names %s, which is no case", name)
		}
	}
	for name := range negatives {
		if !d.cases[name] {
			t.Errorf("case %s is in no row", name)
		}
	}
	for _, name := range d.tests {
		fn, rule, one := strings.Cut(name, "/")
		if !functions[fn] || one && (fn != "TestABrokenRuleIsRefusedAtEveryEntry" || !d.hasRule(rule)) {
			t.Errorf("the table names %s, which is no test", name)
		}
	}
	if len(negatives) < 300 {
		t.Errorf("%d cases", len(negatives))
	}
}

// limits are the exported constants Max... of the packages.
func limits(t *testing.T) (out []string) {
	t.Helper()
	for _, dir := range []string{".", "..", "../internal/tls"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		must(t, err)
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			must(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Max") {
					out = append(out, v.Names[0].Name)
				}
				return true
			})
		}
	}
	return out
}

func TestTheTableNamesEveryLimit(t *testing.T) {
	d, found := readTable(t), limits(t)
	if len(found) < 12 {
		t.Errorf("only %q", found)
	}
	for _, limit := range found {
		if !slices.ContainsFunc(d.rules, func(rule string) bool { return strings.Contains(rule, "`"+limit+"`") }) {
			t.Errorf("no row is about %s", limit)
		}
	}
}
