// Package wire holds what crosses borders: identifiers, addresses, envelopes,
// notes, frames, statuses and limits, and the generated protobuf messages
// (subpackage ententev1).
//
// Its promise: whatever it parses re-encodes to the same bytes, no length is
// believed before it is bounded, and no value here holds a secret. It does no
// I/O but for reading and writing frames, and imports nothing of ours.
// docs/protocol.md is its specification, section by section.
package wire
