package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/entente-im/entente/node"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func nodeCommand() *cobra.Command {
	c := group("node", "An organization's node: make it, run it, look at it")
	c.AddCommand(nodeInit(), nodeRun(), nodeStatus(), nodeWait(), nodeMode())
	return c
}

func nodeInit() *cobra.Command {
	c := &cobra.Command{
		Use:   "init NAME",
		Short: "Make an organization: its keys, its manifest and a node's data folder",
		Long: `Make an organization. NAME is a DNS-like name such as acme.example. The folder gets
the sealed keys, the genesis manifest and node.yaml; the passphrase opens them.`,
		Example: "  entente node init acme.example --data acme\n  entente node init acme.example --data /var/lib/entente --listen 0.0.0.0:8443 --api https://chat.acme.example:8443",
		Args:    exactArgs("NAME"),
	}
	config := node.DefaultConfig()
	data, pass := dataFlag(c), passphraseFlag(c)
	f := c.Flags()
	f.StringVar(&config.Listen, "listen", config.Listen, "where devices connect, HOST:PORT")
	f.StringVar(&config.API, "api", "", "the address that devices are told (default: made from --listen)")
	f.StringVar(&config.Metrics, "metrics", "", "where /healthz, /readyz and /metrics answer, HOST:PORT")
	f.StringArrayVar(&config.Federation, "federation", config.Federation, "where partners connect (multiaddr, repeatable)")
	f.StringArrayVar(&config.Announce, "announce", nil, "addresses that partners are told (multiaddr, repeatable)")
	f.DurationVar(&config.Bucket, "bucket", config.Bucket, "length of a deadline bucket")
	f.DurationVar(&config.Retention, "retention", config.Retention, "how long undelivered messages are kept")
	f.BoolVar(&config.TrustClock, "trust-clock", false, "trust this machine's clock after a start")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := passphrase(c, *pass, true)
		if err != nil {
			return err
		}
		made, err := node.Init(*data, args[0], p, config)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), `organization  %s
ID            %s
node          %s
data          %s

Keep root.sealed offline; write down the ID. Next: entente node run --data %s
`, made.Name, made.ID, made.Peer, *data, *data)
		return nil
	}
	return c
}

func nodeRun() *cobra.Command {
	c := &cobra.Command{
		Use:     "run",
		Short:   "Run the node until it is interrupted",
		Example: "  entente node run --data acme\n  entente node run --data /var/lib/entente --passphrase-file /etc/entente/passphrase",
		Args:    exactArgs(),
	}
	data, pass := dataFlag(c), passphraseFlag(c)
	loss := c.Flags().Bool("accept-loss", false, "go on although the store has lost records (after a restore)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		p, err := passphrase(c, *pass, false)
		if err != nil {
			return err
		}
		n, err := node.Open(c.Context(), node.Options{Dir: *data, Passphrase: p, Version: Version, LogOutput: c.ErrOrStderr(), AcceptLoss: *loss})
		if err != nil {
			return nodeOpenError(*data, err)
		}
		err = n.Run(c.Context())
		return errors.Join(err, n.Close())
	}
	return c
}

func nodeOpenError(dir string, err error) error {
	switch {
	case errors.Is(err, node.ErrLocked):
		return &hintError{err, "stop the other process, or name another folder with --data", exitNotRunning}
	case errors.Is(err, node.ErrPassphrase):
		return &hintError{err, "check --passphrase-file or " + PassphraseVariable, exitPassphrase}
	case errors.Is(err, os.ErrNotExist) && !isNode(dir):
		return &hintError{err, "make the node first: entente node init NAME --data " + dir, exitNotRunning}
	case errors.Is(err, os.ErrPermission):
		return &hintError{err, "the folder must be writable for this user", exitFailed}
	}
	return err
}

// isNode reports whether a folder is a node's data folder.
func isNode(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, node.ConfigFile))
	return err == nil
}

func nodeStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "What the running node holds and whom it hears", Example: "  entente node status --data acme\n  entente node status --data acme --json", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := operate(c.Context(), *data, operatorClient.Status, &pb.NodeStatusRequest{})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), s)
		}
		return printStatus(c.OutOrStdout(), s)
	}
	return c
}

func printStatus(w io.Writer, s *pb.NodeStatus) error {
	fmt.Fprintf(w, "organization  %s (%s)\n", s.Organization, s.OrganizationId)
	fmt.Fprintf(w, "node          %s, %s, up %s, %s resident\n", s.PeerId, s.Version, (time.Duration(s.UptimeMs) * time.Millisecond).Round(time.Second), bytesText(s.RssBytes))
	fmt.Fprintf(w, "devices       %s, %d connected\n", s.Api, s.Sessions)
	fmt.Fprintf(w, "directory     %s, %s; %s ordered here\n", counted(s.Members, "member"), counted(s.Devices, "device"), counted(s.Rooms, "room"))
	if s.IdleDevices > 0 {
		fmt.Fprintf(w, "              %d devices were not here for 30 days: see entente member devices, then entente device revoke DEVICE\n", s.IdleDevices)
	}
	fmt.Fprintf(w, "store         %s, %s, %s; buckets of %s\n", counted(s.Segments, "segment"), bytesText(s.SegmentBytes), counted(s.References, "reference"), time.Duration(s.BucketMs)*time.Millisecond)
	for _, p := range s.Problems {
		fmt.Fprintf(w, "problem       %s\n", p)
	}
	var rows [][]string
	for _, m := range s.Mailboxes {
		rows = append(rows, []string{m.Member, strconv.FormatUint(m.Count, 10), bytesText(m.Bytes), when(m.EarliestDeadlineUnix), m.Device})
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		if err := table(w, "MAILBOX ENVELOPES BYTES EARLIEST-DEADLINE DEVICE", rows); err != nil {
			return err
		}
	}
	if len(s.Partners) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return table(w, "PARTNER STATE CONTACT WAITING BYTES HEARD NEXT UNTIL TERMS DNS ERROR", partnerRows(s.Partners))
}

func nodeWait() *cobra.Command {
	c := &cobra.Command{Use: "wait", Short: "Return when the node is ready", Example: "  entente node run --data acme & entente node wait --data acme", Args: exactArgs()}
	data := dataFlag(c)
	limit := addSpan(c, "timeout", "give up after this long", 30*time.Second, false)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), *limit)
		defer cancel()
		for {
			_, err := operate(ctx, *data, operatorClient.Status, &pb.NodeStatusRequest{})
			if err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return c
}
