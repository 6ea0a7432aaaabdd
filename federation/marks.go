package federation

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// MaxMarks bounds the numbers that are remembered above a partner's low mark. A
// partner that leaves more open is answered "full" until it settles some.
const MaxMarks = 4_096

// errMarks is what damaged marks give: nothing may be accepted on top of them.
var errMarks = errors.New("federation: the marks of a partner are damaged")

// marks says which items of a partner are decided: all below low, and those listed
// above it with what they were answered, so that an answer that got lost can be
// given again (docs/protocol.md 5.3). A value is never changed once it is shared.
//
// On disk: version 1, then uvarints: incarnation, low, count, and for each decided
// number in rising order: difference to the one before (to low for the first),
// code, seq, accepted_ms, epoch.
type marks struct {
	incarnation uint64
	low         uint64
	decided     map[uint64]answer
}

// answer is what is kept of a status.
type answer struct {
	code       pb.Code
	seq, epoch uint64
	acceptedMs int64
}

const marksVersion = 1

// begin returns the marks for a link of the given incarnation. A higher one starts
// anew, because its numbers are others; a lower one is refused.
func (m marks) begin(incarnation, low uint64) (marks, error) {
	if incarnation < m.incarnation {
		return m, wire.Refuse(pb.Code_CODE_ROLLED_BACK, "incarnation %d is over: %d was here", incarnation, m.incarnation)
	}
	if incarnation > m.incarnation {
		m = marks{incarnation: incarnation}
	}
	return m.raise(low), nil
}

// raise returns the marks with a new low mark; a lower one changes nothing.
func (m marks) raise(low uint64) marks {
	if low <= m.low {
		return m
	}
	next := marks{incarnation: m.incarnation, low: low, decided: map[uint64]answer{}}
	for n, a := range m.decided {
		if n >= low {
			next.decided[n] = a
		}
	}
	return next
}

// seen returns the answer of an item that is decided already. What was accepted is
// a duplicate now; what was sequenced or refused is told as it was.
func (m marks) seen(number uint64) (*pb.Status, bool) {
	a, ok := m.decided[number]
	if !ok && number >= m.low {
		return nil, false
	}
	if !ok || a.code == pb.Code_CODE_ACCEPTED || a.code == pb.Code_CODE_OK {
		return wire.Status(pb.Code_CODE_DUPLICATE, ""), true
	}
	s := wire.Status(a.code, "")
	s.Seq, s.Epoch, s.AcceptedMs = a.seq, a.epoch, a.acceptedMs
	return s, true
}

// full reports whether n more numbers would be too many.
func (m marks) full(n int) bool { return len(m.decided)+n > MaxMarks }

// with returns the marks with the items that these statuses decide.
func (m marks) with(items []*pb.Item, statuses []*pb.Status) marks {
	next := marks{incarnation: m.incarnation, low: m.low, decided: maps.Clone(m.decided)}
	if next.decided == nil {
		next.decided = map[uint64]answer{}
	}
	for i, it := range items {
		if s := statuses[i]; !staysOpen(it, s.Code) {
			next.decided[it.Number] = answer{s.Code, s.Seq, s.Epoch, s.AcceptedMs}
		}
	}
	return next
}

// staysOpen reports whether the very same item can succeed later; both ends go by
// it. wrongEpoch is temporary for the device, which encrypts again, and final for
// these bytes. What is quarantined waits, and so does a handshake that fans out to a
// partner whose policy refuses it: after a suspension it is needed.
func staysOpen(it *pb.Item, c pb.Code) bool {
	switch wire.ClassOf(c) {
	case wire.Temporary:
		return c != pb.Code_CODE_WRONG_EPOCH
	case wire.Policy:
		return c == pb.Code_CODE_QUARANTINED || it.Kind == pb.ItemKind_ITEM_KIND_FANOUT && isHandshake(it)
	}
	return false
}

func isHandshake(it *pb.Item) bool {
	core, err := wire.ParseCore(it.GetEnvelope().GetCore())
	return err == nil && core.Class == pb.Class_CLASS_HANDSHAKE
}

// encode returns the bytes on disk.
func (m marks) encode() []byte {
	b := []byte{marksVersion}
	b = binary.AppendUvarint(b, m.incarnation)
	b = binary.AppendUvarint(b, m.low)
	b = binary.AppendUvarint(b, uint64(len(m.decided)))
	last := m.low
	for _, n := range slices.Sorted(maps.Keys(m.decided)) {
		a := m.decided[n]
		b = binary.AppendUvarint(b, n-last)
		b = binary.AppendUvarint(b, uint64(a.code))
		b = binary.AppendUvarint(b, a.seq)
		b = binary.AppendUvarint(b, uint64(a.acceptedMs))
		b = binary.AppendUvarint(b, a.epoch)
		last = n
	}
	return b
}

// parseMarks is the inverse of encode: what it accepts encodes to the same bytes.
func parseMarks(b []byte) (marks, error) {
	r := bytes.NewReader(b)
	version, err := r.ReadByte()
	if err != nil || version != marksVersion {
		return marks{}, fmt.Errorf("%w: version %d", errMarks, version)
	}
	next := func() (v uint64) {
		if err == nil {
			v, err = binary.ReadUvarint(r)
		}
		return v
	}
	m := marks{incarnation: next(), low: next()}
	count := next()
	if err != nil || count > MaxMarks {
		return marks{}, fmt.Errorf("%w: %d numbers", errMarks, count)
	}
	m.decided = make(map[uint64]answer, count)
	last := m.low
	for range count {
		last += next()
		a := answer{code: pb.Code(next())}
		a.seq, a.acceptedMs, a.epoch = next(), int64(next()), next()
		m.decided[last] = a
	}
	if err != nil || !bytes.Equal(m.encode(), b) {
		return marks{}, errMarks
	}
	return m, nil
}
