package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/spf13/cobra"
)

func TestWhatWasMissedNamesItsRoom(t *testing.T) {
	for want, s := range map[string]device.Shown{
		"this device came back into Harbour: it was away":                                                     {Event: "room", State: "resynced", RoomName: "Harbour", Reason: "it was away"},
		"this device could not come back into the room with bob@b.example: no":                                {Event: "room", State: "not resynced", To: "bob@b.example", Reason: "no"},
		"in Harbour something is missing: 2 messages or changes did not arrive (in the room's order: 3 to 4)": {Event: "room", State: "gap", RoomName: "Harbour", Reason: "2 messages or changes did not arrive (in the room's order: 3 to 4)"},
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

func TestWhatCouldNotBeOpenedIsSaidInWordsForPeople(t *testing.T) {
	for want, s := range map[string]device.Shown{
		"a message could not be opened: it does not fit the keys of this device, or was altered on the way; ask its sender to send it again":                     {Reason: "mls: cryptographic check failed"},
		"a message in Harbour could not be opened: this version of the program does not know what is in it; ask its sender to send it again":                     {State: "message", RoomName: "Harbour", Reason: "device: a message whose content is not understood", Why: "content"},
		"an invitation into a room could not be opened: this device no longer has the keys that it was made for; ask to be invited again":                        {State: "invitation", Reason: "device: a Welcome for a KeyPackage that this device does not have", Why: "keys"},
		"a change in the room with bob@b.example could not be opened: it goes against the rules of the room; `entente room show` says how the room goes on":      {State: "change", To: "bob@b.example", Reason: "device: a Commit against the rules of the room: forbidden: no", Why: "rules"},
		"something that your node brought could not be opened: your node's copy of it is damaged; if it happens again, tell your administrator":                  {State: "other", To: "bob@b.example", Reason: "device: the node's copy is damaged", Why: "damaged"},
		"an invitation into a room was not taken: the agreement carries no rooms with organizations that we have no agreement with; ask your administrator":      {State: "invitation", Reason: "noAgreement: the agreement carries no rooms with organizations that we have no agreement with", Why: "noAgreement"},
		"a message in Harbour could not be opened: its keys were used or have gone: it was opened before, or came too late; ask its sender to send it again":     {State: "message", RoomName: "Harbour", Reason: "group: message was opened already or is too old", Why: "late"},
		"a message in Harbour could not be opened: an organization that is needed to read it could not be reached for too long; ask its sender to send it again": {State: "message", RoomName: "Harbour", Reason: "device: it has waited for somebody's organization until the mailbox was full", Why: "waited"},
	} {
		s.Event, s.At = "unreadable", time.Now()
		if _, got, _ := strings.Cut(shownText(s), "  "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWhatSeveralRoomsAreToldIsSaidOnceToPeopleAndOfEachRoomToPrograms(t *testing.T) {
	of := func(state, reason, room string, count int) device.Shown {
		return device.Shown{Event: "room", State: state, From: "b.example", Reason: reason, RoomName: room, Count: count, At: time.Now()}
	}
	all := []device.Shown{
		of("terms", "new terms", "Harbour", 3), of("terms", "new terms", "Docks", 3), of("terms", "new terms", "Pier", 3),
		of("agreement", wire.AgreementSuspended, "Harbour", 2), of("agreement", wire.AgreementSuspended, "Docks", 2),
		of("agreement", wire.AgreementInForce, "Harbour", 1),
		of("terms", "new terms", "Harbour", 2), of("terms", "new terms", "Docks", 2), of("terms", "new terms", "Harbour", 2), of("terms", "new terms", "Docks", 2),
	}
	said := func(asJSON bool) []string {
		var out bytes.Buffer
		c := &cobra.Command{}
		c.SetOut(&out)
		show := &showing{}
		for _, s := range all {
			if err := show.print(c, s, asJSON); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Split(strings.TrimSpace(out.String()), "\n")
	}
	lines := said(false)
	if len(lines) != 5 || !strings.HasSuffix(lines[0], "new terms, in 3 rooms") || !strings.HasSuffix(lines[1], ", in 2 rooms") || !strings.HasSuffix(lines[2], ", in Harbour") {
		t.Errorf("%q", lines)
	}
	if lines := said(true); len(lines) != len(all) {
		t.Errorf("%q", lines)
	}
}
