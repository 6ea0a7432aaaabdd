package device

import (
	"slices"

	"github.com/entente-im/entente/wire"
)

// Timeline is what was shown and what was said here, by time; of one room, or of all when
// the ID is zero.
func (d *Device) Timeline(room wire.RoomID) ([]Shown, error) {
	all, err := d.History()
	if err != nil {
		return nil, err
	}
	sent, err := d.Sent()
	if err != nil {
		return nil, err
	}
	d.mu.Lock() // a new state key may not come between
	defer d.mu.Unlock()
	names := make(map[string]string)
	for id, r := range d.rooms {
		names[id.String()] = r.Name
	}
	own := d.Address().String()
	for _, s := range sent {
		x := Shown{Event: "message", Sent: true, ID: s.ID, From: own, To: s.To, Text: s.Text, File: s.File, Room: s.Room, RoomName: names[s.Room],
			ReplyTo: s.ReplyTo, Edited: s.Edited, Deleted: s.Deleted, Gone: s.Gone && !s.Deleted, Mentions: s.Mentions, Seq: s.Seq, At: s.At}
		if s.Reaction {
			if x.Event = "reaction"; s.Deleted {
				continue // taken back
			}
		}
		if err := d.vault.view(func(t *txn) error { return t.quote(&x) }); err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	if room != (wire.RoomID{}) {
		all = slices.DeleteFunc(all, func(s Shown) bool { return s.Room != room.String() })
	}
	slices.SortStableFunc(all, func(a, b Shown) int { return a.At.Compare(b.At) })
	return all, nil
}
