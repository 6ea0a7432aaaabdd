package main

import (
	"fmt"
	"os"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

func reportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "report MESSAGE",
		Short: "Report a message to your administrator, with proof of who has written it",
		Long: `Report a message that you were sent. Your organization's administrator gets its text, who has written it, in which room,
and your reason, with a proof that neither you nor any node could have made up. Nothing else of the room is told. What has
expired, burned or was deleted cannot be proved any more. With --out the report is written to a file, and nobody gets it but
whom you hand it to: the room's agreement names whom to tell of abuse (entente room show).`,
		Example: "  entente report 01f3ab92c4 --reason 'threatens me' --device bob\n  entente report 01f3ab92c4 --out mallory.report --device bob",
		Args:    exactArgs("MESSAGE"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	reason := c.Flags().String("reason", "", "what is wrong with it, for who reads the report")
	file := c.Flags().String("out", "", "write the report to this file and send it to nobody")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := typedMessage(args[0]); err != nil {
			return err
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			id, _, err := d.FindMessage(args[0])
			if err != nil {
				return err
			}
			report, err := d.Report(c.Context(), id, *reason)
			if err != nil {
				return err
			}
			if *file != "" {
				return writeReport(c, *file, report, *asJSON)
			}
			n, until, err := d.SubmitReport(c.Context(), report)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"event": "reported", "report": n, "until": until})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "reported to your administrator as number %d, who can read it until %s\n", n, until.Format(time.DateTime))
			return err
		})
	}
	return c
}

// writeReport writes a new file that only its owner reads: it shows a text.
func writeReport(c *cobra.Command, file string, report []byte, asJSON bool) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(report)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"event": "written", "file": file})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "written to %s; whoever has it can check it: entente abuse verify %s\n", file, file)
	return err
}
