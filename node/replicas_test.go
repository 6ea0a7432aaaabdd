package node

import (
	"fmt"
	"testing"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/replica"
	"github.com/entente-im/entente/testnet/ports"
	"github.com/entente-im/entente/wire"
)

// newLinked makes sites that reach each other, all of them partners.
func newLinked(t testing.TB, names ...string) []*site {
	t.Helper()
	free, err := ports.Free(len(names))
	must(t, err)
	var out []*site
	for i, name := range names {
		s := newSiteAt(t, name, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", free[i]))
		for _, other := range out {
			agree(t, other, s)
		}
		out = append(out, s)
	}
	return out
}

// copyOf is what a site holds of another's log.
func (s *site) copyOf(of *site) replica.State {
	s.t.Helper()
	r, err := s.replicas.of(of.org.ID)
	must(s.t, err)
	return r.State()
}

// headOf is a site's own head.
func (s *site) headOf() *identity.Checkpoint {
	s.t.Helper()
	head, err := s.ownHead()
	must(s.t, err)
	if head == nil {
		return &identity.Checkpoint{}
	}
	return head
}

// follows waits until a site's copy of another's log is at its head, and cosigned.
func (s *site) follows(of *site) {
	s.t.Helper()
	eventually(s.t, "the copy has the head, and the owner the cosignature", func() bool {
		s.replicas.due(of.org.ID)
		head, c := of.headOf(), s.copyOf(of)
		got, err := identity.Cosignatures(head.Note, []identity.Cosigner{identity.CosignerOf(s.org)})
		must(s.t, err)
		return c.Size == head.Size && c.Root == head.Root && c.Cosigned == head.Size && len(got) == 1
	})
}

func TestPartnersFollowAndCosignEachOthersLogsAlsoAfterRestarts(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.client("pat")
	a.follows(b)
	b.follows(a)
	a.client("bob")
	b.follows(a)
	if got := b.copyOf(a); got.Size != 4 || got.Problem != "" {
		t.Errorf("the copy: %+v", got)
	}

	b.halt()
	for _, name := range []string{"carol", "dave", "erin"} {
		a.client(name)
	}
	b.start()
	if got := b.copyOf(a); got.Size != 4 || got.Cosigned != 4 {
		t.Errorf("the copy after a restart: %+v", got)
	}
	b.follows(a)
	if got := b.copyOf(a); got.Size != 10 {
		t.Errorf("the copy of a log that went on meanwhile: %+v", got)
	}
	a.halt()
	a.start()
	if got, err := identity.Cosignatures(a.headOf().Note, []identity.Cosigner{identity.CosignerOf(b.org)}); err != nil || len(got) != 1 {
		t.Errorf("after a restart of its own the head has %d cosignatures: %v", len(got), err)
	}
}

func TestACopyGoesWithTheAgreementAndItsMarkStays(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	must(t, b.fed.End(t.Context(), a.org.ID, ""))
	eventually(t, "the leaves are gone", func() bool { return b.copyOf(a).Size == 0 })
	if page, err := b.store.Scan([]byte("rp/leaf/"), nil, 10); err != nil || len(page) != 0 {
		t.Errorf("%d rows of leaves: %v", len(page), err)
	}
	if got := b.copyOf(a); got.Cosigned != 2 || got.Head == "" {
		t.Errorf("the mark: %+v", got)
	}
}

func TestAPartnerIsAnsweredForItsOwnLogAndOursAlone(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	leaves, err := a.fetchLeaves(t.Context(), b.org.ID, a.org.ID[:], 0, 2)
	must(t, err)
	for i := range uint64(2) {
		leaf, err := a.Node.dir.Leaf(i)
		must(t, err)
		if string(leaves[i*replica.LeafLen:(i+1)*replica.LeafLen]) != string(leaf) {
			t.Errorf("leaf %d came back as another", i)
		}
	}
	var stranger wire.OrganizationID
	stranger[0] = 1
	if _, err := a.fetchLeaves(t.Context(), b.org.ID, stranger[:], 0, 2); wire.CodeName(wire.StatusOf(err).Code) != "forbidden" {
		t.Errorf("a third organization's log: %v", err)
	}
}
