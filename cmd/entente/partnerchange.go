package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func partnerSuspend() *cobra.Command {
	return partnerChange(partnerChangeText{
		use: "suspend NAME", short: "Stop everything with a partner now; resume undoes it",
		long: `Stop everything with a partner now, on this side alone. Messages to and from it are
refused as "suspended" and are never sent later; their senders are told. Changes of
rooms wait, so that rooms still fit together when the agreement is resumed. After 24
hours without resume, with --remove at once, the partner's devices are taken out of the
rooms that your node orders: resume brings nobody back in.`,
		example: `  entente partner suspend globex.example --why "stolen laptop, their word awaited" --data acme
  entente partner suspend globex.example --remove --data acme`,
		done: "suspended", remove: true,
	}, operatorClient.SuspendPartner)
}

func partnerResume() *cobra.Command {
	return partnerChange(partnerChangeText{
		use: "resume NAME", short: "Undo suspend: what waited is sent, messages pass again",
		long:    "Undo suspend. The partner's node is linked with at once and what waited for it is sent.\nWho was taken out of a room meanwhile stays out: invite again.",
		example: "  entente partner resume globex.example --data acme",
		done:    "resumed",
	}, operatorClient.ResumePartner)
}

func partnerQuarantine() *cobra.Command {
	return partnerChange(partnerChangeText{
		use: "quarantine NAME", short: "Hold all messages with a partner back now; release lets them pass",
		long: `Hold all messages with a partner back now, both ways, on this side alone: ours wait here,
theirs wait there, until their deadlines. Changes of rooms pass, so that what is held
can still be read on release. To drop what is held: entente partner suspend NAME.`,
		example: `  entente partner quarantine globex.example --why "odd files since noon" --data acme`,
		done:    "quarantined",
	}, operatorClient.QuarantinePartner)
}

func partnerRelease() *cobra.Command {
	return partnerChange(partnerChangeText{
		use: "release NAME", short: "End a quarantine: messages that were held are delivered",
		long: `End a quarantine: messages that were held on either side are delivered, those whose
deadline has not passed.`,
		example: "  entente partner release globex.example --data acme",
		done:    "released",
	}, operatorClient.ReleasePartner)
}

func partnerEnd() *cobra.Command {
	return partnerChange(partnerChangeText{
		use: "end NAME", short: "End the agreement with a partner for good",
		long: `End the agreement with a partner for good, on this side alone. Everything that waits for
it is dropped and its senders are told; its node is a stranger from now on, and its
devices are taken out of the rooms that your node orders. A new agreement takes a new
token (entente partner invite), and invitations into rooms anew.`,
		example: "  entente partner end globex.example --yes --data acme",
		done:    "ended", ask: true,
	}, operatorClient.EndPartner)
}

type partnerChangeText struct {
	use, short, long, example, done string
	ask                             bool // it cannot be undone
	remove                          bool // it has --remove
}

type partnerCall func(operatorClient, context.Context, *connect.Request[pb.ChangePartnerRequest]) (*connect.Response[pb.ChangePartnerResponse], error)

// partnerChange is a command that brings a partner into another state.
func partnerChange(t partnerChangeText, call partnerCall) *cobra.Command {
	c := &cobra.Command{Use: t.use, Short: t.short, Long: t.long, Example: t.example, Args: exactArgs("NAME"), ValidArgsFunction: completePartner}
	data, asJSON := dataFlag(c), jsonFlag(c)
	why := c.Flags().String("why", "", "a note for yourselves, shown by partner show; it is not sent")
	yes, remove := new(bool), new(bool)
	if t.remove {
		remove = c.Flags().Bool("remove", false, "take its devices out of our rooms now, not after 24 hours")
	}
	if t.ask {
		yes = c.Flags().Bool("yes", false, "do not ask")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if t.ask && !*yes {
			if ok, err := confirm(c, "End the agreement with "+oneLine(args[0], 80)+" for good?"); err != nil || !ok {
				return err
			}
		}
		a, err := operate(c.Context(), *data, call, &pb.ChangePartnerRequest{Name: args[0], Why: *why, Remove: *remove})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		out := ""
		if a.Rooms > 0 {
			out = "; its devices leave " + counted(a.Rooms, "room")
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s; %s%s\n", a.Partner.Name, changeText(t.done, a.Partner), waitedText(a.Dropped, a.Kept), out)
		return err
	}
	return c
}

// waitedText says what became of what waited for a partner.
func waitedText(dropped, kept uint64) string {
	switch {
	case dropped > 0 && kept > 0:
		return fmt.Sprintf("%d that waited dropped, %d still wait", dropped, kept)
	case dropped > 0:
		return fmt.Sprintf("%d that waited dropped", dropped)
	case kept > 0:
		return fmt.Sprintf("%d wait", kept)
	}
	return "nothing waits"
}

// changeText is what was done to a partner, and what holds all the same.
func changeText(done string, p *pb.PartnerStatus) string {
	switch {
	case done == "quarantined" && p.State == "suspended":
		return "stays suspended; quarantined once it is resumed (entente partner resume " + p.Name + ")"
	case done == "released" && p.State == "suspended":
		return "in no quarantine any more, and stays suspended (entente partner resume " + p.Name + ")"
	case done == "resumed" && p.State == "quarantined":
		return "resumed, and still in quarantine (entente partner release " + p.Name + ")"
	case (done == "released" || done == "resumed") && p.State == "quarantinedThere":
		return done + " here; the partner still has us in quarantine"
	case done != "ended" && (p.State == "expired" || p.State == "notYet"):
		return done + ", but the agreement is not in force today (entente partner show " + p.Name + ")"
	}
	return done
}

func partnerShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show NAME", Short: "Show one partner: state and what it means, terms, last contact, what waits",
		Long:    "Show one partner, by name or organization ID.",
		Example: "  entente partner show globex.example --data acme", Args: exactArgs("NAME"), ValidArgsFunction: completePartner,
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ShowPartner, &pb.ShowPartnerRequest{Name: args[0]})
		if err != nil {
			if r, e := operate(c.Context(), *data, operatorClient.AnswerRequest, &pb.AnswerRequestRequest{Name: args[0], Answer: "show"}); e == nil {
				return printRequest(c.OutOrStdout(), r, *asJSON)
			}
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		return printPartner(c.OutOrStdout(), a)
	}
	return c
}

