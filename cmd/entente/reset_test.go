package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

func TestAResetIsToldInAListingAndWhenItHappens(t *testing.T) {
	var out bytes.Buffer
	c := &cobra.Command{}
	c.SetOut(&out)
	info := device.RoomInfo{Name: "Harbour", State: "open", Hub: "acme.example", Role: "member", Invite: "member", Code: "00", ID: "x"}
	if err := showRoom(c, info, false); err != nil || strings.Contains(out.String(), "reset") {
		t.Errorf("a room that was never reset: %s%v", out.String(), err)
	}
	info.Generation, info.Reset = 2, "bob@globex.example and claire@hooli.example could not apply a Commit of alice@acme.example"
	if err := showRoom(c, info, false); err != nil || !strings.Contains(out.String(), "reset     2 times; last because bob@globex.example and claire") {
		t.Errorf("a room that was reset:\n%s%v", out.String(), err)
	}
	for want, s := range map[string]device.Shown{
		"bob@globex.example reset Harbour: why; what was said meanwhile may be missing here": {Event: "room", State: "reset", From: "bob@globex.example", RoomName: "Harbour", Reason: "why"},
		"Harbour was reset without this device: why":                                         {Event: "room", State: "reset", RoomName: "Harbour", Reason: "why"},
		"bob@globex.example cannot apply it, in Harbour":                                     {Event: "room", State: "complaint", From: "bob@globex.example", RoomName: "Harbour", Reason: "cannot apply it"},
		"Harbour could not be reset from here: noKeyPackage":                                 {Event: "room", State: "not reset", RoomName: "Harbour", Reason: "noKeyPackage"},
	} {
		if got := roomText(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
