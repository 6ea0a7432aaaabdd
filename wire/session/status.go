package session

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// ConnectError makes the answer of a failed call (docs/protocol.md section 7): a
// Connect code for proxies and people, and the Status as a detail for programs. An
// error without a status becomes internal, without its text. nil stays nil.
func ConnectError(err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		return err
	}
	st := wire.StatusOf(err)
	e := connect.NewError(connectCode(st.Code), &told{(&wire.StatusError{Status: st}).Error(), err})
	if d, derr := connect.NewErrorDetail(st); derr == nil {
		e.AddDetail(d)
	}
	return e
}

// told is an error as the other side is told of it; the cause stays here, for the log.
type told struct {
	text  string
	cause error
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.cause }

// Cause returns what lies behind an error of ConnectError, which only its text leaves.
func Cause(err error) error {
	var t *told
	if errors.As(err, &t) {
		return t.cause
	}
	return err
}

func connectCode(c pb.Code) connect.Code {
	switch c {
	case pb.Code_CODE_UNAUTHENTICATED:
		return connect.CodeUnauthenticated
	case pb.Code_CODE_FORBIDDEN, pb.Code_CODE_REVOKED:
		return connect.CodePermissionDenied
	case pb.Code_CODE_UNKNOWN_MEMBER, pb.Code_CODE_UNKNOWN_ORGANIZATION, pb.Code_CODE_UNKNOWN_ROOM,
		pb.Code_CODE_UNKNOWN_DEVICE, pb.Code_CODE_LINK_UNKNOWN, pb.Code_CODE_NOT_FOUND:
		return connect.CodeNotFound
	case pb.Code_CODE_MALFORMED, pb.Code_CODE_TOO_LARGE:
		return connect.CodeInvalidArgument
	case pb.Code_CODE_UNSUPPORTED:
		return connect.CodeUnimplemented
	case pb.Code_CODE_NAME_TAKEN, pb.Code_CODE_EXISTS:
		return connect.CodeAlreadyExists
	case pb.Code_CODE_FULL, pb.Code_CODE_RATE_LIMITED:
		return connect.CodeResourceExhausted
	case pb.Code_CODE_INTERNAL:
		return connect.CodeInternal
	}
	if wire.ClassOf(c) == wire.Temporary {
		return connect.CodeUnavailable
	}
	return connect.CodeFailedPrecondition
}

// ErrAway says that the home node itself could not be asked.
var ErrAway = wire.Refuse(pb.Code_CODE_UNREACHABLE, "the home node does not answer")

// FromConnect is the inverse: a *wire.StatusError with the status that the node
// sent. Without one the Connect code decides: unauthenticated, or unreachable for
// a node that did not answer. The end of the caller's context stays what it is.
func FromConnect(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var se *wire.StatusError
	if errors.As(err, &se) {
		return err
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if st, ok := v.(*pb.Status); ok && wire.ClassOf(st.Code) != wire.Success {
				return &wire.StatusError{Status: st}
			}
		}
	}
	switch ce.Code() {
	case connect.CodeUnauthenticated:
		return wire.Refuse(pb.Code_CODE_UNAUTHENTICATED, "")
	case connect.CodeUnavailable:
		if connect.IsWireError(err) {
			return ErrAway
		}
		return fmt.Errorf("%w: %w", ErrAway, ce.Unwrap()) // callers look for their own errors inside
	case connect.CodeResourceExhausted:
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "an answer or request over the limit")
	case connect.CodeUnimplemented:
		return wire.Refuse(pb.Code_CODE_UNSUPPORTED, "the node does not know this call")
	}
	return wire.Refuse(pb.Code_CODE_INTERNAL, "the node failed with the code %s", ce.Code())
}
