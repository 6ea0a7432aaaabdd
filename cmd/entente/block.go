package main

import (
	"fmt"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func blockCommand() *cobra.Command {
	c := group("block", "Outsiders that nobody of your organization deals with, for the operator")
	c.AddCommand(blockAdd(), blockRemove(), blockList())
	return c
}

const blockWho = `WHO is an address, an organization's name or ID, or ORGANIZATION-ID/MEMBER-ID, which
needs no answer from there.`

func blockAdd() *cobra.Command {
	c := &cobra.Command{
		Use: "add WHO", Short: "Block an outside member or organization for everybody",
		Long: `Block an outside member, or a whole organization, for everybody of yours. Requests and
invitations from there, new rooms with them and messages in rooms of two people are refused;
they are told no more than that they are not wanted. Rooms of several go on: members see
that somebody in them is blocked, administrators of the room may remove them.
` + blockWho,
		Example: "  entente block add mallory@globex.example --code phishing --reason 'ticket 4711' --for 720h --data acme\n  entente block add globex.example --data acme",
		Args:    exactArgs("WHO"), ValidArgsFunction: completePartner,
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	reason := c.Flags().String("reason", "", "why, for your colleagues; it is not sent")
	code := c.Flags().String("code", "", "what your published list says of it: spam, phishing, harassment, malware, impersonation or other (default: not in the list)")
	words(c, "code", "spam", "phishing", "harassment", "malware", "impersonation", "other")
	lasts := spanFlag(c, "for", "how long, such as 30d (default: until it is removed)")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := &pb.ChangeBlockRequest{Who: args[0], Reason: *reason, Code: *code}
		if *lasts != 0 {
			q.UntilUnix = time.Now().Add(*lasts).Unix()
		}
		return changeBlock(c, *data, *asJSON, q, "blocked for everybody here")
	}
	return c
}

func blockRemove() *cobra.Command {
	c := &cobra.Command{
		Use: "remove WHO", Short: "Take a block back",
		Long:    "Take a block back: what is refused meanwhile does not come again by itself. WHO is what block list shows, or its IDs.",
		Example: "  entente block remove mallory@globex.example --data acme", Args: exactArgs("WHO"),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	reason := c.Flags().String("reason", "", "why, for your colleagues; it is not sent")
	c.RunE = func(c *cobra.Command, args []string) error {
		return changeBlock(c, *data, *asJSON, &pb.ChangeBlockRequest{Who: args[0], Remove: true, Reason: *reason}, "not blocked by you any more")
	}
	return c
}

func changeBlock(c *cobra.Command, data string, asJSON bool, q *pb.ChangeBlockRequest, done string) error {
	b, err := operate(c.Context(), data, operatorClient.ChangeBlock, q)
	if err != nil {
		return err
	}
	if asJSON {
		return printProto(c.OutOrStdout(), b)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", oneLine(q.Who, 160), done)
	return err
}

func blockList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List who is blocked for everybody, or the log of changes",
		Long:    "List who is blocked for everybody, and by whom: you, or a list that you enforce (entente blocklist). --log lists the last 1,000 changes.",
		Example: "  entente block list --data acme\n  entente block list --log --json --data acme", Args: exactArgs(),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	log := c.Flags().Bool("log", false, "the log of changes, oldest first")
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ListBlocks, &pb.ListBlocksRequest{Log: *log})
		if err != nil {
			return err
		}
		var rows [][]string
		for _, b := range a.Blocks {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), b); err != nil {
					return err
				}
			}
			rows = append(rows, []string{blockedName(b.Name, b.OrganizationId, b.MemberId), blockSource(b), when(b.SinceUnix), when(b.UntilUnix), dash(oneLine(b.Reason, 60))})
		}
		for _, x := range a.Log {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), x); err != nil {
					return err
				}
			}
			rows = append(rows, []string{when(x.AtUnix), x.What, blockedName(x.Name, x.OrganizationId, x.MemberId), dash(oneLine(x.Reason, 60))})
		}
		switch {
		case *asJSON:
			return nil
		case *log:
			return table(c.OutOrStdout(), "AT WHAT WHO REASON", rows)
		}
		return table(c.OutOrStdout(), "WHO BY SINCE UNTIL REASON", rows)
	}
	return c
}

// blockedName is what an operator has typed, or the IDs.
func blockedName(name, org, member string) string {
	switch {
	case name != "":
		return oneLine(name, 160)
	case member != "":
		return org + "/" + member
	}
	return org
}

func blockSource(b *pb.Block) string {
	by := b.Source
	if by == "" {
		by = "you"
	}
	if !b.Enforced {
		by += " (not enforced)"
	}
	return by
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
