package group

import (
	"encoding/binary"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// senders are the ratchets of who has sent in an epoch, by leaf: a slice of chunks, so
// that a changed copy of 2,000 costs two small ones.
type senders []*senderChunk

const chunkBits = 5

type senderChunk [1 << chunkBits]*leafRatchets

func (s senders) get(l mls.LeafIndex) *leafRatchets {
	if at := int(l >> chunkBits); at < len(s) && s[at] != nil {
		return s[at][l%(1<<chunkBits)]
	}
	return nil
}

// with is a copy in which leaf l has the ratchets r, or none when r is nil.
func (s senders) with(l mls.LeafIndex, r *leafRatchets) senders {
	at := int(l >> chunkBits)
	c := make(senders, max(len(s), at+1))
	copy(c, s)
	chunk := new(senderChunk)
	if c[at] != nil {
		*chunk = *c[at]
	}
	chunk[l%(1<<chunkBits)] = r
	c[at] = chunk
	return c
}

// each calls f for every sender in the order of leaves.
func (s senders) each(f func(*leafRatchets)) {
	for _, chunk := range s {
		if chunk == nil {
			continue
		}
		for _, r := range chunk {
			if r != nil {
				f(r)
			}
		}
	}
}

func (s senders) chunk(at int) *senderChunk {
	if at < len(s) {
		return s[at]
	}
	return nil
}

// changed calls f for every leaf whose ratchets differ between two values; either
// argument may be nil.
func (s senders) changed(since senders, f func(now, before *leafRatchets)) {
	var none senderChunk
	for at := range max(len(s), len(since)) {
		now, before := s.chunk(at), since.chunk(at)
		if now == before {
			continue
		}
		if now == nil {
			now = &none
		}
		if before == nil {
			before = &none
		}
		for i := range now {
			if now[i] != before[i] {
				f(now[i], before[i])
			}
		}
	}
}

// Kinds of the records that an epoch's secret tree is stored as.
const (
	partNode   = 'n'
	partSender = 's'
	partKeyLen = 1 + 8 + 4
)

// partKey names a record of an epoch: kind, epoch, node or leaf index.
func partKey(kind byte, epoch uint64, index uint32) string {
	b := make([]byte, 1, partKeyLen)
	b[0] = kind
	return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, epoch), index))
}

// parsePartKey is the inverse of partKey.
func parsePartKey(key string) (kind byte, epoch uint64, index uint32, ok bool) {
	if len(key) != partKeyLen || key[0] != partNode && key[0] != partSender {
		return 0, 0, 0, false
	}
	return key[0], binary.BigEndian.Uint64([]byte(key[1:9])), binary.BigEndian.Uint32([]byte(key[9:])), true
}

// tag is a MAC of one record's content, under a key that is in the head record only.
// The head has the sum (xor) of the tags of all: one that is missing, added, of another
// place or of an older state makes another sum, and who cannot read the head cannot
// make two changes that cancel out.
type tag [32]byte

func (t *secretTree) tagSender(l *leafRatchets) tag {
	w := tls.NewWriter(5 + l.size())
	w.U8(partSender)
	w.U32(uint32(l.leaf))
	l.write(w)
	return t.tagOf(w.B)
}

func (t *secretTree) tagNode(f frontierNode) tag {
	w := tls.NewWriter(5 + len(f.secret))
	w.U8(partNode)
	w.U32(uint32(f.node))
	w.Raw(f.secret)
	return t.tagOf(w.B)
}

func (t *secretTree) tagOf(content []byte) tag {
	defer erase(content)
	return tag(t.suite.MAC(t.key, content))
}

func (s *tag) add(t tag) {
	for i := range s {
		s[i] ^= t[i]
	}
}

func (l *leafRatchets) encode() []byte {
	w := tls.NewWriter(l.size())
	l.write(w)
	return w.B
}

func (l *leafRatchets) write(w *tls.Writer) {
	l.hs.write(w)
	l.app.write(w)
}

func (l *leafRatchets) size() int { return l.hs.size() + l.app.size() }

func (r *ratchet) size() int { return 42 + (14+32+12)*len(r.skipped) }

// records appends what turns the stored records of an epoch from before, which may be
// nil, into those of t, which may be nil.
func (t *secretTree) records(out []Record, epoch uint64, before *secretTree) []Record {
	if t == before {
		return out
	}
	var none secretTree
	if t == nil {
		t = &none
	}
	if before == nil {
		before = &none
	}
	out = diffNodes(out, epoch, t.frontier, before.frontier)
	t.senders.changed(before.senders, func(now, old *leafRatchets) {
		if now == nil {
			out = append(out, Record{Key: partKey(partSender, epoch, uint32(old.leaf))})
			return
		}
		out = append(out, Record{Key: partKey(partSender, epoch, uint32(now.leaf)), Value: now.encode()})
	})
	return out
}

// diffNodes does the same for the nodes, which are sorted and never changed in place.
func diffNodes(out []Record, epoch uint64, now, before []frontierNode) []Record {
	if len(now) == len(before) && (len(now) == 0 || &now[0] == &before[0]) {
		return out
	}
	for len(now) > 0 || len(before) > 0 {
		switch {
		case len(before) == 0 || len(now) > 0 && now[0].node < before[0].node:
			out = append(out, Record{Key: partKey(partNode, epoch, uint32(now[0].node)), Value: slices.Clone(now[0].secret)})
			now = now[1:]
		case len(now) == 0 || before[0].node < now[0].node:
			out = append(out, Record{Key: partKey(partNode, epoch, uint32(before[0].node))})
			before = before[1:]
		default:
			if &now[0].secret[0] != &before[0].secret[0] {
				out = append(out, Record{Key: partKey(partNode, epoch, uint32(now[0].node)), Value: slices.Clone(now[0].secret)})
			}
			now, before = now[1:], before[1:]
		}
	}
	return out
}
