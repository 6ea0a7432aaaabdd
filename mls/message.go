package mls

import (
	"github.com/entente-im/entente/mls/internal/tls"
)

// WireFormat is a number of RFC 9420 §17.2.
type WireFormat uint16

// Message is MLSMessage (§6): one of its fields is set, by WireFormat.
type Message struct {
	WireFormat     WireFormat
	PublicMessage  *PublicMessage
	PrivateMessage *PrivateMessage
	Welcome        *Welcome
	GroupInfo      *GroupInfo
	KeyPackage     *KeyPackage
}

// ParseMessage reads a whole MLSMessage. What it accepts encodes to the same
// bytes again; nothing else is checked.
func ParseMessage(b []byte) (*Message, error) {
	r := tls.NewReader(b)
	if v := r.U16(); r.Err() == nil && v != ProtocolVersion {
		return nil, refuse(ErrDecode, "protocol version %d", v)
	}
	m := &Message{WireFormat: WireFormat(r.U16())}
	switch m.WireFormat {
	case WirePublicMessage:
		m.PublicMessage = readPublicMessage(r)
	case WirePrivateMessage:
		m.PrivateMessage = readPrivateMessage(r)
	case WireWelcome:
		m.Welcome = readWelcome(r)
	case WireGroupInfo:
		m.GroupInfo = readGroupInfo(r)
	case WireKeyPackage:
		m.KeyPackage = readKeyPackage(r)
	default:
		if r.Err() == nil {
			return nil, refuse(ErrWireFormat, "%d", m.WireFormat)
		}
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	return m, nil
}

// Encode is the inverse of ParseMessage.
func (m *Message) Encode() []byte {
	switch {
	case m.PublicMessage != nil:
		return m.PublicMessage.Encode()
	case m.PrivateMessage != nil:
		return m.PrivateMessage.Encode()
	case m.Welcome != nil:
		return m.Welcome.Encode()
	case m.GroupInfo != nil:
		return m.GroupInfo.Encode()
	case m.KeyPackage != nil:
		return m.KeyPackage.Encode()
	}
	return nil
}

func newMessage(f WireFormat) *tls.Writer {
	w := tls.NewWriter(512)
	w.U16(ProtocolVersion)
	w.U16(uint16(f))
	return w
}

// PrivateMessage is an encrypted message (§6.3).
type PrivateMessage struct {
	GroupID    []byte
	Epoch      uint64
	Type       ContentType
	AAD        []byte
	SenderData []byte // encrypted
	Ciphertext []byte
}

func readPrivateMessage(r *tls.Reader) *PrivateMessage {
	p := &PrivateMessage{GroupID: r.Vec(), Epoch: r.U64(), Type: ContentType(r.U8())}
	if p.Type < ContentApplication || p.Type > ContentCommit {
		r.Fail(refuse(ErrDecode, "content type %d", p.Type))
	}
	p.AAD = r.Vec()
	p.SenderData = r.Vec()
	p.Ciphertext = r.Vec()
	return p
}

func (p *PrivateMessage) writeHead(w *tls.Writer) {
	w.Vec(p.GroupID)
	w.U64(p.Epoch)
	w.U8(uint8(p.Type))
}

// ContentAAD is PrivateContentAAD (§6.3.1).
func (p *PrivateMessage) ContentAAD() []byte {
	w := tls.NewWriter(64 + len(p.AAD))
	p.writeHead(w)
	w.Vec(p.AAD)
	return w.B
}

// SenderDataAAD is that of §6.3.2.
func (p *PrivateMessage) SenderDataAAD() []byte {
	w := tls.NewWriter(64)
	p.writeHead(w)
	return w.B
}

// Encode returns the message as a whole MLSMessage.
func (p *PrivateMessage) Encode() []byte {
	w := newMessage(WirePrivateMessage)
	p.writeHead(w)
	w.Vec(p.AAD)
	w.Vec(p.SenderData)
	w.Vec(p.Ciphertext)
	return w.B
}
