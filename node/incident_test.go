package node

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// forked has a partner prove that a site's directory has two pasts, and puts the site where
// its folder was copied and both were run.
func forked(t testing.TB, liar *site, others ...*site) {
	t.Helper()
	liar.client("alice")
	for _, s := range others {
		s.follows(liar)
	}
	ghost := liar.signsHead(with(liar.leavesOf(), "ghost"))
	liar.client("bob")
	others[0].follows(liar)
	must(t, others[0].heed(t.Context(), liar.org.ID, ghost))
	for _, s := range others {
		eventually(t, "the fork is proved", func() bool { return s.copyOf(liar).Fork != nil })
	}
}

func TestAnOrganizationComesBackByTellingOfItsIncident(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	evil, b, c := sites[0], sites[1], sites[2]
	forked(t, evil, b, c)
	evil.halt()
	_, err := DeclareIncident(evil.dir, filepath.Join(evil.dir, RootFile), []byte("another passphrase"), "a copy was run", time.Now())
	if err == nil {
		t.Error("told without the root key")
	}
	told, err := DeclareIncident(evil.dir, filepath.Join(evil.dir, RootFile), worldPass, "a copy was run", time.Now())
	must(t, err)
	c.halt() // one is away meanwhile
	evil.start()
	eventually(t, "the new log has both members", func() bool { size, _, err := evil.Node.dir.Head(); return err == nil && size == 4 })
	b.follows(evil)
	if s := b.copyOf(evil); s.Log != told.Manifest.Log() || s.Fork != nil || s.Settled == nil || s.Problem != "" {
		t.Fatalf("globex holds %+v", s)
	}
	c.start()
	c.follows(evil)
	for _, s := range []*site{b, c} {
		// Its members are looked up again; messages wait for the operator's word.
		a, err := s.ask(t.Context(), evil.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: "alice"}}})
		if err != nil {
			t.Errorf("a look-up: %v", err)
		} else if m, err := identity.VerifyChain(a.GetResolve().GetChain(), evil.org.ID, time.Now()); err != nil || m.Version < 1_000 {
			t.Errorf("alice: %+v, %v", m, err)
		}
		p, err := s.fed.Partner("acme.example")
		must(t, err)
		if p.State != "quarantined" {
			t.Errorf("acme is %s", p.State)
		}
		must(t, s.fed.Release(t.Context(), evil.org.ID, "called them"))
		logs, err := operatorAPI{s.Node}.ListLogs(t.Context(), nil)
		must(t, err)
		for _, l := range logs.Msg.Logs {
			if l.Organization == "acme.example" && (l.Incident != "a copy was run" || !l.Settled || l.Fork) {
				t.Errorf("shown as %+v", l)
			}
		}
	}
	// The old proof accuses nobody any more, whoever tells it, and after restarts.
	proof := b.copyOf(evil).Settled
	c.heedFork(t.Context(), evil.org.ID, proof)
	must(t, b.fed.TellFork(evil.org.ID, proof))
	b.halt()
	b.start()
	evil.halt()
	evil.start()
	evil.client("carol")
	b.follows(evil)
	c.follows(evil)
	if b.copyOf(evil).Fork != nil || c.copyOf(evil).Fork != nil {
		t.Error("accused of the old log once more")
	}
	// Two pasts of the new log are proved as those of the old one were.
	ghost := evil.signsHead(with(evil.leavesOf(), "ghost"))
	evil.client("dora")
	b.follows(evil)
	must(t, b.heed(t.Context(), evil.org.ID, ghost))
	eventually(t, "the fork of the new log is proved", func() bool { return b.copyOf(evil).Fork != nil && c.copyOf(evil).Fork != nil })
	if p, err := identity.VerifyFork(b.copyOf(evil).Fork); err != nil || p.Older.Log != told.Manifest.Log() {
		t.Errorf("%+v, %v", p, err)
	}
}

// A partner that has not heard of the incident keeps to what is proved; heads of the old log,
// which the liar's other copy still signs, are nothing to who has heard of it.
func TestHeadsOfAnEndedLogAreHeardByNobody(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	evil, b := sites[0], sites[1]
	forked(t, evil, b)
	other := evil.signsHead(with(with(evil.leavesOf(), "ghost"), "more"))
	evil.halt()
	if err := b.takeHead(t.Context(), evil.org.ID, other.Note); err != nil || b.copyOf(evil).Fork == nil {
		t.Errorf("before it is told: %v", err)
	}
	_, err := DeclareIncident(evil.dir, filepath.Join(evil.dir, RootFile), worldPass, "a copy was run", time.Now())
	must(t, err)
	evil.start()
	eventually(t, "the new log is followed", func() bool { return b.copyOf(evil).Log > 0 && b.copyOf(evil).Size == 4 })
	before := b.copyOf(evil)
	must(t, b.heed(t.Context(), evil.org.ID, other))
	err = b.takeHead(t.Context(), evil.org.ID, other.Note)
	if err == nil || wire.StatusOf(err) == nil {
		t.Error("a head of the ended log is taken")
	}
	if after := b.copyOf(evil); after.Fork != nil || after.Size != before.Size || after.Root != before.Root {
		t.Errorf("%+v", after)
	}
}
