package wire

import (
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestANoteOverItsLimitIsNotRead(t *testing.T) {
	for what, read := range map[string]func(string) error{
		"a record": func(s string) error { _, err := ParseRecord(s, "x"); return err },
		"a note":   func(s string) error { _, err := openNote(s, nil); return err },
	} {
		fits, over := read(strings.Repeat("x\n", MaxNote/2)), read(strings.Repeat("x\n", MaxNote/2)+"\n")
		if fits == nil || over == nil || fits.Error() == over.Error() {
			t.Errorf("%s: %v at its limit, %v above", what, fits, over)
		}
	}
}

var (
	limitRow  = regexp.MustCompile("^\\| ([^|]+) \\| `(\\w+)` \\| ([^|]+) \\| (?:`(\\w+)` \\| )?(?:`([\\w/]+)` (Test\\w+)|—) \\|$")
	periodRow = regexp.MustCompile("^\\| ([^|]+) \\| `(\\w+)` \\| ([^|]+) \\|$")
)

// TestEveryLimitIsDocumentedAndReached holds docs/limits.md: a row for each constant of
// limits.go, with its value, a status that there is, and a test that there is.
func TestEveryLimitIsDocumentedAndReached(t *testing.T) {
	b, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	values, unreached := limitValues(t), 0
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		m := limitRow.FindStringSubmatch(line)
		if m == nil {
			if m = periodRow.FindStringSubmatch(line); m == nil {
				continue
			}
			m = append(m, "", "", "")
		} else if m[5] == "" {
			unreached++
		} else if !testExists(m[5], m[6]) {
			t.Errorf("%s: there is no %s in %s", m[2], m[6], m[5])
		}
		if want, ok := values[m[2]]; !ok {
			t.Errorf("%s is no limit, or stands twice", m[2])
		} else if strings.ReplaceAll(m[3], ",", "") != want {
			t.Errorf("%s is %s, the page says %s", m[2], want, m[3])
		}
		if m[4] != "" && !codeExists(m[4]) {
			t.Errorf("%s: %s is no status", m[2], m[4])
		}
		delete(values, m[2])
	}
	for name, value := range values {
		t.Errorf("%s, %s, has no row", name, value)
	}
	if unreached > 1 {
		t.Errorf("%d limits that no test reaches", unreached)
	}
}

func codeExists(name string) bool {
	for _, info := range codes {
		if info.name == name {
			return true
		}
	}
	return false
}

func testExists(pkg, test string) bool {
	files, _ := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*_test.go"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), "\nfunc "+test+"(t *testing.T) {") {
			return true
		}
	}
	return false
}

// limitValues reads the constants of limits.go as people write them.
func limitValues(t *testing.T) map[string]string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "limits.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := (&types.Config{Importer: importer.ForCompiler(fset, "source", nil)}).Check("wire", fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok || c.Val().Kind() != constant.Int || name == "ProtocolVersion" {
			continue
		}
		n, _ := constant.Int64Val(c.Val())
		switch _, bytes := c.Type().(*types.Named); {
		case bytes:
			out[name] = period(time.Duration(n))
		case isBytes[name]:
			out[name] = amount(n)
		default:
			out[name] = strconv.FormatInt(n, 10)
		}
	}
	return out
}

// isBytes are the limits that are counted in bytes and written so.
var isBytes = func() map[string]bool {
	out := make(map[string]bool)
	for _, name := range strings.Fields(`MaxMessageBody MaxHandshakeBody MaxTree MaxWelcome MaxControlBody MaxNote MaxEnvelopeExtra
		MaxDeliverFrame MaxQueryFrame MaxLobbyFrame MaxSessionBatch MailboxBytes KeyPackageMax MaxLinkMessage SubmitWindowBytes
		DeliverWindowBytes PartnerBytesRate MaxComplaint MaxFile MaxBlockList MaxReport FileChunk FileQuota PartnerFiles`) {
		out[name] = true
	}
	return out
}()

func amount(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

func period(d time.Duration) string {
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if d >= u.size && d%u.size == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + " " + u.name
		}
	}
	return d.String()
}
