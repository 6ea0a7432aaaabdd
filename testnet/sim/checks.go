package sim

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/store"
)

// check holds a run that has come to rest against the promises (docs/design.md). It
// returns what is broken, in words.
func (t *talk) check() []string {
	t.ledger.mu.Lock()
	faults := slices.Clone(t.ledger.faults)
	t.ledger.mu.Unlock()
	faults = append(faults, t.conserved()...)
	faults = append(faults, t.followed()...)
	faults = append(faults, t.agreed()...)
	return append(faults, t.searched()...)
}

// conserved is P2: every message that a device has on record was shown once at everybody
// it was for, or its sender was told that it was not; and nothing else was shown. A device
// that was revoked is told of nothing any more.
func (t *talk) conserved() (faults []string) {
	recorded, gone := make(map[string]bool), t.gone()
	for _, p := range t.devices() {
		d, _ := p.now()
		sent, err := d.Sent()
		if err != nil {
			return []string{p.label + ": " + err.Error()}
		}
		for _, s := range sent {
			recorded[s.Text] = true
			if !t.hostile(p) && !(p.of != nil && gone[p]) {
				faults = append(faults, t.accounted(s)...)
			}
		}
	}
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	for text, w := range t.ledger.texts {
		if len(w.shown) > 0 && !recorded[text] {
			faults = append(faults, fmt.Sprintf("P2: %q was shown, and its sender's device knows nothing of it", text))
		}
	}
	return faults
}

// accounted compares what a sender was told of a message with who was shown it. Where a
// member hands in Commits that nobody can apply, it is enough that the recipient was told
// of a gap: a device that came back cannot read what was said meanwhile.
func (t *talk) accounted(s device.Sent) (faults []string) {
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	w := t.ledger.texts[s.Text]
	if w == nil {
		return []string{fmt.Sprintf("P2: a device has sent %q, which nobody wrote", s.Text)}
	}
	if s.State == "refused" {
		// A hostile node may refuse in words what it then hands to its own people. The sender's
		// other devices show what was said, whoever refuses it.
		for p := range w.shown {
			if !t.hostile(p) && !w.by(p) {
				faults = append(faults, fmt.Sprintf("P2: %q was refused (%s), and shown to %s", s.Text, s.Reason, p.label))
			}
		}
		return faults
	}
	recipients := []*person{w.to}
	if w.to == nil {
		recipients = t.stable()
	}
	for _, p := range recipients {
		if w.by(p) || t.read(w, p) || told(s, p) || t.hostile(p) || t.side == aMember && t.ledger.gaps[p] != "" {
			continue
		}
		faults = append(faults, fmt.Sprintf("P2: %q is lost for %s: %s, %+v", s.Text, p.name, s.State, s.Members))
	}
	return faults
}

// read reports whether somebody was shown a text, on whichever device.
func (t *talk) read(w *written, who *person) bool {
	return slices.ContainsFunc(t.devices(), func(p *person) bool { return (p == who || p.of == who) && w.shown[p] == 1 })
}

// told reports whether the sender knows that somebody was not shown a message.
func told(s device.Sent, p *person) bool {
	not := []string{"unreadable", "expired", "refused", "dropped"}
	for _, m := range s.Members {
		if m.Address == p.address() {
			return slices.Contains(not, m.State)
		}
	}
	return slices.Contains(not, s.State)
}

// followed is what everybody can expect where nobody is hostile: whatever happens to links,
// nodes and devices, no device loses its way and comes back over a gap, and no hub is said to lie.
func (t *talk) followed() (faults []string) {
	if t.side != nobody {
		return nil
	}
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	for p, how := range t.ledger.gaps {
		faults = append(faults, fmt.Sprintf("P2: %s was told of a gap although nobody is hostile: %s", p.label, how))
	}
	for p, how := range t.ledger.alarms {
		faults = append(faults, fmt.Sprintf("P3: %s was told of a hub that lies although nobody is hostile: %s", p.label, how))
	}
	return faults
}

// agreed is P3: all who are in the room name one code for it, or were told why not.
func (t *talk) agreed() (faults []string) {
	var infos []device.RoomInfo
	var names []string
	gone := t.gone()
	for i, p := range t.devices() {
		if i == removed || i == leaver || t.hostile(p) || p.of != nil && gone[p] {
			continue
		}
		d, _ := p.now()
		for _, r := range d.Rooms() {
			if r.ID == t.room.String() {
				infos, names = append(infos, r), append(names, p.label)
				t.count("at the end " + r.State)
			}
		}
	}
	return disagreements(infos, names)
}

// disagreements compares the codes of one room.
func disagreements(infos []device.RoomInfo, names []string) (faults []string) {
	first := -1
	for i, r := range infos {
		if r.State != "open" {
			if r.Reason == "" {
				faults = append(faults, fmt.Sprintf("P3: the room is %s to %s, without a reason", r.State, names[i]))
			}
			continue
		}
		if first < 0 {
			first = i
		}
		if a := infos[first]; r.Epoch != a.Epoch || r.Code != a.Code {
			faults = append(faults, fmt.Sprintf("P3: epoch %d with code %.8s to %s, %d with %.8s to %s", a.Epoch, a.Code, names[first], r.Epoch, r.Code, names[i]))
		}
	}
	return faults
}

// searched is P4 for nodes: no text stands in what crossed a link, in a node's files or
// in its log. A text that is put there is found, or the search proves nothing.
func (t *talk) searched() (faults []string) {
	needle := []byte(t.ledger.marker)
	t.net.mu.Lock()
	tap := t.net.tap
	t.net.mu.Unlock()
	if bytes.Contains(tap, needle) {
		faults = append(faults, "P4: a text crossed a link")
	}
	t.logs.mu.Lock()
	if bytes.Contains(t.logs.b, needle) {
		faults = append(faults, "P4: a text stands in a log")
	}
	t.logs.mu.Unlock()
	for _, s := range t.sites {
		if hits := holders(s.dir, needle); len(hits) > 0 {
			faults = append(faults, fmt.Sprintf("P4: a text stands in %v", hits))
		}
	}
	canary := filepath.Join(t.sites[0].dir, "canary")
	if err := os.WriteFile(canary, append(make([]byte, 4093), needle...), 0o600); err != nil {
		return append(faults, err.Error())
	}
	defer os.Remove(canary)
	if len(holders(t.sites[0].dir, needle)) == 0 || len(tap) == 0 {
		faults = append(faults, "P4: the search finds nothing that was put there")
	}
	return faults
}

// holders lists the files under a folder that hold a text.
func holders(dir string, needle []byte) (hits []string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, needle) {
			hits = append(hits, path)
		}
		return nil
	})
	return hits
}

// destroyed is P5: with the bodies of a node's earlier files and all its files now,
// nothing opens. The same search on the earlier files alone opens what waited then.
// It tries every key at every offset and takes seconds.
func (t *talk) destroyed(s *site, before string) (bodies int, faults []string) {
	before, now := filepath.Join(before, node.StoreFolder), filepath.Join(s.dir, node.StoreFolder)
	control, err := store.Hunt(before, before)
	if err != nil {
		return 0, []string{err.Error()}
	}
	r, err := store.Hunt(before, now)
	if err != nil {
		return 0, []string{err.Error()}
	}
	if r.Opened > 0 {
		faults = append(faults, fmt.Sprintf("P5: %d of %d bodies of %s open although everybody has acknowledged", r.Opened, r.Bodies, s.name))
	}
	return control.Opened, faults
}
