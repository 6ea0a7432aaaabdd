package federation

import (
	"bytes"
	"math"
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

func items(numbers ...uint64) []*pb.Item {
	var out []*pb.Item
	for _, n := range numbers {
		out = append(out, &pb.Item{Number: n})
	}
	return out
}

func statuses(codes ...pb.Code) []*pb.Status {
	var out []*pb.Status
	for _, c := range codes {
		out = append(out, wire.Status(c, ""))
	}
	return out
}

func TestMarksGiveTheFirstAnswerAgain(t *testing.T) {
	m, err := marks{}.begin(3, 10)
	if err != nil {
		t.Fatal(err)
	}
	sequenced := wire.Status(pb.Code_CODE_SEQUENCED, "")
	sequenced.Seq, sequenced.AcceptedMs = 7, 1234
	st := append(statuses(pb.Code_CODE_ACCEPTED, pb.Code_CODE_FULL, pb.Code_CODE_FORBIDDEN, pb.Code_CODE_WRONG_EPOCH), sequenced)
	m = m.with(items(10, 12, 14, 15, 20), st)
	again, err := parseMarks(m.encode())
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range map[uint64]pb.Code{
		9: pb.Code_CODE_DUPLICATE, 10: pb.Code_CODE_DUPLICATE, 14: pb.Code_CODE_FORBIDDEN,
		15: pb.Code_CODE_WRONG_EPOCH, 20: pb.Code_CODE_SEQUENCED,
	} {
		s, ok := again.seen(number)
		if !ok || s.Code != want {
			t.Errorf("number %d: got %v (decided %v), want %v", number, s.GetCode(), ok, want)
		}
	}
	if s, _ := again.seen(20); s.Seq != 7 || s.AcceptedMs != 1234 {
		t.Errorf("the sequence of a sequenced item is lost: %v", s)
	}
	for _, open := range []uint64{11, 12, 13, 21} {
		if _, ok := again.seen(open); ok {
			t.Errorf("number %d counts as decided: it is open", open)
		}
	}
}

func TestMarksFollowLowMarkAndIncarnation(t *testing.T) {
	m, _ := marks{}.begin(2, 0)
	m = m.with(items(5, 8), statuses(pb.Code_CODE_ACCEPTED, pb.Code_CODE_ACCEPTED))
	if r := m.raise(6); len(r.decided) != 1 || r.low != 6 {
		t.Errorf("raised to 6: %+v", r)
	}
	if r := m.raise(6).raise(3); r.low != 6 {
		t.Errorf("the low mark went down to %d", r.low)
	}
	if len(m.decided) != 2 {
		t.Error("raise changed the marks that it started from")
	}
	if _, err := m.begin(1, 0); wire.StatusOf(err).Code != pb.Code_CODE_ROLLED_BACK {
		t.Errorf("a lower incarnation gives %v", err)
	}
	next, err := m.begin(3, 0)
	if err != nil || len(next.decided) != 0 || next.low != 0 {
		t.Errorf("a higher incarnation keeps old numbers: %+v, %v", next, err)
	}
}

func TestMarksAreBounded(t *testing.T) {
	m := marks{decided: map[uint64]answer{}}
	for n := range uint64(MaxMarks) {
		m.decided[n+1] = answer{code: pb.Code_CODE_ACCEPTED}
	}
	if !m.full(1) || m.full(0) {
		t.Error("the bound on open numbers is not held")
	}
	if _, err := parseMarks(m.encode()); err != nil {
		t.Errorf("as many as allowed do not parse: %v", err)
	}
	m.decided[MaxMarks+1] = answer{}
	if _, err := parseMarks(m.encode()); err == nil {
		t.Error("more than allowed parse")
	}
}

func FuzzParseMarks(f *testing.F) {
	m := marks{incarnation: 4, low: 100, decided: map[uint64]answer{
		101: {code: pb.Code_CODE_SEQUENCED, seq: 9, acceptedMs: 1_700_000_000_000},
		105: {code: pb.Code_CODE_WRONG_EPOCH, epoch: 3}, math.MaxUint64: {code: pb.Code_CODE_ACCEPTED},
	}}
	f.Add(m.encode())
	f.Add(marks{}.encode())
	f.Add([]byte{1, 0x80, 0x00, 0, 0})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMarks(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.encode(), b) {
			t.Fatalf("%x encodes to %x", b, m.encode())
		}
	})
}
