package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
)

// A record: header, head, body, zeros up to a multiple of 8 (docs/disk.md 3).
//
//	magic u32 | header CRC u32 | type u8 | flags u8 | 0 u16 | head length u32 |
//	body length u32 | slot u32 | sequence u64 | group u64 | lsn u64 | head CRC u32 | body CRC u32
//
// CRC-32C. The header's covers the segment's number and all after it. Head and body
// are summed apart, so that a flip in a body leaves its references and metadata.
const (
	headerSize     = 56
	recordMagic    = 0x31544e45 // "ENT1"
	ackSize        = 12
	maxAcks        = 4_096
	depositFixed   = 16 // bucket u64, metadata length u32, queues u32
	recordOverhead = headerSize + depositFixed + 2*sealOverhead + 8
	maxHead        = depositFixed + MaxMeta + sealOverhead + 4*MaxQueues
	maxBodyLen     = MaxBody + sealOverhead
	noSlot         = 0xffffffff
)

const (
	typeDeposit = 1
	typeAck     = 2
	typePut     = 3
	typeDelete  = 4
)

const (
	flagEnd   = 1 // the last record of its batch
	flagMoved = 2 // copied by reclaim: lsn is the original one, the queues are those that remain
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one on its way to the log.
type record struct {
	typ     byte
	buf     []byte // header, head and body, padded
	headLen int
	bodyLen int

	bucket  uint32
	queues  []QueueID
	hasSlot bool
	slot    [slotBytes]byte
	acks    []ackRef
	key     string
	lsn     LSN // of a moved deposit; else its sequence

	commit func(*location) // a moved record: what to do once it is written
}

func newRecord(typ byte, headLen, bodyLen int) *record {
	return &record{typ: typ, buf: make([]byte, pad8(headerSize+headLen+bodyLen)), headLen: headLen, bodyLen: bodyLen}
}

func pad8(n int) int { return (n + 7) &^ 7 }

func (r *record) head() []byte { return r.buf[headerSize : headerSize+r.headLen] }
func (r *record) body() []byte {
	return r.buf[headerSize+r.headLen : headerSize+r.headLen+r.bodyLen]
}

// sum fills in what does not depend on the place in the log.
func (r *record) sum() {
	b := r.buf
	binary.LittleEndian.PutUint32(b[0:], recordMagic)
	b[8] = r.typ
	binary.LittleEndian.PutUint32(b[12:], uint32(r.headLen))
	binary.LittleEndian.PutUint32(b[16:], uint32(r.bodyLen))
	binary.LittleEndian.PutUint32(b[20:], noSlot)
	binary.LittleEndian.PutUint32(b[48:], crc32.Checksum(r.head(), castagnoli))
	binary.LittleEndian.PutUint32(b[52:], crc32.Checksum(r.body(), castagnoli))
}

// place fills in the rest.
func (r *record) place(segment uint32, seq, group uint64, slot uint32, flags byte) {
	b := r.buf
	b[9] = flags
	binary.LittleEndian.PutUint32(b[20:], slot)
	binary.LittleEndian.PutUint64(b[24:], seq)
	binary.LittleEndian.PutUint64(b[32:], group)
	binary.LittleEndian.PutUint64(b[40:], uint64(r.lsn))
	binary.LittleEndian.PutUint32(b[4:], headerCRC(segment, b))
}

func headerCRC(segment uint32, b []byte) uint32 {
	var id [4]byte
	binary.LittleEndian.PutUint32(id[:], segment)
	return crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, b[8:headerSize])
}

// header is a decoded record header.
type header struct {
	typ, flags       byte
	headLen, bodyLen int
	slot             uint32
	seq, group       uint64
	lsn              LSN
	headCRC, bodyCRC uint32
}

func (h *header) size() int { return pad8(headerSize + h.headLen + h.bodyLen) }

var errHeader = errors.New("store: not a record header")

// decodeHeader reads the header at the start of b. Every length in it is bounded.
func decodeHeader(segment uint32, b []byte) (header, error) {
	if len(b) < headerSize || binary.LittleEndian.Uint32(b) != recordMagic ||
		binary.LittleEndian.Uint32(b[4:]) != headerCRC(segment, b) {
		return header{}, errHeader
	}
	h := header{
		typ: b[8], flags: b[9],
		headLen: int(binary.LittleEndian.Uint32(b[12:])), bodyLen: int(binary.LittleEndian.Uint32(b[16:])),
		slot: binary.LittleEndian.Uint32(b[20:]), seq: binary.LittleEndian.Uint64(b[24:]),
		group: binary.LittleEndian.Uint64(b[32:]), lsn: LSN(binary.LittleEndian.Uint64(b[40:])),
		headCRC: binary.LittleEndian.Uint32(b[48:]), bodyCRC: binary.LittleEndian.Uint32(b[52:]),
	}
	if h.typ < typeDeposit || h.typ > typeDelete || h.flags > flagEnd|flagMoved || b[10] != 0 || b[11] != 0 ||
		h.headLen > maxHead || h.bodyLen > maxBodyLen || h.seq == 0 {
		return header{}, errHeader
	}
	return h, nil
}

// depositHead is a decoded head of a deposit.
type depositHead struct {
	bucket uint32
	meta   []byte // sealed; empty: none
	queues []QueueID
}

var errHead = errors.New("store: malformed record")

func encodeDepositHead(h []byte, bucket uint32, meta []byte, queues []QueueID) {
	binary.LittleEndian.PutUint64(h, uint64(bucket))
	binary.LittleEndian.PutUint32(h[8:], uint32(len(meta)))
	binary.LittleEndian.PutUint32(h[12:], uint32(len(queues)))
	copy(h[depositFixed:], meta)
	for i, q := range queues {
		binary.LittleEndian.PutUint32(h[depositFixed+len(meta)+4*i:], uint32(q))
	}
}

func decodeDepositHead(h []byte) (d depositHead, err error) {
	if len(h) < depositFixed {
		return d, errHead
	}
	bucket, meta, n := binary.LittleEndian.Uint64(h), binary.LittleEndian.Uint32(h[8:]), binary.LittleEndian.Uint32(h[12:])
	if bucket > 1<<32-1 || meta > MaxMeta+sealOverhead || n == 0 || n > MaxQueues || len(h) != depositFixed+int(meta)+4*int(n) {
		return d, errHead
	}
	d.bucket, d.meta = uint32(bucket), h[depositFixed:depositFixed+meta]
	d.queues = make([]QueueID, n)
	for i := range d.queues {
		d.queues[i] = QueueID(binary.LittleEndian.Uint32(h[depositFixed+int(meta)+4*i:]))
	}
	if n > 1 {
		sorted := slices.Clone(d.queues)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != int(n) {
			return d, errHead
		}
	}
	return d, nil
}

func decodeAcks(h []byte) ([]ackRef, error) {
	if len(h) == 0 || len(h)%ackSize != 0 || len(h) > maxAcks*ackSize {
		return nil, errHead
	}
	out := make([]ackRef, len(h)/ackSize)
	for i := range out {
		b := h[i*ackSize:]
		out[i] = ackRef{QueueID(binary.LittleEndian.Uint32(b)), LSN(binary.LittleEndian.Uint64(b[4:]))}
	}
	return out, nil
}
