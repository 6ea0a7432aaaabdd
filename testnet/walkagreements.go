package testnet

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The third part of the walk: what the two organizations have agreed on, and what an
// administrator decides alone.

// exitPolicy is how a command ends that a decision of people refuses.
const exitPolicy = 4

// refusedBy runs a command of a device that a decision of people refuses.
func refusedBy(ctx context.Context, d *Device, args ...string) (string, error) {
	_, err := d.command(ctx, args...)
	var refused *commandError
	if !errors.As(err, &refused) || refused.Code != exitPolicy {
		return "", fmt.Errorf("%v was not refused by policy: %v", args, err)
	}
	return firstLine(refused.Stderr), nil
}

// termsRefused has both sign stricter terms, and what breaks them refused.
func (w *walk) termsRefused(ctx context.Context) (string, error) {
	if _, err := w.acme.command(ctx, "partner", "amend", w.globex.Name, "--rooms=false", "--abuse", "abuse@acme.example"); err != nil {
		return "", err
	}
	err := eventually(ctx, 20*time.Second, func() error {
		_, err := w.globex.command(ctx, "partner", "accept", w.acme.Name, "--yes")
		if err != nil {
			return fmt.Errorf("%w: %v", errNotYet, err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	for _, o := range []*Organization{w.acme, w.globex} {
		other := map[*Organization]string{w.acme: w.globex.Name, w.globex: w.acme.Name}[o]
		if _, err := o.until(ctx, 20*time.Second, func(v map[string]any) bool { return partnerState(v, other) == "connected" }); err != nil {
			return "", err
		}
	}
	if err := w.awaits(ctx, w.alice, "room", "terms"); err != nil { // the device has verified both signatures
		return "", err
	}
	if err := w.remember(ctx, "both have signed stricter terms"); err != nil {
		return "", err
	}
	return refusedBy(ctx, w.alice, "room", "create", "Pier", w.bob.Address)
}

// suspends stops everything, one-sided, and undoes it.
func (w *walk) suspends(ctx context.Context) (string, error) {
	if _, err := w.globex.command(ctx, "partner", "suspend", w.acme.Name, "--why", "the walk"); err != nil {
		return "", err
	}
	why, err := refusedBy(ctx, w.bob, "send", w.alice.Address, "not now "+randomText(8))
	if err != nil {
		return "", err
	}
	if err := w.remember(ctx, "globex suspends acme"); err != nil {
		return "", err
	}
	if _, err := w.globex.command(ctx, "partner", "resume", w.acme.Name); err != nil {
		return "", err
	}
	text := "and again " + randomText(8)
	if _, err := w.bob.command(ctx, "send", w.alice.Address, text); err != nil {
		return "", err
	}
	return why, errors.Join(w.reads(ctx, w.alice, w.bob.Address, text), w.remember(ctx, "globex resumes"))
}

// quarantines holds messages back, and lets them pass.
func (w *walk) quarantines(ctx context.Context) (string, error) {
	if _, err := w.acme.command(ctx, "partner", "quarantine", w.globex.Name, "--why", "the walk"); err != nil {
		return "", err
	}
	if _, err := w.globex.until(ctx, 20*time.Second, func(v map[string]any) bool { return partnerState(v, w.acme.Name) == "quarantinedThere" }); err != nil {
		return "", err
	}
	if err := w.remember(ctx, "acme puts globex in quarantine"); err != nil {
		return "", err
	}
	text := "held " + randomText(8)
	if _, err := w.bob.command(ctx, "send", w.alice.Address, text); err != nil {
		return "", err
	}
	lines, err := w.alice.command(ctx, "receive")
	if err != nil {
		return "", err
	}
	if n := shown(lines, w.bob.Address, text); n > 0 {
		return "", errors.New("a message passed the quarantine")
	}
	began := time.Now()
	if _, err := w.acme.command(ctx, "partner", "release", w.globex.Name); err != nil {
		return "", err
	}
	err = errors.Join(w.reads(ctx, w.alice, w.bob.Address, text), w.remember(ctx, "acme releases it"))
	return fmt.Sprintf("shown %.1f s after the release", time.Since(began).Seconds()), err
}
