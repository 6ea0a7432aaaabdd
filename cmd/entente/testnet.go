package main

import (
	"os"
	"time"

	"github.com/entente-im/entente/testnet"
	"github.com/spf13/cobra"
)

func testnetCommand() *cobra.Command {
	c := group("testnet", "Several organizations on this machine, to look and to break")
	c.AddCommand(testnetWalk())
	return c
}

func testnetWalk() *cobra.Command {
	c := &cobra.Command{
		Use:   "walk",
		Short: "Walk the main job with real processes, a line per step",
		Long: `Start two organizations as node processes on loopback ports, with their data in a
temporary folder, and walk the main job. Exits with 0 only if every step held.`,
		Example: "  entente testnet walk\n  entente testnet walk --keep\n  entente testnet walk --pictures docs",
		Args:    exactArgs(),
	}
	keep := c.Flags().Bool("keep", false, "leave the folders behind")
	bucket := c.Flags().Duration("bucket", 5*time.Second, "length of the nodes' deadline buckets")
	pictures := c.Flags().String("pictures", "", "draw what the nodes said of agreements and directories into this folder, as SVG")
	c.RunE = func(c *cobra.Command, _ []string) error {
		binary, err := os.Executable()
		if err != nil {
			return err
		}
		return testnet.Walk(c.Context(), testnet.WalkOptions{Binary: binary, Out: c.OutOrStdout(), Keep: *keep, Bucket: *bucket, Pictures: *pictures})
	}
	return c
}
