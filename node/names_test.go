package node

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// dnsServer is a name server on loopback with TXT records; a name that it does not know does
// not exist. Its address is for Config.DNS.
type dnsServer struct {
	mu    sync.Mutex
	texts map[string][]string // by absolute name
	fails bool                // answers SERVFAIL
	asked []string
	addr  string
}

func newDNS(t *testing.T) *dnsServer {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	s := &dnsServer{texts: make(map[string][]string), addr: c.LocalAddr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if a := s.answer(buf[:n]); a != nil {
				_, _ = c.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return s
}

func (s *dnsServer) set(name string, texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[dnsLabel+name+"."] = texts
}

func (s *dnsServer) fail(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = yes
}

// answer is RFC 1035 §4.1: the question back, and its TXT records.
func (s *dnsServer) answer(q []byte) []byte {
	if len(q) < 12 {
		return nil
	}
	name, end := "", 12
	for end < len(q) && q[end] != 0 {
		l := int(q[end])
		if end+1+l > len(q) {
			return nil
		}
		name += string(q[end+1:end+1+l]) + "."
		end += 1 + l
	}
	if end += 5; end > len(q) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, name)
	texts, known := s.texts[name]
	out := append([]byte(nil), q[:end]...)
	out[2], out[3] = 0x85, 0x80
	switch {
	case s.fails:
		out[3] |= 2
	case !known:
		out[3] |= 3
	}
	clear(out[6:12])
	if !s.fails {
		binary.BigEndian.PutUint16(out[6:], uint16(len(texts)))
		for _, text := range texts {
			var data []byte
			for len(text) > 0 {
				part := text[:min(255, len(text))]
				data, text = append(append(data, byte(len(part))), part...), text[len(part):]
			}
			out = append(out, 0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60)
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(data))), data...)
		}
	}
	return out
}

// asking is a site that asks this server.
func asking(t *testing.T, name string, dns *dnsServer) *site {
	t.Helper()
	s := newSite(t, name)
	s.halt()
	s.startWith(Options{}, func(c *Config) { c.DNS = dns.addr })
	return s
}

