package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func directoryPartners() *cobra.Command {
	c := &cobra.Command{Use: "partners", Short: "The copies of partners' directory logs, and what is wrong with them",
		Long: `The copies of partners' directory logs. ENTRIES are those that this node has computed anew,
COSIGNED those that it has vouched for. STATE is "followed", what was not taken and why, or
"two pasts": then entente directory fork NAME writes the proof. Where the organization has told
of an incident, its words stand there too: entente partner release ends the quarantine.`,
		Example: "  entente directory partners --data acme", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		list, err := operate(c.Context(), *data, operatorClient.ListLogs, &pb.ListLogsRequest{})
		if err != nil {
			return err
		}
		if *asJSON {
			for _, l := range list.Logs {
				if err := printProto(c.OutOrStdout(), l); err != nil {
					return err
				}
			}
			return nil
		}
		var rows [][]string
		for _, l := range list.Logs {
			state, since := "followed", "-"
			switch {
			case l.Fork:
				state = "two pasts"
			case l.Roots:
				state = "two pasts, of its root: two manifests in one place"
			case l.Problem != "":
				state = oneLine(l.Problem, 200)
			case l.SinceMs == 0:
				state = "nothing yet"
			}
			if l.Incident != "" && !l.Fork {
				state += fmt.Sprintf("; a new log since %s: %s", time.UnixMilli(l.IncidentMs).Format(time.DateTime), oneLine(l.Incident, identity.MaxIncidentReason))
			}
			if l.Settled {
				state += " (the one before had two pasts)"
			}
			if l.SinceMs > 0 {
				since = time.UnixMilli(l.SinceMs).Format(time.DateTime)
			}
			rows = append(rows, []string{l.Organization, fmt.Sprint(l.Size), fmt.Sprint(l.Cosigned), since, state})
		}
		return table(c.OutOrStdout(), "PARTNER ENTRIES COSIGNED SINCE STATE", rows)
	}
	return c
}

func directoryFork() *cobra.Command {
	c := &cobra.Command{Use: "fork PARTNER", Short: "Write the proof that a partner's directory has two pasts",
		Long: `Write the proof that a partner's directory has shown two pasts to standard output: two
heads that its directory key has signed, of which one cannot be a past of the other.
Anybody verifies it with entente directory verify, without a network.`,
		Example: "  entente directory fork globex.example --data acme > globex.fork", Args: exactArgs("PARTNER"), ValidArgsFunction: completePartner}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := forkFile(c, *data, args[0])
		if err == nil {
			_, err = fmt.Fprintln(c.OutOrStdout(), string(b))
		}
		return err
	}
	return c
}

// forkFile asks for the proof that a directory, or else a root, has two pasts.
func forkFile(c *cobra.Command, data, partner string) ([]byte, error) {
	f, err := operate(c.Context(), data, operatorClient.ShowFork, &pb.ShowForkRequest{Partner: partner})
	if err == nil {
		return proofFile(f)
	}
	if wire.StatusOf(err).Code != pb.Code_CODE_NOT_FOUND {
		return nil, err
	}
	roots, err := operate(c.Context(), data, operatorClient.ShowRootFork, &pb.ShowForkRequest{Partner: partner})
	if err != nil {
		return nil, err
	}
	return proofFile(roots)
}

// typeOf is what a file calls itself.
func typeOf(b []byte) string {
	var head struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(b, &head) != nil {
		return ""
	}
	return head.Type
}

// verifyRootFork verifies the proof of two manifests in one place and says what it shows.
func verifyRootFork(c *cobra.Command, b []byte, asJSON bool) error {
	f := &pb.RootFork{}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(b, f); err != nil {
		return &hintError{errors.New("this is no proof of a fork"), "take the file whole, as entente directory fork has written it", exitRefused}
	}
	p, err := identity.VerifyRootFork(f)
	if err != nil {
		return &hintError{fmt.Errorf("the proof does not hold: %w", err), "", exitRefused}
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"organization": p.One.Manifest.Name, "organization_id": p.One.ID.String(), "root_fork": true, "manifest": p.At})
	}
	one, other := p.One.Manifests()[p.At], p.Other.Manifests()[p.At]
	_, err = fmt.Fprintf(c.OutOrStdout(), `organization  %s (%s)
two pasts     its root has signed two manifests in one place, and neither takes precedence
one           manifest %d of %s, called %s, root %s
another       manifest %d of %s, called %s, root %s
`, p.One.Manifests()[0].Name, p.One.ID, p.At, wire.FormatTime(one.Issued), one.Name, fingerprint(one.Root), p.At, wire.FormatTime(other.Issued), other.Name, fingerprint(other.Root))
	return err
}

// verifyFork verifies the proof of a fork and says what it shows.
func verifyFork(c *cobra.Command, b []byte, asJSON bool) error {
	f := &pb.Fork{}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(b, f); err != nil {
		return &hintError{errors.New("this is no proof of a fork"), "take the file whole, as entente directory fork has written it", exitRefused}
	}
	p, err := identity.VerifyFork(f)
	if err != nil {
		return &hintError{fmt.Errorf("the proof does not hold: %w", err), "", exitRefused}
	}
	org := p.Organization
	root := func(c *identity.Checkpoint) string { return base64.StdEncoding.EncodeToString(c.Root[:]) }
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"organization": org.Manifest.Name, "organization_id": org.ID.String(), "fork": true,
			"older_size": p.Older.Size, "older_root": root(p.Older), "newer_size": p.Newer.Size, "newer_root": root(p.Newer)})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), `organization  %s (%s)
two pasts     its directory key has signed both of these heads, and no one log has both
one           %d entries, root %s
another       %d entries, root %s
`, org.Manifest.Name, org.ID, p.Older.Size, root(p.Older), p.Newer.Size, root(p.Newer))
	return err
}
