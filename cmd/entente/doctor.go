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
		Long:    "Check a stopped node's folder: configuration, keys, manifest, certificate, and every stored record. Nothing is changed. It also notes what a restore has cost in the last 7 days, which is nothing wrong with the folder. Exits with 1 when something is wrong.",
		Example: "  entente doctor --data acme",
		Args:    exactArgs(),
	}
	data, pass, asJSON := dataFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		p, err := passphrase(c, *pass, false)
		if err != nil {
			return err
		}
		found, notes, err := node.Doctor(c.Context(), *data, p)
		if err != nil {
			return nodeOpenError(*data, err)
		}
		for _, list := range []struct {
			key   string
			texts []string
		}{{"problem", found}, {"note", notes}} {
			for _, text := range list.texts {
				if *asJSON {
					err = printJSON(c.OutOrStdout(), map[string]string{list.key: plainText(text)})
				} else {
					_, err = fmt.Fprintf(c.OutOrStdout(), "%-7s %s\n", list.key, plainText(text))
				}
				if err != nil {
					return err
				}
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
