package federation

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// ears keeps what a node hears.
type ears struct {
	mu    sync.Mutex
	heads []*identity.Checkpoint
	forks []*pb.Fork
}

func (e *ears) HeardHead(_ wire.OrganizationID, head *identity.Checkpoint) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heads = append(e.heads, head)
	return true
}

func (e *ears) HeardFork(_ wire.OrganizationID, fork *pb.Fork) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forks = append(e.forks, fork)
}

// sizes are those of the heads of an organization that were heard, each once.
func (e *ears) sizes(of *node) (out []uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heads {
		if h.Organization == of.org.ID && !slices.Contains(out, h.Size) {
			out = append(out, h.Size)
		}
	}
	return out
}

func (e *ears) proofs() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.forks)
}

func (n *node) head(size uint64, root byte) *identity.Checkpoint {
	n.t.Helper()
	signed, err := identity.SignCheckpoint(n.org, size, [32]byte{root}, n.keys.Directory)
	if err != nil {
		n.t.Fatal(err)
	}
	head, err := identity.VerifyCheckpoint(signed, n.org)
	if err != nil {
		n.t.Fatal(err)
	}
	return head
}

// told has a node tell a head and waits until others have heard it.
func (n *node) told(head *identity.Checkpoint, heard func() bool) {
	n.t.Helper()
	if err := n.fed.TellHead(head); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, "a head is heard", heard)
}

// line makes acme, globex and initech: all partners, but acme and initech have no way to
// each other.
func line(t *testing.T) (a, b, c *node) {
	t.Helper()
	a, b, c = newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "initech.example")
	befriend(t, a, b)
	befriend(t, b, c)
	befriend(t, a, c)
	for _, x := range []struct{ n, other *node }{{a, b}, {b, a}, {b, c}, {c, b}} {
		x.n.linked(x.other)
	}
	return a, b, c
}

func TestHeadsPassAPartnerOnTheirWay(t *testing.T) {
	a, b, c := line(t)
	// acme and initech close their doors to each other's connections, not their agreement.
	a.fed.gate.expel(c.fed.host.ID())
	c.fed.gate.expel(a.fed.host.ID())
	if err := a.fed.host.Network().ClosePeer(c.fed.host.ID()); err != nil {
		t.Fatal(err)
	}
	a.told(a.head(4, 1), func() bool { return slices.Contains(c.ears.sizes(a), 4) })
	if !slices.Contains(b.ears.sizes(a), 4) {
		t.Error("who passed it on has not heard it")
	}
	b.told(b.head(9, 1), func() bool { return slices.Contains(c.ears.sizes(b), 9) && slices.Contains(a.ears.sizes(b), 9) })
}

