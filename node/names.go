package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// named is a name that is known here, and whose.
type named struct {
	name, now, who string
	id             wire.OrganizationID
}

// names lists all names that are known here: ours, partners' (also of agreements that have
// ended), those that either had before, and of organizations that ask.
func (n *Node) names() (out []named) {
	add := func(id wire.OrganizationID, who string, all []string) {
		for i, name := range all {
			x := named{name: name, who: who, id: id}
			if i < len(all)-1 {
				x.who, x.now = "former name", all[len(all)-1]
			}
			out = append(out, x)
		}
	}
	add(n.org.ID, "this organization", n.org.Names())
	for _, p := range n.fed.Partners() {
		all := []string{p.Name}
		if o, err := n.fed.Organization(p.ID); err == nil {
			all = o.Names()
		}
		add(p.ID, "partner", all)
	}
	if requests, err := n.fed.Requests(); err == nil {
		for _, r := range requests {
			add(r.Organization, "request", []string{r.Name})
		}
	}
	return out
}

// nameIndex is the names that are known here by what they look like.
type nameIndex map[string][]named

func (n *Node) nameIndex() nameIndex {
	out := make(nameIndex)
	for _, x := range n.names() {
		skeleton := wire.Skeleton(x.name)
		out[skeleton] = append(out[skeleton], x)
	}
	return out
}

// similar lists the names of others that look like one: those that DNS proves first.
func (n *Node) similar(all nameIndex, name string, id wire.OrganizationID) (out []*pb.SimilarName) {
	for _, x := range all[wire.Skeleton(name)] {
		if x.id != id {
			out = append(out, &pb.SimilarName{Name: x.name, OrganizationId: x.id.String(), Who: x.who, Now: x.now, Dns: string(n.proofs.known(x.id, x.name).Grade)})
		}
	}
	proved := func(s *pb.SimilarName) int {
		if s.Dns == string(dnsProved) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b *pb.SimilarName) int {
		return cmp.Or(proved(a)-proved(b), strings.Compare(a.Name, b.Name))
	})
	return out
}

// checkName says what speaks for and against a name, by what is known.
func (n *Node) checkName(all nameIndex, name string, id wire.OrganizationID) *pb.NameCheck {
	proof := n.proofs.known(id, name)
	out := &pb.NameCheck{Name: name, Shown: wire.DisplayName(name), Dns: string(proof.Grade), DnsUnix: unix(proof.At), DnsSays: proof.Says, Similar: n.similar(all, name, id)}
	_, out.Scripts = wire.MixedScripts(name)
	return out
}

// mayAccept looks a name up in DNS, and refuses an agreement under a name that looks like
// another one here, or that DNS says is somebody else's, until the operator has confirmed it.
// A proof by DNS confirms no similar name: who owns a name that looks like another one can
// prove it. An agreement with the organization that there is, or was, is asked about no more.
func (n *Node) mayAccept(ctx context.Context, name string, id wire.OrganizationID, similar, unproved bool) (*pb.NameCheck, error) {
	n.lookUp(ctx, id, name)
	check := n.checkName(n.nameIndex(), name, id)
	for _, s := range check.Similar { // the same name, not one like it: no word makes two organizations answer to it
		if s.Name == name && s.Now == "" && (s.Who == "this organization" || s.Who == "partner") {
			return check, wire.Refuse(pb.Code_CODE_NAME_TAKEN, "%s is called %s", strings.Replace(s.Who, "partner", "another partner", 1), name)
		}
	}
	switch {
	case check.Dns == string(dnsContradicted) && !unproved:
		return check, wire.Refuse(pb.Code_CODE_FORBIDDEN, "DNS says that %s is another organization: ask them, then --accept-unproved-name", name)
	case len(check.Similar) > 0 && !similar:
		return check, wire.Refuse(pb.Code_CODE_NAME_TAKEN, "%s looks like %s (%s): if it is another one, --accept-similar-name", name, check.Similar[0].Name, check.Similar[0].Who)
	case len(check.Scripts) > 0 && !similar:
		return check, wire.Refuse(pb.Code_CODE_NAME_TAKEN, "%s has letters of several scripts (%s): if it is meant so, --accept-similar-name", name, strings.Join(check.Scripts, ", "))
	}
	return check, nil
}

