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

func partnerCommand() *cobra.Command {
	c := group("partner", "Agreements with other organizations, for the operator")
	c.AddCommand(partnerInvite(), partnerTokens(), partnerRevokeToken(), partnerAccept(), partnerList(), partnerShow(), partnerSuspend(), partnerResume(), partnerAmend(), partnerRequest(), partnerBlock(), partnerGroups(), partnerQuarantine(), partnerRelease(), partnerRename(), partnerEnd())
	return c
}

func partnerInvite() *cobra.Command {
	c := &cobra.Command{
		Use:     "invite NAME",
		Short:   "Propose an agreement: prints a token for the other organization's operator",
		Long:    "Propose an agreement. The token has one use and 72 hours; send it to the other operator over a channel that you both trust.",
		Example: "  entente partner invite globex.example --contact open --data acme",
		Args:    exactArgs("NAME"),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	terms := termFlags(c)
	valid := spanFlag(c, "valid", "how long the token is good for (default 72h)")
	term := spanFlag(c, "term", "how long the agreement stands, such as 90d (default 1 year)")
	c.MarkFlagsMutuallyExclusive("term", "until")
	similar := c.Flags().Bool("accept-similar-name", false, "invite under a name that looks like another one that is known here")
	tokenOnly := c.Flags().Bool("token-only", false, "print the token and nothing else")
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := terms()
		if err != nil {
			return err
		}
		a, err := operate(c.Context(), *data, operatorClient.InvitePartner, &pb.InvitePartnerRequest{
			Name: args[0], Contact: t.GetContact(), Terms: t, ValidSeconds: seconds(*valid), AgreementSeconds: seconds(*term), AcceptSimilarName: *similar})
		if err != nil {
			return err
		}
		if a.InForce != "" {
			fmt.Fprintf(c.ErrOrStderr(), "%s is a partner already (%s): the token makes another agreement in the place of this one\n  to change its terms instead: entente partner amend %s\n", args[0], a.InForce, args[0])
		}
		switch {
		case *asJSON:
			return printProto(c.OutOrStdout(), a)
		case *tokenOnly:
			_, err = fmt.Fprintln(c.OutOrStdout(), a.Token)
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "For the operator of %s, once, until %s:\n\n%s\n\nThere: entente partner accept\n", args[0], when(a.ExpiresUnix), a.Token)
		return nil
	}
	return c
}