func printPartner(w io.Writer, p *pb.PartnerDetails) error {
	s := p.Status
	var b strings.Builder
	line := func(k, format string, args ...any) { fmt.Fprintf(&b, "%-14s %s\n", k, fmt.Sprintf(format, args...)) }
	line("partner", "%s", s.Name)
	line("organization", "%s", s.OrganizationId)
	if k := s.Check; k != nil {
		line("name in DNS", "%s", dnsText(k))
		for _, x := range k.Similar {
			line("looks like", "%s%s", x.Name, similarText(x))
		}
		if k.Shown != s.Name || len(k.Scripts) > 0 {
			line("shown as", "%s %s", oneLine(k.Shown, 253), strings.Join(k.Scripts, "+"))
		}
	}
	if len(p.Former) > 0 {
		line("was called", "%s", strings.Join(p.Former, ", "))
	}
	if s.Renaming != "" {
		line("calls itself", "%s, which is not followed yet: entente partner rename %s", s.Renaming, s.Name)
	}
	line("peer", "%s", p.PeerId)
	line("state", "%s: %s", s.State, p.Effect)
	if p.ChangedUnix != 0 {
		why := oneLine(p.Why, 256)
		if why == "" {
			why = "no reason was noted"
		}
		line("changed", "%s: %s", when(p.ChangedUnix), why)
	}
	if p.RemovalUnix != 0 {
		line("out of rooms", "its devices are taken out of the rooms that are ordered here from %s on", when(p.RemovalUnix))
	}
	line("last contact", "%s", when(s.LastContactUnix))
	if p.Attempts > 0 {
		line("attempts", "%d since then, the last %s, the next %s", p.Attempts, when(p.LastAttemptUnix), when(s.NextAttemptUnix))
	}
	if s.LastError != "" {
		line("last error", "%s", oneLine(s.LastError, 200))
	}
	line("outbox", "%d waiting, %s: %d messages, %d handshakes, %d control", s.OutboxCount, bytesText(s.OutboxBytes), p.Messages, p.Handshakes, p.Control)
	if p.EarliestDeadlineUnix != 0 {
		line("first deadline", "%s", when(p.EarliestDeadlineUnix))
	}
	if p.ClockKnown {
		line("their clock", "%s", aheadText(time.Duration(p.ClockOffsetMs)*time.Millisecond))
	}
	line("agreement", "version %d, %s, since %s, until %s", p.Version, s.Agreement, when(p.SinceUnix), when(s.ValidUntilUnix))
	b.WriteString(p.Terms)
	fmt.Fprintf(&b, "%-14s %s\n", "groups", groupsText(p.Groups))
	b.WriteString(proposals(p))
	_, err := io.WriteString(w, b.String())
	return err
}

func aheadText(d time.Duration) string {
	if d < 0 {
		return (-d).String() + " behind ours"
	}
	return d.String() + " ahead of ours"
}

// completePartner offers the partners' names to a shell, from the running node.
func completePartner(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	dir, err := c.Flags().GetString("data")
	if len(args) > 0 || err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	a, err := operate(ctx, dir, operatorClient.ListPartners, &pb.ListPartnersRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range a.Partners {
		names = append(names, p.Name+"\t"+p.State+", "+strconv.FormatUint(p.OutboxCount, 10)+" waiting")
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
