package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

// Exit codes, documented in docs/operating.md.
const (
	exitOK          = 0
	exitFailed      = 1 // anything not below
	exitUsage       = 2 // the command line is wrong
	exitRefused     = 3 // refused for good: malformed, unknown, forbidden, revoked, used
	exitPolicy      = 4 // refused by a decision of people: no agreement, no consent
	exitTemporary   = 5 // may succeed later: unreachable, full, rate limited
	exitNotRunning  = 6 // the node is not running, or its folder is in use
	exitPassphrase  = 7 // wrong passphrase
	exitUnverified  = 8 // safety numbers differ, or somebody is not the member that was verified
	exitInterrupted = 130
)

// usageError marks a wrong command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// hintError adds what to try to an error.
type hintError struct {
	error
	hint string
	code int
}

func (e *hintError) Unwrap() error { return e.error }

// report prints what failed, which thing and what to try, and returns the code.
func report(w io.Writer, err error) int {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "entente: interrupted")
		var waits *device.WaitingError
		if errors.As(err, &waits) {
			fmt.Fprintln(w, "  "+waits.Waits())
		}
		return exitInterrupted
	}
	fmt.Fprintln(w, "entente:", plainText(strings.TrimSpace(err.Error())))
	code := exitCode(err)
	var hint *hintError
	if errors.As(err, &hint) && hint.hint != "" {
		fmt.Fprintln(w, "  try: "+hint.hint)
	} else if h := statusHint(err); h != "" {
		fmt.Fprintln(w, "  try: "+h)
	}
	return code
}

// packages whose names stand before their errors' texts: for logs, not for people.
var packages = []string{"identity", "directory", "node", "device", "federation", "mailbox", "store", "wire"}

// plainText leaves out of an error's text what only programmers need.
func plainText(s string) string {
	refused := identity.ErrNotStanding.Error() + ": "
	if rest, ok := strings.CutPrefix(s, refused); ok {
		s = "not valid: " + rest
	}
	s = strings.ReplaceAll(s, refused, "")
	for _, p := range packages {
		s = strings.ReplaceAll(strings.TrimPrefix(s, p+": "), ": "+p+": ", ": ")
	}
	return s
}

func exitCode(err error) int {
	var usage *usageError
	if errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	var hint *hintError
	if errors.As(err, &hint) && hint.code != 0 {
		return hint.code
	}
	if errors.Is(err, identity.ErrPassphrase) {
		return exitPassphrase
	}
	var status *wire.StatusError
	if !errors.As(err, &status) {
		return exitFailed
	}
	switch wire.ClassOf(status.Status.Code) {
	case wire.Temporary:
		return exitTemporary
	case wire.Policy:
		return exitPolicy
	}
	return exitRefused
}

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
	if c.Flags().Lookup("device") == nil || c.Flags().Changed("data") || errors.As(err, &hint) || errors.As(err, &waits) || !errors.As(err, &status) || memberHints[status.Status.Code] == "" {
		return err
	}
	return &hintError{err, memberHints[status.Status.Code], 0} // and the code of the status
}

func statusHint(err error) string {
	var waits *device.WaitingError
	if errors.As(err, &waits) {
		return "" // it says itself what follows
	}
	var status *wire.StatusError
	if errors.As(err, &status) {
		if status.Status.Code == pb.Code_CODE_NO_KEY_PACKAGE && strings.Contains(status.Status.Detail, "no device") {
			return "they enrol a device first, with a link from their operator: entente device enroll"
		}
		if status.Status.Code == pb.Code_CODE_UNKNOWN_MEMBER && strings.Contains(status.Status.Detail, "not in the room") {
			return "entente room members lists who is"
		}
		if status.Status.Code == pb.Code_CODE_FULL && strings.Contains(status.Status.Detail, "disk is full") {
			return "make room on the node's disk (256 MiB have to be free), then repeat the command"
		}
		if status.Status.Code == pb.Code_CODE_NO_AGREEMENT && strings.Contains(status.Status.Detail, "has blocked them") {
			return "your administrator has decided it: entente block list, entente blocklist list"
		}
		return hints[status.Status.Code]
	}
	var path *fs.PathError
	if errors.As(err, &path) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		return "name a folder that you may write to, or have its owner changed"
	}
	return ""
}

// exactArgs is cobra.ExactArgs with an error that counts as usage and names
// what is missing.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return &usageError{fmt.Errorf("%s takes %s\nSee `%s --help`", c.CommandPath(), describe(names), c.CommandPath())}
	}
}

// optionalArg is cobra.MaximumNArgs(1) with an error that counts as usage.
func optionalArg(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return &usageError{fmt.Errorf("%s takes at most one %s\nSee `%s --help`", c.CommandPath(), name, c.CommandPath())}
	}
}

// rangeArgs is cobra.RangeArgs with an error that counts as usage and says what a command
// takes, as its first line of help does; most < 0: any number.
func rangeArgs(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		_, takes, _ := strings.Cut(c.Use, " ")
		return &usageError{fmt.Errorf("%s takes %s\nSee `%s --help`", c.CommandPath(), takes, c.CommandPath())}
	}
}

// group makes a command that only has commands below it. Cobra would answer an
// unknown one with help and success; a script must not take that for done.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return &usageError{fmt.Errorf("unknown command %q for %q\nSee `%s --help`", args[0], c.CommandPath(), c.CommandPath())}
		},
	}
}

func describe(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return strings.Join(names, " ")
}
