package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

// nameFlags adds what an operator confirms a name with.
func nameFlags(c *cobra.Command) (similar, unproved *bool) {
	similar = c.Flags().Bool("accept-similar-name", false, "take a name that looks like another one that is known here")
	unproved = c.Flags().Bool("accept-unproved-name", false, "take a name that DNS says is another organization's")
	return similar, unproved
}

// printNameCheck says, before anything is signed, what speaks for and against a name.
func printNameCheck(w io.Writer, k *pb.NameCheck) {
	if k == nil {
		return
	}
	if k.Shown != k.Name {
		fmt.Fprintf(w, "%s is shown as %s\n", k.Name, oneLine(k.Shown, 253))
	}
	if len(k.Scripts) > 0 {
		fmt.Fprintf(w, "%s has letters of several scripts: %s\n", k.Name, strings.Join(k.Scripts, ", "))
	}
	for _, s := range k.Similar {
		fmt.Fprintf(w, "%s looks like %s%s:\n%s", k.Name, s.Name, similarText(s), wire.Differences(k.Name, s.Name))
	}
	fmt.Fprintf(w, "DNS: %s\n", dnsText(k))
}

func similarText(s *pb.SimilarName) string {
	out := ", " + s.Who
	if s.Now != "" {
		out += " of " + s.Now
	}
	if s.Dns == "proved" {
		out += ", which DNS proves"
	}
	return out
}

func dnsText(k *pb.NameCheck) string {
	switch k.Dns {
	case "proved":
		return "proved (" + when(k.DnsUnix) + "): the name's record has this organization's ID"
	case "contradicted":
		return "contradicted (" + when(k.DnsUnix) + "): the name's record has another organization's ID, " + k.DnsSays
	case "none":
		return "none: the name has no record, so DNS proves nothing"
	case "unknown":
		return "unknown: nobody answered"
	}
	return "not looked up"
}

// nameMarks is a name in a listing, with what speaks against it.
func nameMarks(name string, k *pb.NameCheck) string {
	if k == nil {
		return name
	}
	var marks []string
	if k.Shown != "" && k.Shown != name {
		marks = append(marks, "shown as "+oneLine(k.Shown, 80))
	}
	for _, s := range k.Similar {
		marks = append(marks, "looks like "+s.Name)
	}
	if len(k.Scripts) > 0 {
		marks = append(marks, strings.Join(k.Scripts, "+"))
	}
	if len(marks) == 0 {
		return name
	}
	return name + " (" + strings.Join(marks, "; ") + ")"
}

func organizationDNS() *cobra.Command {
	c := &cobra.Command{
		Use: "dns", Short: "The DNS record that proves the organization's name, and what is there now",
		Long: `Print the TXT record that proves to partners that the organization's name is its own, and look
it up. Publish it in the zone of the name. Partners look it up before they accept
an agreement and once a day; no delivery depends on it.`,
		Example: "  entente organization dns --data acme", Args: exactArgs(),
	}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.OrganizationDNS, &pb.OrganizationDNSRequest{})
		if err != nil {
			return err
		}
		if *asJSON {
			return printProto(c.OutOrStdout(), a)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s.  TXT  \"%s\"\n\nnow: %s\n", a.Name, a.Text, dnsText(a.Check))
		return err
	}
	return c
}

// calledMarks is a partner in a listing, with what speaks against its name, and a new one that
// waits for the operator. Names that it looks like stand there while it asks; partner show has
// them for good.
func calledMarks(p *pb.PartnerStatus) string {
	check := p.Check
	if check != nil && p.State != "requests" { // what was accepted, its operator has confirmed
		check = &pb.NameCheck{Name: check.Name, Shown: check.Shown, Scripts: check.Scripts}
	}
	name := nameMarks(p.Name, check)
	if p.Renaming != "" {
		name += " (calls itself " + p.Renaming + ")"
	}
	return name
}