func TestAProofOfAForkReachesAllOnce(t *testing.T) {
	a, b, c := line(t)
	proof, err := identity.ProveFork(a.org, a.head(4, 1), a.head(4, 2), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.fed.TellFork(a.org.ID, proof); err != nil {
		t.Fatal(err)
	}
	until(t, "the proof is heard", func() bool { return c.ears.proofs() == 1 && a.ears.proofs() == 1 })
	c.ears.mu.Lock()
	defer c.ears.mu.Unlock()
	if got, err := identity.VerifyFork(c.ears.forks[0]); err != nil || got.Organization.ID != a.org.ID {
		t.Errorf("as heard: %v", err)
	}
}

// A partner makes up proofs about another organization. They keep neither its heads nor a proof
// that stands from being heard.
func TestProofsThatAreMadeUpTakeNoPlaceFromWhatIsSigned(t *testing.T) {
	a, b := pair(t)
	g := b.fed.gossip
	message := func(kind byte, body []byte) []byte {
		m, err := sealGossip(a.org.ID, kind, body)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	fork := func(f *pb.Fork) []byte {
		f.Manifests = nil
		body, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return message(gossipFork, body)
	}
	for i := range 3 * aboutBurst {
		untrue := &pb.Fork{Type: identity.ForkType, Organization: a.org.ID.String(), Older: fmt.Sprint("made up ", i), Newer: "as well"}
		if result, _ := g.hear(fork(untrue)); result != pubsub.ValidationReject {
			t.Fatalf("what is made up: %v", result)
		}
	}
	if _, reason := g.hear(message(gossipHead, []byte(a.head(7, 1).Note))); reason != "head" {
		t.Errorf("a signed head: %s", reason)
	}
	proof, err := identity.ProveFork(a.org, a.head(9, 1), a.head(9, 2), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, reason := g.hear(fork(proof)); reason != "fork" || b.ears.proofs() != 1 {
		t.Errorf("a proof: %s", reason)
	}
}

func TestWhatIsNotSignedNotNewOrNotKnownIsNotPassedOn(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	stranger := prepareNode(t, "initech.example")
	befriend(t, a, b)
	a.linked(b)
	from := a.fed.host.ID()
	seal := func(of *node, kind byte, body []byte) []byte {
		data, err := sealGossip(of.org.ID, kind, body)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	other := func(data []byte) []byte { data = bytes.Clone(data); data[len(data)-1] ^= 1; return data }
	good := seal(a, gossipHead, []byte(a.head(4, 1).Note))
	byAnother, err := identity.SignCheckpoint(a.org, 6, [32]byte{1}, stranger.keys.Directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		what string
		data []byte
		from peer.ID
		want pubsub.ValidationResult
		why  string
	}{
		{"of somebody unknown", seal(stranger, gossipHead, []byte(stranger.head(4, 1).Note)), from, pubsub.ValidationIgnore, "unknown"},
		{"by a stranger", good, peer.ID("12D3KooWstranger"), pubsub.ValidationIgnore, "limited"},
		{"a head signed by another key", seal(a, gossipHead, []byte(byAnother)), from, pubsub.ValidationReject, "unsigned"},
		{"another organization's head under this one's seal", seal(a, gossipHead, []byte(stranger.head(4, 1).Note)), from, pubsub.ValidationReject, "unsigned"},
		{"a broken seal", other(good), from, pubsub.ValidationReject, "malformed"},
		{"nothing", nil, from, pubsub.ValidationReject, "malformed"},
		{"too much", append(bytes.Clone(good), make([]byte, maxGossip)...), from, pubsub.ValidationReject, "malformed"},
		{"another version", append([]byte{2}, good[1:]...), from, pubsub.ValidationReject, "malformed"},
		{"a kind to come", seal(a, 9, []byte("x")), from, pubsub.ValidationIgnore, "unsupported"},
		{"a proof of nothing", seal(a, gossipFork, nil), from, pubsub.ValidationReject, "malformed"},
		{"a head", good, from, pubsub.ValidationAccept, "head"},
		{"the head again", good, from, pubsub.ValidationIgnore, "known"},
		{"another of its size", seal(a, gossipHead, []byte(a.head(4, 2).Note)), from, pubsub.ValidationAccept, "head"},
	} {
		if got, why := b.fed.gossip.judge(x.from, x.data); got != x.want || why != x.why {
			t.Errorf("%s: %v %s, want %v %s", x.what, got, why, x.want, x.why)
		}
	}
}

func TestWhatIsHeardAndPassedOnIsBoundedForEachPeerAndOrganization(t *testing.T) {
	a, b, c := newNode(t, "acme.example"), newNode(t, "globex.example"), newNode(t, "initech.example")
	befriend(t, a, b)
	befriend(t, b, c)
	g := b.fed.gossip
	tells := func(from *node, kind byte, of *node, body []byte) (pubsub.ValidationResult, string) {
		data, err := sealGossip(of.org.ID, kind, body)
		if err != nil {
			t.Fatal(err)
		}
		if !g.admits(from.fed.host.ID(), data) {
			return pubsub.ValidationIgnore, "limited"
		}
		return g.judge(from.fed.host.ID(), data)
	}
	came := make(map[string]int)
	for size := range uint64(3 * aboutBurst) {
		_, why := tells(a, gossipHead, a, []byte(a.head(100+size, 1).Note))
		came[why]++
	}
	if n := came["head"] + came["kept"]; n < aboutBurst || n > aboutBurst+5 || came["head"] < passBurst || came["head"] > passBurst+3 {
		t.Errorf("of a flood about one organization: %v", came)
	}
	if _, why := tells(a, gossipHead, b, []byte(b.head(5, 1).Note)); why != "head" {
		t.Errorf("the same peer of another organization: %s", why)
	}
	if _, why := tells(c, gossipHead, a, []byte(a.head(900, 2).Note)); why != "head" && why != "kept" {
		t.Errorf("another peer of the same organization: %s", why)
	}
	proof, err := identity.ProveFork(a.org, a.head(4, 1), a.head(4, 2), nil)
	if err != nil {
		t.Fatal(err)
	}
	proof.Manifests = nil
	body, err := proto.Marshal(proof)
	if err != nil {
		t.Fatal(err)
	}
	if _, why := tells(a, gossipFork, a, body); why != "fork" {
		t.Errorf("a proof by the peer that floods: %s", why)
	}
	// A peer that goes on is limited whatever it is about, is scored down, and forgiven later.
	why := ""
	for range 2 * hearBurst {
		_, why = tells(a, gossipHead, b, []byte(b.head(5, 1).Note))
	}
	if why != "limited" || g.score(a.fed.host.ID()) > -900 {
		t.Errorf("after %d messages of one peer: %s, scored %f", 2*hearBurst, why, g.score(a.fed.host.ID()))
	}
	if got := g.score(c.fed.host.ID()); got != 0 {
		t.Errorf("who kept to the limits is scored %f", got)
	}
	b.clock.move(overMost * time.Second)
	if got := g.score(a.fed.host.ID()); got != 0 {
		t.Errorf("after %d s of rest the peer is scored %f", overMost, got)
	}
}

func TestTheTablesOfWhoTellsAreBounded(t *testing.T) {
	now := time.Now()
	one := &teller{all: newBucket(hearRate, hearBurst), about: make(map[gossipTag]*bucket)}
	for i := range 10 * maxAbout {
		now = now.Add(time.Second / hearRate)
		if !one.tells(gossipTag{byte(i), byte(i >> 8)}, now) {
			t.Fatalf("the head of organization %d is not heard at the rate of one peer", i)
		}
	}
	if len(one.about) > maxAbout {
		t.Errorf("%d organizations are counted of one peer", len(one.about))
	}
	n := newNode(t, "acme.example")
	g := n.fed.gossip
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range 3 * MaxConnections {
		g.tellerLocked(peer.ID(fmt.Sprint(i)))
	}
	if len(g.peers) > MaxConnections {
		t.Errorf("%d peers are counted", len(g.peers))
	}
}

func TestASealedHeadIsOneMessageWhoeverMakesItAndShowsNobodyItsOrganization(t *testing.T) {
	a := prepareNode(t, "acme.example")
	head := a.head(4, 1).Note
	one, err := sealGossip(a.org.ID, gossipHead, []byte(head))
	if err != nil {
		t.Fatal(err)
	}
	two, err := sealGossip(a.org.ID, gossipHead, []byte(head))
	if err != nil || !bytes.Equal(one, two) || gossipID(one) != gossipID(two) {
		t.Errorf("two messages of one head: %v", err)
	}
	if bytes.Contains(one, []byte("entente")) || bytes.Contains(one, a.org.ID[:8]) {
		t.Error("the message shows whom it is about")
	}
	if _, body, err := openGossip(a.org.ID, one); err != nil || string(body) != head {
		t.Errorf("opened: %v", err)
	}
	for i := range one {
		bad := bytes.Clone(one)
		bad[i] ^= 0x40
		if tag, ok := gossipAbout(bad); ok && tag == tagOf(a.org.ID) {
			if _, _, err := openGossip(a.org.ID, bad); err == nil {
				t.Fatalf("byte %d changed, and it opens", i)
			}
		}
		if gossipID(bad) == gossipID(one) {
			t.Fatalf("byte %d changed, and the ID did not", i)
		}
	}
}

func TestAGuestOfTheLobbyHasNoStreamOfTheNetwork(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	defer b.fed.gate.allowDial(a.fed.host.ID())() // globex dials as one with a token would
	if err := b.fed.host.Connect(t.Context(), peer.AddrInfo{ID: a.fed.host.ID(), Addrs: a.fed.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	for _, id := range pubsub.GossipSubDefaultProtocols {
		s, err := b.fed.host.NewStream(t.Context(), a.fed.host.ID(), id)
		if err != nil {
			continue // refused at once is as well
		}
		_, _ = s.Write([]byte{4, 1, 2, 3, 4})
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: a stranger is answered", id)
		}
	}
	if list := a.fed.gossip.topic.ListPeers(); len(list) != 0 {
		t.Errorf("strangers in the topic: %v", list)
	}
}
