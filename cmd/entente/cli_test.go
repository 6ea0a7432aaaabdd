package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandsHelpHasAnExample walks the whole tree: whoever asks for help
// sees a line to copy.
func TestEveryCommandsHelpHasAnExample(t *testing.T) {
	seen := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}
		if !c.Runnable() || c.HasSubCommands() || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		seen++
		if !strings.Contains(c.Example, "entente ") {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if c.Short == "" {
			t.Errorf("%s does not say what it does", c.CommandPath())
		}
	}
	walk(rootCommand())
	if seen < 15 {
		t.Fatalf("walked %d commands: the tree is not what this test thinks", seen)
	}
}

// TestTheExitCodesAreThoseOfTheOperatingManual compares exit.go's constants with
// the table of docs/operating.md.
func TestTheExitCodesAreThoseOfTheOperatingManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(manual), "## Exit codes")
	if !ok {
		t.Fatal("docs/operating.md has no section of exit codes")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	var documented []int
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| \S`).FindAllStringSubmatch(table, -1) {
		n, _ := strconv.Atoi(row[1])
		documented = append(documented, n)
	}
	inCode := exitConstants(t)
	slices.Sort(documented)
	slices.Sort(inCode)
	if len(inCode) == 0 || !slices.Equal(documented, inCode) {
		t.Fatalf("docs/operating.md documents %v, exit.go has %v", documented, inCode)
	}
}

// exitConstants reads the values of exit.go's constants exit….
func exitConstants(t *testing.T) (codes []int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "exit") {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			code, err := strconv.Atoi(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, code)
		}
		return true
	})
	return codes
}
