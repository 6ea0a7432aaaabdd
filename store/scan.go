package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Finding names one damage in the log.
type Finding struct {
	Segment uint32
	Offset  int64  // in the segment's file; 0: the file as a whole
	Seq     uint64 // of the first record concerned; 0: unknown
	Records uint64 // how many are missing, as far as known
	What    string
}

func (f Finding) String() string {
	return fmt.Sprintf("segment %d at %d: %s (sequence %d, records %d)", f.Segment, f.Offset, f.What, f.Seq, f.Records)
}

// entry is a record found in a segment. head lies in the segment's buffer.
type entry struct {
	header
	off     int64
	head    []byte
	bodyBad bool
}

// visitor takes what a scan finds, in the order of the log.
type visitor interface {
	record(entry)
	bad(Finding)
}

// scanSegment walks the records of a segment whose bytes from the first record on are
// b. It never stops at damage: it looks for the next header that stands, and names
// what lies between. It returns where the last valid record ends and the sequence
// that would be next.
func scanSegment(g *segment, b []byte, next uint64, v visitor) (end int64, seq uint64) {
	at, valid := 0, 0
	for at+headerSize <= len(b) {
		h, err := decodeHeader(g.id, b[at:])
		if err != nil || h.size() > len(b)-at || h.seq < next {
			to := resync(g.id, b, at+8, next)
			if to < 0 && allZero(b[at:]) {
				break
			}
			f := Finding{Segment: g.id, Offset: g.dataOff + int64(at), Seq: next, What: "not a record"}
			if to < 0 {
				v.bad(f)
				break
			}
			h, _ = decodeHeader(g.id, b[to:])
			f.Records = h.seq - next
			v.bad(f)
			at, next = to, h.seq
			continue
		}
		if h.seq > next {
			v.bad(Finding{Segment: g.id, Offset: g.dataOff + int64(at), Seq: next, Records: h.seq - next, What: "records missing"})
		}
		e := entry{header: h, off: g.dataOff + int64(at), head: b[at+headerSize : at+headerSize+h.headLen]}
		body := b[at+headerSize+h.headLen : at+headerSize+h.headLen+h.bodyLen]
		at += h.size()
		next = h.seq + 1
		if crc32.Checksum(e.head, castagnoli) != h.headCRC || !wellFormed(&e) {
			v.bad(Finding{Segment: g.id, Offset: e.off, Seq: h.seq, Records: 1, What: "a record's head"})
			continue
		}
		e.bodyBad = crc32.Checksum(body, castagnoli) != h.bodyCRC
		v.record(e)
		valid = at
	}
	return g.dataOff + int64(valid), next
}

// wellFormed checks what a valid checksum does not say.
func wellFormed(e *entry) bool {
	switch e.typ {
	case typeDeposit:
		_, err := decodeDepositHead(e.head)
		return err == nil && e.lsn != 0 && (e.bodyLen >= bodyOverhead || e.slot == noSlot)
	case typeAck:
		_, err := decodeAcks(e.head)
		return err == nil && e.bodyLen == 0
	}
	return e.headLen > sealOverhead && e.headLen <= MaxKey+sealOverhead && (e.typ == typePut) == (e.bodyLen >= sealOverhead)
}

// resync looks for the next header that stands and does not go back.
func resync(id uint32, b []byte, from int, next uint64) int {
	magic := binary.LittleEndian.AppendUint32(nil, recordMagic)
	for from+headerSize <= len(b) {
		i := bytes.Index(b[from:], magic)
		if i < 0 {
			return -1
		}
		from += i
		if from%8 == 0 {
			if h, err := decodeHeader(id, b[from:]); err == nil && h.seq >= next && h.size() <= len(b)-from {
				return from
			}
		}
		from++
	}
	return -1
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
