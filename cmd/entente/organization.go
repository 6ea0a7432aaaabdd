package main

import (
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
)

func organizationCommand() *cobra.Command {
	c := group("organization", "An organization's manifests and its root key")
	c.AddCommand(organizationShow(), organizationRotate(), organizationCustodians(), organizationRecover(), organizationAddresses(), organizationRename(), organizationIncident(), organizationDNS())
	return c
}

// manifestRow is a manifest as organization show prints it.
type manifestRow struct {
	Organization string `json:"organization"`
	ID           string `json:"id"`
	Sequence     int    `json:"sequence"`
	By           string `json:"by"`
	Issued       string `json:"issued"`
	Root         string `json:"root"` // SHA-256 of the key, base32
}

func organizationShow() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "The organization's manifests, from genesis on, and what each stands by",
		Long: `The organization's manifests, from genesis on. BY is what a manifest stands by: "root", the key
before it; "next-root", the key that was committed to; "custodians", a recovery. ROOT is the
SHA-256 of the key. It reads the folder; the node need not run.`,
		Example: "  entente organization show --data acme\n  entente organization show --data acme --json", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := node.OpenOrganization(*data)
		if err != nil {
			return err
		}
		var rows [][]string
		for _, r := range manifestRows(o) {
			if *asJSON {
				if err := printJSON(c.OutOrStdout(), r); err != nil {
					return err
				}
				continue
			}
			rows = append(rows, []string{fmt.Sprint(r.Sequence), r.Issued, r.By, r.Root})
		}
		if *asJSON {
			return nil
		}
		fmt.Fprintf(c.OutOrStdout(), "organization  %s\nID            %s\n", o.Manifest.Name, o.ID)
		if names := o.Names(); len(names) > 1 {
			fmt.Fprintf(c.OutOrStdout(), "was called    %s\n", strings.Join(names[:len(names)-1], ", "))
		}
		for _, i := range o.Manifest.Incidents {
			fmt.Fprintf(c.OutOrStdout(), "incident      %s %s\n", wire.FormatTime(i.At), i.Reason)
		}
		fmt.Fprintln(c.OutOrStdout())
		return table(c.OutOrStdout(), "SEQUENCE ISSUED BY ROOT", rows)
	}
	return c
}

func manifestRows(o *identity.Organization) (rows []manifestRow) {
	for i, m := range o.Manifests() {
		rows = append(rows, manifestRow{o.Manifest.Name, o.ID.String(), i, string(o.Causes[i]), wire.FormatTime(m.Issued), fingerprint(m.Root)})
	}
	return rows
}

func fingerprint(root ed25519.PublicKey) string {
	return wire.FormatHash(identity.RootFingerprint(root))
}

func organizationRotate() *cobra.Command {
	c := &cobra.Command{Use: "rotate", Short: "Bring the committed root key into office and commit to a new one",
		Long: `Bring the root key that the present manifest commits to into office, and commit to a new one
after it. Do so when the root key may be known to others: what they signed with it, or sign
still, gives way to this at every partner. The new keys are sealed into a new file by the same
passphrase. Stop the node, rotate, start it again: partners are shown the new manifest then.`,
		Example: "  entente organization rotate --data acme\n  entente organization rotate --data acme --root /media/usb/root.sealed --out /media/usb/root-1.sealed", Args: exactArgs()}
	data, pass := dataFlag(c), passphraseFlag(c)
	root := rootFlag(c, data, pass)
	out := c.Flags().String("out", "", "new file for the new root keys (default: root-SEQUENCE.sealed beside --root)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := node.OpenOrganization(*data)
		if err != nil {
			return err
		}
		file, p, err := root()
		if err != nil {
			return err
		}
		if *out == "" {
			*out = filepath.Join(filepath.Dir(file), fmt.Sprintf("root-%d.sealed", o.Manifest.Sequence+1))
		}
		if o, err = node.RotateRoot(*data, file, *out, p, time.Now()); err != nil {
			return rootError(err)
		}
		fmt.Fprintf(c.OutOrStdout(), `organization  %s
manifest      %d
new root      %s
new keys      %s

Keep the new file offline and destroy the old one (%s). Then start the node again.
`, o.Manifest.Name, o.Manifest.Sequence, fingerprint(o.Manifest.Root), *out, file)
		return nil
	}
	return c
}
