package main

import (
	"fmt"
	"time"

	"github.com/entente-im/entente/node"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func organizationRename() *cobra.Command {
	c := &cobra.Command{Use: "rename NAME", Short: "Give the organization another name",
		Long: `Give the organization another name, by its root key. It stays the same organization: agreements, members, rooms and what people
have verified stay. Stop the node, sign, start it again: partners follow by themselves and tell their people, unless the name
looks like another one that they know; then their administrators are asked. Under the old name you are found for 30 days more;
keep its DNS record that long, and publish the new one (entente organization dns).`,
		Example: "  entente organization rename acme.test --data acme\n  entente organization rename acme.test --root /media/usb/root.sealed --data acme", Args: exactArgs("NAME")}
	data, pass, asJSON := dataFlag(c), passphraseFlag(c), jsonFlag(c)
	root := rootFlag(c, data, pass)
	c.RunE = func(c *cobra.Command, args []string) error {
		before, err := node.OpenOrganization(*data)
		if err != nil {
			return err
		}
		file, p, err := root()
		if err != nil {
			return err
		}
		o, err := node.Rename(*data, file, p, args[0], time.Now())
		if err != nil {
			return rootError(err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"event": "renamed", "manifest": o.Manifest.Sequence, "was": before.Manifest.Name, "name": o.Manifest.Name})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is called %s (manifest %d). Start the node again.\n", before.Manifest.Name, o.Manifest.Name, o.Manifest.Sequence)
		return err
	}
	return c
}

func partnerRename() *cobra.Command {
	c := &cobra.Command{Use: "rename NAME", Short: "Follow the name that a partner has given itself",
		Long: `Follow the name that a partner has given itself, where it is not followed by itself: because it looks like another name that is
known here, or because DNS says that it is somebody else's. Until then the partner is shown under the name of before. Ask its
operator over a channel that you trust.`,
		Example: "  entente partner rename globex.example --accept-similar-name --data acme", Args: exactArgs("NAME"), ValidArgsFunction: completePartner}
	data, asJSON := dataFlag(c), jsonFlag(c)
	similar, unproved := nameFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := operate(c.Context(), *data, operatorClient.RenamePartner, &pb.RenamePartnerRequest{Name: args[0], AcceptSimilarName: *similar, AcceptUnprovedName: *unproved})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), p)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is followed as %s\n", oneLine(args[0], 253), p.Status.Name)
		return err
	}
	return c
}
