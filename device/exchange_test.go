package device

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// atFailpoint runs f once, the first time that a failpoint is passed.
func atFailpoint(t *testing.T, at string, f func()) {
	before, done := failpoint, false
	failpoint = func(s string) {
		if s == at && !done {
			done = true
			f()
		}
	}
	t.Cleanup(func() {
		failpoint = before
		if !done {
			t.Errorf("%s was not reached", at)
		}
	})
}

func TestMessagesOutliveCommitsAbsenceAndAHubThatIsDown(t *testing.T) {
	p := newPair(t)
	to, from := p.bob.Address(), p.alice.Address()
	send(t, p.alice, to, "first", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))

	t.Run("while the receiver is away they wait in order", func(t *testing.T) {
		var want []string
		s, err := p.alice.Sender(t.Context())
		must(t, err)
		defer s.Close()
		for i := range 12 {
			want = append(want, fmt.Sprintf("number %d", i))
			must(t, s.Send(t.Context(), to, want[i], SendOptions{}, func(Progress) {}))
		}
		if got := texts(receiveUntil(t, p.bob, "all of them", hasTexts(len(want)))); !slices.Equal(got, want) {
			t.Errorf("shown: %q", got)
		}
	})
	t.Run("a Commit between encrypting and submitting costs nothing", func(t *testing.T) {
		var epoch uint64
		atFailpoint(t, "before-submit", func() {
			p.bob.mu.Lock()
			defer p.bob.mu.Unlock()
			for id, r := range p.bob.rooms {
				epoch = r.state.Epoch()
				must(t, p.bob.commitRoom(t.Context(), id))
			}
			eventually(t, "the Commit is ordered", func() error {
				if p.acme.waiting(from) == 0 {
					return fmt.Errorf("nothing for alice")
				}
				return nil
			})
		})
		send(t, p.alice, to, "across epochs", SendOptions{})
		shown := receiveUntil(t, p.bob, "the message", hasTexts(1))
		if got := texts(shown); len(got) != 1 || got[0] != "across epochs" {
			t.Errorf("shown: %q", got)
		}
		a, b := p.alice.Rooms()[0], p.bob.Rooms()[0]
		if a.Epoch != epoch+1 || a.Code != b.Code {
			t.Errorf("after epoch %d: %+v, %+v", epoch, a, b)
		}
		sent, err := p.alice.Sent()
		must(t, err)
		at := slices.IndexFunc(sent, func(s Sent) bool { return s.Text == "across epochs" })
		if i := slices.IndexFunc(shown, func(s Shown) bool { return s.Event == "message" }); at < 0 || sent[at].ID != shown[i].ID || sent[at].Seq != shown[i].Seq {
			t.Errorf("sent %+v, shown %+v", sent, shown)
		}
	})
	t.Run("a hub that is down answers later", func(t *testing.T) {
		p.acme.halt()
		if got := send(t, p.bob, from, "are you there", SendOptions{Wait: 100 * time.Millisecond}); !slices.Equal(got, []string{"accepted", "hub away"}) {
			t.Errorf("bob was told: %v", got)
		}
		p.acme.start()
		if got := texts(receiveUntil(t, p.alice, "the message", hasTexts(1))); !slices.Equal(got, []string{"are you there"}) {
			t.Errorf("shown: %q", got)
		}
		eventually(t, "bob learns of it", func() error {
			receive(t, p.bob)
			sent, err := p.bob.Sent()
			if err == nil && (len(sent) != 1 || sent[0].Seq == 0) {
				err = fmt.Errorf("%+v", sent)
			}
			return err
		})
	})
}

func TestExpiryIsToldAndARevokedDeviceGetsNothing(t *testing.T) {
	bucket := 4 * time.Second
	p := newPairWith(t, bucket)
	to := p.bob.Address()
	send(t, p.alice, to, "first", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))

	t.Run("what nobody fetched expires", func(t *testing.T) {
		send(t, p.alice, to, "too late", SendOptions{Expires: 5 * time.Second}) // time enough to be sent, on a busy machine too
		receiveUntil(t, p.alice, "the notice", func(all []Shown) bool {
			return slices.ContainsFunc(all, func(s Shown) bool {
				return s.Event == "notice" && s.State == "expired" && s.Text == "too late" && s.To == to.String()
			})
		})
		if got := texts(receive(t, p.bob)); len(got) > 0 {
			t.Errorf("shown after its end: %q", got)
		}
	})
	t.Run("a revoked device gets nothing, and is removed though its committer crashes", func(t *testing.T) {
		send(t, p.alice, to, "lost with the device", SendOptions{})
		eventually(t, "it lies at globex", func() error {
			if p.globex.waiting(to) == 0 {
				return fmt.Errorf("bob's mailbox is empty")
			}
			return nil
		})
		_, err := node.DialOperator(p.globex.dir).DisableDevice(t.Context(), connect.NewRequest(&pb.DisableDeviceRequest{DeviceId: p.bob.ID().String()}))
		must(t, err)
		if n := p.globex.waiting(to); n > 0 {
			t.Errorf("%d envelopes wait for a revoked device", n)
		}
		var shown []Shown
		err = p.bob.Receive(t.Context(), false, func(s Shown) error { shown = append(shown, s); return nil })
		if err == nil || len(texts(shown)) > 0 {
			t.Errorf("the revoked device: %v, %q", err, texts(shown))
		}
		stopAt(t, "staged", func() error {
			eventually(t, "the hub's proposal comes to alice", func() error {
				return errors.Join(p.alice.Receive(t.Context(), false, func(Shown) error { return nil }), errors.New("not yet"))
			})
			return nil
		})
		dir := folder(p.alice)
		p.alice.Close()
		if p.alice, err = Open(dir, testPass); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.alice.Close)
		eventually(t, "the room goes on without it", func() error {
			receive(t, p.alice)
			if r := p.alice.Rooms(); len(r) != 1 || r[0].Devices != 1 {
				return fmt.Errorf("rooms: %+v", r)
			}
			return nil
		})
		if err := p.alice.Send(t.Context(), to, "for nobody", SendOptions{}, func(Progress) {}); err == nil || wire.StatusOf(err).Code != pb.Code_CODE_NO_KEY_PACKAGE {
			t.Errorf("sending to a revoked device: %v", err)
		}
	})
}
