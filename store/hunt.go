package store

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/entente-im/entente/store/slot"
	"golang.org/x/crypto/chacha20poly1305"
)

// HuntResult is what an attacker with a store's files got.
type HuntResult struct {
	Bodies int // sealed bodies in the retained copy
	Opened int // of these, those that the attacked files hold a key for
}

// Hunt plays the attacker of P5: whoever has kept the sealed bodies of a store (a
// copy of its folder in retained) and now has all its files (in attacked). It tries
// every wrapped key in the attacked files under the bucket keys that the attacked
// ratchet gives, and every 32 bytes at every offset as a body key or a bucket key.
// Run on one and the same folder it is the positive control: it opens what lives.
// It takes no lock and changes nothing; attacked may be a running node's.
func Hunt(retained, attacked string) (HuntResult, error) {
	bodies, err := sealedBodies(retained)
	if err != nil {
		return HuntResult{}, err
	}
	loot, err := collect(attacked)
	if err != nil {
		return HuntResult{}, err
	}
	r := HuntResult{Bodies: len(bodies)}
	for _, b := range bodies {
		if loot.opens(b) {
			r.Opened++
		}
	}
	return r, nil
}

// sealedBody is a body as the attacker kept it: without its slot.
type sealedBody struct {
	bucket uint32
	sealed []byte
}

// bodyCollector gathers deposits from a scan.
type bodyCollector struct {
	raw  []byte // the segment from dataOff on
	off  int64
	list []sealedBody
}

func (c *bodyCollector) record(e entry) {
	if e.typ != typeDeposit || e.slot == noSlot || e.bodyBad {
		return
	}
	d, err := decodeDepositHead(e.head)
	if err != nil {
		return
	}
	at := e.off - c.off + headerSize + int64(e.headLen)
	c.list = append(c.list, sealedBody{d.bucket, bytes.Clone(c.raw[at : at+int64(e.bodyLen)])})
}

func (c *bodyCollector) bad(Finding) {}

func sealedBodies(dir string) ([]sealedBody, error) {
	ids, err := listSegments(filepath.Join(dir, "log"), false)
	if err != nil {
		return nil, fmt.Errorf("store: hunting: %w", err)
	}
	var out []sealedBody
	var buf []byte
	for _, id := range ids {
		f, err := os.Open(filepath.Join(dir, "log", fmt.Sprintf("%08d.seg", id)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // reclaimed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("store: hunting: %w", err)
		}
		g, raw, err := readSegment(f, id, &buf)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("store: hunting in segment %d: %w", id, err)
		}
		c := &bodyCollector{raw: raw, off: g.dataOff}
		scanSegment(g, raw, g.first, c)
		out = append(out, c.list...)
	}
	return out, nil
}

// loot is what the attacked files give.
type loot struct {
	slots   [][slotBytes]byte // whatever looks like a wrapped key
	windows [][32]byte        // whatever may be a key
	ratchet *ratchet          // nil: none
}

func collect(dir string) (*loot, error) {
	l := &loot{}
	seen := make(map[[32]byte]bool)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		l.add(b, seen)
		if filepath.Base(path) == ratchetFile {
			l.addRatchet(b)
		}
		return err
	})
	return l, err
}

func (l *loot) add(b []byte, seen map[[32]byte]bool) {
	for i := 0; i+32 <= len(b); i++ {
		if b[i] == 0 && allZero(b[i:min(i+64, len(b))]) {
			i += 31 // nothing but zeros: no key
			continue
		}
		if i+slotBytes <= len(b) && string(b[i:i+4]) == slotKey {
			l.slots = append(l.slots, [slotBytes]byte(b[i:i+slotBytes]))
		}
		w := [32]byte(b[i : i+32])
		if bytes.Count(w[:], []byte{0}) < 8 && !seen[w] { // a random key has that many zeros once in 10^12
			seen[w] = true
			l.windows = append(l.windows, w)
		}
	}
}

// addRatchet reads the secret as an attacker who knows the format would.
func (l *loot) addRatchet(b []byte) {
	slots, err := slot.New(memoryFile{bytes.NewReader(b)}, len(b)/slot.Size)
	if err != nil {
		return
	}
	r := &ratchet{slots: slots, keys: make(map[uint32]cipher.AEAD)}
	if r.open(false, true, 0) == nil && !r.lost {
		l.ratchet = r
	}
}

// memoryFile is a slot.File that is read only.
type memoryFile struct{ *bytes.Reader }

func (memoryFile) WriteAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
func (memoryFile) Sync() error                        { return nil }
func (memoryFile) Close() error                       { return nil }

func (l *loot) opens(b sealedBody) bool {
	ad := bodyAD(b.bucket)
	var nonce [chacha20poly1305.NonceSize]byte
	try := func(key []byte) bool {
		a, err := chacha20poly1305.New(key)
		if err != nil {
			return false
		}
		_, err = a.Open(nil, nonce[:], b.sealed, ad)
		return err == nil
	}
	unwrap := func(a cipher.AEAD) bool {
		for _, s := range l.slots {
			if key, err := a.Open(nil, s[4:16], s[16:], ad); err == nil && try(key) {
				return true
			}
		}
		return false
	}
	if l.ratchet != nil {
		if a, err := l.ratchet.key(b.bucket); err == nil && unwrap(a) {
			return true
		}
	}
	for _, w := range l.windows {
		if try(w[:]) {
			return true
		}
		if len(l.slots) > 0 {
			if a, err := chacha20poly1305.New(w[:]); err == nil && unwrap(a) {
				return true
			}
		}
	}
	return false
}
