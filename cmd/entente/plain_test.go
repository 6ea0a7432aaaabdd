package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/pflag"
)

func TestErrorsAreToldWithoutTheWordsOfProgrammers(t *testing.T) {
	refused := fmt.Errorf("%w: manifest 1: %w: no peer", identity.ErrNotStanding, identity.ErrNotStanding)
	for _, x := range []struct {
		err  error
		want string
	}{
		{refused, "not valid: manifest 1: no peer"},
		{fmt.Errorf("the proof does not hold: %w", refused), "the proof does not hold: manifest 1: no peer"},
		{fmt.Errorf("node: manifest.notes: %w", refused), "manifest.notes: manifest 1: no peer"},
		{fmt.Errorf("identity: open acme/root.sealed: no such file"), "open acme/root.sealed: no such file"},
		{wire.Refuse(pb.Code_CODE_MALFORMED, "a node: of another kind"), "malformed: a node: of another kind"},
	} {
		if got := plainText(x.err.Error()); got != x.want {
			t.Errorf("%q, want %q", got, x.want)
		}
	}
}

func TestAHintFitsWhatWasUsed(t *testing.T) {
	used := wire.Refuse(pb.Code_CODE_LINK_USED, "the token was used: ask for a new one")
	if h := tokenError(used).(*hintError); h.hint == hints[pb.Code_CODE_LINK_USED] || exitCode(h) != exitRefused {
		t.Errorf("%q, exit code %d", h.hint, exitCode(h))
	}
	if h := statusHint(wire.Refuse(pb.Code_CODE_NO_KEY_PACKAGE, "the member has no device")); h == "" || h == hints[pb.Code_CODE_NO_KEY_PACKAGE] {
		t.Errorf("no device: %q", h)
	}
	if h := statusHint(wire.Refuse(pb.Code_CODE_NO_KEY_PACKAGE, "")); h != hints[pb.Code_CODE_NO_KEY_PACKAGE] {
		t.Errorf("no KeyPackage: %q", h)
	}
}

func TestAChangeSaysWhatHoldsAllTheSame(t *testing.T) {
	for _, x := range []struct{ done, state, want string }{
		{"quarantined", "quarantined", "quarantined"}, {"released", "connected", "released"}, {"suspended", "suspended", "suspended"}, {"ended", "ended", "ended"},
		{"quarantined", "suspended", "stays suspended; quarantined once it is resumed (entente partner resume globex.example)"},
		{"released", "suspended", "in no quarantine any more, and stays suspended (entente partner resume globex.example)"},
		{"resumed", "quarantined", "resumed, and still in quarantine (entente partner release globex.example)"},
		{"released", "quarantinedThere", "released here; the partner still has us in quarantine"},
		{"resumed", "expired", "resumed, but the agreement is not in force today (entente partner show globex.example)"},
	} {
		if got := changeText(x.done, &pb.PartnerStatus{Name: "globex.example", State: x.state}); got != x.want {
			t.Errorf("%s, %s: %q", x.done, x.state, got)
		}
	}
}

func TestARefusalAlwaysHasAReason(t *testing.T) {
	if got := reasonText(""); got == "" {
		t.Error("no reason and no word about it")
	}
}

func TestWhoWritesToAFullMailboxReadsWhatToDo(t *testing.T) {
	var said strings.Builder
	if code := report(&said, &device.RefusedError{Sent: device.Sent{To: "bob@globex.example", Reason: "full", Code: pb.Code_CODE_FULL}}); code != exitTemporary {
		t.Errorf("ends with %d", code)
	}
	if s := said.String(); !strings.Contains(s, "to bob@globex.example: full\n") || !strings.Contains(s, "try: "+hints[pb.Code_CODE_FULL]) {
		t.Errorf("reads %q", s)
	}
	if s := noticeText(device.Shown{Event: "notice", State: "refused", Reason: "full"}); !strings.HasSuffix(s, "send it again when they have fetched theirs") {
		t.Errorf("reads %q", s)
	}
	if s := noticeText(device.Shown{Event: "notice", State: "refused", Reason: "noConsent"}); strings.Contains(s, "again") {
		t.Errorf("reads %q", s)
	}
}

func TestAMemberIsNotToldCommandsOfOperators(t *testing.T) {
	root := rootCommand()
	for line, member := range map[string]bool{
		"send bob@b.example hello": true, "device revoke X": true, "device revoke X --data acme": false, "partner show b.example": false,
	} {
		c, rest, err := root.Find(strings.Fields(line))
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err != nil {
			t.Fatal(err)
		}
		for code := range hints {
			var said bytes.Buffer
			refused := wire.Refuse(code, "")
			if got, want := report(&said, forMember(c, refused)), exitCode(refused); got != want {
				t.Errorf("%s, %v: exit code %d, want %d", line, code, got, want)
			}
			for _, of := range []string{"entente partner", "entente node", "entente member"} {
				if member && strings.Contains(said.String(), of) {
					t.Errorf("%s, %v: %s", line, code, said.String())
				}
			}
		}
		var said bytes.Buffer
		report(&said, forMember(c, wire.Refuse(pb.Code_CODE_NO_AGREEMENT, "")))
		if member == strings.Contains(said.String(), "entente partner") {
			t.Errorf("%s: %s", line, said.String())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) { f.Changed = false })
	}
}
