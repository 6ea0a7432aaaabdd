package node

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/identity/replica"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/mod/sumdb/tlog"
)

// leavesOf are the leaves of a site's own log.
func (s *site) leavesOf() (out []byte) {
	s.t.Helper()
	size, _, err := s.Node.dir.Head()
	must(s.t, err)
	for i := range size {
		leaf, err := s.Node.dir.Leaf(i)
		must(s.t, err)
		out = append(out, leaf...)
	}
	return out
}

// with adds a ghost to a log of leaves: a label of nobody, and the map that has it.
func with(leaves []byte, ghost string) []byte {
	var labels prefix.Tree
	for i := 0; i < len(leaves); i += replica.LeafLen {
		if e, _ := prefix.ParseEntry(leaves[i : i+replica.LeafLen]); e.Label != (prefix.Label{}) {
			labels = labels.Set(e)
		}
	}
	e := prefix.Entry{Label: sha256.Sum256([]byte(ghost)), Version: 1, Commitment: sha256.Sum256([]byte(ghost))}
	labels = labels.Set(e)
	leaves = e.Append(append([]byte(nil), leaves...))
	return identity.MapLeaf(uint64(labels.Len()), labels.Root()).Append(leaves)
}

type treeHashes []tlog.Hash

func (h treeHashes) ReadHashes(at []int64) (out []tlog.Hash, _ error) {
	for _, i := range at {
		out = append(out, h[i])
	}
	return out, nil
}

// signsHead makes a head of any leaves with a site's own key, as its owner could.
func (s *site) signsHead(leaves []byte) *identity.Checkpoint {
	s.t.Helper()
	keys, err := identity.OpenNodeKeys(s.dir+"/"+KeysFile, worldPass)
	must(s.t, err)
	var made treeHashes
	size := int64(len(leaves) / replica.LeafLen)
	for i := range size {
		h, err := tlog.StoredHashes(i, leaves[i*replica.LeafLen:(i+1)*replica.LeafLen], made)
		must(s.t, err)
		made = append(made, h...)
	}
	root, err := tlog.TreeHash(size, made)
	must(s.t, err)
	signed, err := identity.SignCheckpoint(s.org, uint64(size), root, keys.Directory)
	must(s.t, err)
	head, err := identity.VerifyCheckpoint(signed, s.org)
	must(s.t, err)
	return head
}

// isShown has a site take a log of another as if that one had shown it.
func (s *site) isShown(of *site, leaves []byte) *identity.Checkpoint {
	s.t.Helper()
	head := of.signsHead(leaves)
	r, err := s.replicas.of(of.org.ID)
	must(s.t, err)
	from, _, err := r.Judge(of.org, head)
	must(s.t, err)
	must(s.t, r.Take(s.t.Context(), of.org, head, from, leaves[from*replica.LeafLen:], time.Now()))
	return head
}

func TestASplitViewIsProvedToAllWhoCompareHeads(t *testing.T) {
	for name, ghosts := range map[string]int{"of one size": 1, "the hidden one longer": 3} {
		t.Run(name, func(t *testing.T) {
			sites := newLinked(t, "acme.example", "globex.example", "initech.example")
			evil, b, c := sites[0], sites[1], sites[2]
			evil.client("alice")
			b.follows(evil)
			c.follows(evil)
			// initech is shown another member, globex is shown bob.
			leaves := evil.leavesOf()
			for i := range ghosts {
				leaves = with(leaves, "ghost "+string(rune('a'+i)))
			}
			hidden := c.isShown(evil, leaves)
			c.halt() // or the liar hears what is said of it, and falls silent
			evil.client("bob")
			b.follows(evil)
			c.start()
			must(t, c.fed.TellHead(hidden))
			for _, s := range []*site{b, c} {
				eventually(t, "the fork is proved", func() bool {
					r, err := s.replicas.of(evil.org.ID)
					must(t, err)
					if r.Forked() == nil {
						return false
					}
					p, err := identity.VerifyFork(r.Forked())
					if err != nil || p.Organization.ID != evil.org.ID {
						t.Fatalf("the proof: %v", err)
					}
					return true
				})
				eventually(t, "the liar is in quarantine", func() bool {
					p, err := s.fed.Partner("acme.example")
					must(t, err)
					return p.State == "quarantined"
				})
				_, err := s.ask(t.Context(), evil.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: "alice"}}})
				if wire.CodeName(wire.StatusOf(err).Code) != "quarantined" {
					t.Errorf("a look-up of the liar's member: %v", err)
				}
			}
		})
	}
}

