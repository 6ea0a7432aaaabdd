package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

func TestWhatWasMissedNamesItsRoom(t *testing.T) {
	for want, s := range map[string]device.Shown{
		"this device came back into Harbour: it was away":                      {Event: "room", State: "resynced", RoomName: "Harbour", Reason: "it was away"},
		"this device could not come back into the room with bob@b.example: no": {Event: "room", State: "not resynced", To: "bob@b.example", Reason: "no"},
		"in Harbour something is missing: entries 3 to 4 did not arrive":       {Event: "room", State: "gap", RoomName: "Harbour", Reason: "entries 3 to 4 did not arrive"},
	} {
		if got := roomText(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var out bytes.Buffer
	c := &cobra.Command{}
	c.SetOut(&out)
	at := time.Date(2026, 1, 2, 15, 4, 0, 0, time.Local)
	info := device.RoomInfo{Name: "Harbour", State: "behind", Back: at, Reason: "may come back at 15:04"}
	if err := showRoom(c, info, false); err != nil || !strings.Contains(out.String(), "behind: may come back at 15:04") {
		t.Errorf("%s%v", out.String(), err)
	}
}
