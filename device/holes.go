package device

// maxHoles bounds the runs of places of a room that a device remembers as passed over;
// beyond them the oldest is forgotten, and what comes for it later is a repeated place.
const maxHoles = 32

// fill reports whether a place was passed over, and notes that it is no more. A message
// that was held back in quarantine comes after what followed it (docs/protocol.md 5.7);
// that nothing is shown twice is MLS's to say, by keys that are used once.
func (r *room) fill(seq uint64) bool {
	for i, h := range r.Holes {
		if seq < h[0] || seq > h[1] {
			continue
		}
		holes := append([][2]uint64(nil), r.Holes[:i]...)
		if seq > h[0] {
			holes = append(holes, [2]uint64{h[0], seq - 1})
		}
		if seq < h[1] {
			holes = append(holes, [2]uint64{seq + 1, h[1]})
		}
		r.Holes = append(holes, r.Holes[i+1:]...)
		return true
	}
	return false
}
