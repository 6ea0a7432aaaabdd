package node

import (
	"testing"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// withContent adds a field to a message that its schema does not have.
func withContent[M proto.Message](t testing.TB, m M, field protowire.Number, content []byte) M {
	t.Helper()
	raw, err := proto.Marshal(m)
	must(t, err)
	raw = protowire.AppendBytes(protowire.AppendTag(raw, field, protowire.BytesType), content)
	must(t, proto.Unmarshal(raw, m))
	return m
}

func TestAFirstContactThatSaysMoreThanWhoAsksIsRefused(t *testing.T) {
	w := newWorldOn(t, &pb.TermsChange{Contact: to("request")})
	claim := func() *pb.ClaimQuery {
		return &pb.ClaimQuery{Member: w.bob.member[:], Requester: w.pat.member[:]}
	}
	ask := func(q *pb.ClaimQuery) *pb.Status {
		return w.asks(&pb.QueryRequest{Query: &pb.QueryRequest_Claim{Claim: q}})
	}
	for name, content := range map[string][]byte{"a text": []byte("buy gold"), "a picture": append([]byte("\x89PNG"), make([]byte, 8<<10)...)} {
		wantCode(t, "a claim with "+name, ask(withContent(t, claim(), 90, content)), pb.Code_CODE_MALFORMED)
	}
	long := claim()
	long.Requester = []byte("a name that is no ID, and longer than one")
	wantCode(t, "a claim under a name", ask(long), pb.Code_CODE_MALFORMED)
	body, err := proto.Marshal(&pb.RequestBody{Organization: w.globex.org.ID[:], Member: w.pat.member[:]})
	must(t, err)
	core := encoded(t, &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_REQUEST, Room: make([]byte, 32),
		Deadline: w.acme.clock.Now().Add(time.Hour).Unix(), Body: body})
	item := &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: core}}
	wantCode(t, "a request as a partner has made it", w.acme.Deliver(t.Context(), w.globex.org.ID, []*pb.Item{item}, func(*store.Batch, []*pb.Status) error { return nil })[0], pb.Code_CODE_UNSUPPORTED)
	if list, err := w.acme.listContacts(w.bob.member); err != nil || len(list) != 0 {
		t.Fatalf("bob is told of %v, %v", list, err)
	}
	wantCode(t, "a claim that says who asks", ask(claim()), pb.Code_CODE_PENDING_CONSENT)
	if list, err := w.acme.listContacts(w.bob.member); err != nil || len(list) != 1 {
		t.Fatalf("bob is told of %v, %v", list, err)
	}
}

func TestARestartGivesNoAskerMoreRequests(t *testing.T) {
	s := newSite(t, "acme.example")
	var of []*client
	for i := range wire.RequestsPerSender + 1 {
		of = append(of, s.client("member"+string(rune('a'+i))))
	}
	with := memberKey{wire.OrganizationID{1}, wire.MemberID{2}}
	for _, c := range of[:wire.RequestsPerSender] {
		must(t, s.request(t.Context(), c.member, with, s.clock.Now()))
	}
	s.halt()
	s.reopen(false)
	err := s.request(t.Context(), of[wire.RequestsPerSender].member, with, s.clock.Now())
	wantCode(t, "one more after a restart", wire.StatusOf(err), pb.Code_CODE_RATE_LIMITED)
	must(t, s.request(t.Context(), of[wire.RequestsPerSender].member, memberKey{wire.OrganizationID{1}, wire.MemberID{3}}, s.clock.Now()))
	must(t, s.request(t.Context(), of[wire.RequestsPerSender].member, with, s.clock.Now().Add(time.Hour+time.Minute)))
}
