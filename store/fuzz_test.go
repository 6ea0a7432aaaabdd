package store

import (
	"bytes"
	"testing"
)

func sampleRecord() *record {
	r := newRecord(typeDeposit, depositFixed+8, 40)
	encodeDepositHead(r.head(), 9, nil, []QueueID{1, 2})
	r.sum()
	r.lsn = 5
	r.place(1, 5, 2, 0, flagEnd)
	return r
}

func FuzzHeader(f *testing.F) {
	f.Add(sampleRecord().buf)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(1, b)
		if err != nil {
			return
		}
		r := &record{typ: h.typ, buf: bytes.Clone(b[:headerSize]), headLen: h.headLen, bodyLen: h.bodyLen, lsn: h.lsn}
		r.place(1, h.seq, h.group, h.slot, h.flags)
		if !bytes.Equal(r.buf, b[:headerSize]) {
			t.Fatal("encodes to other bytes")
		}
	})
}

func FuzzDepositHead(f *testing.F) {
	f.Add(sampleRecord().head())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeDepositHead(b)
		if err != nil {
			return
		}
		again := make([]byte, len(b))
		encodeDepositHead(again, d.bucket, d.meta, d.queues)
		if !bytes.Equal(again, b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

func FuzzAcks(f *testing.F) {
	f.Add(encodeAck([]ackRef{{1, 2}, {3, 4}}).head())
	f.Fuzz(func(t *testing.T, b []byte) {
		acks, err := decodeAcks(b)
		if err == nil && !bytes.Equal(encodeAck(acks).head(), b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

func FuzzMarks(f *testing.F) {
	key := []byte("key")
	f.Add(encodeMarks(markState{seq: 3, oldest: 1, bucket: 5, named: map[string]uint64{"a": 1}}, 2, key))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, counter, err := decodeMarks(b, key)
		if err == nil && !bytes.Equal(encodeMarks(s, counter, key), b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Add(encodeSegHeader(&segment{id: 1, slots: 256, first: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := decodeSegHeader(b, 1, 1<<20)
		if err == nil && (g.dataOff > g.size || g.dataOff < segHeader) {
			t.Fatal("records outside of the file")
		}
	})
}

type counting struct{ records, findings int }

func (c *counting) record(entry) { c.records++ }
func (c *counting) bad(Finding)  { c.findings++ }

// Whatever lies in a segment, a scan ends and stays inside.
func FuzzScan(f *testing.F) {
	b := append(sampleRecord().buf, make([]byte, 64)...)
	f.Add(b)
	b = bytes.Clone(b)
	b[20] ^= 1
	f.Add(append(b, sampleRecord().buf...))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := &segment{id: 1, dataOff: 4096}
		c := &counting{}
		end, _ := scanSegment(g, b, 1, c)
		if end < g.dataOff || end > g.dataOff+int64(len(b)) {
			t.Fatalf("the end is at %d of %d", end-g.dataOff, len(b))
		}
		if c.records == 0 && c.findings == 0 && len(b) > headerSize && !allZero(b) {
			t.Fatal("bytes that nobody named")
		}
	})
}
