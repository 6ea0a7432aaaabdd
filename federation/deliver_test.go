package federation

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// pair is two running nodes with an agreement and links both ways.
func pair(t *testing.T) (a, b *node) {
	t.Helper()
	a, b = newNode(t, "acme.example"), newNode(t, "globex.example")
	befriend(t, a, b)
	a.linked(b)
	b.linked(a)
	return a, b
}

func (n *node) sends(to *node, room byte, body string) uint64 {
	n.t.Helper()
	return n.outbox.add(to.org.ID, roomItem(n.t, 0, room, body))
}

func TestWhatIsSentIsCommittedOnceAndSettled(t *testing.T) {
	a, b := pair(t)
	var sent []uint64
	for i := range 300 {
		sent = append(sent, a.sends(b, byte(i%7), "hello"))
	}
	for _, n := range sent {
		a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	}
	if got := b.handler.seen(a.org.ID); !slices.Equal(got, sent) {
		t.Errorf("committed %v", got)
	}
	back := b.sends(a, 1, "and back")
	b.outbox.answeredWith(t, back, pb.Code_CODE_ACCEPTED)
}

func TestALostAnswerDoesNotMakeASecondCopy(t *testing.T) {
	a, b := pair(t)
	sequenced := wire.Status(pb.Code_CODE_SEQUENCED, "")
	sequenced.Seq, sequenced.AcceptedMs = 42, 1_700_000_000_000
	b.handler.set(func(h *handler) {
		h.judge = func(it *pb.Item) *pb.Status {
			// The link is lost between the commit and the answer.
			<-a.fed.find(b.org.ID).stopWorker()
			return sequenced
		}
	})
	n := a.sends(b, 1, "once")
	until(t, "the item is committed", func() bool { return len(b.handler.seen(a.org.ID)) == 1 })
	if a.outbox.status(n) != nil {
		t.Fatal("the answer was not lost: this test shows nothing")
	}
	b.halt()
	b.start() // what it knows now it has from the disk
	a.fed.startWorker(a.fed.find(b.org.ID))
	s := a.outbox.answeredWith(t, n, pb.Code_CODE_SEQUENCED)
	if s.Seq != 42 || s.AcceptedMs != sequenced.AcceptedMs {
		t.Errorf("the first answer was %v, the second %v", sequenced, s)
	}
	if got := b.handler.seen(a.org.ID); len(got) != 1 {
		t.Errorf("committed %d times", len(got))
	}
}

func TestWhatIsRefusedForNowIsTriedAgainAndTheOtherRoomsGoOn(t *testing.T) {
	a, b := pair(t)
	var held uint64
	tries := 0
	b.handler.set(func(h *handler) {
		h.judge = func(it *pb.Item) *pb.Status {
			if it.Number != held {
				return nil
			}
			if tries++; tries == 1 {
				return wire.Status(pb.Code_CODE_FULL, "")
			}
			return nil
		}
		held = a.sends(b, 1, "refused at first")
	})
	other := a.sends(b, 2, "not held up")
	a.outbox.answeredWith(t, other, pb.Code_CODE_ACCEPTED)
	a.outbox.answeredWith(t, held, pb.Code_CODE_ACCEPTED)
	if tries != 2 {
		t.Errorf("tried %d times", tries)
	}
}

func TestARefusalForGoodIsSettledAndRepeated(t *testing.T) {
	a, b := pair(t)
	b.handler.set(func(h *handler) {
		h.judge = func(it *pb.Item) *pb.Status { return wire.Status(pb.Code_CODE_UNKNOWN_ROOM, "") }
	})
	n := a.sends(b, 1, "to nowhere")
	a.outbox.answeredWith(t, n, pb.Code_CODE_UNKNOWN_ROOM)
	p := b.fed.find(a.org.ID)
	p.delivering.Lock()
	s, ok := p.marks.seen(n)
	p.delivering.Unlock()
	if !ok || s.Code != pb.Code_CODE_UNKNOWN_ROOM {
		t.Errorf("the same number again would get %v", s)
	}
}

