package session

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// desk is a Backend for calls.
type desk struct {
	Backend
	submitted []uint64
	silent    bool // submissions get no result
	mail      []*pb.Deliver
	pulls     int
	wake      chan struct{}
	through   uint64
	above     []uint64
	acks      int
	err       error
}

func (d *desk) Submit(_ context.Context, counter uint64, _ []byte, done func(*pb.Status)) {
	d.submitted = append(d.submitted, counter)
	if !d.silent {
		done(wire.Status(pb.Code_CODE_ACCEPTED, "%d", counter))
	}
}

func (d *desk) Pull(after uint64, n, _ int) (out []*pb.Deliver, err error) {
	d.pulls++
	for _, m := range d.mail {
		if m.Seq > after && len(out) < n {
			out = append(out, m)
		}
	}
	return out, d.err
}

func (d *desk) Wake() <-chan struct{} { return d.wake }

func (d *desk) Ack(_ context.Context, a Acked) error {
	d.acks++
	if d.err == nil {
		d.through, d.above = a.Through, a.Above
	}
	return d.err
}

func (d *desk) SubmitMark() uint64 { return 77 }

func TestACallOfSubmissionsHasTheLimitsOfASession(t *testing.T) {
	many := func(n, size int) (out []*pb.Submission) {
		for i := range n {
			out = append(out, &pb.Submission{Counter: uint64(i + 1), Envelope: make([]byte, size)})
		}
		return out
	}
	for name, c := range map[string]struct {
		subs []*pb.Submission
		code pb.Code // CODE_UNSPECIFIED: taken
	}{
		"none":                   {nil, pb.Code_CODE_MALFORMED},
		"one window":             {many(wire.SubmitWindow, 10), 0},
		"one above the window":   {many(wire.SubmitWindow+1, 10), pb.Code_CODE_MALFORMED},
		"one window of bytes":    {many(4, wire.SubmitWindowBytes/4), 0},
		"a byte above the bytes": {append(many(4, wire.SubmitWindowBytes/4), &pb.Submission{Envelope: []byte{1}}), pb.Code_CODE_TOO_LARGE},
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			r, err := CallSubmit(t.Context(), d, &pb.SubmitRequest{Submissions: c.subs})
			if c.code != 0 {
				if wire.StatusOf(err).Code != c.code || len(d.submitted) != 0 {
					t.Errorf("%v, %d handed over", err, len(d.submitted))
				}
				return
			}
			if err != nil || len(r.Statuses) != len(c.subs) {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
}

func TestAnOversizeSubmissionStallsNoneOfItsCall(t *testing.T) {
	d := &desk{}
	q := &pb.SubmitRequest{Submissions: []*pb.Submission{{Counter: 1}, {Counter: 2, Envelope: make([]byte, MaxEnvelope+1)}, {Counter: 3}}}
	r, err := CallSubmit(t.Context(), d, q)
	if err != nil || !slices.Equal(d.submitted, []uint64{1, 3}) {
		t.Fatalf("%v, handed over %v", err, d.submitted)
	}
	for i, want := range []pb.Code{pb.Code_CODE_ACCEPTED, pb.Code_CODE_TOO_LARGE, pb.Code_CODE_ACCEPTED} {
		if r.Statuses[i].Code != want {
			t.Errorf("status %d is %v", i, r.Statuses[i])
		}
	}
	if r.Statuses[2].Detail != "3" {
		t.Errorf("the third got the answer of %q", r.Statuses[2].Detail)
	}
}

func TestACallEndsWithTheReasonThatEndsTheDevice(t *testing.T) {
	why := &CloseError{Code: CodeRevoked, Reason: "this device was revoked"}
	for name, call := range map[string]func(context.Context, *desk) error{
		"Submit": func(ctx context.Context, d *desk) error {
			_, err := CallSubmit(ctx, d, &pb.SubmitRequest{Submissions: []*pb.Submission{{Counter: 1}}})
			return err
		},
		"Fetch": func(ctx context.Context, d *desk) error {
			_, err := CallFetch(ctx, d, &pb.FetchRequest{Envelopes: 1, Bytes: 1, WaitMs: 60_000})
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		d := &desk{silent: true, wake: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- call(ctx, d) }()
		cancel(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	d := &desk{}
	if _, err := CallSubmit(ctx, d, &pb.SubmitRequest{Submissions: []*pb.Submission{{Counter: 1}}}); !errors.Is(err, why) || len(d.submitted) != 0 {
		t.Errorf("after the revocation: %v, handed over %v", err, d.submitted)
	}
}

func TestAFetchIsBoundedWhateverTheBackendGives(t *testing.T) {
	var mail []*pb.Deliver
	for i := range uint64(200) {
		mail = append(mail, &pb.Deliver{Seq: i + 1, Envelope: &pb.Envelope{Core: make([]byte, 10_000)}})
	}
	for name, c := range map[string]struct {
		n, bytes uint32
		got      int
	}{
		"as asked":               {3, 1 << 30, 3},
		"a batch's bytes":        {1 << 31, 1 << 31, 52}, // 512 KiB of 10,010 bytes each
		"one, whatever its size": {10, 1, 1},
	} {
		r, err := CallFetch(t.Context(), &desk{mail: mail}, &pb.FetchRequest{Envelopes: c.n, Bytes: c.bytes})
		if err != nil || len(r.Deliveries) != c.got {
			t.Errorf("%s: %d deliveries, %v", name, len(r.GetDeliveries()), err)
		}
	}
	small := []*pb.Deliver{}
	for i := range uint64(200) {
		small = append(small, &pb.Deliver{Seq: i + 1})
	}
	r, err := CallFetch(t.Context(), &desk{mail: small}, &pb.FetchRequest{Envelopes: 1000, Bytes: 1 << 20})
	if err != nil || len(r.Deliveries) != wire.MaxBatchFrames {
		t.Errorf("%d deliveries, %v", len(r.GetDeliveries()), err)
	}
	for _, q := range []*pb.FetchRequest{{Bytes: 1}, {Envelopes: 1}, {}} {
		d := &desk{mail: mail}
		if _, err := CallFetch(t.Context(), d, q); wire.StatusOf(err).Code != pb.Code_CODE_MALFORMED || d.pulls != 0 {
			t.Errorf("%v: %v, %d pulls", q, err, d.pulls)
		}
	}
}

func TestAFetchThatWaitsIsWokenAndLooksOnceMoreAtTheEnd(t *testing.T) {
	d := &desk{wake: make(chan struct{}, 1)}
	d.wake <- struct{}{} // for nothing: it goes on waiting
	start := time.Now()
	r, err := CallFetch(t.Context(), d, &pb.FetchRequest{Envelopes: 1, Bytes: 1, WaitMs: 50})
	if err != nil || len(r.Deliveries) != 0 || time.Since(start) < 50*time.Millisecond || d.pulls != 3 {
		t.Errorf("%v, %v after %s and %d pulls", r, err, time.Since(start), d.pulls)
	}
}

func TestACallOfAcknowledgementsIsCheckedAndLasting(t *testing.T) {
	long := make([]uint64, wire.DeliverWindow+1)
	for i := range long {
		long[i] = uint64(i + 1)
	}
	for name, q := range map[string]*pb.AckRequest{
		"unreadable above what is acknowledged": {Through: 5, Unreadable: []uint64{6}},
		"unreadable twice":                      {Through: 5, Unreadable: []uint64{3, 3}},
		"unreadable out of order":               {Through: 5, Unreadable: []uint64{3, 2}},
		"unreadable zero":                       {Through: 5, Unreadable: []uint64{0}},
		"expired that is not unreadable":        {Through: 5, Unreadable: []uint64{2}, Expired: []uint64{3}},
		"expired twice":                         {Through: 5, Unreadable: []uint64{2}, Expired: []uint64{2, 2}},
		"more unreadable than a window":         {Through: 1000, Unreadable: long},
		"above what is not above":               {Through: 5, Above: []uint64{5}},
		"above twice":                           {Through: 5, Above: []uint64{7, 7}},
		"above out of order":                    {Through: 5, Above: []uint64{8, 7}},
		"more above than a window":              {Above: long},
		"unreadable between what is above":      {Through: 5, Above: []uint64{7, 9}, Unreadable: []uint64{8}},
	} {
		d := &desk{}
		if _, err := CallAck(t.Context(), d, q); wire.StatusOf(err).Code != pb.Code_CODE_MALFORMED || d.acks != 0 {
			t.Errorf("%s: %v, %d acknowledged", name, err, d.acks)
		}
	}
	d := &desk{}
	r, err := CallAck(t.Context(), d, &pb.AckRequest{Through: 5, Unreadable: []uint64{2, 5}})
	if err != nil || d.through != 5 || r.SubmitMark != 77 {
		t.Errorf("%v, %v, through %d", r, err, d.through)
	}
	if _, err = CallAck(t.Context(), d, &pb.AckRequest{Through: 5, Above: []uint64{7, 9}, Unreadable: []uint64{2, 9}}); err != nil || !slices.Equal(d.above, []uint64{7, 9}) {
		t.Errorf("%v, above %v", err, d.above)
	}
	d.err = errors.New("the disk is gone")
	if _, err := CallAck(t.Context(), d, &pb.AckRequest{Through: 6}); !errors.Is(err, d.err) {
		t.Errorf("an acknowledgement that is not stored: %v", err)
	}
}

func TestEveryCloseCodeHasAStatus(t *testing.T) {
	for code, want := range map[int]pb.Code{CodeGoingAway: pb.Code_CODE_SHUTTING_DOWN, CodeExpired: pb.Code_CODE_UNAUTHENTICATED, CodeRevoked: pb.Code_CODE_REVOKED,
		CodeReplaced: pb.Code_CODE_RATE_LIMITED, CodeMalformed: pb.Code_CODE_MALFORMED, CodeFlow: pb.Code_CODE_MALFORMED, CodeInternal: pb.Code_CODE_INTERNAL} {
		if st := wire.StatusOf(StatusOfClose(&CloseError{Code: code})); st.Code != want {
			t.Errorf("%d becomes %v", code, st)
		}
	}
}
