// Package tls reads and writes the presentation language of RFC 9420 §2: the
// TLS one of RFC 8446 §3 with variable-size vector headers.
//
// Its promise: reading is strict and bounded. A length is compared with the
// bytes that are there before anything is allocated, headers have their
// shortest form only, optional markers are 0 or 1, and Done refuses bytes that
// nobody read. What a field means is left to the caller.
package tls

import (
	"encoding/binary"
	"errors"
)

// MaxVector is the longest vector that the two-bit header can announce (§2.1.2).
const MaxVector = 1<<30 - 1

// ErrDecode is returned for any input that is not the canonical encoding.
var ErrDecode = errors.New("mls: malformed encoding")

// Reader consumes one message. The first mistake sticks: later reads return
// zero values, so a decoder may read a whole structure and ask Err once.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads b, which the Reader never changes.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err is the first mistake found, or nil.
func (r *Reader) Err() error { return r.err }

// Fail makes the reader fail with err if it has not failed already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
		r.b = nil
	}
}

// Len is the number of bytes not yet read.
func (r *Reader) Len() int { return len(r.b) }

// More says whether there is something left to read and no mistake so far.
func (r *Reader) More() bool { return r.err == nil && len(r.b) > 0 }

// Done returns the first mistake, counting bytes left over as one.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = ErrDecode
	}
	return r.err
}

func (r *Reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.Fail(ErrDecode)
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// U8 reads one byte.
func (r *Reader) U8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads a big-endian uint16.
func (r *Reader) U16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads a big-endian uint32.
func (r *Reader) U32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads a big-endian uint64.
func (r *Reader) U64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Fixed reads n bytes and returns a copy.
func (r *Reader) Fixed(n int) []byte { return clone(r.take(n)) }

// Bool reads a byte that must be 0 or 1, such as an optional's marker (§2.1.1).
func (r *Reader) Bool() bool {
	v := r.U8()
	if v > 1 {
		r.Fail(ErrDecode)
	}
	return v == 1
}

// VectorLen reads a vector header (§2.1.2): 1, 2 or 4 bytes by the first two
// bits, the shortest that fits. It does not compare with what follows.
func (r *Reader) VectorLen() int {
	if r.err != nil || len(r.b) == 0 {
		r.Fail(ErrDecode)
		return 0
	}
	switch r.b[0] >> 6 {
	case 0:
		return int(r.U8())
	case 1:
		if v := int(r.U16() & 0x3fff); v >= 1<<6 {
			return v
		}
	case 2:
		if v := int(r.U32() & 0x3fffffff); v >= 1<<14 {
			return v
		}
	}
	r.Fail(ErrDecode)
	return 0
}

// Vec reads opaque<V> and returns a copy, never nil on success.
func (r *Reader) Vec() []byte { return clone(r.take(r.VectorLen())) }

// Sub reads a vector and returns a reader of its content. A mistake in the
// content has to be carried back with Join.
func (r *Reader) Sub() *Reader {
	b := r.take(r.VectorLen())
	return &Reader{b: b, err: r.err}
}

// Join takes over the outcome of a Sub reader, which must have read everything.
func (r *Reader) Join(sub *Reader) {
	if err := sub.Done(); err != nil {
		r.Fail(err)
	}
}

// Each calls f until the vector that comes next is used up.
func (r *Reader) Each(f func(*Reader)) {
	sub := r.Sub()
	for sub.More() {
		f(sub)
	}
	r.Join(sub)
}

// Rest returns a copy of everything not yet read and consumes it.
func (r *Reader) Rest() []byte { return clone(r.take(len(r.b))) }

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}
