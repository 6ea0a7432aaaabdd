package main

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func publicKeys(list [][]byte) (out []ed25519.PublicKey) {
	for _, k := range list {
		out = append(out, k)
	}
	return out
}

func organizationRecover() *cobra.Command {
	c := group("recover", "Bring in a new root by custodians, when both root keys are lost or taken")
	c.Long = `Bring in a new root by custodians: begin makes new root keys and a file; each custodian signs the file; each
witness (a partner's administrator) sees it, once now and once 72 hours later; merge puts copies together; show says what is
missing; finish brings it in. A holder of the committed root who does not want that rotates meanwhile, and wins.`
	c.AddCommand(recoverBegin(), recoverSign(), recoverWitness(), recoverMerge(), recoverShow(), recoverFinish())
	return c
}

func recoverBegin() *cobra.Command {
	c := &cobra.Command{Use: "begin FILE", Short: "Make new root keys, and the file that custodians sign",
		Example: "  entente organization recover begin acme.recovery --keys new-root.sealed --data acme\n  entente organization recover begin acme.recovery --keys new-root.sealed --manifests manifest.notes",
		Args:    exactArgs("FILE")}
	data, pass, asJSON := dataFlag(c), passphraseFlag(c), jsonFlag(c)
	keys := c.Flags().String("keys", "", "new file for the new root keys (required)")
	manifests := c.Flags().String("manifests", "", "a copy of the organization's manifests (default: that in the node's folder)")
	_ = c.MarkFlagRequired("keys")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *manifests == "" {
			*manifests = filepath.Join(*data, node.ManifestFile)
		}
		p, err := passphrase(c, *pass, true)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // before keys are made for nothing
		if err != nil {
			return err
		}
		f.Close()
		r, err := node.BeginRecovery(*manifests, *keys, p, time.Now())
		if err == nil {
			err = r.Write(args[0])
		}
		if err != nil {
			os.Remove(args[0])
			return err
		}
		return showRecovery(c, r, *asJSON)
	}
	return c
}

func recoverSign() *cobra.Command {
	c := &cobra.Command{Use: "sign FILE", Short: "Sign a recovery, as a custodian",
		Long:    "Sign a recovery, as a custodian: anywhere, without a network. Ask the organization's people in person whether they mean it, and compare the new root.",
		Example: "  entente organization recover sign acme.recovery --key carla.custodian", Args: exactArgs("FILE")}
	pass, asJSON := passphraseFlag(c), jsonFlag(c)
	key := c.Flags().String("key", "", "file with the custodian's key (required)")
	_ = c.MarkFlagRequired("key")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := node.ReadRecovery(args[0])
		if err != nil {
			return err
		}
		p, err := passphrase(c, *pass, false)
		if err != nil {
			return err
		}
		k, err := identity.OpenCustodianKey(*key, p)
		if err != nil {
			return err
		}
		defer clear(k)
		if r, err = r.Sign(k); err != nil {
			return err
		}
		if err := r.Write(args[0]); err != nil {
			return err
		}
		return showRecovery(c, r, *asJSON)
	}
	return c
}

func recoverWitness() *cobra.Command {
	c := &cobra.Command{Use: "witness FILE", Short: "Say that your node has seen a partner's recovery, and when",
		Long: `Say that your node, which runs, has seen a partner's recovery: once when you get it, once 72 hours later. Call the partner
first: whoever has enough of its custodians' keys takes its identity with your word. When the partner has shown another
manifest meanwhile, nothing is said.`,
		Example: "  entente organization recover witness acme.recovery --data globex", Args: exactArgs("FILE")}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := node.ReadRecovery(args[0])
		if err != nil {
			return err
		}
		a, err := operate(c.Context(), *data, operatorClient.WitnessRecovery, &pb.WitnessRecoveryRequest{Recovery: r.Bytes()})
		if err != nil {
			return err
		}
		if r, err = node.ParseRecovery(a.Recovery); err != nil {
			return err
		}
		if err := r.Write(args[0]); err != nil {
			return err
		}
		return showRecovery(c, r, *asJSON)
	}
	return c
}

