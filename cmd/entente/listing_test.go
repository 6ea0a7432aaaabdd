package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

// leaves are the commands that do something.
func leaves(c *cobra.Command) (out []*cobra.Command) {
	for _, child := range c.Commands() {
		out = append(out, leaves(child)...)
	}
	if c.Runnable() && !c.HasSubCommands() && c.Name() != "help" && !strings.Contains(c.CommandPath(), "completion") {
		out = append(out, c)
	}
	return out
}

func TestEveryListingHasJSON(t *testing.T) {
	listings := []string{"list", "show", "status", "devices", "links", "tokens", "partners", "members", "history", "sent", "code", "audit", "dns", "addresses", "custodians", "groups", "mode", "doctor", "test"}
	seen := 0
	for _, c := range leaves(rootCommand()) {
		if !slices.Contains(listings, c.Name()) || c.CommandPath() == "entente config show" { // that prints a file
			continue
		}
		seen++
		if c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
	}
	if seen < 25 {
		t.Errorf("%d listings: the tree is not what this test thinks", seen)
	}
}

func TestAShellOffersFilesOnlyWhereACommandTakesOne(t *testing.T) {
	for _, c := range leaves(rootCommand()) {
		if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 && !strings.Contains(c.Use, "FILE") {
			t.Errorf("%s offers files", c.CommandPath())
		}
	}
	invite, _, err := rootCommand().Find([]string{"partner", "invite"})
	if err != nil {
		t.Fatal(err)
	}
	complete, ok := invite.GetFlagCompletionFunc("transit")
	if !ok {
		t.Fatal("--transit offers nothing")
	}
	if got, directive := complete(invite, nil, ""); !slices.Equal(got, []string{"none", "named", "any"}) || directive != cobra.ShellCompDirectiveNoFileComp {
		t.Errorf("--transit offers %v", got)
	}
}

func TestARoomWhoseNameAShellWouldReadOtherwiseIsOfferedByItsID(t *testing.T) {
	got := roomsOffered([]device.RoomInfo{
		{ID: "aaaaaaaaaaaaaaaa", Name: "Harbour"}, {ID: "bbbbbbbbbbbbbbbb", Name: "$(date)"}, {ID: "cccccccccccccccc", Name: "--force"},
		{ID: "dddddddddddddddd", Name: "two\nlines"}, {ID: "eeeeeeeeeeeeeeee", Name: "Gone", Ended: true}, {ID: "ffffffffffffffff", With: "bob@b.example"},
		{ID: "gggggggggggggggg", Name: "Twice"}, {ID: "hhhhhhhhhhhhhhhh", Name: "Twice"},
	}, false)
	want := []string{"Harbour", "bbbbbbbbbbbb\t$(date)", "cccccccccccc\t--force", "dddddddddddd\ttwo lines", "bob@b.example", "gggggggggggg\tTwice", "hhhhhhhhhhhh\tTwice"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
