package main

import (
	"fmt"

	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func memberDisable() *cobra.Command {
	c := &cobra.Command{
		Use: "disable NAME", Short: "Keep a member out: no device, no room, no new message",
		Long: `Keep a member out, from now on and until enable: all devices are revoked and leave every room, what waits for them is erased, nobody
invites the member or begins to write to them ("forbidden: … is disabled"), and no link lets them in. The name, the member's ID and what
others have on their devices stay. It cannot be undone for the devices: see enable.`,
		Example: "  entente member disable alice --reason 'left on Friday' --data acme", Args: exactArgs("NAME"),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	why := c.Flags().String("reason", "", "a note for yourselves, shown by member list; it is not sent")
	yes := c.Flags().Bool("yes", false, "do not ask")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !*yes {
			if ok, err := confirm(c, "Revoke all devices of "+oneLine(args[0], 64)+", and keep the member out?"); err != nil || !ok {
				return err
			}
		}
		a, err := operate(c.Context(), *data, operatorClient.DisableMember, &pb.DisableMemberRequest{Name: args[0], Why: *why})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is disabled: %s revoked, in %s\n", a.Member.GetAddress(), counted(a.Devices, "device"), counted(a.Rooms, "room"))
		return err
	}
	return c
}

func memberEnable() *cobra.Command {
	c := &cobra.Command{
		Use: "enable NAME", Short: "Let a disabled member come back, with a new device",
		Long: `Let a disabled member come back, as the same member with the same address. Revoked devices stay revoked: the link that is printed lets
one new device in, with a new key, as after member reset. Everybody who deals with the member is told; rooms are entered by invitation.`,
		Example: "  entente member enable alice --data acme", Args: exactArgs("NAME"),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	linkOnly := c.Flags().Bool("link-only", false, "print the link and nothing else")
	valid := spanFlag(c, "valid", "how long the link is good for (default 72h)")
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := operate(c.Context(), *data, operatorClient.EnableMember, &pb.ResetMemberRequest{Name: args[0], ValidSeconds: int64(valid.Seconds())})
		if err != nil {
			return err
		}
		return printLink(c, a, *linkOnly, *asJSON)
	}
	return c
}