func TestAStatusThatNobodyKnowsIsARefusalForGoodInOurOwnWords(t *testing.T) {
	a, b := pair(t)
	b.handler.set(func(h *handler) {
		h.judge = func(it *pb.Item) *pb.Status { return &pb.Status{Code: 999, Detail: "of another world"} }
	})
	a.outbox.answeredWith(t, a.sends(b, 1, "x"), pb.Code_CODE_UNSUPPORTED)
}

func TestAFailedCommitLeavesTheItemOpen(t *testing.T) {
	a, b := pair(t)
	b.handler.set(func(h *handler) { h.fail = true })
	n := a.sends(b, 1, "not yet")
	p := b.fed.find(a.org.ID)
	until(t, "the item was tried", func() bool { return a.heldRooms(b) > 0 })
	p.delivering.Lock()
	_, decided := p.marks.seen(n)
	p.delivering.Unlock()
	if decided {
		t.Fatal("an item that was not committed counts as decided")
	}
	b.handler.set(func(h *handler) { h.fail = false })
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
}

// heldRooms tells how often the partner answered that an item stays open.
func (n *node) heldRooms(*node) float64 { return counted(n.t, n.fed.metrics.sent, "internal") }

func TestAMessageWaitsForAPartnerThatIsDownAndTheBackOffEndsOnContact(t *testing.T) {
	a, b := pair(t)
	b.halt()
	until(t, "the link is known to be lost", func() bool {
		i, err := a.fed.Partner(b.name)
		return err == nil && i.State == "waiting" && i.Attempts > 0
	})
	n := a.sends(b, 1, "wait for me")
	p := a.fed.find(b.org.ID)
	p.mu.Lock()
	p.link.attempts = 30 // as after hours: the next attempt is minutes away
	p.mu.Unlock()
	until(t, "the back-off is long", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return time.Until(p.link.next) > wire.PartnerBackoffCeil/3
	})
	b.start()
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	i, _ := a.fed.Partner(b.name)
	if i.Attempts != 0 || i.State != "connected" {
		t.Errorf("after the contact: %+v", i)
	}
}

// After a long cut both sides wait for minutes, and a question of somebody's finds the way.
func TestAQuestionThatCrossesEndsTheBackOffOfBothSides(t *testing.T) {
	a, b := pair(t)
	a.linked(b)
	b.linked(a)
	p, q := a.fed.find(b.org.ID), b.fed.find(a.org.ID)
	for _, x := range []*partner{p, q} {
		x.mu.Lock()
		x.link.attempts, x.link.last = 30, time.Now().Add(-time.Hour)
		x.mu.Unlock()
		select { // a hello of before
		case <-x.heard:
		default:
		}
	}
	if err := a.fed.host.Network().ClosePeer(p.standing().peer); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*partner{p, q} {
		until(t, "the back-off is long", func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return !x.link.connected && time.Until(x.link.next) > wire.PartnerBackoffCeil/3
		})
	}
	_, err := a.fed.Query(t.Context(), b.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: "bob"}}})
	refusedWith(t, err, pb.Code_CODE_NOT_FOUND) // it was answered
	a.linked(b)
	b.linked(a)
}

func TestAnAttemptIsOnDiskBeforeItIsMade(t *testing.T) {
	a, b := pair(t)
	before := counted(t, a.fed.metrics.attempts, "unreachable")
	b.halt()
	until(t, "two attempts failed", func() bool { return counted(t, a.fed.metrics.attempts, "unreachable") >= before+2 })
	var rec attemptRecord
	found, err := a.fed.get(attemptKey(b.org.ID), &rec)
	if err != nil || !found || rec.Attempts < 2 || rec.Contact.IsZero() {
		t.Fatalf("on disk: %+v, %v, %v", rec, found, err)
	}
}

