package device

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// MessageID names a message's content (draft-ietf-mimi-content-08 §3.3): it stays
// the same when the message is encrypted again.
type MessageID [32]byte

func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

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
	saltLen            = 16
	dispositionRender  = 1
	cardinalitySingle  = 1
	contentMarkdown    = "text/markdown;variant=GFM-MIMI"
	contentPlain       = "text/plain;charset=utf-8"
	contentRoomName    = "application/vnd.entente.room-name" // what a room calls itself, UTF-8
	maxRoomName        = 128                                 // bytes
	maxContent         = 200 << 10
	messageIDAlgorithm = 0x01 // SHA-256, first 31 bytes
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

// newContent encodes a text as a MIMI message and names it. Sender and room are the
// URIs of docs/protocol.md 1.3.
func newContent(sender, room, text string) (encoded []byte, id MessageID, err error) {
	return newPart(sender, room, contentMarkdown, text)
}

func newPart(sender, room, kind, text string) (encoded []byte, id MessageID, err error) {
	if len(text) > maxContent {
		return nil, id, fmt.Errorf("device: a text of %d bytes: at most %d are allowed", len(text), maxContent)
	}
	c := content{Salt: make([]byte, saltLen), TopicID: []byte{}, Extensions: map[any]any{},
		Nested: []any{dispositionRender, "", cardinalitySingle, kind, []byte(text)}}
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

// message is what a MIMI message says.
type message struct {
	ID   MessageID
	Text string
	Name string // of the room, when that is what it says
}

// parseContent reads a MIMI message with one part.
func parseContent(sender, room string, b []byte) (m message, err error) {
	var c content
	if len(b) > maxContent+4<<10 || contentDecoder.Unmarshal(b, &c) != nil || len(c.Salt) != saltLen {
		return m, errContent
	}
	m.ID = messageID(sender, room, b, c.Salt)
	if len(c.Nested) != 5 {
		return m, errContent
	}
	kind, ok := c.Nested[3].(string)
	body, ok2 := c.Nested[4].([]byte)
	if !ok || !ok2 {
		return m, errContent
	}
	text := string(bytes.ToValidUTF8(body, []byte("\uFFFD")))
	switch {
	case isText(kind):
		m.Text = text
	case kind == contentRoomName && len(body) > 0 && len(body) <= maxRoomName:
		m.Name = text
	default:
		return m, errContent
	}
	return m, nil
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
