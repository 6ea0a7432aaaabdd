package main

import (
	"fmt"
	"strconv"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// roomText says what happened in a room.
func roomText(s device.Shown) string {
	room := "the room"
	switch {
	case s.RoomName != "":
		room = oneLine(s.RoomName, 40)
	case s.To != "" && s.To == s.From:
		room = "the room with you"
	case s.To != "":
		room = "the room with " + s.To
	}
	switch s.State {
	case "joined":
		if s.Own {
			return "your other device has brought this one into a room; what was said before is not on this device"
		}
		if s.Count > 2 {
			return fmt.Sprintf("%s has invited you into a room of %d people; you read what is said from now on", s.From, s.Count)
		}
		return "in a room with " + s.From + "; you read what is said from now on"
	case "named":
		return s.From + " calls the room " + oneLine(s.RoomName, 40)
	case "added":
		return s.From + " came into " + room + invitedText(s)
	case "device added":
		if s.Own {
			return "your other device is in " + room + " now: " + s.Reason
		}
		return s.From + " has another device in " + room + ": " + s.Reason
	case "came back":
		return s.From + " came back into " + room
	case "left":
		return s.From + " left " + room
	case "member removed":
		return s.By + " removed " + s.From + " from " + room
	case "device removed", "device revoked":
		return deviceOutText(s, room)
	case "organization removed":
		return fmt.Sprintf("%s is out of %s, with %s, by %s: the agreement %s", s.From, room, counted(s.Count, "device"), s.By, stateText(s.Reason))
	case "removed":
		return "you are out of " + room + outCause(s)
	case "invited in vain":
		return "you were invited to a room and removed again before you came"
	case "ended":
		return s.From + " ended " + room
	case "rules changed":
		return s.From + " changed the rules of " + room + ": see entente room members"
	case "complaint":
		return s.From + " " + safe(s.Reason) + ", in " + room
	case "reset":
		if s.From == "" {
			return room + " was reset without this device: " + safe(s.Reason)
		}
		return s.From + " reset " + room + ": " + safe(s.Reason) + "; what was said meanwhile may be missing here"
	case "not reset":
		return room + " could not be reset from here: " + safe(s.Reason)
	case "terms":
		return safe(s.Reason) + ", in " + roomsText(s, room)
	case "agreement":
		return partnerText(s.From, s.Reason) + ": " + stateMeans(s.Reason) + ", in " + roomsText(s, room)
	case "blocked":
		return blockedHereText(s, room)
	case "stopped":
		return "stopped in " + room + ": " + safe(s.Reason)
	case "restored":
		return safe(s.Reason)
	case "resynced":
		return "this device came back into " + room + ": " + safe(s.Reason)
	case "not resynced":
		return "this device could not come back into " + room + ": " + safe(s.Reason)
	case "waits":
		return "in " + room + " what is said now waits: " + safe(s.Reason) + "; it goes on by itself"
	case "gap":
		return "in " + room + " something is missing: " + safe(s.Reason)
	}
	return fmt.Sprintf("%s: %s %s %s", room, s.State, s.From, safe(s.Reason))
}

// roomsText is the room, or how many are told the same.
func roomsText(s device.Shown, room string) string {
	if s.Count > 1 {
		return strconv.Itoa(s.Count) + " rooms"
	}
	return room
}

// invitedText says who has invited somebody, and as what.
func invitedText(s device.Shown) string {
	out := ""
	if s.By != "" {
		out = ", invited by " + s.By
	}
	if s.Role != "" {
		out += ", as " + s.Role
	}
	return out
}

// deviceOutText says that a device of somebody who stays, or a revoked one, is out.
func deviceOutText(s device.Shown, room string) string {
	whose := s.From + "'s device "
	if s.Own {
		whose = "a device of yours, "
	}
	if s.State == "device removed" {
		return whose + s.Reason + " is out of " + room
	}
	by := ""
	if s.By != "" {
		by = " by " + s.By
	}
	return whose + s.Reason + " was revoked" + by + " and is out of " + room
}

// outCause says why this device is out of a room.
func outCause(s device.Shown) string {
	switch {
	case s.Reason == "left":
		return ": you left it"
	case s.Reason == "device revoked":
		return ": this device was revoked"
	case s.Reason == "member removed" && s.By != "":
		return ": " + s.By + " removed you"
	case s.Reason != "" && s.By != "":
		return ", by " + s.By + ": the agreement " + stateText(s.Reason)
	}
	return ""
}

func noticeText(s device.Shown) string {
	switch s.State {
	case "expired":
		return "expired unread"
	case "refused":
		text := "refused: " + reasonText(s.Reason)
		if s.Reason == wire.CodeName(pb.Code_CODE_FULL) {
			text += "; send it again when they have fetched theirs"
		}
		return text
	}
	return s.State
}

// reasonText adds to a status's name what it means.
func reasonText(name string) string {
	if name == "" {
		return "the other side gave no reason"
	}
	if c, ok := statusOf(name); ok {
		return name + ": " + wire.Status(c, "").Detail
	}
	return safe(name)
}

// statusOf returns the status of a name.
func statusOf(name string) (pb.Code, bool) {
	for code := range pb.Code_name {
		if c := pb.Code(code); wire.CodeName(c) == name {
			return c, true
		}
	}
	return 0, false
}