func TestPartnersAreThereAgainAfterARestart(t *testing.T) {
	a, b := pair(t)
	before, _ := a.fed.Partner(b.name)
	a.halt()
	a.start()
	a.linked(b)
	b.linked(a)
	after, err := a.fed.Partner(b.name)
	if err != nil || after.Agreement != before.Agreement || after.Peer != before.Peer {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	n := a.sends(b, 1, "still friends")
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
}

func TestALowerIncarnationIsRefusedAndAHigherOneStartsAnew(t *testing.T) {
	a, b := pair(t)
	n := a.sends(b, 1, "first life")
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	a.halt()
	a.number = 2
	a.outbox = newOutbox() // a restored node counts from the beginning
	a.start()
	a.linked(b)
	again := a.sends(b, 1, "second life")
	if again != n {
		t.Fatalf("number %d is not used again: this test shows nothing", again)
	}
	a.outbox.answeredWith(t, again, pb.Code_CODE_ACCEPTED)
	a.halt()
	a.number = 1
	a.start()
	until(t, "the old incarnation is refused", func() bool {
		i, _ := a.fed.Partner(b.name)
		return i.State == "waiting" && i.LastError != ""
	})
	i, _ := a.fed.Partner(b.name)
	if wire.CodeName(pb.Code_CODE_ROLLED_BACK) != i.LastError[:len("rolledBack")] {
		t.Errorf("the refusal says %q", i.LastError)
	}
}

func TestANodeThatWasSetBackTwiceRaisesItsIncarnationAboveWhatPartnersHaveMet(t *testing.T) {
	a, b := pair(t)
	if err := a.fed.RaiseIncarnation(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.linked(a)
	a.linked(b)
	high := a.fed.Incarnation() + 500 // by a clock that was ahead
	meets := func(n uint64) {
		p := b.fed.find(a.org.ID)
		p.delivering.Lock()
		p.marks = marks{incarnation: n}
		p.delivering.Unlock()
	}
	a.halt()
	meets(high)
	a.start()
	until(t, "it is above that", func() bool { return a.fed.Incarnation() == high+1 })
	a.linked(b)
	n := a.sends(b, 1, "third life")
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	// No partner uses up the numbers.
	a.halt()
	meets(1 << 62)
	a.start()
	until(t, "it stays refused", func() bool {
		i, _ := a.fed.Partner(b.name)
		return i.State == "waiting" && strings.HasPrefix(i.LastError, "rolledBack")
	})
	if got := a.fed.Incarnation(); got != high+1 {
		t.Errorf("raised to %d", got)
	}
}

func TestARaisedIncarnationSurvivesARestartAndNumbersAreTakenAnew(t *testing.T) {
	a, b := pair(t)
	n := a.sends(b, 1, "first life")
	a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	a.halt()
	a.outbox = newOutbox() // set back: it counts from the beginning
	a.start()
	a.linked(b)
	if err := a.fed.RaiseIncarnation(t.Context()); err != nil {
		t.Fatal(err)
	}
	raised := a.fed.Incarnation()
	again := a.sends(b, 1, "second life")
	if again != n {
		t.Fatalf("number %d is not used again: this test shows nothing", again)
	}
	a.outbox.answeredWith(t, again, pb.Code_CODE_ACCEPTED)
	a.halt()
	a.start()
	if got := a.fed.Incarnation(); got != raised || raised < 1_000_000 {
		t.Errorf("raised to %d, after a restart %d", raised, got)
	}
	a.outbox.answeredWith(t, a.sends(b, 1, "and on"), pb.Code_CODE_ACCEPTED)
}

func TestTheRateOfAPartnerIsHeldAndNothingIsLost(t *testing.T) {
	a := newNode(t, "acme.example")
	b := prepareNode(t, "globex.example")
	b.limits = Limits{Items: 100, Burst: 20}
	b.start()
	befriend(t, a, b)
	a.linked(b)
	began := time.Now()
	var sent []uint64
	for range 60 {
		sent = append(sent, a.sends(b, 1, "flood"))
	}
	for _, n := range sent {
		a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	}
	if took := time.Since(began); took < 350*time.Millisecond {
		t.Errorf("60 items at 100/s with a burst of 20 took %v", took)
	}
	if counted(t, a.fed.metrics.sent, "rateLimited") == 0 {
		t.Error("the limit was never reached")
	}
}

// A partner's bytes are held as its items are; those of files apart, so that neither
// waits for the other.
func TestTheBytesOfAPartnerAndOfItsFilesAreHeld(t *testing.T) {
	a := newNode(t, "acme.example")
	b := prepareNode(t, "globex.example")
	b.limits = Limits{Items: 10_000, Burst: 10_000, Bytes: 200_000, Files: 2 * wire.FileChunk}
	b.handler.query = func(*pb.QueryRequest) *pb.QueryResponse {
		return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_OK, "")}
	}
	b.start()
	befriend(t, a, b)
	a.linked(b)
	began := time.Now()
	var sent []uint64
	for range 5 {
		sent = append(sent, a.sends(b, 1, string(make([]byte, 100_000))))
	}
	for _, n := range sent {
		a.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	}
	if took := time.Since(began); took < time.Second || counted(t, a.fed.metrics.sent, "rateLimited") == 0 {
		t.Errorf("500 kB at 200 kB/s took %v", took)
	}
	chunk := &pb.QueryRequest{Query: &pb.QueryRequest_Blob{Blob: &pb.BlobQuery{}}}
	for n := 1; ; n++ {
		_, err := a.fed.Query(t.Context(), b.org.ID, chunk)
		if err != nil {
			refusedWith(t, err, pb.Code_CODE_RATE_LIMITED)
			break
		}
		if n > 100 {
			t.Fatal("a hundred chunks at 2 a second were answered")
		}
	}
	if _, err := a.fed.Query(t.Context(), b.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Tree{Tree: &pb.TreeQuery{}}}); err != nil {
		t.Errorf("another question meanwhile: %v", err)
	}
}