// mayRename refuses to follow a partner's new name that mayAccept would not take.
func (n *Node) mayRename(ctx context.Context, id wire.OrganizationID, name string) error {
	_, err := n.mayAccept(ctx, name, id, false, false)
	if err != nil && ctx.Err() == nil {
		n.log.Warn("a partner has given itself a name that is not followed: entente partner rename", "partner", id, "was", n.nameOf(id), "is", name, "error", err)
	}
	return err
}

// RenamePartner follows a partner's new name, by the operator's word.
func (a operatorAPI) RenamePartner(ctx context.Context, r *connect.Request[pb.RenamePartnerRequest]) (*connect.Response[pb.PartnerDetails], error) {
	n := a.n
	p, err := n.fed.Partner(r.Msg.Name)
	if err == nil && p.Renaming == "" {
		err = wire.Refuse(pb.Code_CODE_NOT_FOUND, "%s has not given itself another name", p.Name)
	}
	if err == nil {
		_, err = n.mayAccept(ctx, p.Renaming, p.ID, r.Msg.AcceptSimilarName, r.Msg.AcceptUnprovedName)
	}
	if err == nil {
		err = n.fed.ConfirmName(ctx, p.ID, p.Renaming)
	}
	if err != nil {
		return answer[pb.PartnerDetails](nil, err)
	}
	return answer(n.showPartner(p.ID.String()))
}

// asKnown shows a partner's members under the name that is followed here: while its new one
// waits for the operator, with the manifests of before.
func (n *Node) asKnown(id wire.OrganizationID, a *pb.QueryResponse) {
	var chain *pb.MemberChain
	switch x := a.Answer.(type) {
	case *pb.QueryResponse_Resolve:
		chain = x.Resolve.GetChain()
	case *pb.QueryResponse_Chain:
		chain = x.Chain.GetChain()
	case *pb.QueryResponse_Claim:
		chain = x.Claim.GetChain()
	}
	if chain == nil {
		return
	}
	if p, err := n.fed.Partner(id.String()); err == nil && p.Renaming != "" {
		if org, ok := n.partner(id); ok {
			chain.Manifests = org.Notes
			if _, err := identity.VerifyCheckpoint(chain.GetCurrency().GetCheckpoint(), org); err != nil {
				chain.Currency = nil // of a log that an incident has begun since: not proved, and not refused
			}
		}
	}
}

func (a operatorAPI) OrganizationDNS(ctx context.Context, _ *connect.Request[pb.OrganizationDNSRequest]) (*connect.Response[pb.OrganizationDNSResponse], error) {
	n := a.n
	name := n.org.Manifest.Name
	n.lookUp(ctx, n.org.ID, name)
	return answer(&pb.OrganizationDNSResponse{Name: dnsLabel + name, Text: dnsRecord(n.org.ID), Check: n.checkName(n.nameIndex(), name, n.org.ID)}, nil)
}

// dnsRecord is the text that an organization publishes.
func dnsRecord(id wire.OrganizationID) string { return fmt.Sprintf("entente=1; org=%s", id) }

// mayInvite refuses to invite under a name that looks like another one here, until the
// operator has confirmed it: whoever accepts has that name, and its ID is not known yet.
func (n *Node) mayInvite(name string, similar bool) error {
	if similar {
		return nil
	}
	for _, x := range n.nameIndex()[wire.Skeleton(name)] {
		if x.name != name {
			return wire.Refuse(pb.Code_CODE_NAME_TAKEN, "%s looks like %s (%s): if it is another one, --accept-similar-name", name, x.name, x.who)
		}
	}
	return nil
}
