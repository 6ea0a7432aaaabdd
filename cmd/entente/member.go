package main

import (
	"fmt"
	"strconv"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"
)

type operatorClient = ententev1connect.OperatorServiceClient

func memberCommand() *cobra.Command {
	c := group("member", "Members of the organization, for its operator")
	c.AddCommand(memberAdd(), memberReset(), memberDisable(), memberEnable(), memberList(), memberDevices(), memberLinks(), memberRevokeLink(), memberGroup())
	return c
}

func memberAdd() *cobra.Command {
	c := &cobra.Command{
		Use:     "add NAME",
		Short:   "Make an enrolment link for a new member",
		Long:    "Make an enrolment link: one use, 72 hours, for this name. Whoever has the link becomes the member: hand it over as you would a key.",
		Example: "  entente member add alice --data acme\n  entente member add alice --data acme --link-only | entente device enroll",
		Args:    exactArgs("NAME"),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	linkOnly := c.Flags().Bool("link-only", false, "print the link and nothing else")
	valid := spanFlag(c, "valid", "how long the link is good for (default 72h)")
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := operate(c.Context(), *data, operatorClient.AddMember, &pb.AddMemberRequest{Name: args[0], ValidSeconds: int64(valid.Seconds())})
		if err != nil {
			return err
		}
		return printLink(c, a, *linkOnly, *asJSON)
	}
	return c
}

func printLink(c *cobra.Command, a *pb.AddMemberResponse, linkOnly, asJSON bool) error {
	out := c.OutOrStdout()
	switch {
	case asJSON:
		return printProto(out, a)
	case linkOnly:
		_, err := fmt.Fprintln(out, a.Link)
		return err
	}
	fmt.Fprintf(out, "%s can enrol a device until %s, once, with this link:\n\n%s\n\n", a.Address, when(a.ExpiresUnix), a.Link)
	qrterminal.GenerateHalfBlock(a.Link, qrterminal.L, out)
	return nil
}

func memberReset() *cobra.Command {
	c := &cobra.Command{
		Use: "reset NAME", Short: "Let a member who has lost all devices come back",
		Long: `Let a member who has lost all devices come back: whatever devices the directory has of them are revoked, and a link lets one new
device in, with a new key. The member stays the same, with the same address; rooms are entered anew by invitation, and what was on
the lost devices is gone. Everybody who deals with them is told that you have done this, and who had compared safety numbers has
to do so again before they write: be sure who asks you.`,
		Example: "  entente member reset alice --data acme\n  entente member reset alice --yes --data acme --link-only | entente device enroll", Args: exactArgs("NAME"),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	linkOnly := c.Flags().Bool("link-only", false, "print the link and nothing else")
	valid := spanFlag(c, "valid", "how long the link is good for (default 72h)")
	yes := c.Flags().Bool("yes", false, "do not ask")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !*yes {
			if ok, err := confirm(c, "Revoke all devices of "+oneLine(args[0], 64)+", and let who gets the link be that member?"); err != nil || !ok {
				return err
			}
		}
		a, err := operate(c.Context(), *data, operatorClient.ResetMember, &pb.ResetMemberRequest{Name: args[0], ValidSeconds: int64(valid.Seconds())})
		if err != nil {
			return err
		}
		return printLink(c, a, *linkOnly, *asJSON)
	}
	return c
}

func memberList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the members", Example: "  entente member list --data acme", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ListMembers, &pb.ListMembersRequest{})
		if err != nil {
			return err
		}
		var rows [][]string
		for _, m := range a.Members {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), m); err != nil {
					return err
				}
			}
			state := m.State
			if m.Why != "" {
				state += " (" + oneLine(m.Why, 80) + ")"
			}
			rows = append(rows, []string{m.Address, strconv.Itoa(int(m.Devices)), strconv.FormatUint(m.Version, 10), state, m.MemberId})
		}
		if *asJSON {
			return nil
		}
		return table(c.OutOrStdout(), "ADDRESS DEVICES VERSION STATE ID", rows)
	}
	return c
}

func memberDevices() *cobra.Command {
	c := &cobra.Command{Use: "devices [NAME]", Short: "List the devices of a member, or of all", Example: "  entente member devices alice --data acme", Args: optionalArg("NAME"), ValidArgsFunction: completeMember}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		request := &pb.ListDevicesRequest{}
		if len(args) == 1 {
			request.Name = args[0]
		}
		a, err := operate(c.Context(), *data, operatorClient.ListDevices, request)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, d := range a.Devices {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), d); err != nil {
					return err
				}
			}
			state := "active"
			if d.Revoked {
				state = "revoked"
			} else if d.Online {
				state = "online"
			} else if d.Idle {
				state = "idle"
			}
			seen := ""
			if d.SeenUnix > 0 {
				seen = onDay(time.Unix(d.SeenUnix, 0))
			}
			rows = append(rows, []string{d.Address, d.DeviceId, state, seen, when(d.IssuedUnix), when(d.ExpiresUnix), strconv.Itoa(int(d.KeyPackages))})
		}
		if *asJSON {
			return nil
		}
		return table(c.OutOrStdout(), "ADDRESS DEVICE STATE SEEN ISSUED EXPIRES KEYPACKAGES", rows)
	}
	return c
}

func memberLinks() *cobra.Command {
	c := &cobra.Command{Use: "links", Short: "List enrolment links (never their secrets)", Example: "  entente member links --data acme", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ListLinks, &pb.ListLinksRequest{})
		if err != nil {
			return err
		}
		var rows [][]string
		for _, l := range a.Links {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), l); err != nil {
					return err
				}
			}
			rows = append(rows, []string{l.LinkId, l.Address, l.State, when(l.ExpiresUnix)})
		}
		if *asJSON {
			return nil
		}
		return table(c.OutOrStdout(), "LINK ADDRESS STATE EXPIRES", rows)
	}
	return c
}

func memberRevokeLink() *cobra.Command {
	c := &cobra.Command{Use: "revoke-link LINK", Short: "Revoke an enrolment link that was not used", Example: "  entente member revoke-link 3f0a… --data acme", Args: exactArgs("LINK")}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		_, err := operate(c.Context(), *data, operatorClient.RevokeLink, &pb.RevokeLinkRequest{LinkId: args[0]})
		return err
	}
	return c
}

// seconds turns a duration flag into the wire's unit.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
