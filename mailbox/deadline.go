package mailbox

import (
	"time"

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
