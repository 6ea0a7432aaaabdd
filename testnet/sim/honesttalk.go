package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What people say and operators agree on in an honest run, while nodes are set back: a room of
// each of the first three organizations with a member of each, and amendments between them
// (docs/protocol.md 3.5 and 5.8).

// gather enrols a member at each of the first three organizations, each of whom makes a room
// with the others.
func (h *honest) gather(ctx context.Context) error {
	for i, s := range h.sites[:3] {
		p, err := h.person(ctx, s, fmt.Sprintf("talker%d", i))
		if err != nil {
			return err
		}
		h.talkers = append(h.talkers, p)
	}
	for i, p := range h.talkers {
		var others []wire.Address
		for _, q := range h.talkers {
			if q != p {
				others = append(others, wire.Address{Name: q.name, Organization: q.home.name})
			}
		}
		err := p.change("create", func(ctx context.Context, s *device.Sender) error {
			id, err := s.CreateRoom(ctx, fmt.Sprintf("room%d", i), device.RoomOptions{Members: others})
			h.rooms = append(h.rooms, id)
			return err
		})
		if err != nil {
			return fmt.Errorf("sim: making a room: %w", err)
		}
	}
	return h.look()
}

// look has everybody read, and fails when anybody was shown two orders, or what nobody wrote.
func (h *honest) look() error {
	for _, p := range h.talkers {
		_ = p.visit(0) // a node that is away or recovering is visited later
	}
	h.ledger.mu.Lock()
	defer h.ledger.mu.Unlock()
	if len(h.ledger.faults) > 0 {
		return fmt.Errorf("sim: %s", strings.Join(h.ledger.faults, "; "))
	}
	return nil
}

// talk has somebody write into one of the rooms.
func (h *honest) talk() error {
	p, room := h.talkers[h.rng.IntN(3)], h.rooms[h.rng.IntN(3)]
	if p.send(nil, room, h.ledger.write(p, nil, nil)) != nil {
		h.did["written, and waits"]++
	}
	return h.look()
}

// amend has an organization propose other terms to one of the others, and that one sign them.
func (h *honest) amend(ctx context.Context, s *site) error {
	other := h.sites[(slices.Index(h.sites, s)+1+h.rng.IntN(2))%3]
	size := uint64(1 + h.rng.IntN(1<<20))
	_, err := s.operator.AmendPartner(ctx, connect.NewRequest(&pb.AmendPartnerRequest{Name: other.name, Terms: &pb.TermsChange{FileSize: &size}}))
	if err != nil {
		h.did["not proposed: "+wordOf(err)]++
		return nil
	}
	if h.rng.IntN(3) == 0 {
		return nil // it waits, over whatever comes
	}
	synctest.Wait()
	shown, err := other.operator.ShowPartner(ctx, connect.NewRequest(&pb.ShowPartnerRequest{Name: s.name}))
	if err != nil || shown.Msg.Proposed == nil && shown.Msg.Offered == nil {
		h.did["not offered yet"]++
		return nil
	}
	if shown.Msg.Offered == nil {
		return nil
	}
	_, err = other.operator.AcceptAmendment(ctx, connect.NewRequest(&pb.AcceptAmendmentRequest{Name: s.name, Proposal: shown.Msg.Offered.Hash}))
	if err != nil {
		h.did["not signed: "+wordOf(err)]++
	}
	return nil
}

// wordOf is the status in an error, for a count.
func wordOf(err error) string {
	word, _, _ := strings.Cut(err.Error(), ": ")
	_, rest, _ := strings.Cut(err.Error(), ": ")
	if rest, _, _ = strings.Cut(rest, ":"); len(rest) > 40 {
		rest = rest[:40]
	}
	return word + " " + rest
}

// signed notes which texts are in force, and fails when one version of an agreement has two.
func (h *honest) signed(ctx context.Context) error {
	for i, a := range h.sites[:3] {
		for _, b := range h.sites[:3] {
			if a == b {
				continue
			}
			p, err := a.operator.ShowPartner(ctx, connect.NewRequest(&pb.ShowPartnerRequest{Name: b.name}))
			if err != nil {
				return err
			}
			first, second := a.name, b.name
			if i > slices.Index(h.sites, b) {
				first, second = second, first
			}
			key := fmt.Sprintf("%s and %s, version %d", first, second, p.Msg.Version)
			if was := h.texts[key]; was != "" && was != p.Msg.Status.Agreement {
				return fmt.Errorf("sim: two texts are signed: %s: %s and %s", key, was, p.Msg.Status.Agreement)
			}
			h.texts[key] = p.Msg.Status.Agreement
		}
	}
	return nil
}

// agreeInTheEnd waits until both sides of each agreement have one text in force.
func (h *honest) agreeInTheEnd(ctx context.Context) error {
	_, err := eventually(h.sites[:3], 10*time.Minute, func(s *site) error {
		for _, o := range h.sites[:3] {
			if s == o {
				continue
			}
			a, err := s.operator.ShowPartner(ctx, connect.NewRequest(&pb.ShowPartnerRequest{Name: o.name}))
			if err != nil {
				return err
			}
			b, err := o.operator.ShowPartner(ctx, connect.NewRequest(&pb.ShowPartnerRequest{Name: s.name}))
			if err != nil {
				return err
			}
			if a.Msg.Status.Agreement != b.Msg.Status.Agreement {
				return fmt.Errorf("%w: %s has version %d with %s, which has %d: %s", errNever, s.name, a.Msg.Version, o.name, b.Msg.Version, a.Msg.Status.LastError)
			}
		}
		return nil
	})
	return err
}

// honestReceipts has everybody write and read once more in every room, and fails when a message
// is said to be acknowledged by whom it was not shown to, or when a room does not go on.
func (h *honest) honestReceipts() error {
	for range 3 {
		for _, p := range h.talkers {
			for _, room := range h.rooms {
				_ = p.send(nil, room, h.ledger.write(p, nil, nil))
			}
		}
		time.Sleep(time.Minute)
		if err := h.look(); err != nil {
			return err
		}
	}
	time.Sleep(time.Minute)
	if err := h.look(); err != nil {
		return err
	}
	h.ledger.mu.Lock()
	defer h.ledger.mu.Unlock()
	went := make(map[string]bool)
	for _, p := range h.talkers {
		d, _ := p.now()
		sent, err := d.Sent()
		if err != nil {
			return err
		}
		for _, s := range sent {
			w := h.ledger.texts[s.Text]
			if w == nil {
				continue
			}
			for _, m := range s.Members {
				for _, q := range h.talkers {
					if m.Address == q.address() && m.State == "acknowledged" && w.shown[q] == 0 {
						return fmt.Errorf("sim: %q is said to be acknowledged by %s, who was never shown it", s.Text, q.name)
					}
				}
			}
			if s.State == "sequenced" || s.Acknowledged() > 0 {
				went[s.Room] = true
			}
		}
	}
	for _, room := range h.rooms {
		if !went[room.String()] {
			return fmt.Errorf("sim: nothing was sequenced in room %s", room)
		}
	}
	return nil
}
