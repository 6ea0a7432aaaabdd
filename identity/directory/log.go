package directory

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/vrf"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	leafPrefix = "id/leaf/"
	hashPrefix = "id/hash/"
	sizeKey    = "id/size"

	labelDomain      = "entente.im/label/v1\n"
	commitmentDomain = "entente.im/commitment/v1\n"

	// LeafLen is the length of a log leaf: label ‖ version ‖ commitment.
	LeafLen = 32 + 8 + 32
)

// logState is how far the log goes.
type logState struct{ size uint64 }

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
	return nil
}

// Label is where a member stands in the directory's map: without the VRF key or a
// proof, nobody can tell whose it is.
func Label(output [vrf.OutputLen]byte) [32]byte { return [32]byte(output[:32]) }

// LabelInput is what the VRF is applied to for a member.
func LabelInput(id wire.MemberID) []byte { return append([]byte(labelDomain), id[:]...) }

// Commitment hides a record behind a nonce.
func Commitment(nonce [32]byte, recordText string) [32]byte {
	h := sha256.New()
	h.Write([]byte(commitmentDomain))
	h.Write(nonce[:])
	text := wire.TextHash(recordText)
	h.Write(text[:])
	return [32]byte(h.Sum(nil))
}

// append adds a record's leaf to the log, with its hashes, to the record's own
// batch, and returns the log's state after it.
func (d *Directory) append(b *store.Batch, rec identity.MemberRecord, note string, row *memberRow) (logState, error) {
	output, _, err := vrf.Prove(d.opts.VRF, LabelInput(rec.Member))
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
	label, commitment := Label(output), Commitment(nonce, text)
	leaf := make([]byte, 0, LeafLen)
	leaf = append(leaf, label[:]...)
	leaf = binary.BigEndian.AppendUint64(leaf, rec.Version)
	leaf = append(leaf, commitment[:]...)
	n := d.log.size
	hashes, err := tlog.StoredHashes(int64(n), leaf, hashReader{d.store})
	if err != nil {
		return logState{}, fmt.Errorf("directory: hashing a leaf: %w", err)
	}
	first := tlog.StoredHashIndex(0, int64(n))
	for i, h := range hashes {
		b.Put(numbered(hashPrefix, uint64(first)+uint64(i)), h[:])
	}
	b.Put(numbered(leafPrefix, n), leaf)
	b.Put([]byte(sizeKey), binary.BigEndian.AppendUint64(nil, n+1))
	row.Nonce, row.Leaf = nonce[:], n
	return logState{n + 1}, nil
}

func numbered(prefix string, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefix), n)
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

// checkLog reads every leaf: each member's row has to be its label's newest, and no
// label may be without a row. So a row that was rolled back or lost is named.
func (d *Directory) checkLog() error {
	newest := make(map[[32]byte]uint64)
	for i := range d.log.size {
		leaf, err := d.Leaf(i)
		if err != nil {
			return err
		}
		if len(leaf) != LeafLen {
			return fmt.Errorf("directory: leaf %d has %d bytes", i, len(leaf))
		}
		newest[[32]byte(leaf)] = i
	}
	if len(newest) != len(d.members) {
		return fmt.Errorf("directory: %d members where the log has %d", len(d.members), len(newest))
	}
	rows := make(map[uint64]bool)
	for _, e := range d.members {
		rows[e.row.Leaf] = true
	}
	for _, i := range newest {
		if !rows[i] {
			return fmt.Errorf("directory: leaf %d is newer than its member's row", i)
		}
	}
	return nil
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
	want := Commitment([32]byte(row.Nonce), text)
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
