package federation

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/wire"
)

// Times that a partner is given. They bound how long a slow or silent one can hold
// a stream and its memory.
const (
	HelloTimeout = 10 * time.Second
	FrameTimeout = time.Minute // a whole frame, once its first byte is there
	QueryTimeout = 30 * time.Second
	DialTimeout  = 15 * time.Second
)

// serviceName is what the resource manager accounts our streams under.
const serviceName = "entente.federation"

// frames reads and writes frames on a stream, with every deadline and memory
// reservation that belongs to them.
type frames struct {
	s network.Stream
	r *bufio.Reader
}

func newFrames(s network.Stream) *frames {
	return &frames{s: s, r: bufio.NewReaderSize(s, 4<<10)}
}

// await blocks until the next frame begins, for ever when within is 0. A partner
// that is silent between frames is not slow.
func (f *frames) await(within time.Duration) error {
	var until time.Time
	if within > 0 {
		until = time.Now().Add(within)
	}
	if err := f.s.SetReadDeadline(until); err != nil {
		return err
	}
	_, err := f.r.Peek(1)
	return err
}

// read reads one frame that has to be complete in time. The memory for it is
// reserved first and is held until release is called.
func (f *frames) read(m proto.Message, limit int, within time.Duration) (release func(), err error) {
	if err := f.s.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	size, err := f.peekLength()
	if err != nil {
		return nil, err
	}
	if size > uint64(limit) {
		return nil, fmt.Errorf("%w: a frame of %d bytes: at most %d are allowed", wire.ErrMalformed, size, limit)
	}
	reserved := 2 * int(size) // the bytes, and the message made of them
	scope := f.s.Scope()
	if err := scope.ReserveMemory(reserved, network.ReservationPriorityMedium); err != nil {
		return nil, fmt.Errorf("federation: no memory for a frame of %d bytes: %w", size, err)
	}
	if err := wire.ReadFrame(f.r, m, limit); err != nil {
		scope.ReleaseMemory(reserved)
		return nil, err
	}
	return func() { scope.ReleaseMemory(reserved) }, nil
}

// peekLength reads the length that a frame begins with and leaves it in place; a
// malformed one is left to wire.ReadFrame to refuse.
func (f *frames) peekLength() (uint64, error) {
	for n := 1; n <= 5; n++ {
		b, err := f.r.Peek(n)
		if err != nil {
			return 0, err
		}
		if b[n-1] < 0x80 {
			size, _ := binary.Uvarint(b)
			return size, nil
		}
	}
	return 0, fmt.Errorf("%w: a frame length of more than five bytes", wire.ErrMalformed)
}

// write writes one frame in time.
func (f *frames) write(m proto.Message, limit int, within time.Duration) error {
	if err := f.s.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	return wire.WriteFrame(f.s, m, limit)
}

// serve wraps a protocol's handler in what every inbound stream gets: a place in
// the lobby for strangers, a service scope, an end with the federation, and a close
// or a reset when it returns.
func (f *Federation) serve(name string, handle func(context.Context, *frames) error) network.StreamHandler {
	return func(s network.Stream) {
		if !f.enter() {
			s.Reset()
			return
		}
		defer f.running.Done()
		ctx, cancel := context.WithCancel(f.ctx)
		defer cancel()
		defer context.AfterFunc(ctx, func() { s.Reset() })()
		waiting, served := context.WithTimeout(ctx, LobbyStay)
		leave, ok := f.gate.enter(waiting, s.Conn())
		served()
		if !ok {
			f.metrics.refused.WithLabelValues("streams").Inc()
			s.Reset()
			return
		}
		defer leave()
		if err := s.Scope().SetService(serviceName); err != nil {
			s.Reset()
			return
		}
		if err := handle(ctx, newFrames(s)); err != nil {
			f.streamFailed(name, s, err)
			return
		}
		s.Close()
	}
}

// streamFailed resets a stream and counts why. What a stranger does is not logged
// at a level that would let strangers fill the log.
func (f *Federation) streamFailed(name string, s network.Stream, err error) {
	reason := "lost"
	if errors.Is(err, wire.ErrMalformed) {
		reason = "malformed"
	}
	f.metrics.streams.WithLabelValues(name, reason).Inc()
	f.log.Debug("stream ended", "protocol", name, "peer", s.Conn().RemotePeer().String(), "reason", reason, "error", err.Error())
	s.Reset()
}
