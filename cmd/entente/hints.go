package main

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

// hints say what a person can do about a status.
var hints = map[pb.Code]string{
	pb.Code_CODE_NO_AGREEMENT:         "an agreement is needed, or one that allows it: entente partner invite, show, amend",
	pb.Code_CODE_PENDING_CONSENT:      "they see now that you ask: repeat the command when they have accepted",
	pb.Code_CODE_SUSPENDED:            "nothing is sent until it is resumed: entente partner show NAME",
	pb.Code_CODE_UNKNOWN_MEMBER:       "check the spelling of the name before the @; who has a link and has enrolled no device yet is no member yet",
	pb.Code_CODE_UNKNOWN_ORGANIZATION: "check the spelling of the name; entente partner list has the partners",
	pb.Code_CODE_UNREACHABLE:          "repeat the command later; what was queued before goes out by itself: entente node status",
	pb.Code_CODE_LINK_EXPIRED:         "make a new link: entente member add NAME",
	pb.Code_CODE_LINK_USED:            "make a new link: entente member add NAME",
	pb.Code_CODE_LINK_UNKNOWN:         "copy the whole link, with everything after the #",
	pb.Code_CODE_REVOKED:              "enrol this device anew, with a link from your operator or from another device of yours",
	pb.Code_CODE_RATE_LIMITED:         "wait a moment and repeat the command",
	pb.Code_CODE_NO_KEY_PACKAGE:       "the recipient has to come online once: entente receive",
	pb.Code_CODE_TOO_LARGE:            "shorten the text, or send it in parts",
	pb.Code_CODE_FULL:                 "the recipient has to fetch messages first; try again later",
	pb.Code_CODE_ROLLED_BACK:          "repeat the command: this device was set back to an older copy and makes new keys",
	pb.Code_CODE_UNAUTHENTICATED:      "check the device's clock and sign in again",
}

// memberHints stand for those that name commands of operators, where a member's device was
// refused.
var memberHints = map[pb.Code]string{
	pb.Code_CODE_NO_AGREEMENT:         "ask your administrator for an agreement with them, or for one that allows it",
	pb.Code_CODE_SUSPENDED:            "nothing is sent until it is resumed: ask your administrator",
	pb.Code_CODE_UNKNOWN_ORGANIZATION: "check the spelling of the name; your administrator knows with whom there are agreements",
	pb.Code_CODE_UNREACHABLE:          "repeat the command later; what was queued before goes out by itself",
	pb.Code_CODE_LINK_EXPIRED:         "ask your administrator for a new link, or make one on another device of yours",
	pb.Code_CODE_LINK_USED:            "ask your administrator for a new link, or make one on another device of yours",
}

// forMember gives an error of a command that was run with a device the member's hint.
func forMember(c *cobra.Command, err error) error {
	var hint *hintError
	var waits *device.WaitingError
	var status *wire.StatusError
	if c.Flags().Lookup("device") == nil || c.Flags().Changed("data") || errors.As(err, &hint) || errors.As(err, &waits) || !errors.As(err, &status) {
		return err
	}
	return &hintError{err, hintOf(status.Status, true), 0} // and the code of the status
}

// detailHints stand for those of hints where a status's detail says more.
var detailHints = []struct {
	code             pb.Code
	detail           string
	operator, member string
}{
	{pb.Code_CODE_NO_KEY_PACKAGE, "no device", "they enrol a device first, with a link: entente member add NAME", "they enrol a device first, with a link from their administrator"},
	{pb.Code_CODE_UNKNOWN_MEMBER, "not in the room", "entente room members lists who is", "entente room members lists who is"},
	{pb.Code_CODE_FULL, "disk is full", "make room on the node's disk (256 MiB have to be free), then repeat the command", "tell your administrator"},
	{pb.Code_CODE_LINK_UNKNOWN, "no such token", "entente partner tokens lists those that can be taken back", ""},
	{pb.Code_CODE_NO_AGREEMENT, "has blocked them", "lift the block first: entente block list, entente blocklist list", "your administrator has decided it"},
}

// hintOf says what a person can do about a status: an operator, or a member with a device.
func hintOf(st *pb.Status, member bool) string {
	for _, d := range detailHints {
		if d.code == st.Code && strings.Contains(st.Detail, d.detail) {
			if member {
				return d.member
			}
			return d.operator
		}
	}
	if h := memberHints[st.Code]; member && h != "" {
		return h
	}
	return hints[st.Code]
}

func statusHint(err error) string {
	var waits *device.WaitingError
	if errors.As(err, &waits) {
		return "" // it says itself what follows
	}
	var status *wire.StatusError
	if errors.As(err, &status) {
		return hintOf(status.Status, false)
	}
	var path *fs.PathError
	if errors.As(err, &path) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		return "name a folder that you may write to, or have its owner changed"
	}
	return ""
}
