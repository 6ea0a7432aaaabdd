package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/spf13/cobra"
)

func custodianCommand() *cobra.Command {
	c := group("custodian", "Keys of people who may together bring in an organization's new root")
	c.AddCommand(custodianInit())
	return c
}

func custodianInit() *cobra.Command {
	c := &cobra.Command{Use: "init", Short: "Make a custodian's key, sealed into a file",
		Long: `Make a custodian's key. The file stays with the custodian, away from the organization's machines; what is printed goes to
its administrator (entente organization custodians).`,
		Example: "  entente custodian init --out carla.custodian", Args: exactArgs()}
	pass, asJSON := passphraseFlag(c), jsonFlag(c)
	out := c.Flags().String("out", "", "new file for the key (required)")
	_ = c.MarkFlagRequired("out")
	c.RunE = func(c *cobra.Command, _ []string) error {
		p, err := passphrase(c, *pass, true)
		if err != nil {
			return err
		}
		key, err := identity.NewCustodianKey(*out, p)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists: nothing was changed", *out)
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]string{"custodian": identity.CustodianText(key), "file": *out})
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), identity.CustodianText(key))
		return err
	}
	return c
}

func organizationCustodians() *cobra.Command {
	c := &cobra.Command{Use: "custodians", Short: "Show or name who may together bring in a new root, and who witnesses the time",
		Long: `Show or name the custodians. When both root keys are lost, or in wrong hands, so many of them as --threshold says sign a
recovery (entente organization recover), which stands 72 hours after more than half of the witnesses have seen it. Witnesses
are partners: each gives you its verifier key (entente organization custodians --own-witness). Naming replaces all names
from before; stop the node for it, and start it again. Replace custodians together with entente organization rotate: the old ones could recover from before.`,
		Example: "  entente organization custodians --data acme\n  entente organization custodians --own-witness --data globex\n" +
			"  entente organization custodians --key KEY1 --key KEY2 --key KEY3 --threshold 2 --witness globex.example/cosigner+1f2e3d4c+BASE64 --data acme",
		Args: exactArgs()}
	data, pass, asJSON := dataFlag(c), passphraseFlag(c), jsonFlag(c)
	keys := c.Flags().StringArray("key", nil, "a custodian's key, as entente custodian init prints it (repeatable)")
	threshold := c.Flags().Uint64("threshold", 0, "how many custodians are needed")
	witnesses := c.Flags().StringArray("witness", nil, "a witness's verifier key (repeatable)")
	root := rootFlag(c, data, pass)
	own := c.Flags().Bool("own-witness", false, "print this organization's own verifier key, for partners to name")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := node.OpenOrganization(*data)
		if err != nil {
			return err
		}
		if *own {
			text := identity.WitnessText(identity.CosignerOf(o))
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]string{"witness": text})
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), text)
			return err
		}
		if len(*keys) > 0 {
			if o, err = entrust(*data, root, *keys, *threshold, *witnesses); err != nil {
				return err
			}
		}
		return showCustodians(c, o, *asJSON)
	}
	return c
}

func entrust(data string, root func() (string, []byte, error), keys []string, threshold uint64, witnesses []string) (*identity.Organization, error) {
	var custodians [][]byte
	named := make([]identity.Cosigner, 0, len(witnesses))
	for _, text := range keys {
		k, err := identity.ParseCustodian(text)
		if err != nil {
			return nil, &usageError{err}
		}
		custodians = append(custodians, k)
	}
	for _, text := range witnesses {
		w, err := identity.ParseWitness(text)
		if err != nil {
			return nil, &usageError{err}
		}
		named = append(named, w)
	}
	if len(named) == 0 {
		return nil, &usageError{fmt.Errorf("custodians without a --witness could bring nothing in: name a partner's verifier key")}
	}
	file, p, err := root()
	if err != nil {
		return nil, err
	}
	o, err := node.Entrust(data, file, p, publicKeys(custodians), threshold, named, time.Now())
	return o, rootError(err)
}

func showCustodians(c *cobra.Command, o *identity.Organization, asJSON bool) error {
	custodians, witnesses := []string{}, []string{}
	for _, k := range o.Manifest.Custodians {
		custodians = append(custodians, identity.CustodianText(k))
	}
	for _, w := range o.Manifest.Witnesses {
		witnesses = append(witnesses, w.Owner)
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"manifest": o.Manifest.Sequence, "custodians": custodians, "threshold": o.Manifest.Threshold, "witnesses": witnesses})
	}
	out := c.OutOrStdout()
	if len(custodians) == 0 {
		fmt.Fprintln(out, "none: who loses both root keys loses the organization's identity")
		return nil
	}
	fmt.Fprintf(out, "manifest    %d\nneeded      %d of %d custodians\n", o.Manifest.Sequence, o.Manifest.Threshold, len(custodians))
	for _, k := range custodians {
		fmt.Fprintf(out, "custodian   %s\n", k)
	}
	fmt.Fprintf(out, "witnesses   %s\n", strings.Join(witnesses, " "))
	return nil
}
