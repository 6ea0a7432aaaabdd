package main

import (
	"encoding/hex"
	"encoding/json"
	"testing"
)

// call sends one line and reads the answer as another program would.
func call(t *testing.T, d *driver, q map[string]any) map[string]any {
	t.Helper()
	line, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d.answer(line))
	if err != nil {
		t.Fatal(err)
	}
	var a map[string]any
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func ok(t *testing.T, d *driver, q map[string]any) map[string]any {
	t.Helper()
	a := call(t, d, q)
	if a["error"] != nil {
		t.Fatalf("%v: %v", q["Op"], a["error"])
	}
	return a
}

type m = map[string]any

func TestDriversTalkToEachOtherThroughEveryOperation(t *testing.T) {
	for _, private := range []bool{false, true} {
		for _, suite := range []int{1, 3, 0xF0E1} {
			talk(t, private, suite)
		}
	}
}

func talk(t *testing.T, private bool, suite int) {
	alice, bob, carol := &driver{private: private}, &driver{private: private}, &driver{private: private}
	ok(t, alice, m{"Op": "init", "Name": "alice", "Suite": suite})
	ok(t, bob, m{"Op": "init", "Name": "bob", "Suite": suite})
	ok(t, carol, m{"Op": "init", "Name": "carol", "Suite": suite})
	g := ok(t, alice, m{"Op": "create"})["group"]
	kp := ok(t, bob, m{"Op": "keypackage"})["msg"]
	add := ok(t, alice, m{"Op": "add", "Group": g, "KPs": []any{kp}})
	ok(t, bob, m{"Op": "join", "Msg": add["welcome"]})

	late := ok(t, bob, m{"Op": "send", "Group": g, "Data": "6869", "AAD": "01"})["msg"]
	kp = ok(t, carol, m{"Op": "keypackage"})["msg"]
	prop := ok(t, bob, m{"Op": "propose", "Group": g, "KPs": []any{kp}})["msg"]
	ok(t, alice, m{"Op": "process", "Group": g, "Msg": prop})
	st := ok(t, alice, m{"Op": "stage", "Group": g})
	if early := call(t, bob, m{"Op": "send", "Group": g, "Data": "6869"}); early["error"] == nil {
		t.Fatal("sent before the Commit of what was proposed") // RFC 9420 12.4
	}
	ok(t, bob, m{"Op": "process", "Group": g, "Msg": st["commit"]})
	ok(t, alice, m{"Op": "apply", "Group": g})
	ok(t, carol, m{"Op": "join", "Msg": st["welcome"]})
	if r := ok(t, alice, m{"Op": "recv", "Group": g, "Msg": late}); r["data"] != "6869" || r["aad"] != "01" {
		t.Fatalf("late message: %v", r)
	}
	up := ok(t, carol, m{"Op": "update", "Group": g})["commit"]
	for _, d := range []*driver{alice, bob} {
		ok(t, d, m{"Op": "process", "Group": g, "Msg": up})
	}
	ok(t, alice, m{"Op": "stage", "Group": g})
	ok(t, alice, m{"Op": "discard", "Group": g})
	rm := ok(t, alice, m{"Op": "remove", "Group": g, "Name": "bob"})["commit"]
	for _, d := range []*driver{bob, carol} {
		ok(t, d, m{"Op": "process", "Group": g, "Msg": rm})
	}
	info := ok(t, carol, m{"Op": "groupinfo", "Group": g})["msg"]
	ext := ok(t, bob, m{"Op": "extjoin", "Msg": info})
	for _, d := range []*driver{alice, carol} {
		ok(t, d, m{"Op": "process", "Group": g, "Msg": ext["commit"]})
	}
	want := ok(t, alice, m{"Op": "info", "Group": g})
	secret := ok(t, alice, m{"Op": "export", "Group": g, "Label": "x", "Context": "00", "Length": 40})["secret"]
	for _, d := range []*driver{bob, carol} {
		if got := ok(t, d, m{"Op": "info", "Group": g}); got["auth"] != want["auth"] {
			t.Fatal("drivers disagree")
		}
		if ok(t, d, m{"Op": "export", "Group": g, "Label": "x", "Context": "00", "Length": 40})["secret"] != secret {
			t.Fatal("exporters disagree")
		}
	}
}

func TestNothingSentEndsTheDriver(t *testing.T) {
	d := &driver{}
	for _, line := range []string{"", "x", "[]", `{"Op":"send"}`, `{"Op":"init","Suite":2}`, `{"Op":"init","Suite":1,"Name":"a"}`,
		`{"Op":"join","Msg":"zz"}`, `{"Op":"join"}`, `{"Op":"process","Group":"00"}`, `{"Op":"extjoin","Msg":"0001000400"}`} {
		d.answer([]byte(line))
	}
	g := ok(t, d, m{"Op": "create"})["group"]
	for _, op := range []string{"nothing", "process", "recv", "apply", "discard", "remove", "propose"} {
		if a := call(t, d, m{"Op": op, "Group": g, "Msg": hex.EncodeToString([]byte{0, 1, 0, 2})}); a["error"] == nil {
			t.Fatalf("%s succeeded", op)
		}
	}
	if a := call(t, d, m{"Op": "export", "Group": g, "Length": 1 << 30}); a["error"] == nil {
		t.Fatal("a billion bytes exported")
	}
	ok(t, d, m{"Op": "info", "Group": g})
}