func TestWhatDNSSaysOfANameIsGraded(t *testing.T) {
	dns := newDNS(t)
	s := asking(t, "acme.example", dns)
	id, other := wire.OrganizationID{1}, wire.OrganizationID{2}
	for name, c := range map[string]struct {
		texts []string
		want  dnsGrade
	}{
		"its record":                 {[]string{dnsRecord(id)}, dnsProved},
		"its record, after others":   {[]string{"v=spf1 -all", dnsRecord(other), dnsRecord(id)}, dnsProved},
		"with what later versions":   {[]string{dnsRecord(id) + "; witness=yes"}, dnsProved},
		"without spaces":             {[]string{"entente=1;org=" + id.String()}, dnsProved},
		"a record of another":        {[]string{dnsRecord(other)}, dnsContradicted},
		"records of other protocols": {[]string{"v=spf1 -all", "google-site-verification=x"}, dnsNone},
		"of another version":         {[]string{strings.Replace(dnsRecord(other), "=1", "=2", 1)}, dnsNone},
		"two organizations in one":   {[]string{dnsRecord(id) + "; org=" + other.String()}, dnsNone},
		"no ID":                      {[]string{"entente=1; org=acme.example"}, dnsNone},
		"capitals":                   {[]string{strings.ToUpper(dnsRecord(id))}, dnsNone},
		"an ID that goes on":         {[]string{dnsRecord(id) + "a"}, dnsNone},
		"no records":                 {nil, dnsNone},
	} {
		host := strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", "") + ".example"
		dns.set(host, c.texts...)
		if got, _ := s.proofs.grade(t.Context(), id, host); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if got, _ := s.proofs.grade(t.Context(), id, "nowhere.example"); got != dnsNone {
		t.Errorf("a name that does not exist: %s", got)
	}
	dns.fail(true)
	if got, _ := s.proofs.grade(t.Context(), id, "its-record.example"); got != dnsUnknown {
		t.Errorf("a server that fails: %s", got)
	}
	many := append(make([]string, maxDNSTexts), dnsRecord(id))
	for name, texts := range map[string][]string{"a record that is too long": {dnsRecord(id) + "; x=" + strings.Repeat("y", 1100)}, "one after too many": many} {
		if got, _ := gradeTexts(texts, id); got != dnsNone {
			t.Errorf("%s: %s", name, got)
		}
	}
	dns.mu.Lock()
	defer dns.mu.Unlock()
	for _, name := range dns.asked {
		if !strings.HasSuffix(name, ".example.") || !strings.HasPrefix(name, dnsLabel) {
			t.Errorf("DNS was asked for %s", name)
		}
	}
}

func TestAResolverThatIsSilentHoldsNothingUpAndChangesNoGrade(t *testing.T) {
	dns := newDNS(t)
	s := asking(t, "acme.example", dns)
	id := wire.OrganizationID{1}
	dns.set("globex.example", dnsRecord(id))
	if got := s.lookUp(t.Context(), id, "globex.example"); got.Grade != dnsProved {
		t.Fatalf("%s", got.Grade)
	}
	dns.fail(true)
	if got := s.lookUp(t.Context(), id, "globex.example"); got.Grade != dnsProved || !got.Tried.After(got.At) {
		t.Errorf("after a failure: %+v", got)
	}
	if !s.proofs.due(id, "globex.example", s.clock.Now().Add(dnsRetry+time.Minute)) || s.proofs.due(id, "globex.example", s.clock.Now().Add(time.Minute)) {
		t.Error("after a failure it is asked again neither too soon nor a day later")
	}
	if !s.proofs.due(id, "renamed.example", s.clock.Now()) {
		t.Error("a new name is not asked for")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := s.lookUp(ctx, wire.OrganizationID{3}, "hooli.example"); got.Grade != dnsUnknown {
		t.Errorf("nobody asked: %s", got.Grade)
	}
	s.proofs.resolver = nil
	if got, _ := s.proofs.grade(t.Context(), id, "globex.example"); got != dnsNone {
		t.Errorf("with DNS off: %s", got)
	}
}

func TestASquattedNameIsAcceptedByWordAlone(t *testing.T) {
	dns := newDNS(t)
	acme, globex, squatter := asking(t, "acme.example", dns), newSite(t, "globex.example"), newSite(t, "gl0bex.example")
	dns.set("globex.example", dnsRecord(globex.org.ID))
	agree(t, acme, globex)
	dns.set("gl0bex.example", dnsRecord(squatter.org.ID)) // who owns a name can prove it
	invite := func(of *site) string {
		a, err := of.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: "acme.example", Contact: "open"})
		must(t, err)
		return a.Token
	}
	id := squatter.org.ID
	check, err := acme.mayAccept(t.Context(), "gl0bex.example", id, false, false)
	wantCode(t, "a name that looks like a partner's, with a proof", wire.StatusOf(err), pb.Code_CODE_NAME_TAKEN)
	if len(check.Similar) != 1 || check.Similar[0].Name != "globex.example" || check.Similar[0].Who != "partner" || check.Dns != "proved" {
		t.Fatalf("the check: %v", check)
	}
	_, err = acme.mayAccept(t.Context(), "gl0bex.example", id, true, false)
	must(t, err)
	if _, err := acme.mayAccept(t.Context(), "globex.example", globex.org.ID, false, false); err != nil {
		t.Errorf("the partner itself: %v", err)
	}
	_, err = acme.mayAccept(t.Context(), "acrne.example", id, false, false)
	wantCode(t, "a name that looks like ours", wire.StatusOf(err), pb.Code_CODE_NAME_TAKEN)
	_, err = acme.mayAccept(t.Context(), "xn--cme-7cd.example", id, false, true) // Cyrillic а in front
	if err == nil {
		t.Error("a name of two scripts is taken")
	}
	_, err = acme.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: "gl0bex.example", Contact: "open"})
	wantCode(t, "inviting under it", wire.StatusOf(err), pb.Code_CODE_NAME_TAKEN)
	_, err = acme.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: "globex.example", Contact: "open"})
	must(t, err)

	dns.set("gl0bex.example", dnsRecord(wire.OrganizationID{5}))
	check, err = acme.mayAccept(t.Context(), "gl0bex.example", id, true, false)
	wantCode(t, "a name that DNS says is another's", wire.StatusOf(err), pb.Code_CODE_FORBIDDEN)
	if check.DnsSays != (wire.OrganizationID{5}).String() {
		t.Errorf("DNS says %q", check.DnsSays)
	}
	token := invite(squatter)
	_, err = acme.acceptPartner(t.Context(), &pb.AcceptPartnerRequest{Token: token, AcceptSimilarName: true})
	wantCode(t, "accepting it so", wire.StatusOf(err), pb.Code_CODE_FORBIDDEN)
	_, err = acme.acceptPartner(t.Context(), &pb.AcceptPartnerRequest{Token: token, AcceptSimilarName: true, AcceptUnprovedName: true})
	must(t, err)
	for _, p := range acme.partnerStatuses() {
		if len(p.Check.Similar) != 1 || p.Check.Similar[0].Name == p.Name {
			t.Errorf("%s in the list: %v", p.Name, p.Check)
		}
	}
}
