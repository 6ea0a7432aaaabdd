package device

// A message has its counter from when it is encrypted, which may be long before it leaves.
// What changes a room leaves at once, and the node takes no counter below one that it has had
// (docs/protocol.md 6.5): a message that was overtaken is encrypted again, and nobody is told
// that this device was set back.

// overtaking takes the next counter for a handshake. Messages that have not left lose theirs:
// they get one behind it.
func (d *Device) overtaking(t *txn) (uint64, error) {
	left := max(d.opened, d.submitted) // of those up to opened nobody knows
	if err := t.withdraw(func(o *outgoing) bool { return o.Core != nil && !o.Accepted && o.Counter > left }); err != nil {
		return 0, err
	}
	n, err := t.nextCounter()
	if err == nil {
		d.overtook = n
	}
	return n, err
}

// overtaken reports whether a handshake of this device has left under a later counter, so
// that a rolledBack says nothing about this device. A node that has seen a counter that this
// device did not have when it was opened has said so in its welcome (restored.go).
func (d *Device) overtaken(counter uint64) bool { return counter < max(d.opened, d.overtook) }
