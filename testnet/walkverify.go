package testnet

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The part of the walk on whom a person has verified, and on changes of keys.

// verifies has alice and bob compare their safety numbers, each by what the other sees.
func (w *walk) verifies(ctx context.Context) (string, error) {
	digits := make(map[*Device]string)
	pairs := [][2]*Device{{w.alice, w.bob}, {w.bob, w.alice}}
	for _, p := range pairs {
		lines, err := p[0].command(ctx, "verify", p[1].Address)
		if err != nil {
			return "", err
		}
		for _, l := range lines {
			digits[p[0]], _ = l["digits"].(string)
		}
	}
	wrong := digits[w.alice][6:] + " 00000"
	if _, err := w.bob.command(ctx, "verify", w.alice.Address, "--code", wrong); err == nil {
		return "", errors.New("testnet: other digits than alice's were taken")
	}
	for _, p := range pairs {
		if _, err := p[0].command(ctx, "verify", p[1].Address, "--code", digits[p[1]]); err != nil {
			return "", err
		}
	}
	return "60 digits, alike for both", nil
}

// changesKey has alice put her second device out: what she signs with from then on is a new
// key, which bob is told of and needs not compare again.
func (w *walk) changesKey(ctx context.Context) (string, error) {
	shown, err := w.tablet.command(ctx, "device", "show")
	if err != nil {
		return "", err
	}
	if len(shown) != 1 {
		return "", fmt.Errorf("testnet: the tablet shows %v", shown)
	}
	id, _ := shown[0]["device_id"].(string)
	began := time.Now()
	if _, err := w.alice.command(ctx, "device", "revoke", id); err != nil {
		return "", err
	}
	if err := w.awaits(ctx, w.bob, "identity", "key"); err != nil {
		return "", err
	}
	took := time.Since(began).Seconds()
	list, err := w.bob.command(ctx, "verify", "--list")
	if err != nil {
		return "", err
	}
	for _, l := range list {
		if l["address"] == w.alice.Address && l["state"] == "verified" && l["renewed"] == true {
			return fmt.Sprintf("bob is told after %.1f s, and alice stays verified", took), w.agrees(ctx, w.alice, w.bob, w.carol)
		}
	}
	return "", fmt.Errorf("testnet: bob has verified %v", list)
}
