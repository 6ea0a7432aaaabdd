package mailbox

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// deadline returns when the node's copy of a deposit ends: the strictest of what
// the message asks for, what the organization retains and what the agreement or
// the room allows (ceiling; zero: nothing of its own), but at least one bucket.
// Control is shortened by its own ceiling only, handshakes by none (DESIGN "Three
// classes of envelope"). A message or control envelope whose own deadline is over
// is refused as deadlinePassed.
func (m *Mailbox) deadline(core *pb.EnvelopeCore, ceiling time.Time, now time.Time) (time.Time, error) {
	if core.Class == pb.Class_CLASS_HANDSHAKE {
		return now.Add(wire.HandshakeRetention), nil
	}
	own := wire.DeadlineOf(core)
	if !own.After(now) {
		return time.Time{}, wire.Refuse(pb.Code_CODE_DEADLINE_PASSED, "its deadline was %s", wire.FormatTime(own))
	}
	end := own
	strictest := func(t time.Time) {
		if t.Before(end) {
			end = t
		}
	}
	if core.Class == pb.Class_CLASS_CONTROL {
		strictest(now.Add(wire.WelcomeDeadline))
	} else {
		strictest(now.Add(min(m.retention, wire.RetentionCeiling)))
		if !ceiling.IsZero() {
			strictest(ceiling)
		}
	}
	if least := now.Add(m.bucket); end.Before(least) {
		end = least
	}
	return end, nil
}

// ended reports whether a message's own deadline has passed: a bucket may last longer, and
// nobody reads it from then on. A clock that is held ends nothing.
func (m *Mailbox) ended(meta *meta, core []byte, now time.Time) bool {
	if meta.class != pb.Class_CLASS_MESSAGE {
		return false
	}
	own := deadlineIn(core)
	return own > 0 && own <= now.Unix() && !m.store.Status().ClockHeld
}

// deadlineIn reads the deadline of an encoded core and copies nothing of its body; 0: none.
func deadlineIn(core []byte) int64 {
	const deadline protowire.Number = 7 // EnvelopeCore
	for len(core) > 0 {
		n, kind, size := protowire.ConsumeTag(core)
		if size < 0 {
			return 0
		}
		core = core[size:]
		if n == deadline && kind == protowire.VarintType {
			v, size := protowire.ConsumeVarint(core)
			if size < 0 {
				return 0
			}
			return int64(v)
		}
		if size = protowire.ConsumeFieldValue(n, kind, core); size < 0 {
			return 0
		}
		core = core[size:]
	}
	return 0
}
