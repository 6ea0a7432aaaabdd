package main

import (
	"os"

	"github.com/entente-im/entente/testnet"
	"github.com/spf13/cobra"
)

func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "bench",
		Short:   "Measure this machine: the store, a node at rest, device to device",
		Long:    "Measure this machine. Figures are worth most as ratios within one run; nothing is asserted.",
		Example: "  entente bench\n  entente bench --deposits 1000000",
		Args:    exactArgs(),
	}
	deposits := c.Flags().Int("deposits", 300_000, "deposits per setting of the store")
	messages := c.Flags().Int("messages", 300, "messages from device to device")
	c.RunE = func(c *cobra.Command, _ []string) error {
		binary, err := os.Executable()
		if err != nil {
			return err
		}
		return testnet.Bench(c.Context(), testnet.BenchOptions{Binary: binary, Out: c.OutOrStdout(), Deposits: *deposits, Messages: *messages})
	}
	return c
}
