package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

func TestADetourIsAnEventInJSONAndALineBesideTheResultElse(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out, beside bytes.Buffer
		c := &cobra.Command{}
		c.SetOut(&out)
		c.SetErr(&beside)
		*jsonFlag(c) = asJSON
		say := saySession(c)
		say("calls", "home: the WebSocket was answered with 426")
		say("websocket", "")
		if !asJSON {
			if out.Len() != 0 || strings.Count(beside.String(), "\n") != 2 || !strings.Contains(beside.String(), "426") {
				t.Errorf("result %q, beside it %q", out.String(), beside.String())
			}
			continue
		}
		d := json.NewDecoder(&out)
		for _, want := range []string{"calls", "websocket"} {
			var s device.Shown
			if err := d.Decode(&s); err != nil || s.Event != "session" || s.State != want || (s.Reason != "") != (want == "calls") {
				t.Errorf("%+v, %v", s, err)
			}
		}
		if beside.Len() != 0 {
			t.Errorf("beside it %q", beside.String())
		}
	}
}
