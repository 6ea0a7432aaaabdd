package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/entente-im/entente/node"
	"github.com/spf13/cobra"
)

func organizationAddresses() *cobra.Command {
	c := &cobra.Command{Use: "addresses", Short: "Where partners dial this node, and sign other addresses",
		Long: `Where partners dial this node, as the manifest says that they hold. With --sign the addresses of node.yaml (announce, else
federation) are signed into a new manifest by the root key; none makes this a node that dials its partners. Stop the node,
sign, start it again: it dials its partners, and they follow the manifest by themselves. Change one side at a time where both
move, or neither finds the other.`,
		Example: "  entente organization addresses --data acme\n  entente organization addresses --sign --data acme\n  entente organization addresses --sign --root /media/usb/root.sealed --data acme", Args: exactArgs()}
	data, pass, asJSON := dataFlag(c), passphraseFlag(c), jsonFlag(c)
	sign := c.Flags().Bool("sign", false, "sign the addresses of node.yaml")
	root := rootFlag(c, data, pass)
	c.RunE = func(c *cobra.Command, _ []string) error {
		configured, signed, err := node.Announced(*data)
		if err != nil {
			return err
		}
		if *sign && !slices.Equal(configured, signed) {
			file, p, err := root()
			if err != nil {
				return err
			}
			o, err := node.Readdress(*data, file, p, configured, time.Now())
			if err != nil {
				return rootError(err)
			}
			signed = o.Manifest.Addresses
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"signed": list(signed), "configured": list(configured)})
		}
		fmt.Fprintf(c.OutOrStdout(), "partners dial  %s\n", addressText(signed))
		if !slices.Equal(configured, signed) {
			fmt.Fprintf(c.OutOrStdout(), "node.yaml has  %s\n  try: entente organization addresses --sign\n", addressText(configured))
		} else if *sign {
			fmt.Fprintln(c.OutOrStdout(), "signed; start the node again")
		}
		return nil
	}
	return c
}

// list is never null in JSON.
func list(s []string) []string { return append([]string{}, s...) }

func addressText(s []string) string {
	if len(s) == 0 {
		return "nothing: this node dials them"
	}
	return strings.Join(s, " ")
}
