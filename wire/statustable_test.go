package wire

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"
)

var statusRow = regexp.MustCompile("^\\| `(\\w+)` \\| (\\w+) \\| ([^|]+) \\| ([^|]+) \\| `([\\w/]+)` (Test\\w+) \\|$")

// TestEveryStatusIsReachedByATest holds docs/statuses.md: a row for each code, with its
// class, text and what to do, and a test that exists and names the code.
func TestEveryStatusIsReachedByATest(t *testing.T) {
	b, err := os.ReadFile("../docs/statuses.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string][]string)
	for line := range strings.Lines(string(b)) {
		if m := statusRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			if rows[m[1]] != nil {
				t.Errorf("%s stands twice", m[1])
			}
			rows[m[1]] = m
		}
	}
	for code, info := range codes {
		m := rows[info.name]
		if m == nil {
			t.Errorf("%s has no row", info.name)
			continue
		}
		delete(rows, info.name)
		if m[2] != info.class.String() || m[3] != info.text {
			t.Errorf("%s: %s, %q; the code says %s, %q", info.name, m[2], m[3], info.class, info.text)
		}
		if err := reaches(m[5], m[6], code); err != "" {
			t.Errorf("%s: %s", info.name, err)
		}
	}
	for name := range rows {
		t.Errorf("%s is no status", name)
	}
}

// reaches says what is wrong with a test that is to reach a code: its own body, or what
// its file declares beside it, names the code.
func reaches(pkg, test string, code pb.Code) string {
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*_test.go"))
	if err != nil || len(files) == 0 {
		return "no tests in " + pkg
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err.Error()
		}
		_, body, ok := strings.Cut(string(b), "func "+test+"(t *testing.T) {\n")
		if !ok {
			continue
		}
		body, _, _ = strings.Cut(body, "\n}\n")
		if regexp.MustCompile(`\bCode_` + code.String() + `\b`).MatchString(body) {
			return ""
		}
		// A file may name a code once for its table.
		if m := regexp.MustCompile(`(?m)^\t(\w+) += pb\.Code_` + code.String() + `$`).FindStringSubmatch(string(b)); m != nil &&
			regexp.MustCompile(`\b`+m[1]+`\b`).MatchString(body) {
			return ""
		}
		return test + " does not name it"
	}
	return test + " is not in " + pkg
}
