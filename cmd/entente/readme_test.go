package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/entente-im/entente/testnet"
)

// build makes the binary that the README speaks of, and returns its folder.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "entente"), ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestTheREADMEsTenLinesBringAMessageToAnotherOrganization runs them as they
// stand, but for the ports, and sees that nothing keeps running.
func TestTheREADMEsTenLinesBringAMessageToAnotherOrganization(t *testing.T) {
	t.Parallel()
	lines := readmeSession(t)
	bin, work := build(t), t.TempDir()
	fixed := []string{"8443", "8444", "4801", "4802"}
	ports, err := freePorts(len(fixed))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		for j, port := range fixed {
			line = strings.ReplaceAll(line, port, ports[j])
		}
		lines[i] = line
	}
	out, group := typeIn(t, bin, work, lines)
	if strings.Count(out, "alice@acme.example: Good morning from acme") != 1 {
		t.Errorf("bob did not read the text once:\n%s", out)
	}
	nothingRuns(t, group, ports)
}

// readmeSession is the code block below "Ten lines, two organizations".
func readmeSession(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## Ten lines, two organizations")
	_, block, _ := strings.Cut(section, "\n```\n")
	block, _, ok := strings.Cut(block, "\n```\n")
	lines := strings.Split(block, "\n")
	if !ok || len(lines) != 10 {
		t.Fatalf("the README's session has %d lines, not ten:\n%s", len(lines), block)
	}
	return lines
}

// typeIn has one bash run the lines one by one; a line that fails is named. It
// returns what was printed and the process group, which is that bash's own.
func typeIn(t *testing.T, bin, work string, lines []string) (string, int) {
	t.Helper()
	var script strings.Builder
	for i, line := range lines {
		fmt.Fprintf(&script, "%s\nrc=$?; [ $rc = 0 ] || { echo \"line %d failed with $rc\"; kill $(jobs -p); wait; exit 1; }\n", line, i+1)
	}
	script.WriteString("wait\n")
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "-c", script.String())
	c.Dir, c.Env = work, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+work)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 10 * time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		t.Fatalf("the README's session: %v\n%s", err, out)
	}
	return string(out), c.Process.Pid
}

// nothingRuns asserts that the process group is empty and the ports are free.
func nothingRuns(t *testing.T, group int, ports []string) {
	t.Helper()
	if err := syscall.Kill(-group, 0); err != syscall.ESRCH {
		t.Errorf("a process of the session still runs: %v", err)
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
	for _, port := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Errorf("somebody still listens: %v", err)
			continue
		}
		l.Close()
	}
}

// TestTheWalkHoldsOnRealProcesses is `entente testnet walk`.
func TestTheWalkHoldsOnRealProcesses(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(build(t), "entente")
	var out strings.Builder
	if err := testnet.Walk(t.Context(), testnet.WalkOptions{Binary: binary, Out: &out, Bucket: 5 * time.Second}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}
