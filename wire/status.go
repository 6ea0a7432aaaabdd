package wire

import (
	"errors"
	"fmt"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
)

// StatusClass says whether trying again can help.
type StatusClass int

// The classes of docs/protocol.md 4.1.
const (
	Success   StatusClass = iota
	Temporary             // the same item may succeed later
	Permanent             // it never will
	Policy                // it may when people decide otherwise
)

func (c StatusClass) String() string {
	return [...]string{"success", "temporary", "permanent", "policy"}[c]
}

type codeInfo struct {
	name  string
	class StatusClass
	scope pb.Scope
	text  string
}

const (
	item      = pb.Scope_SCOPE_ITEM
	recipient = pb.Scope_SCOPE_RECIPIENT
	room      = pb.Scope_SCOPE_ROOM
	partner   = pb.Scope_SCOPE_PARTNER
)

// The closed set of statuses: docs/protocol.md 4.2 is this table.
var codes = map[pb.Code]codeInfo{
	pb.Code_CODE_OK:                   {"ok", Success, item, "done"},
	pb.Code_CODE_ACCEPTED:             {"accepted", Success, item, "on stable storage; this node is responsible"},
	pb.Code_CODE_SEQUENCED:            {"sequenced", Success, item, "the hub has given it its place"},
	pb.Code_CODE_DUPLICATE:            {"duplicate", Success, item, "accepted before"},
	pb.Code_CODE_MALFORMED:            {"malformed", Permanent, item, "the bytes are not what they should be"},
	pb.Code_CODE_UNSUPPORTED:          {"unsupported", Permanent, item, "a version or kind that this node does not know"},
	pb.Code_CODE_TOO_LARGE:            {"tooLarge", Permanent, item, "over the size limit"},
	pb.Code_CODE_UNAUTHENTICATED:      {"unauthenticated", Permanent, partner, "sign in again"},
	pb.Code_CODE_FORBIDDEN:            {"forbidden", Permanent, item, "not allowed to do this"},
	pb.Code_CODE_REVOKED:              {"revoked", Permanent, partner, "this device was revoked"},
	pb.Code_CODE_UNKNOWN_MEMBER:       {"unknownMember", Permanent, recipient, "no such member"},
	pb.Code_CODE_UNKNOWN_ORGANIZATION: {"unknownOrganization", Permanent, partner, "no such organization"},
	pb.Code_CODE_UNKNOWN_ROOM:         {"unknownRoom", Permanent, room, "no such room here"},
	pb.Code_CODE_UNKNOWN_DEVICE:       {"unknownDevice", Permanent, recipient, "no such device"},
	pb.Code_CODE_NO_AGREEMENT:         {"noAgreement", Policy, partner, "no agreement in force with that organization"},
	pb.Code_CODE_NO_CONSENT:           {"noConsent", Policy, recipient, "the recipient does not take messages from there"},
	pb.Code_CODE_PENDING_CONSENT:      {"pendingConsent", Policy, recipient, "waiting for the recipient to accept"},
	pb.Code_CODE_NO_KEY_PACKAGE:       {"noKeyPackage", Temporary, recipient, "none of the member's devices has key material left"},
	pb.Code_CODE_WRONG_EPOCH:          {"wrongEpoch", Temporary, room, "the room has moved on: catch up and send again"},
	pb.Code_CODE_INVALID_COMMIT:       {"invalidCommit", Permanent, room, "the Commit does not stand"},
	pb.Code_CODE_ROLLED_BACK:          {"rolledBack", Permanent, item, "this device's store is older than what it sent: new keys are needed"},
	pb.Code_CODE_LINK_UNKNOWN:         {"linkUnknown", Permanent, item, "no such link: check that it was copied whole"},
	pb.Code_CODE_LINK_EXPIRED:         {"linkExpired", Permanent, item, "the link has expired: ask for a new one"},
	pb.Code_CODE_LINK_USED:            {"linkUsed", Permanent, item, "the link was used or revoked: ask for a new one"},
	pb.Code_CODE_NAME_TAKEN:           {"nameTaken", Permanent, item, "that name is taken"},
	pb.Code_CODE_NOT_FOUND:            {"notFound", Permanent, item, "not here"},
	pb.Code_CODE_DEADLINE_PASSED:      {"deadlinePassed", Permanent, item, "its deadline has passed"},
	pb.Code_CODE_EXISTS:               {"exists", Permanent, item, "it exists already"},
	pb.Code_CODE_DAMAGED:              {"damaged", Permanent, item, "the node's copy is damaged; ask the sender to send it again"},
	pb.Code_CODE_FULL:                 {"full", Temporary, recipient, "no room left"},
	pb.Code_CODE_RATE_LIMITED:         {"rateLimited", Temporary, item, "too many at once"},
	pb.Code_CODE_RECOVERING:           {"recovering", Temporary, partner, "the node is recovering and signs nothing"},
	pb.Code_CODE_CLOCK_SUSPECT:        {"clockSuspect", Temporary, partner, "the node does not trust its clock"},
	pb.Code_CODE_SUSPENDED:            {"suspended", Policy, partner, "the agreement is suspended"},
	pb.Code_CODE_QUARANTINED:          {"quarantined", Policy, partner, "held for a decision"},
	pb.Code_CODE_UNREACHABLE:          {"unreachable", Temporary, partner, "the partner cannot be reached"},
	pb.Code_CODE_SHUTTING_DOWN:        {"shuttingDown", Temporary, partner, "the node is stopping"},
	pb.Code_CODE_INTERNAL:             {"internal", Temporary, item, "the node failed: its log says more"},
}