func partnerAccept() *cobra.Command {
	c := &cobra.Command{
		Use:     "accept [TOKEN|NAME]",
		Short:   "Accept a proposed agreement, or a partner's proposal to amend one: both nodes sign it",
		Long:    "Accept a proposed agreement. The token is read from --token-file, the argument, or standard input; the terms are shown before anything is signed.\nThe name is looked up in DNS (_entente TXT) and held against those that are known here: one that looks like another, or that DNS says is\nsomebody else's, is refused until you confirm it.\nWith a partner's NAME: sign the other terms that it proposes (partner show).",
		Example: "  entente partner accept --data globex\n  entente partner accept acme.example --data globex\n  entente partner accept --token-file token --yes --data globex",
		Args:    optionalArg("TOKEN"), ValidArgsFunction: completePartner,
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	file := c.Flags().String("token-file", "", "file with the token")
	yes := c.Flags().Bool("yes", false, "sign without asking")
	similar, unproved := nameFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 && *file == "" && wire.CheckOrganizationName(args[0]) == nil {
			return acceptAmendment(c, *data, args[0], *yes, *asJSON, named{*similar, *unproved})
		}
		token, err := readSecretArgument(c, args, *file, "Token: ")
		if err != nil {
			return err
		}
		preview, err := operate(c.Context(), *data, operatorClient.AcceptPartner, &pb.AcceptPartnerRequest{Token: token, DryRun: true})
		if err != nil {
			return tokenError(err)
		}
		printNameCheck(c.ErrOrStderr(), preview.Check)
		if !*yes {
			fmt.Fprint(c.ErrOrStderr(), preview.Terms)
			if ok, err := confirm(c, "Sign this agreement?"); err != nil || !ok {
				return err
			}
		}
		a, err := operate(c.Context(), *data, operatorClient.AcceptPartner, &pb.AcceptPartnerRequest{Token: token, AcceptSimilarName: *similar, AcceptUnprovedName: *unproved})
		if err != nil {
			return tokenError(err)
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		fmt.Fprintf(c.OutOrStdout(), "agreement with %s signed by both (%s)\n", a.Partner, a.OrganizationId)
		return nil
	}
	return c
}

// tokenError says what to try about a token; its codes are those of enrolment links, too.
func tokenError(err error) error {
	var status *wire.StatusError
	if !errors.As(err, &status) {
		return err
	}
	switch status.Status.Code {
	case pb.Code_CODE_LINK_EXPIRED, pb.Code_CODE_LINK_USED:
		return &hintError{err, "ask the other organization's operator for a new token; there: entente partner invite, with your organization's name", 0}
	case pb.Code_CODE_LINK_UNKNOWN, pb.Code_CODE_MALFORMED:
		return &hintError{err, "copy the whole token, as entente partner invite has printed it; a name instead answers what that partner proposes", 0}
	}
	return err
}

func partnerList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List partners, what waits for them, and when they were heard from", Example: "  entente partner list --data acme", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ListPartners, &pb.ListPartnersRequest{})
		if err != nil {
			return err
		}
		if *asJSON {
			for _, p := range a.Partners {
				if err := printProto(c.OutOrStdout(), p); err != nil {
					return err
				}
			}
			return nil
		}
		return table(c.OutOrStdout(), "PARTNER STATE CONTACT WAITING BYTES HEARD NEXT UNTIL TERMS DNS ERROR", partnerRows(a.Partners))
	}
	return c
}

func partnerRows(partners []*pb.PartnerStatus) [][]string {
	var rows [][]string
	for _, p := range partners {
		trouble := oneLine(p.LastError, 80)
		if trouble == "" {
			trouble = "-"
		}
		amendment := p.Amendment
		if amendment == "" {
			amendment = "-"
		}
		rows = append(rows, []string{calledMarks(p), p.State, p.Contact, strconv.FormatUint(p.OutboxCount, 10), bytesText(p.OutboxBytes),
			when(p.LastContactUnix), when(p.NextAttemptUnix), when(p.ValidUntilUnix), amendment, dash(p.GetCheck().GetDns()), trouble})
	}
	return rows
}

// readSecretArgument reads a link or token: from a file, the argument, or a
// line of standard input, so that it need not stand in the shell's history.
func readSecretArgument(c *cobra.Command, args []string, file, prompt string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		return strings.TrimSpace(string(b)), err
	}
	if len(args) == 1 {
		return strings.TrimSpace(args[0]), nil
	}
	line, err := readLine(c, prompt, 16<<10)
	if err == nil && line == "" {
		err = &usageError{fmt.Errorf("nothing was given: pass a file, an argument or a line of input\nSee `%s --help`", c.CommandPath())}
	}
	return line, err
}

// confirm asks before what cannot be undone; a command that has it has --yes too. Where nobody
// is there to answer, nothing is done, and that is a failure: a script must not take it for done.
func confirm(c *cobra.Command, question string) (bool, error) {
	line, err := readAnswer(c, question+" [y/N] ")
	if errors.Is(err, io.EOF) {
		return false, &hintError{errors.New("nobody is there to answer: nothing was done"), c.CommandPath() + " --yes, once you have read what it does", exitUsage}
	}
	if err != nil {
		return false, err
	}
	if line != "y" && line != "yes" {
		fmt.Fprintln(c.ErrOrStderr(), "nothing was done")
		return false, nil
	}
	return true, nil
}
