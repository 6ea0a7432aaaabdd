package device

import (
	"errors"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// newAskingPair is a pair whose agreement says contact: request.
func newAskingPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{acme: newOrganization(t, "acme.example", defaultBucket), globex: newOrganization(t, "globex.example", defaultBucket)}
	invited, err := node.DialOperator(p.acme.dir).InvitePartner(t.Context(), connect.NewRequest(&pb.InvitePartnerRequest{Name: p.globex.name, Contact: "request"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.DialOperator(p.globex.dir).AcceptPartner(t.Context(), connect.NewRequest(&pb.AcceptPartnerRequest{Token: invited.Msg.Token})); err != nil {
		t.Fatal(err)
	}
	p.alice, p.bob = p.acme.device("alice"), p.globex.device("bob")
	return p
}

func textsOf(list []Shown, event string) (out []string) {
	for _, s := range list {
		if s.Event == event {
			out = append(out, s.Text)
		}
	}
	return out
}

func codeOf(err error) pb.Code {
	var st *wire.StatusError
	if !errors.As(err, &st) {
		return 0
	}
	return st.Status.Code
}

func TestATextWaitsAtItsWriterUntilTheRecipientHasAccepted(t *testing.T) {
	p := newAskingPair(t)
	for _, text := range []string{"first", "second"} {
		if got := send(t, p.alice, p.bob.Address(), text, SendOptions{}); !slices.Equal(got, []string{"asked"}) {
			t.Fatalf("sending reported %v", got)
		}
	}
	seen := receive(t, p.bob)
	if len(seen) != 1 || seen[0].Event != "request" || seen[0].From != p.alice.Address().String() || seen[0].Text != "" {
		t.Fatalf("bob is shown %+v", seen) // once, though alice wrote twice
	}
	receive(t, p.alice) // asks again, in vain
	if seen := receive(t, p.bob); len(seen) != 0 {
		t.Fatalf("asked again, bob is shown %+v", seen)
	}
	if err := p.bob.SetContact(t.Context(), p.alice.Address().String(), "accepted"); err != nil {
		t.Fatal(err)
	}
	receive(t, p.alice)
	got := receiveUntil(t, p.bob, "both texts", func(s []Shown) bool { return len(textsOf(s, "message")) >= 2 })
	if m := textsOf(got, "message"); !slices.Equal(m, []string{"first", "second"}) {
		t.Fatalf("bob got %q", m)
	}
	send(t, p.bob, p.alice.Address(), "welcome", SendOptions{})
	receiveUntil(t, p.alice, "the answer", func(s []Shown) bool { return slices.Contains(textsOf(s, "message"), "welcome") })
}

func TestWritingFirstIsConsentToTheAnswer(t *testing.T) {
	p := newAskingPair(t)
	send(t, p.alice, p.bob.Address(), "from alice", SendOptions{}) // waits
	send(t, p.bob, p.alice.Address(), "from bob", SendOptions{})   // alice has written first
	receiveUntil(t, p.alice, "bob's text", func(s []Shown) bool { return slices.Contains(textsOf(s, "message"), "from bob") })
	receive(t, p.alice)
	receiveUntil(t, p.bob, "alice's text", func(s []Shown) bool { return slices.Contains(textsOf(s, "message"), "from alice") })
}

func TestWhoIsBlockedReachesNobody(t *testing.T) {
	for _, who := range []string{"alice@acme.example", "acme.example"} {
		p := newAskingPair(t)
		send(t, p.alice, p.bob.Address(), "let me in", SendOptions{})
		receive(t, p.bob) // learns who alice is
		if err := p.bob.SetContact(t.Context(), who, "blocked"); err != nil {
			t.Fatal(err)
		}
		err := p.alice.Send(t.Context(), p.bob.Address(), "again", SendOptions{}, func(Progress) {})
		if codeOf(err) != pb.Code_CODE_NO_CONSENT {
			t.Fatalf("blocking %s: %v", who, err)
		}
		if seen := receive(t, p.bob); len(seen) != 0 {
			t.Fatalf("blocking %s: bob is shown %+v", who, seen)
		}
		ended := receive(t, p.alice) // the text that waited ends with a word to its writer
		if len(ended) != 1 || ended[0].State != "refused" || ended[0].Reason != "noConsent" {
			t.Fatalf("blocking %s: alice is shown %+v", who, ended)
		}
		if err := p.bob.SetContact(t.Context(), who, "none"); err != nil {
			t.Fatal(err)
		}
		if got := send(t, p.alice, p.bob.Address(), "sorry", SendOptions{}); !slices.Equal(got, []string{"asked"}) {
			t.Fatalf("after unblocking %s: %v", who, got)
		}
	}
}

func TestARequestThatSaysMoreThanWhoAsksIsNotShown(t *testing.T) {
	p := newAskingPair(t)
	good := &pb.RequestBody{Organization: p.alice.account.Organization[:], Member: p.alice.account.Member[:]}
	raw, err := proto.Marshal(good)
	must(t, err)
	for name, body := range map[string][]byte{
		"a text":        protowire.AppendString(protowire.AppendTag(slices.Clone(raw), 3, protowire.BytesType), "buy"),
		"a picture":     protowire.AppendBytes(protowire.AppendTag(slices.Clone(raw), 9, protowire.BytesType), make([]byte, 64<<10)),
		"a long name":   protowire.AppendBytes(protowire.AppendTag(slices.Clone(raw), 2, protowire.BytesType), make([]byte, 300)),
		"IDs at length": append(slices.Clone(raw), raw...),
	} {
		b := p.bob.newBatch(t.Context())
		if err := b.request(&pb.EnvelopeCore{Body: body}); err == nil || len(b.writes) != 0 {
			t.Errorf("%s: %v, %d rows", name, err, len(b.writes))
		}
	}
	b := p.bob.newBatch(t.Context())
	if err := b.request(&pb.EnvelopeCore{Body: raw}); err != nil || len(b.writes) != 1 {
		t.Errorf("who asks: %v, %d rows", err, len(b.writes))
	}
}
