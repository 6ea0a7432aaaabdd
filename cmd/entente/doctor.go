package main

import (
	"errors"
	"fmt"

	"github.com/entente-im/entente/node"
	"github.com/spf13/cobra"
)

func doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "Check a stopped node's folder, every record of it",
		Long:    "Check a stopped node's folder: configuration, keys, manifest, certificate, and every stored record. Nothing is changed. Exits with 1 when something is wrong.",
		Example: "  entente doctor --data acme",
		Args:    exactArgs(),
	}
	data, pass, asJSON := dataFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		p, err := passphrase(c, *pass, false)
		if err != nil {
			return err
		}
		found, err := node.Doctor(c.Context(), *data, p)
		if err != nil {
			return nodeOpenError(*data, err)
		}
		for _, f := range found {
			if *asJSON {
				err = printJSON(c.OutOrStdout(), map[string]string{"problem": f})
			} else {
				_, err = fmt.Fprintln(c.OutOrStdout(), f)
			}
			if err != nil {
				return err
			}
		}
		if len(found) > 0 {
			return errors.New("problems were found")
		}
		if !*asJSON {
			fmt.Fprintln(c.OutOrStdout(), "nothing is wrong")
		}
		return nil
	}
	return c
}
