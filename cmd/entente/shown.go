package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

// What has come, in lines for people.

// showing prints what people read, and says once what several rooms are told.
type showing struct {
	said device.Shown // the one that was said of several rooms
	left int          // how many more events say the same
}

// print prints one event: safe characters only, whoever sent it.
func (p *showing) print(c *cobra.Command, s device.Shown, asJSON bool) error {
	if asJSON {
		return printJSON(c.OutOrStdout(), s)
	}
	if p.left > 0 && s.State == p.said.State && s.From == p.said.From && s.Reason == p.said.Reason && s.Count == p.said.Count {
		p.left--
		return nil
	}
	if p.left = 0; s.State == "terms" || s.State == "agreement" {
		p.said, p.left = s, s.Count-1
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), shownText(s))
	return err
}

func shownText(s device.Shown) string {
	at := s.At.Local().Format("15:04:05")
	if time.Since(s.At) > 20*time.Hour {
		at = s.At.Local().Format("2006-01-02 15:04:05")
	}
	switch s.Event {
	case "message":
		return at + "  " + short(s.ID) + "  " + messageText(s)
	case "identity":
		return at + "  " + identityText(s)
	case "edited":
		return fmt.Sprintf("%s  %s edited %s%s: %s%s", at, inRoomText(s), short(s.ID), mentionText(s), safe(s.Text), endText(s))
	case "deleted":
		return fmt.Sprintf("%s  %s deleted %s", at, inRoomText(s), short(s.ID))
	case "reaction":
		return at + "  " + reactionText(s)
	case "notice":
		what := oneLine(s.Text, 40)
		if what == "" {
			what = short(s.ID)
		}
		return fmt.Sprintf("%s  to %s: %s (%s)", at, s.To, noticeText(s), what)
	case "request":
		return at + "  " + requestText(s)
	case "blocked":
		return at + "  " + blockedText(s)
	case "expired":
		return at + "  " + expiredText(s)
	case "unreadable":
		return at + "  " + unreadableText(s)
	}
	return at + "  " + roomText(s)
}

// unreadableText says what could not be opened, as far as this device knows, and what a
// person can do. The reason in a program's words stands in --json.
func unreadableText(s device.Shown) string {
	what, try := "a message", "ask its sender to send it again"
	switch s.State {
	case "invitation":
		what, try = "an invitation", "ask to be invited again"
	case "change":
		what, try = "a change", "`entente room show` says how the room goes on"
	case "other":
		what, try = "something that your node brought", "if it happens again, tell your administrator"
	}
	switch {
	case s.State == "other":
	case s.RoomName != "":
		what += " in " + oneLine(s.RoomName, 40)
	case s.To != "":
		what += " in the room with " + s.To
	case s.State == "change":
		what += " of a room"
	case s.State == "invitation":
		what += " into a room"
	}
	if code, is := statusOf(s.Why); is && code != pb.Code_CODE_DAMAGED {
		if wire.ClassOf(code) == wire.Policy {
			try = "ask your administrator"
		}
		_, text, _ := strings.Cut(s.Reason, ": ")
		return what + " was not taken: " + safe(text) + "; " + try
	}
	why, known := unreadableReasons[s.Why]
	if !known {
		why = "it does not fit the keys of this device, or was altered on the way"
	}
	return what + " could not be opened: " + why + "; " + try
}

// unreadableReasons are device.Shown.Why for people.
var unreadableReasons = map[string]string{
	"damaged":    "your node's copy of it is damaged",
	"waited":     "an organization that is needed to read it could not be reached for too long",
	"content":    "this version of the program does not know what is in it",
	"keys":       "this device no longer has the keys that it was made for",
	"generation": "it was sent before or after a reset of the room",
	"room":       "this device is not in its room",
	"late":       "its keys were used or have gone: it was opened before, or came too late",
	"epoch":      "it was sent in a state of the room whose keys this device does not have",
	"identity":   "the organization behind a name is another one than before: tell your administrator",
	"rules":      "it goes against the rules of the room",
}

// expiredText says that there was a message.
func expiredText(s device.Shown) string {
	text := "a message"
	if s.From != "" {
		text += " of " + s.From
	}
	if s.RoomName != "" {
		text += " in " + oneLine(s.RoomName, 40)
	}
	return text + " ended before you read it"
}

// whoText says who has said something.
func whoText(s device.Shown) string {
	switch {
	case s.Sent:
		return "you"
	case s.Own:
		return "you, on another device"
	}
	return s.From
}

// inRoomText is whoText with the room, where it has a name.
func inRoomText(s device.Shown) string {
	if s.RoomName == "" {
		return whoText(s)
	}
	return "[" + oneLine(s.RoomName, 40) + "] " + whoText(s)
}

// mentionText says that a text mentions this member.
func mentionText(s device.Shown) string {
	if !s.MentionsYou {
		return ""
	}
	return " (mentions you)"
}

// aboutText is the ID of the message that another one is about, and how it begins.
func aboutText(s device.Shown) string {
	if s.Quote == "" {
		return short(s.ReplyTo)
	}
	return short(s.ReplyTo) + " \"" + oneLine(s.Quote, 40) + "\""
}

// reactionText is a reaction, or that it was taken back.
func reactionText(s device.Shown) string {
	what := oneLine(s.Text, 16)
	if !s.Deleted {
		return fmt.Sprintf("%s: %s to %s", inRoomText(s), what, aboutText(s))
	}
	if what == "" {
		what = "a reaction"
	}
	return fmt.Sprintf("%s took back %s to %s", inRoomText(s), what, aboutText(s))
}

// messageText is a message on one line or more.
func messageText(s device.Shown) string {
	out := inRoomText(s)
	if (s.Own || s.Sent) && s.RoomName == "" {
		out += ", to " + s.To
	}
	if s.Deleted {
		return out + " deleted a message"
	}
	if s.ReplyTo != "" {
		out += " (to " + aboutText(s) + ")"
	}
	out += mentionText(s) + ": " + safe(s.Text)
	if s.File != nil {
		out = strings.TrimSuffix(out, " ") + fmt.Sprintf(" [file %s, %s, %s: entente file get %s]", oneLine(s.File.Name, 60), bytesText(s.File.Size), oneLine(s.File.Type, 40), short(s.ID))
	}
	if s.Edited {
		out += " (edited)"
	}
	return out + endText(s)
}
