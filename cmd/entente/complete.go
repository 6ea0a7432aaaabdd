package main

import (
	"context"
	"strings"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

// completionPatience is how long a shell waits for a node that does not answer.
const completionPatience = 2 * time.Second

// completeMember offers the members' names to a shell, from the running node.
func completeMember(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return memberNames(c), cobra.ShellCompDirectiveNoFileComp
}

// completeGroup offers groups first, then members.
func completeGroup(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return memberNames(c), cobra.ShellCompDirectiveNoFileComp
	}
	return groupNames(c), cobra.ShellCompDirectiveNoFileComp
}

func memberNames(c *cobra.Command) (names []string) {
	fromNode(c, func(ctx context.Context, dir string) error {
		a, err := operate(ctx, dir, operatorClient.ListMembers, &pb.ListMembersRequest{})
		for _, m := range a.GetMembers() {
			name, _, _ := strings.Cut(m.Address, "@")
			names = append(names, name+"\t"+m.State)
		}
		return err
	})
	return names
}

func groupNames(c *cobra.Command) (names []string) {
	fromNode(c, func(ctx context.Context, dir string) error {
		a, err := operate(ctx, dir, operatorClient.ListGroups, &pb.ListGroupsRequest{})
		for _, g := range a.GetGroups() {
			names = append(names, g.Group)
		}
		return err
	})
	return names
}

// fromNode asks the node of --data; who completes a line is told of no error.
func fromNode(c *cobra.Command, ask func(ctx context.Context, dir string) error) {
	dir, err := c.Flags().GetString("data")
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
	defer cancel()
	_ = ask(ctx, dir)
}

// words completes a flag that takes one of a few words.
func words(c *cobra.Command, flag string, list ...string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
}

// offerNoFiles keeps a shell from offering files where a command takes names.
func offerNoFiles(c *cobra.Command) {
	for _, child := range c.Commands() {
		offerNoFiles(child)
	}
	if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 && !strings.Contains(c.Use, "FILE") {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
}
