package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func blockListCommand() *cobra.Command {
	c := group("blocklist", "Block lists that organizations sign for their partners, for the operator")
	c.AddCommand(blockListPublish(), blockListSubscribe(), blockListUnsubscribe(), blockListList(), blockListShow(), blockListVerify())
	return c
}

func blockListPublish() *cobra.Command {
	c := &cobra.Command{
		Use: "publish", Short: "Sign your blocks that have a code, for partners who subscribe",
		Long: `Sign a list of your blocks that have a code (entente block add --code), and hand it to
partners that ask. It says IDs, codes and ends: no names, and no reasons that you have typed.
It takes the last one's place, and is signed anew before it ends. Changed blocks go into
a list with the next publish. --withdraw publishes an empty one.`,
		Example: "  entente blocklist publish --valid 720h --data acme\n  entente blocklist publish --withdraw --data acme", Args: exactArgs(),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	valid := spanFlag(c, "valid", "how long the list holds (default 30d, at most 90d)")
	withdraw := c.Flags().Bool("withdraw", false, "publish an empty list")
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := operate(c.Context(), *data, operatorClient.PublishBlockList, &pb.PublishBlockListRequest{ValidSeconds: seconds(*valid), Withdraw: *withdraw})
		return printBlockList(c, d, err, *asJSON)
	}
	return c
}

func blockListSubscribe() *cobra.Command {
	c := &cobra.Command{
		Use: "subscribe NAME", Short: "Hold to a partner's block list, or only show it",
		Long: `Subscribe to a partner's block list: it is fetched now, every hour and when its node is
reached again, or taken of --file. With enforce, whom it names is blocked for everybody here, as
by block add, until the list ends; with show it changes nothing. Your own organization
and its members are never blocked by a list. Older lists than the last are never taken, and two
with one sequence are an equivocation of their issuer: blocklist show has both.`,
		Example: "  entente blocklist subscribe globex.example --mode enforce --data acme\n  entente blocklist subscribe globex.example --mode show --file list.txt --data acme",
		Args:    exactArgs("NAME"), ValidArgsFunction: completePartner,
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	mode := c.Flags().String("mode", "show", "enforce or show")
	words(c, "mode", "enforce", "show")
	file := c.Flags().String("file", "", "take the list from a file")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := &pb.SubscribeBlockListRequest{Organization: args[0], Mode: *mode}
		if *file != "" {
			note, err := readBlockList(*file)
			if err != nil {
				return err
			}
			q.Note = note
		}
		d, err := operate(c.Context(), *data, operatorClient.SubscribeBlockList, q)
		return printBlockList(c, d, err, *asJSON)
	}
	return c
}

func blockListUnsubscribe() *cobra.Command {
	c := &cobra.Command{
		Use: "unsubscribe NAME", Short: "Hold to a partner's block list no longer",
		Example: "  entente blocklist unsubscribe globex.example --data acme", Args: exactArgs("NAME"), ValidArgsFunction: completePartner,
	}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, err := operate(c.Context(), *data, operatorClient.SubscribeBlockList, &pb.SubscribeBlockListRequest{Organization: args[0], Remove: true}); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s: its list blocks nobody here any more\n", oneLine(args[0], 80))
		return err
	}
	return c
}

func blockListList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the block lists: yours, and those that you subscribe to",
		Example: "  entente blocklist list --data acme", Args: exactArgs(),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ListBlockLists, &pb.ListBlockListsRequest{})
		if err != nil {
			return err
		}
		var rows [][]string
		for _, l := range a.Lists {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), l); err != nil {
					return err
				}
			}
			rows = append(rows, []string{l.Organization, listState(l), strconv.FormatUint(l.Sequence, 10), strconv.FormatUint(l.Entries, 10),
				when(l.IssuedUnix), when(l.ValidUntilUnix), dash(oneLine(l.Problem, 80))})
		}
		if *asJSON {
			return nil
		}
		return table(c.OutOrStdout(), "LIST STATE SEQUENCE ENTRIES ISSUED UNTIL PROBLEM", rows)
	}
	return c
}

func listState(l *pb.BlockListStatus) string {
	state := dash(l.Mode)
	switch {
	case l.Mode == "enforce" && l.Enforced:
		state = "enforced"
	case l.Mode == "enforce":
		state = "not enforced"
	case l.Mode == "show":
		state = "shown"
	}
	if l.Equivocation {
		state += ", equivocation"
	}
	return state
}

func blockListShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show [NAME]", Short: "Show a block list: yours, or a partner's", Args: optionalArg("NAME"),
		Long:    "Show a block list: yours, or a partner's that you subscribe to. --note prints it as it was signed, for a file; of an equivocation both, one after the other.",
		Example: "  entente blocklist show globex.example --data acme\n  entente blocklist show --note --data globex > list.txt", ValidArgsFunction: completePartner,
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	note := c.Flags().Bool("note", false, "print the list as it was signed")
	c.RunE = func(c *cobra.Command, args []string) error {
		q := &pb.ShowBlockListRequest{}
		if len(args) > 0 {
			q.Organization = args[0]
		}
		d, err := operate(c.Context(), *data, operatorClient.ShowBlockList, q)
		if err == nil && *note {
			_, err = fmt.Fprint(c.OutOrStdout(), d.Note, d.Other)
			return err
		}
		return printBlockList(c, d, err, *asJSON)
	}
	return c
}

func blockListVerify() *cobra.Command {
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check a block list from a file, and keep nothing of it",
		Long:    "Check form, signature and time of a block list from a file, against the directory key of its issuer: yourself, or a partner. Nothing of it is kept.",
		Example: "  entente blocklist verify list.txt --data acme", Args: exactArgs("FILE"),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := readBlockList(args[0])
		if err != nil {
			return err
		}
		d, err := operate(c.Context(), *data, operatorClient.ShowBlockList, &pb.ShowBlockListRequest{Note: text})
		return printBlockList(c, d, err, *asJSON)
	}
	return c
}

// readBlockList reads a list of bounded length from a file.
func readBlockList(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, wire.MaxBlockList+1))
	if err == nil && len(b) > wire.MaxBlockList {
		err = errors.New("that file is longer than any block list")
	}
	return string(b), err
}

func printBlockList(c *cobra.Command, d *pb.BlockListDetails, err error, asJSON bool) error {
	if err != nil {
		return err
	}
	if asJSON {
		return printProto(c.OutOrStdout(), d)
	}
	s := d.Status
	fmt.Fprintf(c.OutOrStdout(), "%s (%s)\n%s; sequence %d, issued %s, until %s, %d entries\n", s.Organization, s.OrganizationId,
		strings.TrimPrefix(listState(s), "- "), s.Sequence, when(s.IssuedUnix), when(s.ValidUntilUnix), s.Entries)
	if s.Problem != "" {
		fmt.Fprintln(c.OutOrStdout(), oneLine(s.Problem, 200))
	}
	var rows [][]string
	for _, e := range d.Entries {
		rows = append(rows, []string{blockedName("", e.OrganizationId, e.MemberId), e.Code, when(e.UntilUnix)})
	}
	return table(c.OutOrStdout(), "WHO CODE UNTIL", rows)
}
