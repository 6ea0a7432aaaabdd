package device

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A device whose clock is more than a day off is not linked: what it or the other one signs would
// be refused. Both persons are told which way, nothing is added, and set right the same folder does.
func TestADeviceWhoseClockIsDaysOffIsNotLinkedAndSaysSo(t *testing.T) {
	o := newOrganization(t, "acme.example", defaultBucket)
	a := o.device("ann")
	for name, c := range map[string]struct {
		by       time.Duration
		old, new string
	}{
		"ahead":  {50 * time.Hour, "the other device's clock is 50 hours ahead of this one's", "this device's clock is 50 hours ahead of the other one's"},
		"behind": {-50 * time.Hour, "the other device's clock is 50 hours behind this one's", "this device's clock is 50 hours behind the other one's"},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := a.Account(t.Context())
			must(t, err)
			dir := filepath.Join(t.TempDir(), "linked")
			try := func(options ...Option) (old, new error) {
				ctx, stop := context.WithTimeout(t.Context(), patience)
				defer stop()
				l, err := a.OpenLink(ctx)
				must(t, err)
				joined := make(chan error, 1)
				go func() {
					d, err := Enroll(ctx, dir, testPass, l.Link, options...)
					if err == nil {
						d.Close()
					}
					joined <- err
				}()
				if _, _, old = l.Wait(ctx); old == nil {
					_, old = l.Confirm(ctx)
				}
				return old, <-joined
			}
			old, joining := try(off(c.by))
			if old == nil || !strings.Contains(old.Error(), c.old) {
				t.Errorf("the old device says %v", old)
			}
			if joining == nil || !strings.Contains(joining.Error(), c.new) {
				t.Errorf("the new device says %v", joining)
			}
			after, err := a.Account(t.Context())
			must(t, err)
			if b, n := len(before.Chain.Devices), len(after.Chain.Devices); b != n {
				t.Errorf("the directory names %d devices, before %d", n, b)
			}
			if old, joining = try(); old != nil || joining != nil {
				t.Errorf("set right: %v, %v", old, joining)
			}
		})
	}
}
