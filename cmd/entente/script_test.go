package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/entente-im/entente/testnet/ports"
)

// TestMain makes this test binary the `entente` that scripts run, so that each
// command is a process of its own and the code under test is the race-checked one. Scripts
// mostly wait: more of them run at once than there are processors, unless told otherwise.
func TestMain(m *testing.M) {
	if f := flag.Lookup("test.parallel"); f != nil {
		_ = f.Value.Set("4")
	}
	testscript.Main(m, map[string]func(){
		"entente": func() { os.Exit(run(os.Args[1:])) },
	})
}

// TestScripts runs testdata/script: one promise to a person each, with real
// nodes in the background. A script's processes end by pid, with the script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			ports, err := freePorts(6)
			for i, p := range ports {
				e.Setenv("PORT"+strconv.Itoa(i+1), p)
			}
			e.Setenv(PassphraseVariable, "correct horse battery")
			e.Setenv("HOME", e.WorkDir)
			return err
		},
		Condition: func(c string) (bool, error) {
			if c == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", c)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails": scriptFails, "jsonlines": scriptJSONLines, "capture": scriptCapture, "until": scriptUntil,
			"proxy": scriptProxy, "linked": scriptLinked, "certificate": scriptCertificate,
		},
	})
}

// scriptFails is `fails CODE entente …`: the command ends with that exit code,
// says so on standard error after "entente: ", and prints no trace of a panic.
func scriptFails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Fatalf("wanted exit code %s, got %v", args[0], err)
	}
	if got := strconv.Itoa(exit.ExitCode()); got != args[0] {
		ts.Fatalf("wanted exit code %s, got %s", args[0], got)
	}
	message := ts.ReadFile("stderr")
	if !strings.Contains(message, "entente: ") || strings.Contains(message, "goroutine ") {
		ts.Fatalf("this is no message for a person:\n%s", message)
	}
}

// scriptJSONLines is `jsonlines N`: the last standard output is at least N
// JSON objects, one a line or indented.
func scriptJSONLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: jsonlines N")
	}
	least, err := strconv.Atoi(args[0])
	ts.Check(err)
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	objects := 0
	for ; d.More(); objects++ {
		var o map[string]any
		if err := d.Decode(&o); err != nil {
			ts.Fatalf("object %d is no JSON object: %v", objects+1, err)
		}
	}
	if objects < least {
		ts.Fatalf("%d JSON objects, wanted at least %d", objects, least)
	}
}

// scriptCapture is `capture NAME PATTERN`: the first group of the pattern in
// the last standard output becomes the variable.
func scriptCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME PATTERN")
	}
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("standard output has no match for %q", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// scriptUntil is `until PATTERN COMMAND…`: repeats the command until its output
// matches, for at most half a minute. It stands for the person who looks again.
func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	pattern := regexp.MustCompile(args[0])
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...)
		if pattern.MatchString(ts.ReadFile("stdout") + ts.ReadFile("stderr")) {
			return
		}
	}
	ts.Fatalf("%q did not come", args[0])
}

// freePorts returns n TCP ports of the loopback interface that are free now.
func freePorts(n int) (found []string, err error) {
	free, err := ports.Free(n)
	for _, p := range free {
		found = append(found, strconv.Itoa(p))
	}
	return found, err
}
