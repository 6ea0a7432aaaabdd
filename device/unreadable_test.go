package device

import (
	"errors"
	"fmt"
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Programs and the words for people stand on these, not on the text of an error.
func TestWhatCannotBeReadSaysWhyInAWord(t *testing.T) {
	for want, err := range map[string]error{
		"rules":       &policyError{errors.New("no")},
		"identity":    ErrIdentityChanged,
		"damaged":     errDamaged,
		"waited":      errGivenUp,
		"content":     errContent,
		"keys":        errNoKeys,
		"generation":  errGeneration,
		"room":        errNotIn,
		"late":        group.ErrReplay,
		"epoch":       &mls.EpochError{},
		"noAgreement": &wire.StatusError{Status: &pb.Status{Code: pb.Code_CODE_NO_AGREEMENT}},
		"":            errors.New("mls: cryptographic check failed"),
	} {
		if got := whyUnreadable(fmt.Errorf("device: somewhere: %w", err)); got != want {
			t.Errorf("%v: %q, wanted %q", err, got, want)
		}
	}
}
