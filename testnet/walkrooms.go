package testnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The second part of the walk: a room over three organizations.

// concludes has two organizations sign an agreement.
func (w *walk) concludes(ctx context.Context, a, b *Organization) error {
	out, err := a.command(ctx, "partner", "invite", b.Name, "--contact", "open", "--json")
	if err != nil {
		return err
	}
	token, err := jsonField(out, "token")
	if err != nil {
		return err
	}
	file := filepath.Join(w.root, "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		return err
	}
	if _, err := b.command(ctx, "partner", "accept", "--token-file", file, "--yes"); err != nil {
		return err
	}
	_, err = a.until(ctx, 10*time.Second, func(v map[string]any) bool { return partnerState(v, b.Name) == "connected" })
	return err
}

func (w *walk) initechJoins(ctx context.Context) (string, error) {
	return "with acme and with globex", errors.Join(w.concludes(ctx, w.acme, w.initech), w.concludes(ctx, w.globex, w.initech))
}

// room is what the walk calls its room.
const room = "Harbour"

func (w *walk) makesRoom(ctx context.Context) (string, error) {
	began := time.Now()
	if _, err := w.alice.command(ctx, "room", "create", room, w.bob.Address); err != nil {
		return "", err
	}
	if err := w.awaits(ctx, w.bob, "room", "named"); err != nil {
		return "", err
	}
	if _, err := w.bob.command(ctx, "room", "invite", room, w.carol.Address, "--as", "guest"); err != nil {
		return "", err
	}
	if err := w.awaits(ctx, w.carol, "room", "named"); err != nil {
		return "", err
	}
	return fmt.Sprintf("alice admin, bob member, carol guest, after %.1f s", time.Since(began).Seconds()), nil
}

func (w *walk) everybodyReads(ctx context.Context) (string, error) {
	text := "all hands " + randomText(8)
	if _, err := w.carol.command(ctx, "send", room, text); err != nil {
		return "", err
	}
	for _, d := range []*Device{w.alice, w.bob} {
		if err := w.reads(ctx, d, w.carol.Address, text); err != nil {
			return "", err
		}
	}
	_, err := w.carol.command(ctx, "room", "remove", room, w.bob.Address, "--yes")
	var refused *commandError
	if !errors.As(err, &refused) || refused.Code != 3 {
		return "", fmt.Errorf("a guest removed somebody: %v", err)
	}
	return "and a guest may not remove: " + firstLine(refused.Stderr), nil
}

// race has two administrators change the room at the same moment.
func (w *walk) race(ctx context.Context) (string, error) {
	if _, err := w.alice.command(ctx, "room", "role", room, w.bob.Address, "admin"); err != nil {
		return "", err
	}
	if err := w.awaits(ctx, w.bob, "room", "rules changed"); err != nil {
		return "", err
	}
	before, err := w.epoch(ctx, w.alice)
	if err != nil {
		return "", err
	}
	done := make(chan error, 2)
	for who, role := range map[*Device]string{w.alice: "member", w.bob: "admin"} {
		go func() {
			_, err := who.command(ctx, "room", "role", room, w.carol.Address, role)
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		return "", err
	}
	if err := w.agrees(ctx, w.alice, w.bob, w.carol); err != nil {
		return "", err
	}
	after, err := w.epoch(ctx, w.alice)
	if err == nil && after < before+2 {
		err = fmt.Errorf("epoch %.0f after %.0f: a change was lost", after, before)
	}
	return fmt.Sprintf("both took effect, one after the other: epoch %.0f to %.0f, one code", before, after), err
}

func (w *walk) burns(ctx context.Context) (string, error) {
	text := "for your eyes " + randomText(8)
	if _, err := w.alice.command(ctx, "send", room, text, "--burn", "2s"); err != nil {
		return "", err
	}
	if err := w.reads(ctx, w.bob, w.alice.Address, text); err != nil {
		return "", err
	}
	began := time.Now()
	return "", errors.Join(eventually(ctx, 20*time.Second, func() error {
		lines, err := w.bob.command(ctx, "device", "history")
		if err != nil {
			return err
		}
		if n := shown(lines, w.alice.Address, text); n > 0 {
			return fmt.Errorf("%w: still in bob's history after %.1f s", errNotYet, time.Since(began).Seconds())
		}
		return nil
	}))
}

// revokes has initech end carol's device, which the room then loses.
func (w *walk) revokes(ctx context.Context) (string, error) {
	lines, err := w.initech.command(ctx, "member", "devices", "carol", "--json")
	if err != nil {
		return "", err
	}
	id, err := jsonField(lines, "device_id")
	if err != nil {
		return "", err
	}
	began := time.Now()
	if _, err := w.initech.command(ctx, "device", "revoke", id); err != nil {
		return "", err
	}
	err = eventually(ctx, time.Minute, func() error {
		if _, err := w.alice.command(ctx, "receive"); err != nil {
			return err
		}
		lines, err := w.alice.command(ctx, "room", "members", room)
		if err == nil && len(lines) != 2 {
			err = fmt.Errorf("%w: %d people in the room", errNotYet, len(lines))
		}
		return err
	})
	return fmt.Sprintf("out of the room after %.1f s", time.Since(began).Seconds()), err
}

// awaits has a device fetch until it is shown an event.
func (w *walk) awaits(ctx context.Context, d *Device, event, state string) error {
	return eventually(ctx, 20*time.Second, func() error {
		lines, err := d.command(ctx, "receive")
		if err != nil {
			return err
		}
		for _, l := range lines {
			if l["event"] == event && l["state"] == state {
				return nil
			}
		}
		return fmt.Errorf("%w: %s was not shown %s", errNotYet, d.Address, state)
	})
}

// reads has a device fetch until it is shown a text, once.
func (w *walk) reads(ctx context.Context, d *Device, from, text string) error {
	return eventually(ctx, 20*time.Second, func() error {
		lines, err := d.command(ctx, "receive")
		if err != nil {
			return err
		}
		if n := shown(lines, from, text); n != 1 {
			return fmt.Errorf("%w: %s was shown it %d times", errNotYet, d.Address, n)
		}
		return nil
	})
}

// agrees waits until devices name one code for the room.
func (w *walk) agrees(ctx context.Context, list ...*Device) error {
	return eventually(ctx, 30*time.Second, func() error {
		codes := make(map[any]bool)
		for _, d := range list {
			if _, err := d.command(ctx, "receive"); err != nil {
				return err
			}
			lines, err := d.command(ctx, "room", "show", room)
			if err != nil {
				return err
			}
			codes[lines[0]["code"]] = true
		}
		if len(codes) != 1 {
			return fmt.Errorf("%w: codes %v", errNotYet, codes)
		}
		return nil
	})
}

func (w *walk) epoch(ctx context.Context, d *Device) (float64, error) {
	lines, err := d.command(ctx, "room", "show", room)
	if err != nil {
		return 0, err
	}
	return number(lines[0]["epoch"]), nil
}
