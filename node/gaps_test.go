package node

import (
	"bytes"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// passes has the hub hold n messages back and hand over what follows them.
func (f *following) passes(n int) (held []*pb.Item) {
	f.t.Helper()
	for i := range n {
		held = append(held, f.next(f.entry(func(_ *pb.Item, c *pb.EnvelopeCore) { c.Body = []byte{byte(i)} })))
	}
	f.takes()
	return held
}

func TestAMessageThatWasHeldInQuarantineFillsItsPlaceOnce(t *testing.T) {
	f := newFollowing(t)
	f.takes()
	must(t, f.acme.fed.Quarantine(t.Context(), f.globex.org.ID, ""))
	held := f.passes(3)
	must(t, f.acme.fed.Release(t.Context(), f.globex.org.ID, ""))
	f.acme.halt()
	f.acme.reopen(false) // the places that are open outlive the process
	f.takes()
	before := f.acme.mail.Usage(f.alice.id).Messages
	other := &pb.Item{Kind: held[0].Kind, Origin: held[0].Origin, Envelope: &pb.Envelope{Core: held[1].Envelope.Core, Seq: held[0].Envelope.Seq,
		Previous: held[1].Envelope.Previous, AcceptedMs: held[0].Envelope.AcceptedMs}}
	swapped := &pb.Item{Kind: held[2].Kind, Origin: held[2].Origin, Envelope: &pb.Envelope{Core: held[0].Envelope.Core, Seq: held[2].Envelope.Seq,
		Previous: held[2].Envelope.Previous, AcceptedMs: held[2].Envelope.AcceptedMs}}
	f.refuses(t, []itemCase{
		{"another entry at the beginning of the gap", malformed, "between its neighbours", f.globex, func() *pb.Item { return other }},
		{"another entry at its end", malformed, "between its neighbours", f.globex, func() *pb.Item { return swapped }},
	})
	before++ // refuses ends with an honest entry
	for _, i := range []int{1, 0, 2, 1, 0, 2} {
		f.deliver(f.globex, held[i])
	}
	if got := f.acme.mail.Usage(f.alice.id).Messages; got != before+3 {
		t.Errorf("alice has %d messages more, of 3 that were held", got-before)
	}
	f.takes()
}

func TestPlacesThatAreMissingWithoutAQuarantineStayClosed(t *testing.T) {
	f := newFollowing(t)
	f.takes()
	held := f.passes(1)
	if st := f.deliver(f.globex, held[0]); st.Code != pb.Code_CODE_DUPLICATE {
		t.Errorf("an entry of a place that was passed over: %s", wire.CodeName(st.Code))
	}
}

func TestGapsOfARoomAreBoundedAndReadAsTheyWereWritten(t *testing.T) {
	d := &draft{room: &room{}}
	for n := range uint64(3 * maxGaps) {
		d.place = place{seq: 1 + 10*n, hash: [32]byte{byte(n)}}
		d.passed(&pb.Envelope{Seq: 5 + 10*n, Previous: make([]byte, 32)})
	}
	if len(d.gaps) != maxGaps || d.gaps[maxGaps-1].from != 2+10*(3*maxGaps-1) {
		t.Fatalf("%d gaps, the last %+v", len(d.gaps), d.gaps[len(d.gaps)-1])
	}
	b := encodeGaps(d.gaps)
	read, err := parseGaps(b)
	must(t, err)
	if !bytes.Equal(encodeGaps(read), b) {
		t.Error("gaps are read as others than were written")
	}
	for name, bad := range map[string][]byte{"nothing": nil, "another version": append([]byte{2}, b[1:]...), "half a gap": b[:len(b)-1],
		"too many": append(b, b[1:1+gapLen]...), "a gap that ends before it begins": encodeGaps([]gap{{from: 3, to: 2}})} {
		if _, err := parseGaps(bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
