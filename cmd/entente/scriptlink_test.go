package main

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var codeShown = regexp.MustCompile(`the code is (\d{3} \d{3})`)

// scriptLinked is `linked OLD NEW [CODE]`: two people's hands and eyes at two screens. It
// runs `entente device link` in OLD and `entente device enroll` in NEW, carries the link
// over, and types the code that NEW shows into OLD, or CODE. `! linked` wants both to end
// with an error.
func scriptLinked(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: linked OLD NEW [CODE]")
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	start := func(args ...string) *exec.Cmd {
		path := ""
		for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
			if found, err := exec.LookPath(filepath.Join(dir, "entente")); err == nil {
				path = found
				break
			}
		}
		c := exec.CommandContext(ctx, path, args...)
		c.Dir = ts.Getenv("WORK")
		for _, name := range []string{"HOME", "PATH", PassphraseVariable} {
			c.Env = append(c.Env, name+"="+ts.Getenv(name))
		}
		return c
	}
	old := start("device", "link", "--device", args[0], "--link-only")
	typed, err := old.StdinPipe()
	ts.Check(err)
	shown, err := old.StdoutPipe()
	ts.Check(err)
	var said strings.Builder
	old.Stderr = &said
	ts.Check(old.Start())
	lines := bufio.NewReader(shown)
	link, err := lines.ReadString('\n')
	ts.Check(err)

	enrol := start("device", "enroll", "--device", args[1])
	enrol.Stdin = strings.NewReader(link)
	screen, err := enrol.StderrPipe()
	ts.Check(err)
	ts.Check(enrol.Start())
	rest := bufio.NewReader(screen)
	code := ""
	for code == "" {
		line, err := rest.ReadString('\n')
		if err != nil {
			ts.Fatalf("the new device ended without a code: %s", line)
		}
		if m := codeShown.FindStringSubmatch(line); m != nil {
			code = m[1]
		}
	}
	if len(args) == 3 {
		code = args[2]
	}
	_, err = typed.Write([]byte(code + "\n"))
	ts.Check(err)
	ts.Check(typed.Close())
	out, _ := lines.ReadString(0)
	errText, _ := rest.ReadString(0)
	errOld, errNew := old.Wait(), enrol.Wait()
	ts.Logf("old: %v\n%s%s\nnew: %v\n%s", errOld, out, said.String(), errNew, errText)
	if (errOld == nil) == neg || (errNew == nil) == neg {
		ts.Fatalf("the old device ended with %v, the new one with %v", errOld, errNew)
	}
	if strings.Contains(said.String()+errText, strings.TrimSpace(link)) {
		ts.Fatalf("a link is a secret and stands in an error")
	}
}
