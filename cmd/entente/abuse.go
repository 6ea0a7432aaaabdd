package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func abuseCommand() *cobra.Command {
	c := group("abuse", "What members have reported, for the operator, and reports from elsewhere")
	c.AddCommand(abuseList(), abuseShow(), abuseExport(), abuseDrop(), abuseVerify())
	return c
}

func abuseList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List what members have reported", Example: "  entente abuse list --data acme", Args: exactArgs(),
		Long: "List what members have reported to you. A report is destroyed after 30 days, or when you drop it."}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ListReports, &pb.ListReportsRequest{})
		if err != nil {
			return err
		}
		var rows [][]string
		for _, r := range a.Reports {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), r); err != nil {
					return err
				}
				continue
			}
			rows = append(rows, []string{fmt.Sprint(r.Id), when(r.AtUnix), r.Reporter, when(r.ExpiresUnix)})
		}
		if *asJSON {
			return nil
		}
		return table(c.OutOrStdout(), "REPORT AT BY UNTIL", rows)
	}
	return c
}

// storedReport fetches a report by its number.
func storedReport(c *cobra.Command, data, number string) (*pb.GetReportResponse, error) {
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, &usageError{fmt.Errorf("%q is no number of a report: see entente abuse list", number)}
	}
	return operate(c.Context(), data, operatorClient.GetReport, &pb.GetReportRequest{Id: id})
}

func abuseShow() *cobra.Command {
	c := &cobra.Command{Use: "show REPORT", Short: "Verify and show a report", Example: "  entente abuse show 17 --data acme", Args: exactArgs("REPORT")}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := storedReport(c, *data, args[0])
		if err != nil {
			return err
		}
		return showReport(c, *data, a.Body, *asJSON)
	}
	return c
}

func abuseExport() *cobra.Command {
	c := &cobra.Command{Use: "export REPORT", Short: "Write a report to standard output, to hand it on",
		Long: `Write a report to standard output: the other organization's administrator verifies it with entente abuse verify. It shows
the text, who has written it, and who has reported it.`,
		Example: "  entente abuse export 17 --data acme > mallory.report", Args: exactArgs("REPORT")}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := storedReport(c, *data, args[0])
		if err != nil {
			return err
		}
		_, err = c.OutOrStdout().Write(a.Body)
		return err
	}
	return c
}

func abuseDrop() *cobra.Command {
	c := &cobra.Command{Use: "drop REPORT", Short: "Destroy a report", Example: "  entente abuse drop 17 --data acme", Args: exactArgs("REPORT")}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := storedReport(c, *data, args[0])
		if err != nil {
			return err
		}
		if _, err := operate(c.Context(), *data, operatorClient.DropReport, &pb.DropReportRequest{Id: a.Report.Id}); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"event": "dropped", "report": a.Report.Id})
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), "dropped")
		return err
	}
	return c
}

func abuseVerify() *cobra.Command {
	c := &cobra.Command{
		Use: "verify FILE", Short: "Verify a report from a file alone, without a network",
		Long: `Verify a report. It proves by itself which device has written the text, and in which room; whose organization the IDs are,
you compare with entente partner show. Time and place are the word of the room's hub: with --data of the hub's own node they
are checked, too.`,
		Example: "  entente abuse verify mallory.report\n  entente abuse verify mallory.report --data globex", Args: exactArgs("FILE"),
	}
	data := c.Flags().String("data", "", "data folder of the running node of the room's hub: check time and place")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, wire.MaxReport+1))
		if err != nil {
			return err
		}
		return showReport(c, *data, b, *asJSON)
	}
	return c
}

// hubSays is what the hub's node, if it is ours, says of time and place.
func hubSays(c *cobra.Command, data string, r *device.Reported) (string, error) {
	q := r.FrankRequest()
	switch {
	case q == nil:
		return "nothing: the message has no tag", nil
	case data == "":
		return "not checked: only the hub's own node can (--data)", nil
	}
	a, err := operate(c.Context(), data, operatorClient.CheckFrank, q)
	switch {
	case err != nil:
		return "", err
	case a.Ours:
		return "true: this node was the hub", nil
	}
	return "not this node's word: it was not the hub, or time and place are made up", nil
}

func showReport(c *cobra.Command, data string, b []byte, asJSON bool) error {
	r, err := device.VerifyReport(b, time.Now())
	if errors.Is(err, device.ErrReport) {
		return &hintError{err, "do not act on it", exitRefused}
	}
	if err != nil {
		return err
	}
	says, err := hubSays(c, data, r)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), struct {
			*device.Reported
			HubSays string `json:"hub_says"`
		}{r, says})
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "proved        %s has written, with device %s:\n\n", oneLine(r.Sender, 320), r.Device)
	if r.File != nil {
		fmt.Fprintf(out, "  a file: %s, %s\n", oneLine(r.File.Name, 200), bytesText(r.File.Size))
	}
	fmt.Fprintf(out, "%s\n\n", indented(r.Text))
	fmt.Fprintf(out, "organization  %s\nmember        %s\nroom          %s, generation %d, epoch %d\nhub           %s\nmessage       %s\n",
		r.Organization, r.Member, r.Room, r.Generation, r.Epoch, r.Hub, r.ID)
	fmt.Fprintf(out, "time          %s, place %d: %s\n", r.Accepted.UTC().Format(time.RFC3339), r.Seq, says)
	fmt.Fprintf(out, "reported      by %s (organization %s), %s\n", oneLine(r.Reporter, 320), r.ReporterOrganization, r.At.UTC().Format(time.RFC3339))
	if r.Reason != "" {
		fmt.Fprintf(out, "reason        %s\n", oneLine(r.Reason, 2_000))
	}
	return nil
}
