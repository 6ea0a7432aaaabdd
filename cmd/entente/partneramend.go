package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

// termFlags are the terms of an agreement on a command line. What is not named stays
// as it is, or takes its default.
func termFlags(c *cobra.Command) func() (*pb.TermsChange, error) {
	f := c.Flags()
	contact := f.String("contact", "open", "who may write first: open, or request (the recipient accepts)")
	directory := f.String("directory", "exact", "whose look-ups are answered: none, exact (a whole address), groups (of the groups that may)")
	rooms := f.Bool("rooms", true, "rooms of more than two people")
	fileSize := f.String("file-size", "2GiB", "largest file, such as 100MiB; 0: no files")
	calls := f.Bool("calls", false, "calls")
	guests := f.Bool("guests", true, "guests of the partner in our rooms, and ours in theirs")
	transit := f.String("transit", "none", "rooms with organizations that one side has no agreement with: none, named, any")
	retention := addSpan(c, "retention", "messages between us are kept no longer than this, such as 72h; 0: no ceiling of its own", 0, true)
	rate := f.Uint64("rate", 0, "items a second each way; 0: the default of each side")
	until := f.String("until", "", "last day of the agreement, such as 2027-12-31")
	abuse := f.String("abuse", "-", "whom to tell of abuse: one line")
	words(c, "contact", "open", "request")
	words(c, "directory", "none", "exact", "groups")
	words(c, "transit", "none", "named", "any")
	return func() (*pb.TermsChange, error) {
		t := &pb.TermsChange{}
		given(c, "contact", contact, &t.Contact)
		given(c, "directory", directory, &t.Directory)
		given(c, "rooms", rooms, &t.Rooms)
		given(c, "calls", calls, &t.Calls)
		given(c, "guests", guests, &t.Guests)
		given(c, "transit", transit, &t.Transit)
		given(c, "rate", rate, &t.Rate)
		given(c, "abuse", abuse, &t.Abuse)
		if f.Changed("file-size") {
			n, err := parseBytes(*fileSize)
			if err != nil {
				return nil, &usageError{fmt.Errorf("--file-size: %w", err)}
			}
			t.FileSize = &n
		}
		if f.Changed("retention") {
			s := int64(*retention / time.Second)
			t.RetentionSeconds = &s
		}
		if f.Changed("until") {
			day, err := time.Parse(time.DateOnly, *until)
			if err != nil {
				return nil, &usageError{errors.New("--until is a day, such as 2027-12-31")}
			}
			u := day.Add(24*time.Hour - time.Second).Unix()
			t.ValidUntilUnix = &u
		}
		return t, nil
	}
}

func given[T any](c *cobra.Command, flag string, value *T, to **T) {
	if c.Flags().Changed(flag) {
		*to = value
	}
}

func partnerAmend() *cobra.Command {
	c := &cobra.Command{
		Use: "amend NAME", Short: "Propose other terms; they are in force once the partner has signed them too",
		Long: `Propose other terms for an agreement. Only what is named changes. The proposal is signed
here and shown to the partner's operator (partner list, partner show), who signs it with
"entente partner accept NAME"; until then nothing changes. --withdraw takes our proposal
back, --decline turns the partner's down. An expired agreement is renewed by --until.`,
		Example: "  entente partner amend globex.example --contact request --file-size 100MiB --data acme\n" +
			"  entente partner amend globex.example --until 2027-12-31 --data acme\n  entente partner amend globex.example --withdraw --data acme",
		Args: exactArgs("NAME"), ValidArgsFunction: completePartner,
	}
	data, asJSON, terms := dataFlag(c), jsonFlag(c), termFlags(c)
	withdraw := c.Flags().Bool("withdraw", false, "take our proposal back")
	decline := c.Flags().Bool("decline", false, "turn the partner's proposal down")
	c.MarkFlagsMutuallyExclusive("withdraw", "decline")
	c.RunE = func(c *cobra.Command, args []string) error {
		t, err := terms()
		if err != nil {
			return err
		}
		p, err := operate(c.Context(), *data, operatorClient.AmendPartner, &pb.AmendPartnerRequest{Name: args[0], Terms: t, Withdraw: *withdraw, Decline: *decline})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), p)
		}
		_, err = fmt.Fprint(c.OutOrStdout(), amendText(p, *withdraw, *decline))
		return err
	}
	return c
}

func amendText(p *pb.PartnerDetails, withdraw, decline bool) string {
	name := p.Status.Name
	switch {
	case withdraw:
		return name + ": the proposal is withdrawn\n"
	case decline:
		return name + ": its proposal is declined\n"
	case p.Proposed == nil:
		return name + ": signed by both: see entente partner show " + name + "\n"
	case p.Proposed.Delivered:
		return name + ": proposed, and waits for its operator\n" + p.Proposed.Changes
	}
	return name + ": proposed, and handed over when its node can be reached\n" + p.Proposed.Changes
}

// acceptAmendment signs the terms that a partner proposes, once they have been shown.
func acceptAmendment(c *cobra.Command, data, name string, yes, asJSON bool, confirmed named) error {
	if r, err := operate(c.Context(), data, operatorClient.AnswerRequest, &pb.AnswerRequestRequest{Name: name, Answer: "show"}); err == nil {
		return acceptRequest(c, data, r, yes, asJSON, confirmed)
	}
	p, err := operate(c.Context(), data, operatorClient.ShowPartner, &pb.ShowPartnerRequest{Name: name})
	if err != nil {
		return err
	}
	if p.Offered == nil {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "%s proposes nothing: a token of its operator begins another agreement", oneLine(name, 80))
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s proposes version %d of the agreement:\n%s", p.Status.Name, p.Version+1, p.Offered.Changes)
	if !yes {
		if ok, err := confirm(c, "Sign these terms?"); err != nil || !ok {
			return err
		}
	}
	p, err = operate(c.Context(), data, operatorClient.AcceptAmendment, &pb.AcceptAmendmentRequest{Name: name, Proposal: p.Offered.Hash})
	if err != nil {
		return err
	}
	if asJSON {
		return printProto(c.OutOrStdout(), p)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: version %d of the agreement is signed by both\n", p.Status.Name, p.Version)
	return err
}

// proposals are the lines of partner show about terms that wait for a signature.
func proposals(p *pb.PartnerDetails) string {
	var b strings.Builder
	if p.Offered != nil {
		fmt.Fprintf(&b, "%s proposes, since %s (entente partner accept %s):\n%s", p.Status.Name, when(p.Offered.AtUnix), p.Status.Name, p.Offered.Changes)
	}
	if p.Proposed != nil {
		state := "handed over"
		if !p.Proposed.Delivered {
			state = "not handed over yet"
		}
		fmt.Fprintf(&b, "we propose, since %s, %s (%s):\n%s", when(p.Proposed.AtUnix), state, hex.EncodeToString(p.Proposed.Hash[:8]), p.Proposed.Changes)
	}
	if p.RejectedUnix != 0 {
		fmt.Fprintf(&b, "our last proposal was declined %s\n", when(p.RejectedUnix))
	}
	return b.String()
}

// parseBytes reads a size: a number of bytes, or of KiB, MiB or GiB.
func parseBytes(s string) (uint64, error) {
	number, shift := s, 0
	for unit, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			number, shift = rest, by
		}
	}
	n, err := strconv.ParseUint(number, 10, 33)
	if err != nil || n > 1<<40>>shift {
		return 0, fmt.Errorf("%.20q is no size, such as 100MiB", s)
	}
	return n << shift, nil
}
