package device

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/fxamacker/cbor/v2"
)

// MessageID names a message's content (draft-ietf-mimi-content-08 §3.3): it stays
// the same when the message is encrypted again.
type MessageID [32]byte

func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

// ParseMessageID is the inverse of String.
func ParseMessageID(s string) (id MessageID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || b[0] != messageIDAlgorithm {
		return id, errors.New("device: a message ID that does not parse")
	}
	return MessageID(b), nil
}

// content is a MIMI message (draft-ietf-mimi-content-08 §4): an array of seven.
type content struct {
	_          struct{} `cbor:",toarray"`
	Salt       []byte
	Replaces   []byte // nil: null
	TopicID    []byte
	Expires    []any // nil: null; else [relative, time]
	InReplyTo  []byte
	Extensions map[any]any
	Nested     []any // [disposition, language, cardinality, content type, body]
}

const (
	saltLen             = 16
	dispositionRender   = 1
	dispositionReaction = 2
	cardinalityNull     = 0
	cardinalitySingle   = 1
	maxReaction         = 64 // bytes
	contentMarkdown     = "text/markdown;variant=GFM-MIMI"
	contentPlain        = "text/plain;charset=utf-8"
	contentRoomName     = "application/vnd.entente.room-name" // what a room calls itself, UTF-8
	maxRoomName         = 128                                 // bytes
	maxContent          = 200 << 10
	messageIDAlgorithm  = 0x01               // SHA-256, first 31 bytes
	extensionUntil      = "entente.im/until" // Unix: a message that burns ends no later
)

var (
	contentEncoder = mustMode(cbor.CoreDetEncOptions().EncMode())
	contentDecoder = mustMode(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode())
)

func mustMode[T any](v T, err error) T {
	if err != nil {
		panic(err) // options that this file fixes
	}
	return v
}

// message is what a MIMI message says.
type message struct {
	ID       MessageID
	Text     string
	Name     string     // of the room, when that is what it says
	Replaces *MessageID // an edit, or with Deleted a deletion, of an own earlier message
	Deleted  bool
	ReplyTo  *MessageID
	Reaction bool // Text is a reaction to ReplyTo
	Expires  expiry
	File     *attachment // Text is its caption
	// Mentions are the addresses of people in the room whom Text names; MentionsYou: this
	// member is one of them.
	Mentions    []string
	MentionsYou bool

	linked   string // Text with links in place of addresses, as it travels; empty: Text does
	plain    bool   // it travels as text/plain
	markdown bool   // it came as Markdown
	salt     []byte
	evidence *evidence // nil: own, or not to be proved
	context  []byte    // GroupContext that evidence refers to
}

// expiry is until when a message may be read (§4.2.4 of the draft); zero: as long as
// the history is kept.
type expiry struct {
	Relative bool  // Seconds after it was read first; otherwise since 1970
	Seconds  int64 // at most 2^32-1
	Until    int64 // of a relative one: no later than this, Unix; 0: of its own
}

const maxExpiry = 1<<32 - 1

// newContent encodes a message and names it. Sender and room are the URIs of
// docs/protocol.md 1.3.
func newContent(sender, room string, m message) (encoded []byte, id MessageID, err error) {
	text := m.Text
	if m.linked != "" {
		text = m.linked
	}
	if len(text) > maxContent {
		return nil, id, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a text of %d bytes: at most %d are allowed", len(text), maxContent)
	}
	c := content{Salt: make([]byte, saltLen), TopicID: []byte{}, Extensions: map[any]any{}}
	disposition, kind, body := dispositionRender, contentMarkdown, text
	switch {
	case m.Reaction:
		disposition, kind = dispositionReaction, contentPlain
	case m.plain:
		kind = contentPlain
	case m.Name != "":
		kind, body = contentRoomName, m.Name
	}
	c.Nested = []any{disposition, "", cardinalitySingle, kind, []byte(body)}
	if m.File != nil {
		c.Nested = m.File.part(m.Text)
	}
	if m.Deleted {
		c.Nested = []any{disposition, "", cardinalityNull}
	}
	if m.Replaces != nil {
		c.Replaces = m.Replaces[:]
	}
	if m.ReplyTo != nil {
		c.InReplyTo = m.ReplyTo[:]
	}
	if m.Expires.Seconds > 0 {
		c.Expires = []any{m.Expires.Relative, uint64(m.Expires.Seconds)}
	}
	if m.Expires.Relative && m.Expires.Until > 0 {
		c.Extensions[extensionUntil] = uint64(m.Expires.Until)
	}
	rand.Read(c.Salt)
	if encoded, err = contentEncoder.Marshal(c); err != nil {
		return nil, id, fmt.Errorf("device: encoding a message: %w", err)
	}
	return encoded, messageID(sender, room, encoded, c.Salt), nil
}

// messageID is 0x01 ‖ the first 31 bytes of SHA-256(length ‖ sender URI ‖ length ‖
// room URI ‖ message ‖ salt), lengths as uint16.
func messageID(sender, room string, message, salt []byte) (id MessageID) {
	h := sha256.New()
	for _, s := range []string{sender, room} {
		h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(s))))
		h.Write([]byte(s))
	}
	h.Write(message)
	h.Write(salt)
	id[0] = messageIDAlgorithm
	copy(id[1:], h.Sum(nil)[:31])
	return id
}

var errContent = errors.New("device: a message whose content is not understood")

// parseContent reads a MIMI message.
func parseContent(sender, room string, b []byte) (m message, err error) {
	var c content
	if len(b) > maxContent+4<<10 || contentDecoder.Unmarshal(b, &c) != nil || len(c.Salt) != saltLen {
		return m, errContent
	}
	m.ID, m.salt = messageID(sender, room, b, c.Salt), c.Salt
	if m.Replaces, err = reference(c.Replaces); err != nil {
		return message{ID: m.ID}, err
	}
	if m.ReplyTo, err = reference(c.InReplyTo); err != nil {
		return message{ID: m.ID}, err
	}
	if m.Expires, err = parseExpiry(c.Expires); err != nil {
		return message{ID: m.ID}, err
	}
	if m.Expires.Relative {
		m.Expires.Until = untilOf(c.Extensions)
	}
	if err := m.body(c.Nested); err != nil {
		return message{ID: m.ID}, err
	}
	return m, nil
}

// reference reads a message ID, or null.
func reference(b []byte) (*MessageID, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) != len(MessageID{}) || b[0] != messageIDAlgorithm {
		return nil, errContent
	}
	id := MessageID(b)
	return &id, nil
}

func parseExpiry(v []any) (e expiry, err error) {
	if len(v) == 0 {
		return e, nil
	}
	if len(v) != 2 {
		return e, errContent
	}
	relative, ok := v[0].(bool)
	seconds, ok2 := v[1].(uint64)
	if !ok || !ok2 || seconds == 0 || seconds > maxExpiry {
		return e, errContent
	}
	return expiry{Relative: relative, Seconds: int64(seconds)}, nil
}

// untilOf reads our extension; what is no time is no extension of ours.
func untilOf(extensions map[any]any) int64 {
	until, ok := extensions[extensionUntil].(uint64)
	if !ok || until > maxExpiry {
		return 0
	}
	return int64(until)
}

func isText(kind string) bool {
	return kind == contentMarkdown || kind == contentPlain || kind == "text/plain" || kind == "text/markdown"
}

// padding buckets of application messages: what a node sees of a length.
var buckets = []int{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 250 << 10}

// padTo returns the bucket for a content of n bytes.
func padTo(n int) int {
	for _, b := range buckets {
		if n <= b {
			return b
		}
	}
	return n
}
