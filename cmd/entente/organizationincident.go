package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	"github.com/spf13/cobra"
)

func organizationIncident() *cobra.Command {
	c := &cobra.Command{Use: "incident REASON", Short: "Tell of an incident, and begin a new log of the directory",
		Long: `Tell of an incident by the root key, and begin a new log of the directory: what brings an organization back whose directory
was proved to have two pasts. REASON is told to every partner and to everybody who shares a room with your members; say what
has happened, in one line. First make sure that one node alone runs, from one folder. Stop it, sign, start it again: partners
follow the new log, and their administrators end the quarantine. What was proved of the old log stays proved. It asks first, as
it cannot be taken back.`,
		Example: "  entente organization incident \"a copy of our node was started by mistake\" --data acme\n  entente organization incident \"our backup was run beside our node\" --root /media/usb/root.sealed --data acme", Args: exactArgs("REASON")}
	data, pass, asJSON := dataFlag(c), passphraseFlag(c), jsonFlag(c)
	root, yes := rootFlag(c, data, pass), yesFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := identity.CheckIncidentReason(args[0]); err != nil {
			return &usageError{err}
		}
		if err := node.Stopped(*data); err != nil {
			return signError(err)
		}
		if err := agreed(c, *yes, "Every partner, and everybody who shares a room with your members, is told for good: "+oneLine(args[0], identity.MaxIncidentReason)+"\nThe directory begins a new log. An organization has "+strconv.Itoa(identity.MaxIncidents)+" such statements, ever; none can be taken back."); err != nil {
			return err
		}
		file, p, err := root()
		if err != nil {
			return err
		}
		o, err := node.DeclareIncident(*data, file, p, args[0], time.Now())
		if err != nil {
			return rootError(err)
		}
		told := o.Manifest.Incidents[len(o.Manifest.Incidents)-1]
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"event": "incident", "manifest": o.Manifest.Sequence, "at": wire.FormatTime(told.At), "reason": told.Reason})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "manifest  %d\nincident  %s %s\nStart the node again: its directory begins a new log, which partners follow.\n", o.Manifest.Sequence, wire.FormatTime(told.At), told.Reason)
		return err
	}
	return c
}
