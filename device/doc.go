// Package device is a member's device: its keys, its encrypted store, its rooms as
// MLS groups, and sending and receiving through the home node (device/home).
//
// Its promises: an advanced ratchet is stored before bytes that use it leave; MLS
// state, plaintext and marks of a delivery are stored in one transaction, and only
// then is it acknowledged; a message is kept until it is sequenced and is shown
// once; a leaf is let in only after its whole certificate chain was verified from
// the organization ID that this device remembers; expired history is unreadable
// with the passphrase in hand, because its key's slot was overwritten.
//
// It leaves to others the protocol of MLS (mls, mls/group), certificates (identity),
// transport (device/home, wire/session), and what people see (cmd/entente).
//
// # On disk, format version 1
//
//	device.sealed   identity.Seal of the master key, under the passphrase
//	slots           store/slot: 0 and 1 the state key in turn, 2 to 65 day keys
//	device.db       bbolt; every value sealed with XChaCha20-Poly1305, bound to its
//	                bucket and key:
//	  meta          under the master key: account, counters, marks, pins, certificate chains
//	  state         under the state key: KeyPackage secrets, rooms, their MLS records (mlsrecords.go),
//	                staged Commits, messages that are not sequenced yet
//	  history       day uint32 ‖ sealed under that day's key: messages and what became of sent ones
//
// The state key is replaced hourly and with every Commit: all of state is sealed anew
// in one transaction, then the old key's slot is overwritten. A day key is
// overwritten when its day has ended. bbolt keeps deleted pages; without the keys
// they are noise.
package device
