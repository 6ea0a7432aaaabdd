package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/spf13/cobra"
)

// maxOffered bounds the messages that are offered: the last ones.
const maxOffered = 50

// offerFromDevice offers what a device knows, by the words that a command's first line of
// help has for its arguments. Nobody is asked: neither a node, nor the person for a
// passphrase, without which nothing in the folder opens (offered).
func offerFromDevice(c *cobra.Command) {
	for _, child := range c.Commands() {
		offerFromDevice(child)
	}
	if c.Flags().Lookup("device") == nil || c.ValidArgsFunction != nil {
		return
	}
	words := strings.Fields(c.Use)[1:]
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		n := len(args)
		if last := len(words) - 1; n > last && last >= 0 && strings.Contains(words[last], "…") {
			n = last
		}
		if n >= len(words) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		out := offered(c, strings.Split(strings.Trim(words[n], "[]…"), "|"))
		return slices.DeleteFunc(out, func(s string) bool {
			name, _, _ := strings.Cut(s, "\t")
			return slices.Contains(args, name)
		}), cobra.ShellCompDirectiveNoFileComp
	}
	if c.Flags().Lookup("room") != nil {
		_ = c.RegisterFlagCompletionFunc("room", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return offered(c, []string{"ROOM"}), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// offered lists what can stand for words such as ADDRESS or ROOM.
func offered(c *cobra.Command, words []string) (out []string) {
	if slices.Equal(words, []string{"ROLE"}) {
		return []string{wire.RoleAdmin.String(), wire.RoleMember.String(), wire.RoleGuest.String()}
	}
	if !slices.ContainsFunc(words, func(w string) bool {
		return slices.Contains([]string{"ADDRESS", "ORGANIZATION", "ROOM", "MESSAGE", "DEVICE"}, w)
	}) {
		return nil
	}
	d := quietDevice(c)
	if d == nil {
		return nil
	}
	defer d.Close()
	for _, w := range words {
		switch w {
		case "ADDRESS":
			out = append(out, d.People()...)
		case "ORGANIZATION":
			out = append(out, organizationsOf(d.People())...)
		case "ROOM":
			out = append(out, roomsOffered(d.Rooms(), strings.Contains(c.Use, "ADDRESS"))...)
		case "MESSAGE":
			out = append(out, messagesOffered(c, d)...)
		case "DEVICE":
			for _, id := range d.KnownDevices() {
				text := id.String()
				if id == d.ID() {
					text += "\tthis one"
				}
				out = append(out, text)
			}
		}
	}
	return out
}

// quietDevice opens the device where the passphrase stands in a file or the environment and
// no other command has the folder; else nil. Who completes a line is told of no error.
func quietDevice(c *cobra.Command) *device.Device {
	dir, err := c.Flags().GetString("device")
	file, e := c.Flags().GetString("passphrase-file")
	if err != nil || e != nil {
		return nil
	}
	if _, set := os.LookupEnv(PassphraseVariable); file == "" && !set {
		return nil
	}
	p, err := passphrase(c, file, false)
	if err != nil {
		return nil
	}
	d, err := device.Open(dir, p)
	if err != nil {
		return nil
	}
	return d
}

// shellSafe is a name that means itself to every shell. Others have chosen it.
var shellSafe = regexp.MustCompile(`^[\pL\pN_][\pL\pN_.-]*$`)

// roomsOffered names rooms as commands take them: by name where one room has it and it is
// harmless in a shell, a room of two by who it is with, else by the beginning of the ID.
// besides: the command takes addresses besides, and rooms of two are not offered.
func roomsOffered(rooms []device.RoomInfo, besides bool) (out []string) {
	count := make(map[string]int)
	for _, r := range rooms {
		count[r.Name]++
	}
	for _, r := range rooms {
		id := r.ID[:min(len(r.ID), 12)]
		switch {
		case r.Ended:
		case r.Name == "" && strings.Contains(r.With, "@"):
			if !besides {
				out = append(out, r.With)
			}
		case count[r.Name] == 1 && shellSafe.MatchString(r.Name):
			out = append(out, r.Name)
		default:
			out = append(out, id+"\t"+oneLine(r.Name, 40))
		}
	}
	return out
}

// messagesOffered lists IDs with who and when, the newest first: a text may be one that burns,
// and nobody has asked to read it.
func messagesOffered(c *cobra.Command, d *device.Device) (out []string) {
	add := func(id string, at time.Time, who string) {
		if id != "" {
			out = append(out, short(id)+"\t"+at.Local().Format("2006-01-02 15:04:05")+" "+oneLine(who, 80))
		}
	}
	if c.Name() == "get" {
		files, _ := d.Files() // as everywhere here: on an error less is offered
		for _, f := range files {
			add(f.ID, f.At, f.From+" "+f.Name)
		}
	} else {
		own := c.Name() == "sent" || c.Name() == "edit" || c.Name() == "delete"
		all, _ := d.Timeline(wire.RoomID{})
		for _, s := range all {
			if s.Event == "message" && !s.Deleted && !s.Gone && (!own || s.Sent) && (c.Name() != "report" || !s.Sent) {
				who := s.From
				if s.Sent {
					who = "to " + s.To
				}
				add(s.ID, s.At, who)
			}
		}
	}
	slices.Reverse(out)
	return out[:min(len(out), maxOffered)]
}

func organizationsOf(people []string) (out []string) {
	for _, p := range people {
		_, name, _ := strings.Cut(p, "@")
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
