package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

func TestADetourOrAWrongClockIsAnEventInJSONAndALineBesideTheResultElse(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out, beside bytes.Buffer
		c := &cobra.Command{}
		c.SetOut(&out)
		c.SetErr(&beside)
		*jsonFlag(c) = asJSON
		say := saySession(c)
		say("calls", "home: the WebSocket was answered with 426")
		say("websocket", "")
		say("clock", "24 hours ahead of its node's: texts that end go early here")
		say("clock right", "")
		if !asJSON {
			if out.Len() != 0 || strings.Count(beside.String(), "\n") != 4 || !strings.Contains(beside.String(), "426") || strings.Contains(beside.String(), "%!") ||
				!strings.Contains(beside.String(), "clock is 24 hours ahead of its node's") {
				t.Errorf("result %q, beside it %q", out.String(), beside.String())
			}
			continue
		}
		d := json.NewDecoder(&out)
		for _, want := range []string{"calls", "websocket", "clock", "clock right"} {
			var s device.Shown
			if err := d.Decode(&s); err != nil || s.Event != "session" || s.State != want || (s.Reason != "") != (want == "calls" || want == "clock") {
				t.Errorf("%+v, %v", s, err)
			}
		}
		if beside.Len() != 0 {
			t.Errorf("beside it %q", beside.String())
		}
	}
}
