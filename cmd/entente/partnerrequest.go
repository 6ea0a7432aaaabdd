package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func partnerRequest() *cobra.Command {
	c := &cobra.Command{
		Use: "request NAME ADDRESS", Short: "Ask an organization that is open to requests for an agreement",
		Long: `Ask an organization that is open to requests (entente node mode open) for an agreement.
ADDRESS is where its node is reached, with its peer: see its entente node mode.
Its operator sees the request in partner list, and accepts it, blocks you, or does nothing;
after 30 days it is gone. A later request takes the place of the first.`,
		Example: "  entente partner request globex.example /ip4/192.0.2.7/tcp/4801/p2p/12D3KooWExample --data acme",
		Args:    exactArgs("NAME", "ADDRESS"),
	}
	data, asJSON, terms := dataFlag(c), jsonFlag(c), termFlags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := terms()
		if err != nil {
			return err
		}
		a, err := operate(c.Context(), *data, operatorClient.RequestPartner, &pb.RequestPartnerRequest{Name: args[0], Address: args[1], Terms: t})
		if err != nil {
			return requestRefused(args[0], err)
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: the request waits for its operator, until %s\n", args[0], when(a.ExpiresUnix))
		return err
	}
	return c
}

// requestRefused says what an organization's refusal of a request means: the words of the
// statuses are for members.
func requestRefused(name string, err error) error {
	var status *wire.StatusError
	if !errors.As(err, &status) {
		return err
	}
	switch status.Status.Code {
	case pb.Code_CODE_NO_AGREEMENT:
		return &hintError{fmt.Errorf("noAgreement: %s takes no requests", name), "ask its operator for a token (entente partner invite), or to take requests (entente node mode open)", exitPolicy}
	case pb.Code_CODE_NO_CONSENT:
		return &hintError{fmt.Errorf("noConsent: %s takes no more requests of yours", name), "ask its operator: entente partner block NAME --lift, there, undoes it", exitPolicy}
	}
	return err
}

func partnerBlock() *cobra.Command {
	c := &cobra.Command{
		Use: "block NAME", Short: "Drop an organization's request; it leaves no other",
		Long:    "Drop a request that an organization has left here, by name or ID; it leaves no other. --lift undoes it.",
		Example: "  entente partner block globex.example --data acme\n  entente partner block globex.example --lift --data acme",
		Args:    exactArgs("NAME"), ValidArgsFunction: completePartner,
	}
	data := dataFlag(c)
	lift := c.Flags().Bool("lift", false, "let it leave a request again")
	c.RunE = func(c *cobra.Command, args []string) error {
		answer, done := "block", "blocked"
		if *lift {
			answer, done = "lift", "may ask again"
		}
		if _, err := operate(c.Context(), *data, operatorClient.AnswerRequest, &pb.AnswerRequestRequest{Name: args[0], Answer: answer}); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", oneLine(args[0], 80), done)
		return err
	}
	return c
}

// named is what an operator has confirmed of a name.
type named struct{ similar, unproved bool }

// printRequest shows a stranger's request that waits.
func printRequest(w io.Writer, r *pb.AnswerRequestResponse, asJSON bool) error {
	if asJSON {
		return printProto(w, r)
	}
	printNameCheck(w, r.Partner.Check)
	p := r.Partner
	_, err := fmt.Fprintf(w, "%s (%s), peer %s\nasks since %s for an agreement: entente partner accept %s, or entente partner block %s\n%s",
		p.Name, p.OrganizationId, r.PeerId, when(r.AtUnix), p.Name, p.Name, r.Terms)
	return err
}

// acceptRequest makes an agreement of a stranger's request, once its terms have been shown.
func acceptRequest(c *cobra.Command, data string, r *pb.AnswerRequestResponse, yes, asJSON bool, name named) error {
	printNameCheck(c.ErrOrStderr(), r.Partner.Check)
	fmt.Fprintf(c.ErrOrStderr(), "%s (%s), peer %s, asks since %s for an agreement.\nWho is behind the name, nobody but you has checked.\n%s",
		r.Partner.Name, r.Partner.OrganizationId, r.PeerId, when(r.AtUnix), r.Terms)
	if !yes {
		if ok, err := confirm(c, "Sign this agreement?"); err != nil || !ok {
			return err
		}
	}
	a, err := operate(c.Context(), data, operatorClient.AnswerRequest, &pb.AnswerRequestRequest{Name: r.Partner.OrganizationId, Answer: "accept", Shown: r.Hash, AcceptSimilarName: name.similar, AcceptUnprovedName: name.unproved})
	if err != nil {
		return err
	}
	if asJSON {
		return printProto(c.OutOrStdout(), a)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "agreement with %s signed by both (%s)\n", a.Partner.Name, a.Partner.OrganizationId)
	return err
}

func nodeMode() *cobra.Command {
	c := &cobra.Command{
		Use: "mode [MODE]", Short: "With whom agreements are made: closed, agreement or open",
		Long: `With whom agreements are made: closed (with nobody; tokens are void while it lasts),
agreement (by tokens, the default), open (organizations that are not known may leave one
request each, which partner list shows). Agreements that stand go on. It is written to node.yaml.`,
		Example: "  entente node mode --data acme\n  entente node mode open --data acme", Args: optionalArg("MODE"),
		ValidArgs: []string{"closed", "agreement", "open"},
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		q := &pb.ModeRequest{}
		if len(args) > 0 {
			q.Mode = args[0]
		}
		a, err := operate(c.Context(), *data, operatorClient.Mode, q)
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		fmt.Fprintln(c.OutOrStdout(), a.Mode)
		if a.Mode == "open" {
			for _, address := range a.Addresses {
				fmt.Fprintln(c.OutOrStdout(), "requests are left at", address)
			}
		}
		return nil
	}
	return c
}
