package session

import (
	"fmt"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// MaxMessage is the longest message that a device reads: a delivered handshake
// travels alone and may exceed wire.MaxSessionBatch (docs/protocol.md 6.2).
const MaxMessage = wire.MaxHandshakeBody + 2*wire.MaxEnvelopeExtra

// EncodeBatch returns the message that carries frames.
func EncodeBatch(frames []*pb.Frame) ([]byte, error) {
	b, err := proto.Marshal(&pb.Batch{Frames: frames})
	if err != nil {
		return nil, fmt.Errorf("session: encoding a batch: %w", err)
	}
	if err := checkSize(len(b), len(frames)); err != nil {
		return nil, err
	}
	return b, nil
}

func checkSize(bytes, frames int) error {
	switch {
	case frames == 0 || frames > wire.MaxBatchFrames:
		return malformed(fmt.Sprintf("a batch of %d frames", frames))
	case bytes > MaxMessage, bytes > wire.MaxSessionBatch && frames > 1:
		return malformed(fmt.Sprintf("a batch of %d bytes", bytes))
	}
	return nil
}

// DecodeBatch reads one message. The frames are counted before any of them is
// allocated, a batch above wire.MaxSessionBatch is a single Deliver, and a frame
// of a kind that this build does not know stays in the list with a nil Frame.
func DecodeBatch(b []byte) (*pb.Batch, error) {
	n, err := countFrames(b)
	if err != nil {
		return nil, err
	}
	if err := checkSize(len(b), n); err != nil {
		return nil, err
	}
	var batch pb.Batch
	if err := proto.Unmarshal(b, &batch); err != nil || len(batch.Frames) != n {
		return nil, malformed("a batch that is not protobuf")
	}
	if len(b) > wire.MaxSessionBatch && batch.Frames[0].GetDeliver() == nil {
		return nil, malformed(fmt.Sprintf("a batch of %d bytes", len(b)))
	}
	return &batch, nil
}

// countFrames walks the outermost fields only.
func countFrames(b []byte) (int, error) {
	n := 0
	for len(b) > 0 {
		num, typ, l := protowire.ConsumeTag(b)
		if l < 0 {
			return 0, malformed("a batch that is not protobuf")
		}
		b = b[l:]
		if l = protowire.ConsumeFieldValue(num, typ, b); l < 0 {
			return 0, malformed("a batch that is not protobuf")
		}
		b = b[l:]
		if num == 1 && typ == protowire.BytesType { // any other type is an unknown field
			n++
		}
	}
	return n, nil
}

// frameOverhead is what a frame may add to its payload in a batch: tags, lengths,
// numbers.
const frameOverhead = 64

// packer gathers frames into messages within the limits of 6.2.
type packer struct {
	frames []*pb.Frame
	size   int
}

// fits reports whether a frame with a payload of n bytes still goes in. Alone,
// every frame goes in.
func (p *packer) fits(n int) bool {
	return len(p.frames) == 0 || len(p.frames) < wire.MaxBatchFrames && p.size+n+frameOverhead <= wire.MaxSessionBatch
}

func (p *packer) add(f *pb.Frame, n int) {
	p.frames = append(p.frames, f)
	p.size += n + frameOverhead
}

func (p *packer) room() int { return wire.MaxBatchFrames - len(p.frames) }
