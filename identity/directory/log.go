package directory

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/identity/vrf"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	leafPrefix = "id/leaf/"
	hashPrefix = "id/hash/"
	sizeKey    = "id/size"
	numberKey  = "id/log"

	// LeafLen is the length of a log leaf: label ‖ version ‖ commitment.
	LeafLen = prefix.EntryLen
)

// logState is how far the log goes, and the map that its leaves make.
type logState struct {
	number uint64 // identity.Manifest.Log
	size   uint64
	labels prefix.Tree
}

func (l *logState) load(s *store.Store) error {
	b, err := s.Get([]byte(sizeKey))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("directory: the log's size: %w", err)
	}
	if len(b) != 8 {
		return errors.New("directory: the log's size does not parse")
	}
	l.size = binary.BigEndian.Uint64(b)
	b, err = s.Get([]byte(numberKey))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil || len(b) != 8 {
		return errors.Join(errors.New("directory: the log's number does not parse"), err)
	}
	l.number = binary.BigEndian.Uint64(b)
	return nil
}

// follows reports whether a log may have a leaf after the one that its label has: the next
// version; and as a label's first one in a log that an incident has begun, any.
func follows(e, before prefix.Entry, log uint64) bool {
	return e.Version == before.Version+1 || log > 0 && before == prefix.Entry{} && e.Version > 0
}

// append adds a record's leaf and the new map's root leaf to the log, with their hashes,
// to the record's own batch, and returns the log's state after it.
func (d *Directory) append(b *store.Batch, rec identity.MemberRecord, note string, row *memberRow) (logState, error) {
	output, _, err := vrf.Prove(d.opts.VRF, identity.LabelInput(rec.Member))
	if err != nil {
		return logState{}, err
	}
	var nonce [32]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return logState{}, fmt.Errorf("directory: randomness: %w", err)
	}
	text, err := wire.NoteText(note)
	if err != nil {
		return logState{}, err
	}
	e := prefix.Entry{Label: identity.Label(output), Version: rec.Version, Commitment: identity.Commitment(nonce, text)}
	log := logState{number: d.log.number, size: d.log.size, labels: d.log.labels.Set(e)}
	row.Nonce, row.Leaf, row.Log = nonce[:], log.size, log.number
	r := pending{hashReader{d.store}, make(map[int64]tlog.Hash)}
	for _, leaf := range [][]byte{e.Append(nil), rootLeaf(log.labels).Append(nil)} {
		hashes, err := tlog.StoredHashes(int64(log.size), leaf, r)
		if err != nil {
			return logState{}, fmt.Errorf("directory: hashing a leaf: %w", err)
		}
		first := tlog.StoredHashIndex(0, int64(log.size))
		for i, h := range hashes {
			r.fresh[first+int64(i)] = h
			b.Put(numbered(hashPrefix, uint64(first)+uint64(i)), h[:])
		}
		b.Put(numbered(leafPrefix, log.size), leaf)
		log.size++
	}
	b.Put([]byte(sizeKey), binary.BigEndian.AppendUint64(nil, log.size))
	return log, nil
}

func rootLeaf(t prefix.Tree) prefix.Entry { return identity.MapLeaf(uint64(t.Len()), t.Root()) }

func numbered(under string, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(under), n)
}

// pending reads hashes of the batch that is being made, else of the store.
type pending struct {
	hashReader
	fresh map[int64]tlog.Hash
}

func (p pending) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if h, ok := p.fresh[x]; ok {
			out[i] = h
			continue
		}
		h, err := p.hashReader.ReadHashes([]int64{x})
		if err != nil {
			return nil, err
		}
		out[i] = h[0]
	}
	return out, nil
}

// hashReader is tlog.HashReader over the store.
type hashReader struct{ store *store.Store }

func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		b, err := r.store.Get(numbered(hashPrefix, uint64(x)))
		if err != nil || len(b) != tlog.HashSize {
			return nil, fmt.Errorf("directory: log hash %d: %w", x, err)
		}
		copy(out[i][:], b)
	}
	return out, nil
}

// checkLog reads every leaf: each member's row has to be its label's newest, no label
// may be without a row, and every root leaf has to be the root of what stands before it.
// So a row that was rolled back or lost is named.
func (d *Directory) checkLog() error {
	for i := range d.log.size {
		leaf, err := d.Leaf(i)
		if err != nil {
			return err
		}
		e, ok := prefix.ParseEntry(leaf)
		switch {
		case !ok:
			return fmt.Errorf("directory: leaf %d has %d bytes", i, len(leaf))
		case e.Label != prefix.Label{}:
			d.log.labels = d.log.labels.Set(e)
		case e != rootLeaf(d.log.labels):
			return fmt.Errorf("directory: leaf %d is not the root of what stands before it", i)
		}
	}
	return d.findLost()
}

// checkLeaf compares a stored member with its leaf: a row that the log does not
// commit to is damage or a lie.
func (d *Directory) checkLeaf(m *identity.Member, row *memberRow) error {
	leaf, err := d.Leaf(row.Leaf)
	if err != nil {
		return err
	}
	text, err := wire.NoteText(row.Record)
	if err != nil || len(row.Nonce) != 32 || row.Leaf >= d.log.size {
		return fmt.Errorf("directory: the row of member %s does not parse", m.ID)
	}
	want := identity.Commitment([32]byte(row.Nonce), text)
	if len(leaf) != LeafLen || binary.BigEndian.Uint64(leaf[32:]) != m.Version || string(leaf[40:]) != string(want[:]) {
		return fmt.Errorf("directory: the log does not hold version %d of member %s", m.Version, m.ID)
	}
	return nil
}

// Head returns the log's size and root hash (RFC 6962 §2.1).
func (d *Directory) Head() (size uint64, root [32]byte, err error) {
	d.write.Lock()
	defer d.write.Unlock()
	size = d.log.size
	h, err := tlog.TreeHash(int64(size), hashReader{d.store})
	return size, [32]byte(h), err
}

// Leaf returns a leaf of the log.
func (d *Directory) Leaf(index uint64) ([]byte, error) {
	b, err := d.store.Get(numbered(leafPrefix, index))
	if err != nil {
		return nil, fmt.Errorf("directory: leaf %d: %w", index, err)
	}
	return b, nil
}
