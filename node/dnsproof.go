package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// What DNS says of an organization's name (docs/protocol.md 1.5). It is shown, and asked
// before an agreement is made; no delivery depends on it.
type dnsGrade string

const (
	dnsProved       dnsGrade = "proved"       // a record has the organization's ID
	dnsContradicted dnsGrade = "contradicted" // there are records, of others alone
	dnsNone         dnsGrade = "none"         // no record
	dnsUnknown      dnsGrade = "unknown"      // nobody answered
)

const (
	dnsLabel    = "_entente."
	dnsPrefix   = "nd/dns/" // ‖ organization ID: JSON dnsProof, of partners
	dnsTimeout  = 3 * time.Second
	dnsEvery    = 24 * time.Hour
	dnsRetry    = time.Hour // after nobody answered
	maxDNSTexts = 64        // of one name that are looked at
	maxDNSRows  = 10_000
)

// dnsProof is the last word of DNS about a name of an organization.
type dnsProof struct {
	Name  string    `json:"name"`
	Grade dnsGrade  `json:"grade"`
	Says  string    `json:"says,omitempty"` // contradicted: the ID that is there
	At    time.Time `json:"at"`             // of the last answer
	Tried time.Time `json:"tried"`          // when it was asked last
}

// proofs are what was looked up, by organization.
type proofs struct {
	mu       sync.Mutex
	of       map[wire.OrganizationID]dnsProof
	resolver *net.Resolver // nil: nothing is looked up
	reserved bool          // names under reserved domains are looked up, too
}

// openProofs reads what partners' names were graded, and takes the configured resolver:
// empty for the system's, HOST:PORT, or off.
func openProofs(s *store.Store, server string) (*proofs, error) {
	p := &proofs{of: make(map[wire.OrganizationID]dnsProof), resolver: &net.Resolver{PreferGo: true}}
	switch server {
	case "":
	case "off":
		p.resolver = nil
	default:
		p.reserved = true
		p.resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}
	}
	rows, err := s.Scan([]byte(dnsPrefix), nil, maxDNSRows)
	if err != nil {
		return nil, err
	}
	for _, kv := range rows {
		id, err := wire.Bytes32(kv.Key[len(dnsPrefix):])
		var proof dnsProof
		if err == nil {
			err = json.Unmarshal(kv.Value, &proof)
		}
		if err != nil {
			return nil, fmt.Errorf("node: what DNS says: %w", err)
		}
		p.of[id] = proof
	}
	return p, nil
}

// known is the last grade of a name; of a name that was looked up never, nothing.
func (p *proofs) known(id wire.OrganizationID, name string) dnsProof {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proof := p.of[id]; proof.Name == name {
		return proof
	}
	return dnsProof{}
}

// due reports whether a name is to be looked up again.
func (p *proofs) due(id wire.OrganizationID, name string, now time.Time) bool {
	proof := p.known(id, name)
	wait := dnsEvery
	if proof.Tried.After(proof.At) || proof.Grade == dnsUnknown {
		wait = dnsRetry
	}
	return proof.Tried.IsZero() || proof.Tried.After(now) || now.Sub(proof.Tried) >= wait
}

// grade asks DNS for a name. The name is absolute, so that no search domain answers for it.
func (p *proofs) grade(ctx context.Context, id wire.OrganizationID, name string) (dnsGrade, string) {
	if p.resolver == nil || !p.reserved && reservedName(name) {
		return dnsNone, ""
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	texts, err := p.resolver.LookupTXT(ctx, dnsLabel+name+".")
	var missing *net.DNSError
	switch {
	case errors.As(err, &missing) && missing.IsNotFound:
		return dnsNone, ""
	case err != nil:
		return dnsUnknown, ""
	}
	return gradeTexts(texts, id)
}

// gradeTexts holds the records of a name against an organization's ID. More than are looked
// at, or one that is not understood, are nobody's proof.
func gradeTexts(texts []string, id wire.OrganizationID) (dnsGrade, string) {
	says := ""
	for i, text := range texts {
		if i == maxDNSTexts {
			break
		}
		org, ok := parseDNSText(text)
		if !ok {
			continue
		}
		if org == id {
			return dnsProved, ""
		}
		if says == "" {
			says = org.String()
		}
	}
	if says != "" {
		return dnsContradicted, says
	}
	return dnsNone, ""
}

// parseDNSText reads entente=1; org=<organization ID>. Further fields are of later versions.
func parseDNSText(text string) (id wire.OrganizationID, ok bool) {
	if len(text) > 1024 {
		return id, false
	}
	fields := strings.Split(text, ";")
	if strings.TrimSpace(fields[0]) != "entente=1" {
		return id, false
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		if key != "org" {
			continue
		}
		parsed, err := wire.ParseOrganizationID(value)
		if err != nil || ok {
			return id, false // no ID, or two of them
		}
		id, ok = parsed, true
	}
	return id, ok
}

// reservedName reports whether no DNS knows a name (RFC 6761, RFC 8375, RFC 9476).
func reservedName(name string) bool {
	for _, top := range []string{"test", "example", "invalid", "localhost", "local", "internal", "onion", "alt", "home.arpa"} {
		if name == top || strings.HasSuffix(name, "."+top) {
			return true
		}
	}
	return false
}

// lookUp asks DNS for a name now and remembers the answer; of partners for good.
func (n *Node) lookUp(ctx context.Context, id wire.OrganizationID, name string) dnsProof {
	p := n.proofs
	before := p.known(id, name)
	grade, says := p.grade(ctx, id, name)
	now := n.clock.Now().UTC()
	proof := dnsProof{Name: name, Grade: grade, Says: says, At: now, Tried: now}
	if grade == dnsUnknown && before.Grade != "" {
		proof = before // who is silent changes no grade
		proof.Tried = now
	}
	p.mu.Lock()
	if len(p.of) >= maxDNSRows {
		clear(p.of)
	}
	p.of[id] = proof
	p.mu.Unlock()
	if before.Grade != "" && before.Grade != proof.Grade {
		n.log.Warn("DNS says otherwise of a name", "organization", id, "before", before.Grade, "now", proof.Grade)
	}
	if _, partner := n.partner(id); !partner || proof.Grade == dnsNone && (before.Grade == dnsNone || before.Grade == "") {
		return proof // of a name without a record nothing is kept
	}
	v, err := json.Marshal(proof)
	if err == nil {
		var b store.Batch
		b.Put(append([]byte(dnsPrefix), id[:]...), v)
		_, err = n.store.Commit(ctx, &b)
	}
	if err != nil && ctx.Err() == nil {
		n.log.Warn("what DNS says of a name was not kept", "organization", id, "error", err)
	}
	return proof
}

// followNames looks partners' names up, each once a day.
func (n *Node) followNames(ctx context.Context) error {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		for _, p := range n.fed.Partners() {
			if p.State != "ended" && n.proofs.due(p.ID, p.Name, n.clock.Now()) && ctx.Err() == nil {
				n.lookUp(ctx, p.ID, p.Name)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
