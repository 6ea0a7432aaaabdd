package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// process is a driver of its own, as another stack would run it.
type process struct {
	t   *testing.T
	in  *json.Encoder
	out *bufio.Reader
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("driver: %v", err)
		}
	})
	return &process{t: t, in: json.NewEncoder(in), out: bufio.NewReaderSize(out, 1<<20)}
}

func (p *process) try(q m) m {
	p.t.Helper()
	if err := p.in.Encode(q); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	var a m
	if err := json.Unmarshal(line, &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *process) do(q m) m {
	p.t.Helper()
	a := p.try(q)
	if a["error"] != nil {
		p.t.Fatalf("%v: %v", q["Op"], a["error"])
	}
	return a
}

func TestTwoDriverProcessesHoldAConversation(t *testing.T) {
	program := filepath.Join(t.TempDir(), "driver")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{nil, {"-private"}, {"-keep"}} {
		converse(start(t, program, args...), start(t, program, args...))
	}
}

func converse(alice, bob *process) {
	t := alice.t
	alice.do(m{"Op": "init", "Name": "alice", "Suite": 1})
	bob.do(m{"Op": "init", "Name": "bob", "Suite": 1})
	g := alice.do(m{"Op": "create"})["group"]
	add := alice.do(m{"Op": "add", "Group": g, "KPs": []any{bob.do(m{"Op": "keypackage"})["msg"]}})
	bob.do(m{"Op": "join", "Msg": add["welcome"]})

	// An Update, a pre-shared key and new extensions by reference, all in one Commit.
	for _, key := range []string{"aa", "bb"} {
		for _, p := range []*process{alice, bob} {
			p.do(m{"Op": "psk", "Label": key, "Data": key + "0102"})
		}
	}
	for _, q := range []m{{"Op": "proposeupdate"}, {"Op": "proposepsk", "Label": "aa"}, {"Op": "proposeextensions", "Data": "00"}} {
		q["Group"] = g
		alice.do(m{"Op": "process", "Group": g, "Msg": bob.do(q)["msg"]})
	}
	commit := alice.do(m{"Op": "commit", "Group": g})["commit"]
	bob.do(m{"Op": "process", "Group": g, "Msg": commit})
	for range 3 {
		say(alice, bob, g)
		say(bob, alice, g)
	}

	// Both stage; Bob's is first, Alice drops hers.
	alice.do(m{"Op": "stage", "Group": g})
	won := bob.do(m{"Op": "stage", "Group": g})["commit"]
	bob.do(m{"Op": "apply", "Group": g})
	alice.do(m{"Op": "process", "Group": g, "Msg": won})
	alice.do(m{"Op": "discard", "Group": g})
	a, b := alice.do(m{"Op": "info", "Group": g}), bob.do(m{"Op": "info", "Group": g})
	if a["auth"] != b["auth"] || a["epoch"] != b["epoch"] || a["epoch"] != 3.0 {
		t.Fatalf("alice %v, bob %v", a, b)
	}
	// A key that nobody has does not keep the others from committing.
	if a := bob.try(m{"Op": "proposepsk", "Group": g, "Label": "unknown"}); a["error"] == nil {
		alice.do(m{"Op": "process", "Group": g, "Msg": a["msg"]})
	}
	bob.do(m{"Op": "process", "Group": g, "Msg": alice.do(m{"Op": "commit", "Group": g})["commit"]})
	say(alice, bob, g)
}

func say(from, to *process, g any) {
	from.t.Helper()
	msg := from.do(m{"Op": "send", "Group": g, "Data": "6869", "AAD": "01"})["msg"]
	if got := to.do(m{"Op": "recv", "Group": g, "Msg": msg}); got["data"] != "6869" || got["aad"] != "01" {
		from.t.Fatalf("got %v", got)
	}
	if to.try(m{"Op": "recv", "Group": g, "Msg": msg})["error"] == nil {
		from.t.Fatal("a message was opened twice")
	}
}
