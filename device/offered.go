package device

import (
	"slices"
	"strings"

	"github.com/entente-im/entente/wire"
)

// What a shell can offer while a command is typed: what this device knows without asking
// anybody.

// People lists the addresses of the members that this device has met: in its rooms, also in
// those that have ended, or for whom a text waits.
func (d *Device) People() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	add := func(k memberKey) {
		if name := d.nameOf(k); k != d.ownKey() && strings.Contains(name, "@") { // else it is an ID
			out = append(out, name)
		}
	}
	for _, r := range d.rooms {
		if r.Peer != (memberKey{}) {
			add(r.Peer)
		}
		if r.state == nil {
			continue
		}
		for _, k := range r.people() {
			add(k)
		}
	}
	_, texts, _ := d.waitingTexts() // fewer are offered
	for _, a := range texts {
		out = append(out, a.To)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// KnownDevices lists this member's devices as this one has seen them last; Devices asks.
func (d *Device) KnownDevices() []wire.DeviceID {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []wire.DeviceID{d.ID()}
	if m, err := d.chains.get(d.ownKey()); err == nil {
		for id := range m.Devices {
			if id != d.ID() && !revoked(m, id) {
				out = append(out, id)
			}
		}
	}
	return out
}
