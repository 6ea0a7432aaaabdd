package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func memberGroup() *cobra.Command {
	c := group("group", "Groups of members: nobody outside is told of them")
	c.AddCommand(memberGroupChange("add", "Put members into a group", false), memberGroupChange("remove", "Take members off a group", true), memberGroupList())
	return c
}

func memberGroupChange(verb, short string, remove bool) *cobra.Command {
	c := &cobra.Command{
		Use: verb + " GROUP NAME...", Short: short,
		Long:    short + ". A group is there while somebody is in it. What a group may do is said by entente partner groups.",
		Example: "  entente member group " + verb + " sales alice bob --data acme", ValidArgsFunction: completeGroup,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exactArgs("GROUP", "NAME...")(c, args)
			}
			return nil
		},
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		g, err := operate(c.Context(), *data, operatorClient.ChangeGroup, &pb.ChangeGroupRequest{Group: args[0], Members: args[1:], Remove: remove})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), g)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", g.Group, counted(len(g.Members), "member"))
		return err
	}
	return c
}

func memberGroupList() *cobra.Command {
	c := &cobra.Command{Use: "list [GROUP]", Short: "List groups and who is in them", Args: optionalArg("GROUP"),
		Example: "  entente member group list --data acme\n  entente member group list sales --data acme",
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return groupNames(c), cobra.ShellCompDirectiveNoFileComp
		}}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		q := &pb.ListGroupsRequest{}
		if len(args) > 0 {
			q.Group = args[0]
		}
		a, err := operate(c.Context(), *data, operatorClient.ListGroups, q)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, g := range a.Groups {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), g); err != nil {
					return err
				}
			}
			rows = append(rows, []string{g.Group, strconv.Itoa(len(g.Members)), strings.Join(g.Members, " ")})
		}
		if *asJSON {
			return nil
		}
		return table(c.OutOrStdout(), "GROUP MEMBERS WHO", rows)
	}
	return c
}

func partnerGroups() *cobra.Command {
	c := &cobra.Command{
		Use: "groups NAME", Short: "Which of our groups may deal with a partner",
		Long: `Which of our groups may deal with a partner; none named: every member may. The rule is
ours and is not sent. Who is in none of the groups is neither found by the partner's members
(with directory groups), nor claimed for a room, nor looks them up, nor comes into a room with
them, nor writes into one that exists.`,
		Example: "  entente partner groups globex.example --allow sales --allow support --data acme\n  entente partner groups globex.example --all --data acme",
		Args:    exactArgs("NAME"), ValidArgsFunction: completePartner,
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	allow := c.Flags().StringSlice("allow", nil, "a group that may, instead of those before (repeatable)")
	_ = c.RegisterFlagCompletionFunc("allow", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return groupNames(c), cobra.ShellCompDirectiveNoFileComp
	})
	all := c.Flags().Bool("all", false, "every member may")
	empty := c.Flags().Bool("allow-empty", false, "also a group that nobody is in yet")
	c.MarkFlagsMutuallyExclusive("allow", "all")
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := operate(c.Context(), *data, operatorClient.PartnerGroups, &pb.PartnerGroupsRequest{Name: args[0], Change: *all || len(*allow) > 0, Groups: *allow, AllowEmpty: *empty})
		var status *wire.StatusError
		if errors.As(err, &status) && status.Status.Code == pb.Code_CODE_NOT_FOUND {
			return &hintError{err, "entente member group list; nothing was changed: with --allow-empty nobody could deal with the partner until somebody is in it", 0}
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", a.Partner, groupsText(a.Groups))
		return err
	}
	return c
}

func groupsText(groups []string) string {
	if len(groups) == 0 {
		return "every member may deal with it"
	}
	return "only members in " + strings.Join(groups, ", ")
}
