package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Conn carries whole messages. One goroutine reads while another writes.
type Conn interface {
	// Read returns the next message, at most as long as the carrier was told to allow.
	Read(ctx context.Context) ([]byte, error)
	// Write sends one message. An error ends the connection.
	Write(ctx context.Context, b []byte) error
	// Close ends the connection and makes a pending Read return. It does not
	// wait for the peer longer than a moment, and may be called twice.
	Close(code int, reason string)
}

// Close codes of docs/protocol.md 6.3.
const (
	CodeGoingAway = 1001
	CodeInternal  = 1011
	CodeMalformed = 4400
	CodeExpired   = 4401
	CodeRevoked   = 4403
	CodeReplaced  = 4409
	CodeFlow      = 4413
)

// CloseError says why a session ended. As the cause of a cancelled context it
// tells Serve what to send.
type CloseError struct {
	Code   int
	Reason string
	Retry  time.Duration // how long to stay away; 0: not said
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("session: closed with %d: %s", e.Code, e.Reason)
}

// closeOf returns the Close frame's content for the end of a session.
func closeOf(err error) *CloseError {
	var c *CloseError
	if errors.As(err, &c) {
		return c
	}
	return &CloseError{Code: CodeInternal, Reason: "internal"}
}

func malformed(reason string) error { return &CloseError{Code: CodeMalformed, Reason: reason} }
func breach(reason string) error    { return &CloseError{Code: CodeFlow, Reason: reason} }

func (e *CloseError) frame() *pb.Frame {
	reason := e.Reason
	if len(reason) > 120 { // RFC 6455 §5.5: a control frame's payload is at most 125 bytes
		reason = reason[:120]
	}
	return &pb.Frame{Frame: &pb.Frame_Close{Close: &pb.Close{Code: uint32(e.Code), Reason: reason, RetryMs: e.Retry.Milliseconds()}}}
}

// Timing holds the waits of a session; zero values stand for those of wire.
type Timing struct {
	Heartbeat time.Duration // how often the device pings
	Silence   time.Duration // without any frame for so long, the peer is gone
	Write     time.Duration // one message must leave within
	Hello     time.Duration // the first frame, and the answer to it, must arrive within
	AckDelay  time.Duration // how long the device gathers acknowledgements
	Again     time.Duration // how often the device tries again what it could not take
}

// DefaultAckDelay is how long a device gathers acknowledgements below a quarter window.
const DefaultAckDelay = 50 * time.Millisecond

func (t Timing) orDefault() Timing {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&t.Heartbeat, wire.Heartbeat)
	set(&t.Silence, wire.SilenceLimit)
	set(&t.Write, wire.WriteTimeout)
	set(&t.Hello, wire.HelloTimeout)
	set(&t.AckDelay, DefaultAckDelay)
	set(&t.Again, wire.DeliverAgain)
	return t
}

// read waits for one message for at most d.
func read(ctx context.Context, c Conn, d time.Duration) (*pb.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	b, err := c.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("session: reading: %w", err)
	}
	return DecodeBatch(b)
}

func write(ctx context.Context, c Conn, frames []*pb.Frame, d time.Duration) error {
	b, err := EncodeBatch(frames)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := c.Write(ctx, b); err != nil {
		return fmt.Errorf("session: writing: %w", err)
	}
	return nil
}

// say closes with a Close frame, as far as the peer still listens.
func say(c Conn, why *CloseError, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), min(d, time.Second))
	defer cancel()
	_ = write(ctx, c, []*pb.Frame{why.frame()}, d)
	c.Close(why.Code, why.frame().GetClose().Reason)
}
