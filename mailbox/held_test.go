package mailbox

import (
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestWhatAQueueHoldsIsCountedInBytesOfEveryClass(t *testing.T) {
	var u usage
	handshake := &meta{class: pb.Class_CLASS_HANDSHAKE, size: 700}
	u.count(handshake, 1)
	u.count(&meta{class: pb.Class_CLASS_CONTROL, size: 20}, 1)
	u.count(&meta{class: pb.Class_CLASS_MESSAGE, size: 3}, 1)
	if u.held != 723 || u.bytes != 3 {
		t.Errorf("%d bytes are held and %d count against the quota, not 723 and 3", u.held, u.bytes)
	}
	if u.count(handshake, -1); u.held != 23 {
		t.Errorf("%d bytes are held after the handshake has left, not 23", u.held)
	}
}