// CodeName returns the code's name in documents and on terminals, or "unknown".
func CodeName(c pb.Code) string {
	if i, ok := codes[c]; ok {
		return i.name
	}
	return "unknown"
}

// Heard is another side's status as this one understands it: a code that is not known here,
// of a later version or made up, becomes unsupported, which is as permanent. What is passed
// on or stated under our own signature is in the closed set.
func Heard(st *pb.Status) *pb.Status {
	if _, ok := codes[st.GetCode()]; ok {
		return st
	}
	return Status(pb.Code_CODE_UNSUPPORTED, "the partner answered with a status that is not known here")
}

// ClassOf returns the class of a code; an unknown code is Permanent, so that
// nobody retries for ever what he does not understand.
func ClassOf(c pb.Code) StatusClass {
	if i, ok := codes[c]; ok {
		return i.class
	}
	return Permanent
}

// Status builds the answer for a code, with an optional detail for people. The
// detail is cut at MaxDetail bytes and must hold no secret.
func Status(c pb.Code, format string, args ...any) *pb.Status {
	detail := codes[c].text
	if format != "" {
		detail = fmt.Sprintf(format, args...)
	}
	if len(detail) > MaxDetail {
		detail = detail[:MaxDetail]
	}
	return &pb.Status{Code: c, Scope: codes[c].scope, Detail: detail}
}

// Retry sets after how long the item may be tried again.
func Retry(s *pb.Status, after time.Duration) *pb.Status {
	s.RetryMs = after.Milliseconds()
	return s
}

// StatusError carries a status that is not a success through Go code.
type StatusError struct{ Status *pb.Status }

func (e *StatusError) Error() string {
	if e.Status.Detail == "" {
		return CodeName(e.Status.Code)
	}
	return CodeName(e.Status.Code) + ": " + e.Status.Detail
}

// Refuse returns a *StatusError.
func Refuse(c pb.Code, format string, args ...any) error {
	return &StatusError{Status(c, format, args...)}
}

// StatusOf returns the status that err carries, success for nil, and internal
// without any detail for every other error, so that nothing leaks by accident.
func StatusOf(err error) *pb.Status {
	if err == nil {
		return Status(pb.Code_CODE_OK, "")
	}
	var e *StatusError
	if errors.As(err, &e) {
		return e.Status
	}
	return Status(pb.Code_CODE_INTERNAL, "")
}

// Err is the inverse of StatusOf: nil for a success, else a *StatusError.
func Err(s *pb.Status) error {
	if s == nil {
		return Refuse(pb.Code_CODE_MALFORMED, "an answer without a status")
	}
	if ClassOf(s.Code) == Success {
		return nil
	}
	return &StatusError{s}
}
