package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
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
