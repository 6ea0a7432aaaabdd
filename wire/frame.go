package wire

import (
	"bufio"
	"encoding/binary"
	"io"

	"google.golang.org/protobuf/proto"
)

// WriteFrame writes m as a length-delimited frame: an unsigned varint of at most
// five bytes, then the message (docs/protocol.md 5.1).
func WriteFrame(w io.Writer, m proto.Message, limit int) error {
	size := proto.Size(m)
	if size > limit {
		return malformed("a frame of %d bytes: at most %d are allowed", size, limit)
	}
	b := binary.AppendUvarint(make([]byte, 0, size+5), uint64(size))
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// ReadFrame reads one frame into m. The length is checked against limit before
// anything is allocated; a length with superfluous bytes is refused. io.EOF means
// the stream ended between frames.
func ReadFrame(r *bufio.Reader, m proto.Message, limit int) error {
	size, err := readLength(r)
	if err != nil {
		return err
	}
	if size > uint64(limit) {
		return malformed("a frame of %d bytes: at most %d are allowed", size, limit)
	}
	b, err := readExactly(r, int(size))
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return malformed("a frame that is not protobuf")
	}
	return nil
}

// readExactly grows with what arrives, so that a peer cannot make us allocate
// megabytes by promising them.
func readExactly(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		have := len(b)
		grow := min(n-have, max(step, have))
		b = append(b, make([]byte, grow)...)
		if _, err := io.ReadFull(r, b[have:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}

func readLength(r *bufio.Reader) (uint64, error) {
	var v uint64
	for i := range 5 {
		c, err := r.ReadByte()
		if err != nil {
			if err == io.EOF && i > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, malformed("a frame length with superfluous bytes")
			}
			return v, nil
		}
	}
	return 0, malformed("a frame length of more than five bytes")
}
