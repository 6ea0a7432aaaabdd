package tls

import "encoding/binary"

// Writer appends to a byte slice. The zero value is ready.
type Writer struct{ B []byte }

// NewWriter has room for n bytes before it grows.
func NewWriter(n int) *Writer { return &Writer{B: make([]byte, 0, n)} }

// U8 appends one byte.
func (w *Writer) U8(v uint8) { w.B = append(w.B, v) }

// U16 appends a big-endian uint16.
func (w *Writer) U16(v uint16) { w.B = binary.BigEndian.AppendUint16(w.B, v) }

// U32 appends a big-endian uint32.
func (w *Writer) U32(v uint32) { w.B = binary.BigEndian.AppendUint32(w.B, v) }

// U64 appends a big-endian uint64.
func (w *Writer) U64(v uint64) { w.B = binary.BigEndian.AppendUint64(w.B, v) }

// Bool appends 0 or 1.
func (w *Writer) Bool(v bool) {
	if v {
		w.U8(1)
	} else {
		w.U8(0)
	}
}

// Raw appends b as it is.
func (w *Writer) Raw(b []byte) { w.B = append(w.B, b...) }

// AppendHeader appends the shortest vector header for n (§2.1.2). Nothing that
// this library writes comes near MaxVector: longer is a mistake of the program.
func AppendHeader(b []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(b, uint8(n))
	case n < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(n)|1<<14)
	case n <= MaxVector:
		return binary.BigEndian.AppendUint32(b, uint32(n)|2<<30)
	}
	panic("mls: vector longer than 2^30-1 bytes")
}

// Vec appends opaque<V>.
func (w *Writer) Vec(b []byte) {
	w.B = AppendHeader(w.B, len(b))
	w.Raw(b)
}

// Vector appends the vector whose content f writes.
func (w *Writer) Vector(f func(*Writer)) {
	at := len(w.B)
	f(w)
	n := len(w.B) - at
	var buf [4]byte
	h := AppendHeader(buf[:0], n)
	// The content is moved by 1 to 4 bytes: its length is not known before.
	w.B = append(w.B, h...)
	copy(w.B[at+len(h):], w.B[at:at+n])
	copy(w.B[at:], h)
}
