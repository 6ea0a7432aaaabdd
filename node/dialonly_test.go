package node

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/entente-im/entente/testnet/ports"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// hiddenSite is a node behind a NAT: nobody can dial it.
func hiddenSite(t testing.TB, name string) *site {
	t.Helper()
	s := newSiteAt(t, name, "")
	return s
}

// linkedWith waits until a site has a link of its own with another.
func (s *site) linkedWith(other *site) {
	s.t.Helper()
	eventually(s.t, s.org.Manifest.Name+" is linked with "+other.org.Manifest.Name, func() bool {
		p, err := s.fed.Partner(other.org.Manifest.Name)
		must(s.t, err)
		return p.State == "connected"
	})
}

func TestANodeThatNobodyCanDialDialsItsPartners(t *testing.T) {
	free, err := ports.Free(1)
	must(t, err)
	acme, globex := hiddenSite(t, "acme.example"), newSiteAt(t, "globex.example", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", free[0]))
	if n := len(acme.org.Manifest.Addresses); n > 0 {
		t.Fatalf("its manifest names %d addresses", n)
	}
	if _, err := acme.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: "globex.example", Contact: "open"}); wire.StatusOf(err).Code != pb.Code_CODE_UNREACHABLE {
		t.Errorf("its token: %v", err)
	}
	agree(t, globex, acme)
	both := func() {
		t.Helper()
		acme.linkedWith(globex)
		globex.linkedWith(acme)
	}
	both()
	// Heads go both ways over the one connection.
	acme.client("alice")
	globex.client("bob")
	globex.follows(acme)
	acme.follows(globex)
	globex.halt()
	globex.start()
	both()
	acme.halt()
	eventually(t, "globex waits for acme and counts no attempts", func() bool {
		p, err := globex.fed.Partner("acme.example")
		must(t, err)
		return p.State == "waiting" && p.LastError != "" && p.Attempts == 0
	})
	acme.start()
	both()
	globex.client("carol")
	acme.follows(globex)
}

func TestTwoNodesThatNobodyCanDialMakeNoAgreement(t *testing.T) {
	acme := hiddenSite(t, "acme.example")
	globex := newSiteAt(t, "globex.example", "/ip4/0.0.0.0/tcp/0") // listens, and does not say where
	for deadline := time.Now().Add(30 * time.Second); !acme.ready.Load() || !globex.ready.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the nodes do not get ready")
		}
	}
	invited, err := globex.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: "acme.example", Contact: "open"})
	must(t, err)
	if _, err := acme.fed.Accept(t.Context(), invited.Token); wire.StatusOf(err).Code != pb.Code_CODE_UNREACHABLE {
		t.Errorf("neither could find the other again: %v", err)
	}
}

func TestPartnersFollowANodeThatMoves(t *testing.T) {
	free, err := ports.Free(3)
	must(t, err)
	at := func(i int) string { return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", free[i]) }
	acme, globex := newSiteAt(t, "acme.example", at(0)), newSiteAt(t, "globex.example", at(1))
	agree(t, acme, globex)
	acme.linkedWith(globex)
	globex.linkedWith(acme)
	// QUIC is blocked and the first TCP address leads nowhere: neither is waited for.
	globex.halt()
	acme.halt()
	blocked, err := net.ListenPacket("udp4", "127.0.0.1:0") // QUIC goes there and nothing comes back
	must(t, err)
	defer blocked.Close()
	quic := fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", blocked.LocalAddr().(*net.UDPAddr).Port)
	_, err = Readdress(acme.dir, acme.dir+"/"+RootFile, worldPass, []string{quic, "/ip4/127.0.0.1/tcp/9", at(2)}, time.Now())
	must(t, err)
	acme.federation = at(2)
	acme.start()
	globex.start()
	acme.linkedWith(globex) // it knows where globex is
	globex.linkedWith(acme)
	eventually(t, "globex has the new addresses", func() bool {
		o, ok := globex.partner(acme.org.ID)
		return ok && len(o.Manifest.Addresses) == 3
	})
	// From now on globex finds it by itself.
	globex.halt()
	acme.halt()
	acme.start()
	began := time.Now()
	globex.start()
	globex.linkedWith(acme)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("found after %s", took)
	}
}
