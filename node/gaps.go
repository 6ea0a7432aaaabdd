package node

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Places of a room's order that are still to come. A message that is held back in
// quarantine arrives after what followed it in its room (docs/protocol.md 5.7): its place
// was passed over, and is filled once, by an entry that fits between its neighbours.
//
// Row "nd/gaps/<room ID>": version 1, then for each gap, oldest first: from uint64 ‖
// to uint64 ‖ hash of the entry before 32 ‖ hash that the entry after names 32.
const gapsPrefix = "nd/gaps/"

const (
	gapLen  = 8 + 8 + 32 + 32
	maxGaps = 64 // of a room; beyond them the oldest is forgotten: its messages are duplicates
)

// gap is a run of places that were passed over.
type gap struct {
	from, to      uint64
	before, after [32]byte
}

func encodeGaps(gaps []gap) []byte {
	b := []byte{1}
	for _, g := range gaps {
		b = binary.BigEndian.AppendUint64(b, g.from)
		b = binary.BigEndian.AppendUint64(b, g.to)
		b = append(append(b, g.before[:]...), g.after[:]...)
	}
	return b
}

func parseGaps(b []byte) ([]gap, error) {
	if len(b) == 0 || b[0] != 1 || (len(b)-1)%gapLen != 0 || (len(b)-1)/gapLen > maxGaps {
		return nil, fmt.Errorf("node: the gaps of a room have %d bytes or another version", len(b))
	}
	var out []gap
	for b = b[1:]; len(b) > 0; b = b[gapLen:] {
		g := gap{from: binary.BigEndian.Uint64(b), to: binary.BigEndian.Uint64(b[8:]), before: [32]byte(b[16:48]), after: [32]byte(b[48:80])}
		if g.from == 0 || g.to < g.from {
			return nil, fmt.Errorf("node: a gap from %d to %d", g.from, g.to)
		}
		out = append(out, g)
	}
	return out, nil
}

// passed notes that an entry follows the last one with places between them.
func (d *draft) passed(env *pb.Envelope) {
	last := d.place
	if last.seq == 0 || env.Seq <= last.seq+1 {
		return
	}
	d.keepGaps(append(d.gaps[:len(d.gaps):len(d.gaps)], gap{last.seq + 1, env.Seq - 1, last.hash, [32]byte(env.Previous)}))
}

func (d *draft) keepGaps(gaps []gap) {
	d.gaps, d.dirty.gaps = gaps[max(0, len(gaps)-maxGaps):], true
}

// late returns what is left of the gaps once a message has filled its place in one of
// them; false: it has none there. It is refused where its neighbours name another entry.
func (d *draft) late(env *pb.Envelope, class pb.Class) (left []gap, fits bool, err error) {
	if class != pb.Class_CLASS_MESSAGE {
		return nil, false, nil
	}
	for i, g := range d.gaps {
		if env.Seq < g.from || env.Seq > g.to {
			continue
		}
		hash := wire.SequenceHash(d.id, env.Seq, [32]byte(env.Previous), wire.IDOf(env.Core), env.AcceptedMs)
		if env.Seq == g.from && !bytes.Equal(env.Previous, g.before[:]) || env.Seq == g.to && hash != g.after || env.AcceptedMs > d.place.accepted {
			return nil, false, wire.Refuse(pb.Code_CODE_MALFORMED, "an entry that does not fit between its neighbours")
		}
		left = append(left, d.gaps[:i]...)
		if env.Seq > g.from {
			left = append(left, gap{g.from, env.Seq - 1, g.before, [32]byte(env.Previous)})
		}
		if env.Seq < g.to {
			left = append(left, gap{env.Seq + 1, g.to, hash, g.after})
		}
		return append(left, d.gaps[i+1:]...), true, nil
	}
	return nil, false, nil
}