// One room has filled the outbox and the partner takes 200 a second: what another room
// sends after that is there after a batch, not after the flood.
func TestANoisyRoomDoesNotHoldUpAnotherOfTheSamePartner(t *testing.T) {
	a := newNode(t, "acme.example")
	b := prepareNode(t, "globex.example")
	b.limits = Limits{Items: 200, Burst: 50}
	b.start()
	befriend(t, a, b)
	a.linked(b)
	const flood = 3_000
	var last uint64
	for range flood {
		last = a.sends(b, 1, "noise")
	}
	quiet := a.sends(b, 2, "quiet")
	a.outbox.answeredWith(t, quiet, pb.Code_CODE_ACCEPTED)
	if n := len(b.handler.seen(a.org.ID)); n > flood/4 {
		t.Errorf("%d of the noisy room passed before it", n)
	}
	if a.outbox.status(last) != nil {
		t.Error("the flood was over: this test shows nothing")
	}
}

func TestClocksOfPartnersAreCompared(t *testing.T) {
	a := newNode(t, "acme.example")
	b := prepareNode(t, "globex.example")
	b.clock.move(7 * time.Minute)
	b.start()
	befriend(t, a, b)
	a.linked(b)
	i, _ := a.fed.Partner(b.name)
	if d := i.ClockOffset - 7*time.Minute; !i.ClockKnown || d < -10*time.Second || d > 10*time.Second {
		t.Errorf("the partner's clock is ahead by %v", i.ClockOffset)
	}
	if got := a.fed.ClockOffsets(); len(got) != 1 {
		t.Errorf("offsets %v", got)
	}
}