func TestAHeadHeardOfABiggerLogHasItsOwnerAsked(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	a, b := sites[0], sites[1]
	a.client("alice")
	b.follows(a)
	a.client("bob")
	must(t, b.heed(t.Context(), a.org.ID, a.headOf()))
	eventually(t, "the copy is at the head that was heard of", func() bool { return b.copyOf(a).Size == 4 })
}

// TestOfTwoHeadsOfOneSizeThatAreHeardWhileTheLogIsBehindNoneIsForgotten: what others were
// shown comes before the log's owner has answered, and is told once.
func TestOfTwoHeadsOfOneSizeThatAreHeardWhileTheLogIsBehindNoneIsForgotten(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example")
	evil, b := sites[0], sites[1]
	evil.client("alice")
	b.follows(evil)
	hidden := evil.signsHead(with(evil.leavesOf(), "ghost"))
	evil.halt()
	// The head that will be shown to globex is heard first: made by the same log, set on.
	evil.start()
	b.halt()
	evil.client("bob")
	shown := evil.headOf()
	evil.halt()
	b.start()
	must(t, b.heed(t.Context(), evil.org.ID, shown))
	must(t, b.heed(t.Context(), evil.org.ID, hidden))
	evil.start()
	eventually(t, "the fork is proved", func() bool {
		r, err := b.replicas.of(evil.org.ID)
		must(t, err)
		return r.Forked() != nil
	})
}

// TestTwoWhoWereShownTwoPastsFindOutWithoutTheLiarAndAfterTheirRestarts: what is held is told
// after a start, and asked for by whoever has a new link.
func TestTwoWhoWereShownTwoPastsFindOutWithoutTheLiarAndAfterTheirRestarts(t *testing.T) {
	sites := newLinked(t, "acme.example", "globex.example", "initech.example")
	evil, b, c := sites[0], sites[1], sites[2]
	evil.client("alice")
	b.follows(evil)
	c.follows(evil)
	b.halt()
	c.isShown(evil, with(evil.leavesOf(), "ghost"))
	c.halt()
	b.start()
	evil.client("bob")
	b.follows(evil)
	evil.halt()
	b.halt()
	c.start()
	b.start()
	for _, s := range []*site{b, c} {
		eventually(t, "the fork is proved", func() bool {
			r, err := s.replicas.of(evil.org.ID)
			must(t, err)
			return r.Forked() != nil
		})
	}
}

func TestAFloodOfHeadsPushesOutNoneThatWaits(t *testing.T) {
	h, about := newHearing(), wire.OrganizationID{1}
	first := &identity.Checkpoint{Size: 7}
	if !h.HeardHead(about, first) {
		t.Fatal("the first head finds no room")
	}
	for i := range uint64(3 * maxHeard) {
		h.HeardHead(about, &identity.Checkpoint{Size: 1_000 + i})
	}
	if h.HeardHead(about, &identity.Checkpoint{Size: 8}) {
		t.Error("there is always room")
	}
	if !h.HeardHead(wire.OrganizationID{2}, &identity.Checkpoint{Size: 8}) {
		t.Error("another organization's head finds no room")
	}
	heads, _, _ := h.take()
	if list := heads[about]; len(list) != maxHeard || list[0] != first {
		t.Errorf("%d heads wait, and not the first one", len(list))
	}
	if !h.HeardHead(about, &identity.Checkpoint{Size: 8}) {
		t.Error("what was looked at still takes the room")
	}
}
