package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// yesFlag adds --yes to a command that asks.
func yesFlag(c *cobra.Command) *bool { return c.Flags().Bool("yes", false, "do not ask") }

// agreed asks a person before what cannot be taken back, unless yes. Without an answer
// nothing is done, and that is an error: a script must not take it for done.
func agreed(c *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	fmt.Fprintln(c.ErrOrStderr(), question)
	line, err := readLine(c, "Go on? [y/N] ", 16)
	if err != nil {
		return err
	}
	if line == "y" || line == "yes" {
		return nil
	}
	return &hintError{errors.New("nothing was done"), "repeat it with --yes", exitUsage}
}
