package identity

import (
	"strings"
	"testing"
	"time"
)

func TestTermsAreShownInWords(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	terms := DefaultTerms(now, now.Add(time.Hour))
	terms.Rooms, terms.Guests, terms.Retention = true, false, 72*time.Hour
	next := terms
	next.Rooms, next.Retention = false, 90*time.Minute
	for _, want := range []string{"rooms        yes\n", "guests       no\n", "retention    3 days\n"} {
		if !strings.Contains(terms.Text(), want) {
			t.Errorf("no %q in\n%s", want, terms.Text())
		}
	}
	if changes := terms.Changes(next); !strings.Contains(changes, "yes, would be no\n") || !strings.Contains(changes, "3 days, would be 90 minutes\n") {
		t.Errorf("the changes are\n%s", changes)
	}
}

func TestLengthsOfTermsAreWholeNumbers(t *testing.T) {
	for d, want := range map[time.Duration]string{24 * time.Hour: "1 day", 36 * time.Hour: "36 hours", time.Hour: "1 hour", 61 * time.Second: "61 seconds"} {
		if got := lengthText(d); got != want {
			t.Errorf("%s is %q, not %q", d, got, want)
		}
	}
}
