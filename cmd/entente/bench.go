package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/entente-im/entente/testnet"
	"github.com/spf13/cobra"
)

func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "bench",
		Short:   "Measure this machine: the store, a node at rest, device to device, many devices",
		Long:    "Measure this machine. Figures are worth most as ratios within one run; nothing is asserted.",
		Example: "  entente bench\n  entente bench --deposits 1000000\n  entente bench --only devices,pairs",
		Args:    exactArgs(),
	}
	deposits := c.Flags().Int("deposits", 300_000, "deposits per setting of the store")
	messages := c.Flags().Int("messages", 300, "messages from device to device")
	members := c.Flags().Int("members", 500, "devices of the large room")
	commits := c.Flags().Int("commits", 1_000, "Commits that one of them misses")
	directory := c.Flags().Int("directory", 100_000, "members of a directory")
	only := c.Flags().StringSlice("only", nil, "parts to measure: "+strings.Join(testnet.BenchParts, ", "))
	c.RunE = func(c *cobra.Command, _ []string) error {
		for _, part := range *only {
			if !slices.Contains(testnet.BenchParts, part) {
				return &usageError{fmt.Errorf("--only: %q is not one of %s", part, strings.Join(testnet.BenchParts, ", "))}
			}
		}
		binary, err := os.Executable()
		if err != nil {
			return err
		}
		return testnet.Bench(c.Context(), testnet.BenchOptions{Binary: binary, Out: c.OutOrStdout(), Deposits: *deposits, Messages: *messages, Members: *members, Commits: *commits, Directory: *directory, Only: *only})
	}
	return c
}