func recoverMerge() *cobra.Command {
	c := &cobra.Command{Use: "merge FILE OTHER", Short: "Add what was signed on another copy of a recovery",
		Example: "  entente organization recover merge acme.recovery from-carla.recovery", Args: exactArgs("FILE", "OTHER")}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := node.ReadRecovery(args[0])
		if err != nil {
			return err
		}
		other, err := node.ReadRecovery(args[1])
		if err != nil {
			return err
		}
		if r, err = r.Merge(other); err != nil {
			return err
		}
		if err := r.Write(args[0]); err != nil {
			return err
		}
		return showRecovery(c, r, *asJSON)
	}
	return c
}

func recoverShow() *cobra.Command {
	c := &cobra.Command{Use: "show FILE", Short: "Show a recovery, and what is missing", Example: "  entente organization recover show acme.recovery", Args: exactArgs("FILE")}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := node.ReadRecovery(args[0])
		if err != nil {
			return err
		}
		return showRecovery(c, r, *asJSON)
	}
	return c
}

func recoverFinish() *cobra.Command {
	c := &cobra.Command{Use: "finish FILE", Short: "Bring a recovery that stands into the node's folder",
		Long:    "Stop the node, bring a recovery that stands into its folder, and start it again: partners follow it when they are linked, and tell their people.",
		Example: "  entente organization recover finish acme.recovery --data acme", Args: exactArgs("FILE")}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := node.ReadRecovery(args[0])
		if err != nil {
			return err
		}
		if err := node.Stopped(*data); err != nil {
			return signError(err)
		}
		o, err := node.FinishRecovery(*data, r)
		if err != nil {
			return &hintError{err, "entente organization recover show FILE says what is missing", exitRefused}
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{"event": "recovered", "manifest": o.Manifest.Sequence, "root": fingerprint(o.Manifest.Root)})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "manifest  %d\nroot      %s\nStart the node again.\n", o.Manifest.Sequence, fingerprint(o.Manifest.Root))
		return err
	}
	return c
}

// recoveryRow is a recovery as people and programs read it.
type recoveryRow struct {
	Organization string     `json:"organization"`
	ID           string     `json:"id"`
	Manifest     uint64     `json:"manifest"` // that it would be
	Root         string     `json:"root"`
	Signed       int        `json:"signed"`
	Threshold    uint64     `json:"threshold"`
	Seen         int        `json:"seen"` // witnesses
	Majority     int        `json:"majority"`
	Begun        *time.Time `json:"begun,omitempty"`
	Stands       bool       `json:"stands"`
	Missing      string     `json:"missing,omitempty"`
}

func showRecovery(c *cobra.Command, r *node.RecoveryFile, asJSON bool) error {
	x := r.Recovery
	row := recoveryRow{Organization: r.Organization.Manifest.Name, ID: r.Organization.ID.String(), Manifest: x.Manifest.Sequence, Root: fingerprint(x.Manifest.Root),
		Signed: len(x.Custodians), Threshold: x.Threshold, Seen: len(x.First), Majority: x.Majority}
	if at := x.Begun(); !at.IsZero() {
		row.Begun = &at
	}
	_, err := r.Stands()
	if row.Stands = err == nil; err != nil {
		row.Missing = plainText(err.Error())
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), row)
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "organization  %s (%s)\nmanifest      %d\nnew root      %s\ncustodians    %d of %d needed have signed\nwitnesses     %d have seen it, %d needed\n",
		row.Organization, row.ID, row.Manifest, row.Root, row.Signed, row.Threshold, row.Seen, row.Majority)
	if row.Begun != nil {
		fmt.Fprintf(out, "public since  %s; witnesses say so again from %s on\n", row.Begun.Format(time.RFC3339), row.Begun.Add(identity.RecoveryDelay).Format(time.RFC3339))
	}
	if row.Stands {
		fmt.Fprintln(out, "it stands: entente organization recover finish FILE")
	} else {
		fmt.Fprintf(out, "missing       %s\n", row.Missing)
	}
	return nil
}
