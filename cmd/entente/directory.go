package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/entente-im/entente/identity"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func directoryCommand() *cobra.Command {
	c := group("directory", "The organization's directory of members, and proofs of what it says")
	c.AddCommand(directoryShow(), directoryAudit(), directoryProve(), directoryVerify(), directoryPartners(), directoryFork())
	return c
}

func directoryShow() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "The signed head of the directory's log", Example: "  entente directory show --data acme", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		h, err := operate(c.Context(), *data, operatorClient.ShowDirectory, &pb.ShowDirectoryRequest{})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), h)
		}
		fmt.Fprintf(c.OutOrStdout(), "members  %d\nlog      %d entries\nroot     %s\ncosigned %s\n", h.Members, h.Size, h.Root, cosigners(h.Checkpoint))
		if h.IncidentMs > 0 {
			fmt.Fprintf(c.OutOrStdout(), "since    %s, by an incident statement\n", time.UnixMilli(h.IncidentMs).Format(time.DateTime))
		}
		if !h.Map {
			fmt.Fprintln(c.OutOrStdout(), "map      none yet: the next change of a member makes it")
		}
		fmt.Fprintf(c.OutOrStdout(), "\n%s", h.Checkpoint)
		return nil
	}
	return c
}

func directoryAudit() *cobra.Command {
	c := &cobra.Command{
		Use: "audit", Short: "Compute the whole log anew and compare, as partners do",
		Long:    "Compute both trees of the log anew from its entries and compare every stored hash. Nothing is changed. Exits with 1 when something does not fit.",
		Example: "  entente directory audit --data acme", Args: exactArgs(),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.AuditDirectory, &pb.AuditDirectoryRequest{})
		if err != nil {
			return err
		}
		if *asJSON {
			err = printProto(c.OutOrStdout(), a)
		} else {
			for _, p := range a.Problems {
				fmt.Fprintln(c.OutOrStdout(), oneLine(p, 200))
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d entries, %d records of %d members, %d problems, in %s\n", a.Leaves, a.Records, a.Members, len(a.Problems),
				time.Duration(a.TookMs)*time.Millisecond)
		}
		if err == nil && len(a.Problems) > 0 {
			err = errors.New("the log does not fit together")
		}
		return err
	}
	return c
}

func directoryProve() *cobra.Command {
	c := &cobra.Command{
		Use: "prove MEMBER", Short: "Write a proof of a member's present record, for anybody to verify",
		Long: `Write a proof of a member's present record to standard output: that the directory's log
has this record of the member and no later one. MEMBER is a name, an address or a member ID; with an ID it may
show that the log has no such member. Anybody verifies it without a network.`,
		Example: "  entente directory prove alice --data acme > alice.proof", Args: exactArgs("MEMBER"), ValidArgsFunction: completeMember,
	}
	data := dataFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := operate(c.Context(), *data, operatorClient.ProveMember, &pb.ProveMemberRequest{Name: args[0]})
		if err != nil {
			return err
		}
		b, err := proofFile(p)
		if err == nil {
			_, err = fmt.Fprintln(c.OutOrStdout(), string(b))
		}
		return err
	}
	return c
}

// maxProofFile bounds a proof: notes, a log's hashes, a map's.
const maxProofFile = 1 << 20

func directoryVerify() *cobra.Command {
	c := &cobra.Command{
		Use: "verify FILE", Short: "Verify a proof from its file alone, without a network",
		Long: `Verify a proof that entente directory prove or entente directory fork has written, from
the file alone. It shows which organization and member it speaks of: compare the
organization's ID with the one that you know. COSIGNED BY says whose signatures the head of the
log carries, and when they say it was; a signature is checked by its key: those of partners are not in the
file, name them with --witness. Exits with 3 when the proof does not hold, or a named key's signature.`,
		Example: "  entente directory verify alice.proof\n  entente directory verify - < alice.proof\n" +
			"  entente directory verify alice.proof --witness globex.example/cosigner+1f2e3d4c+BASE64", Args: exactArgs("FILE"),
	}
	asJSON := jsonFlag(c)
	witnesses := c.Flags().StringArray("witness", nil, "a witness's verifier key, as entente organization custodians --own-witness prints it (repeatable)")
	c.RunE = func(c *cobra.Command, args []string) error {
		b, err := readProof(c, args[0])
		if err != nil {
			return err
		}
		switch typeOf(b) {
		case identity.ForkType:
			return verifyFork(c, b, *asJSON)
		case identity.RootForkType:
			return verifyRootFork(c, b, *asJSON)
		}
		p := &pb.DirectoryProof{}
		if err := (protojson.UnmarshalOptions{}).Unmarshal(b, p); err != nil {
			return &hintError{errors.New("this is no directory proof"), "take the file whole, as entente directory prove has written it", exitRefused}
		}
		proved, err := identity.VerifyProof(p, time.Now())
		if err != nil {
			return &hintError{fmt.Errorf("the proof does not hold: %w", err), "", exitRefused}
		}
		signed, err := cosignedBy(proved, *witnesses)
		if err != nil {
			return err
		}
		return printProved(c, proved, signed, *asJSON)
	}
	return c
}

func readProof(c *cobra.Command, name string) ([]byte, error) {
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxProofFile+1))
	if err == nil && len(b) > maxProofFile {
		err = errors.New("a proof is at most 1 MiB")
	}
	return b, err
}

func printProved(c *cobra.Command, p *identity.Proved, signed []cosignedRow, asJSON bool) error {
	out := c.OutOrStdout()
	org := p.Organization
	if asJSON {
		v := map[string]any{"organization": org.Manifest.Name, "organization_id": org.ID.String(), "log_size": p.Head.Size, "cosigned": signed, "member": nil}
		if m := p.Member; m != nil {
			v["member"] = map[string]any{"address": m.Address().String(), "member_id": m.ID.String(), "version": m.Version, "devices": len(m.Devices), "disabled": m.Disabled}
		}
		return printJSON(out, v)
	}
	fmt.Fprintf(out, "organization  %s (%s)\nlog           %d entries\n", org.Manifest.Name, org.ID, p.Head.Size)
	for _, s := range signed {
		fmt.Fprintf(out, "cosigned by   %s\n", s.text())
	}
	if len(signed) == 0 {
		fmt.Fprintln(out, "cosigned by   nobody: the organization alone says so")
	}
	if p.Member == nil {
		_, err := fmt.Fprintln(out, "member        none: the log has no such member")
		return err
	}
	m := p.Member
	fmt.Fprintf(out, "member        %s (%s)\nrecord        version %d, the latest of this log, with %s\n", m.Address(), m.ID, m.Version, counted(len(m.Devices), "device"))
	for id := range m.Devices {
		fmt.Fprintf(out, "device        %s\n", id)
	}
	return nil
}
