package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/node"
	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	c := group("config", "A node's configuration file, node.yaml")
	c.AddCommand(configTest(), configShow())
	return c
}

func configTest() *cobra.Command {
	c := &cobra.Command{
		Use:   "test",
		Short: "Check node.yaml and what it names, before a start",
		Long: `Check node.yaml as a start would, and what it names: certificate files, addresses,
the folder. Nothing is changed, no passphrase is needed, and the node may be running.
Exits with 1 when the node would not start or nobody would reach it.`,
		Example: "  entente config test --data acme\n  entente config test --data acme --json",
		Args:    exactArgs(),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		_, found, err := node.TestConfig(*data, time.Now())
		if err != nil {
			return nodeOpenError(*data, err)
		}
		bad := 0
		for _, f := range found {
			if f.Fatal {
				bad++
			}
			if *asJSON {
				err = printJSON(c.OutOrStdout(), f)
			} else {
				_, err = fmt.Fprintln(c.OutOrStdout(), findingText(f))
			}
			if err != nil {
				return err
			}
		}
		if bad > 0 {
			return errors.New("the configuration does not work")
		}
		if !*asJSON {
			fmt.Fprintln(c.OutOrStdout(), "the configuration stands")
		}
		return nil
	}
	return c
}

func findingText(f node.Finding) string {
	kind := "note    "
	if f.Fatal {
		kind = "problem "
	}
	if f.Key == "" {
		return kind + f.Text
	}
	return kind + f.Key + ": " + f.Text
}

func configShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show",
		Short:   "The values in force, defaults included, each key with what it does",
		Example: "  entente config show --data acme\n  entente config show --defaults",
		Args:    exactArgs(),
	}
	data := dataFlag(c)
	defaults := c.Flags().Bool("defaults", false, "the values of keys that are not set")
	c.RunE = func(c *cobra.Command, _ []string) error {
		config := node.DefaultConfig()
		if !*defaults {
			var err error
			if config, err = node.LoadConfig(*data); err != nil {
				return nodeOpenError(*data, err)
			}
		}
		_, err := fmt.Fprint(c.OutOrStdout(), config.ConfigText())
		return err
	}
	return c
}
