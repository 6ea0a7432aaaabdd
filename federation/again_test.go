package federation

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// row is a partner's record as it lies on disk.
func (n *node) row(id wire.OrganizationID) []byte {
	n.t.Helper()
	b, err := n.store.Get(partnerKey(id))
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// streams returns the deliver streams that stand between two linked nodes.
func (n *node) streams(other *node) (ids []string) {
	n.t.Helper()
	for _, x := range []struct{ at, of *node }{{n, other}, {other, n}} {
		p := x.at.fed.find(x.of.org.ID)
		until(n.t, x.at.name+" has an inbound stream", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.inbound != nil
		})
		p.mu.Lock()
		ids = append(ids, p.inbound.ID())
		p.mu.Unlock()
	}
	return ids
}

// acceptReached accepts until there is an answer: the connection that Suspend or End
// closes may be taken for one that stands.
func (n *node) acceptReached(text string) (err error) {
	n.t.Helper()
	until(n.t, "an answer to the token", func() bool {
		err = n.accept(text)
		return err == nil || wire.StatusOf(err).Code != pb.Code_CODE_UNREACHABLE
	})
	return err
}

func TestAcceptingAgainLeavesALiveLinkAndItsRecordAlone(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	text, _ := invite(t, a, b.name)
	if err := b.accept(text); err != nil {
		t.Fatal(err)
	}
	a.linked(b)
	b.linked(a)
	before, atA, atB := a.streams(b), a.row(b.org.ID), b.row(a.org.ID)
	b.clock.move(time.Minute) // a record that is written anew has other times
	for range 3 {
		info, err := b.fed.Accept(context.Background(), text)
		if err != nil {
			t.Fatal(err)
		}
		if info.State != "connected" || info.Name != a.name {
			t.Errorf("accepting again says %+v", info)
		}
	}
	if after := a.streams(b); after[0] != before[0] || after[1] != before[1] {
		t.Errorf("streams %v became %v", before, after)
	}
	if !bytes.Equal(a.row(b.org.ID), atA) || !bytes.Equal(b.row(a.org.ID), atB) {
		t.Error("a record was written anew")
	}
}

// What an operator decided after the agreement is not undone by its old token.
func TestAcceptingAgainUndoesNoSuspensionAndNoEnd(t *testing.T) {
	ctx := context.Background()
	for _, side := range []string{"the acceptor's", "the inviter's"} {
		t.Run(side, func(t *testing.T) {
			a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
			text, _ := invite(t, a, b.name)
			if err := b.accept(text); err != nil {
				t.Fatal(err)
			}
			who, other := b, a
			if side == "the inviter's" {
				who, other = a, b
			}
			state := func() string {
				i, err := who.fed.Partner(other.name)
				if err != nil {
					t.Fatal(err)
				}
				return i.State
			}
			if err := who.fed.Suspend(ctx, other.org.ID, "a breach"); err != nil {
				t.Fatal(err)
			}
			_ = b.accept(text) // may be refused or not
			if s := state(); s != "suspended" {
				t.Errorf("a suspended agreement is %s after its token was accepted again", s)
			}
			if err := who.fed.End(ctx, other.org.ID, ""); err != nil {
				t.Fatal(err)
			}
			refusedWith(t, b.acceptReached(text), pb.Code_CODE_NO_AGREEMENT)
			if s := state(); s != "ended" {
				t.Errorf("an ended agreement is %s after its token was accepted again", s)
			}
			fresh, _ := invite(t, a, b.name)
			if err := b.acceptReached(fresh); err != nil {
				t.Fatalf("a new token: %v", err)
			}
			a.linked(b)
			b.linked(a)
		})
	}
}

func TestAnOldTokenDoesNotBringAnEarlierAgreementBack(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	old, _ := invite(t, a, b.name)
	if err := b.accept(old); err != nil {
		t.Fatal(err)
	}
	later := terms()
	later.Directory = "none"
	text, err := a.fed.Invite(context.Background(), b.name, later, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.accept(text); err != nil {
		t.Fatal(err)
	}
	b.linked(a)
	now, err := b.fed.InForce(a.org.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	refusedWith(t, b.accept(old), pb.Code_CODE_LINK_USED)
	if again, err := b.fed.InForce(a.org.ID, time.Now()); err != nil || again.Hash != now.Hash {
		t.Errorf("the earlier agreement is back: %v", err)
	}
}

// The worker may be about to write what it has learned of the partner, which waits for
// whoever changes the agreement: that one must not wait for the worker meanwhile.
func TestSuspendingDoesNotWaitForAWorkerThatWaitsForIt(t *testing.T) {
	a, b := newNode(t, "acme.example"), newNode(t, "globex.example")
	befriend(t, a, b)
	p := a.fed.find(b.org.ID)
	<-p.stopWorker()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p.mu.Lock()
	p.stop, p.stopped = cancel, done
	p.mu.Unlock()
	go func() {
		defer close(done)
		<-ctx.Done()
		a.fed.making.Lock()
		defer a.fed.making.Unlock()
	}()
	suspended := make(chan error, 1)
	go func() { suspended <- a.fed.Suspend(context.Background(), b.org.ID, "") }()
	select {
	case err := <-suspended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("both wait for each other")
	}
	select {
	case <-done:
	default:
		t.Error("Suspend returned before the worker had ended")
	}
	if err := a.fed.Resume(context.Background(), b.org.ID, ""); err != nil {
		t.Fatal(err)
	}
	a.linked(b)
}