func TestQuestionsAreAnsweredAndRefusalsAreErrors(t *testing.T) {
	a, b := pair(t)
	ctx := context.Background()
	b.handler.set(func(h *handler) {
		h.query = func(q *pb.QueryRequest) *pb.QueryResponse {
			if q.GetTree() == nil {
				return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_UNKNOWN_MEMBER, "")}
			}
			return &pb.QueryResponse{Status: wire.Status(pb.Code_CODE_OK, ""),
				Answer: &pb.QueryResponse_Tree{Tree: &pb.TreeAnswer{Tree: make([]byte, wire.MaxTree)}}}
		}
	})
	answer, err := a.fed.Query(ctx, b.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Tree{Tree: &pb.TreeQuery{}}})
	if err != nil || len(answer.GetTree().GetTree()) != wire.MaxTree {
		t.Fatalf("a tree of full size: %v", err)
	}
	_, err = a.fed.Query(ctx, b.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Resolve{Resolve: &pb.ResolveQuery{Name: "nobody"}}})
	refusedWith(t, err, pb.Code_CODE_UNKNOWN_MEMBER)
	_, err = a.fed.Query(ctx, wire.OrganizationID{9}, &pb.QueryRequest{})
	refusedWith(t, err, pb.Code_CODE_NO_AGREEMENT)
	b.halt()
	_, err = a.fed.Query(ctx, b.org.ID, &pb.QueryRequest{Query: &pb.QueryRequest_Tree{Tree: &pb.TreeQuery{}}})
	refusedWith(t, err, pb.Code_CODE_UNREACHABLE)
}

// Three organizations: what one sends to another is never the third one's, and one
// partner that is down holds up nobody else.
func TestPartnersDoNotStandInEachOthersWay(t *testing.T) {
	a, b := pair(t)
	c := newNode(t, "initech.example")
	befriend(t, a, c)
	a.linked(c)
	c.halt()
	waits := a.sends(c, 1, "for c")
	goes := a.sends(b, 1, "for b")
	a.outbox.answeredWith(t, goes, pb.Code_CODE_ACCEPTED)
	if a.outbox.status(waits) != nil {
		t.Fatal("an item for a node that is down was answered")
	}
	c.start()
	a.outbox.answeredWith(t, waits, pb.Code_CODE_ACCEPTED)
	if got := b.handler.seen(a.org.ID); !slices.Equal(got, []uint64{goes}) {
		t.Errorf("b has %v", got)
	}
	if got := c.handler.seen(a.org.ID); !slices.Equal(got, []uint64{waits}) {
		t.Errorf("c has %v", got)
	}
}

func TestABackOffGrowsAndIsCapped(t *testing.T) {
	for attempts, most := range map[int]time.Duration{
		0: wire.PartnerBackoffFloor, 1: wire.PartnerBackoffFloor, 2: 2 * wire.PartnerBackoffFloor,
		11: wire.PartnerBackoffCeil, 19: wire.PartnerBackoffCeil, 1 << 40: wire.PartnerBackoffCeil,
	} {
		for range 50 {
			if d := backOffDelay(attempts); d < most/2 || d > most {
				t.Fatalf("after %d attempts: %v, want %v to %v", attempts, d, most/2, most)
			}
		}
	}
}

func TestABucketGoesIntoDebtOnceAndPaysItOff(t *testing.T) {
	now := time.Now()
	b := newBucket(10, 20)
	if b.take(now, 100) != 0 {
		t.Fatal("what is larger than the burst never passes")
	}
	if wait := b.take(now, 1); wait < 8*time.Second {
		t.Errorf("in debt by 80 at 10/s: wait %v", wait)
	}
	if wait := b.take(now.Add(9*time.Second), 1); wait != 0 {
		t.Errorf("after the debt is paid: wait %v", wait)
	}
	if wait := b.take(now.Add(-time.Hour), 15); wait == 0 {
		t.Error("a clock that goes back fills the bucket")
	}
}

func TestDeliveryOverQUIC(t *testing.T) {
	a := newNode(t, "acme.example")
	b := prepareNode(t, "globex.example")
	b.listen = []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}
	b.start()
	befriend(t, b, a) // the token has the address that the host really has
	b.linked(a)
	a.linked(b)
	n := b.sends(a, 1, "the other transport")
	b.outbox.answeredWith(t, n, pb.Code_CODE_ACCEPTED)
	conns := a.fed.host.Network().ConnsToPeer(b.fed.host.ID())
	if len(conns) == 0 {
		t.Fatal("no connection")
	}
	if _, err := conns[0].RemoteMultiaddr().ValueForProtocol(multiaddr.P_QUIC_V1); err != nil {
		t.Errorf("the token's address is QUIC, the connection is %s", conns[0].RemoteMultiaddr())
	}
}
