package sim

import (
	"fmt"
	"sync"

	"github.com/entente-im/entente/device"
)

// ledger is what happened as people saw it: what was written, what each was shown. It
// knows nothing that a node or device says of itself.
type ledger struct {
	marker string // begins every text of the run, so that one search finds them all

	mu      sync.Mutex
	written int
	texts   map[string]*written
	order   map[string]map[uint64]string // room: number: message
	gaps    map[*person]string           // who was told of messages that nobody can show them, and how
	alarms  map[*person]string           // who was told that a hub contradicts itself, and how
	faults  []string                     // what was seen to be wrong at once
}

// written is a text that somebody sent.
type written struct {
	text  string
	from  *person
	to    *person // of a room of two; nil: the big room
	after map[*person]bool
	shown map[*person]int
}

// by reports whether a device is one of the member's who wrote it.
func (w *written) by(p *person) bool { return p.owner() == w.from.owner() }

func newLedger(seed uint64) *ledger {
	return &ledger{marker: fmt.Sprintf("plaintext-of-run-%d", seed), texts: make(map[string]*written), order: make(map[string]map[uint64]string), gaps: make(map[*person]string), alarms: make(map[*person]string)}
}

// write makes a text that was never written before. Whoever was out of the room before
// it was written may not be shown it.
func (l *ledger) write(from, to *person, out map[*person]bool) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written++
	text := fmt.Sprintf("%s, number %d, by %s", l.marker, l.written, from.name)
	after := make(map[*person]bool)
	for p := range out {
		after[p] = true
	}
	l.texts[text] = &written{text: text, from: from, to: to, after: after, shown: make(map[*person]int)}
	return text
}

// show notes what a person was shown and names at once what may never be.
func (l *ledger) show(p *person, s device.Shown) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Event == "room" && (s.State == "gap" || s.State == "reset" || s.State == "resynced") { // each says that words are missing
		l.gaps[p] += s.State + " " + s.Reason + "; "
	}
	if s.Event == "room" && (s.State == "forked" || s.State == "stopped") {
		l.alarms[p] += s.State + " " + s.Reason + "; "
	}
	if s.Event != "message" {
		return
	}
	w := l.texts[s.Text]
	if w == nil {
		l.faults = append(l.faults, fmt.Sprintf("%s was shown %q, which nobody wrote", p.name, s.Text))
		return
	}
	if w.shown[p]++; w.shown[p] > 1 {
		l.faults = append(l.faults, fmt.Sprintf("P2: %s was shown %q %d times", p.name, s.Text, w.shown[p]))
	}
	if w.after[p] {
		l.faults = append(l.faults, fmt.Sprintf("P4: %s was shown %q, written after the removal", p.name, s.Text))
	}
	if s.From != w.from.address() {
		l.faults = append(l.faults, fmt.Sprintf("%s was shown %q as from %s", p.name, s.Text, s.From))
	}
	if p.home.alter != nil || s.Seq == 0 {
		return // a hostile node's own people see what it likes; of a room that was merged no place is told
	}
	at := l.order[s.Room]
	if at == nil {
		at = make(map[uint64]string)
		l.order[s.Room] = at
	}
	if before, ok := at[s.Seq]; ok && before != s.ID {
		l.faults = append(l.faults, fmt.Sprintf("P3: number %d of room %s is %s to one and %s to %s", s.Seq, s.Room, before, s.ID, p.name))
	}
	at[s.Seq] = s.ID
}

// count is how many texts were written, and how often one was shown.
func (l *ledger) count() (texts, shown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.texts {
		texts++
		for _, n := range w.shown {
			shown += n
		}
	}
	return texts, shown
}
