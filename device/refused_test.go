package device

import (
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
)

// A partner's node refuses after the sender's has taken the message: by a notice, which is as
// good a reason as an answer at once.
func TestARefusalByNoticeHasItsStatus(t *testing.T) {
	s := &Sent{To: "bob@globex.example", Of: 1}
	if !s.state("bob@globex.example", &notice.Notice{}, notice.Range{State: notice.StateRefused, Reason: pb.Code_CODE_FULL}) {
		t.Fatal("it is no news")
	}
	if err := refusedError(s); wire.StatusOf(err).Code != pb.Code_CODE_FULL {
		t.Errorf("%v: %+v", err, s)
	}
}
