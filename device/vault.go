package device

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/store/slot"
	"github.com/entente-im/entente/wire"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/crypto/chacha20poly1305"
)

// Errors a caller acts on.
var (
	ErrLocked     = errors.New("device: the folder is in use by another process")
	ErrNotEnroled = errors.New("device: no device is enrolled in this folder")
	errNoRecord   = errors.New("device: no such record")
	errSealed     = errors.New("device: a record does not open")
)

const (
	masterFile  = "device.sealed"
	masterLabel = "entente.im/device-master/v1"
	slotFile    = "slots"
	dbFile      = "device.db"

	firstDay  = 2
	dayKeys   = 64
	slotCount = firstDay + dayKeys

	// StateKeyLife is how long a state key is used at most.
	StateKeyLife = time.Hour
)

var (
	metaBucket    = []byte("meta")
	stateBucket   = []byte("state")
	historyBucket = []byte("history")

	keyGeneration = []byte("state-key") // meta: uint64 generation, whose slot holds the state key ‖ int64 seconds since when
)

// vault is the device's sealed store.
type vault struct {
	db     *bolt.DB
	slots  *slot.Slots
	master cipher.AEAD
	now    func() time.Time

	updating sync.Mutex                   // held by update; before mu
	mls      map[wire.RoomID]*group.State // as stored last: see putMLS

	mu         sync.Mutex
	generation uint64 // of the state key; its slot is generation mod 2
	state      cipher.AEAD
	since      time.Time
	days       map[uint32]cipher.AEAD
}

// createVault makes the files of a new device. The folder may exist and must not
// hold a device.
func createVault(dir string, passphrase []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("device: making the folder: %w", err)
	}
	path := filepath.Join(dir, masterFile)
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("device: %s holds a device already", dir)
	}
	master := make([]byte, chacha20poly1305.KeySize)
	defer clear(master)
	rand.Read(master)
	sealed, err := identity.Seal(passphrase, master, masterLabel)
	if err != nil {
		return err
	}
	// Whole or not there at all: a folder with half of it could never be opened.
	if err := writeWhole(path, sealed); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	return nil
}

func writeWhole(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openVault opens a device's files; identity.ErrPassphrase, ErrLocked and
// ErrNotEnroled say why not.
func openVault(dir string, passphrase []byte, now func() time.Time) (*vault, error) {
	sealed, err := os.ReadFile(filepath.Join(dir, masterFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotEnroled, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	master, err := identity.Unseal(passphrase, sealed, masterLabel)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	v := &vault{now: now, days: make(map[uint32]cipher.AEAD), mls: make(map[wire.RoomID]*group.State)}
	if v.master, err = chacha20poly1305.NewX(master); err != nil {
		return nil, err
	}
	if v.db, err = openDB(dir); err != nil {
		return nil, err
	}
	if v.slots, err = slot.Open(filepath.Join(dir, slotFile), slotCount); err != nil {
		_ = v.db.Close()
		return nil, fmt.Errorf("device: opening the key slots: %w", err)
	}
	if err := v.start(); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

// openDB opens the database, which only one process may have open.
func openDB(dir string) (*bolt.DB, error) {
	db, err := bolt.Open(filepath.Join(dir, dbFile), 0o600, &bolt.Options{Timeout: 200 * time.Millisecond})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("device: opening the store: %w", err)
	}
	return db, nil
}

// start finds the state key, or makes the first one, and drops what has expired.
func (v *vault) start() error {
	err := v.db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{metaBucket, stateBucket, historyBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("device: preparing the store: %w", err)
	}
	var generation []byte
	err = v.view(func(t *txn) (err error) { generation, err = t.meta(keyGeneration); return err })
	if errors.Is(err, errNoRecord) {
		return v.rotate()
	}
	if err != nil {
		return err
	}
	if len(generation) < 8 {
		return fmt.Errorf("device: the state key's number: %w", errSealed)
	}
	v.generation = binary.BigEndian.Uint64(generation)
	if len(generation) == 16 { // otherwise of a version without it: as old as can be
		v.since = time.Unix(int64(binary.BigEndian.Uint64(generation[8:])), 0)
	}
	key, label, err := v.slots.GetLabelled(int(v.generation % 2))
	if err != nil || label != v.generation {
		return fmt.Errorf("device: the state key is gone: enrol this device anew (%w)", errSealed)
	}
	if v.state, err = chacha20poly1305.NewX(key[:]); err != nil {
		return err
	}
	clear(key[:])
	// A crash between a rotation's transaction and the overwriting of the old key.
	if err := v.slots.Erase(int((v.generation + 1) % 2)); err != nil {
		return err
	}
	return v.dropDays()
}

func (v *vault) close() {
	if v.slots != nil {
		_ = v.slots.Close()
	}
	_ = v.db.Close()
}

// rotate replaces the state key: a fresh key in the other slot, everything under it
// in one transaction, then the old slot is overwritten. A crash leaves one of the
// two keys good, and start finishes.
func (v *vault) rotate() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var key [32]byte
	defer clear(key[:])
	rand.Read(key[:])
	next := v.generation + 1
	if err := v.slots.PutLabelled(int(next%2), next, key); err != nil {
		return fmt.Errorf("device: a new state key: %w", err)
	}
	failpoint("rotate-slot")
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return err
	}
	now := v.now()
	err = v.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(stateBucket)
		fresh := make(map[string][]byte)
		err := b.ForEach(func(k, sealed []byte) error {
			plain, err := open(v.state, stateBucket, k, sealed)
			if err != nil {
				return err
			}
			fresh[string(k)] = seal(aead, stateBucket, k, plain)
			clear(plain)
			return nil
		})
		if err != nil {
			return err
		}
		for k, sealed := range fresh {
			if err := b.Put([]byte(k), sealed); err != nil {
				return err
			}
		}
		g := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, next), uint64(now.Unix()))
		return tx.Bucket(metaBucket).Put(keyGeneration, seal(v.master, metaBucket, keyGeneration, g))
	})
	if err != nil {
		return fmt.Errorf("device: replacing the state key: %w", err)
	}
	failpoint("rotate-stored")
	old := v.generation
	v.generation, v.state, v.since = next, aead, now
	if old == 0 {
		return nil
	}
	return v.slots.Erase(int(old % 2))
}

// isOld reports whether the state key has been used for StateKeyLife.
func (v *vault) isOld() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now().Sub(v.since) >= StateKeyLife
}

// rotateIfOld keeps the promise of StateKeyLife.
func (v *vault) rotateIfOld() error {
	if !v.isOld() {
		return nil
	}
	return errors.Join(v.rotate(), v.dropDays())
}

func dayOf(t time.Time) uint32 { return uint32(t.Unix() / 86_400) }

// dayKey returns the key of an expiry day, making it when it is new.
func (v *vault) dayKey(day uint32, make_ bool) (cipher.AEAD, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a, ok := v.days[day]; ok {
		return a, nil
	}
	at := firstDay + int(day%dayKeys)
	key, label, err := v.slots.GetLabelled(at)
	defer clear(key[:])
	if err != nil || label != uint64(day) {
		if !make_ {
			return nil, errSealed
		}
		rand.Read(key[:])
		if err := v.slots.PutLabelled(at, uint64(day), key); err != nil {
			return nil, fmt.Errorf("device: a day's key: %w", err)
		}
	}
	a, err := chacha20poly1305.NewX(key[:])
	if err == nil {
		v.days[day] = a
	}
	return a, err
}

// dropDays overwrites the keys of days that have ended and removes their rows.
func (v *vault) dropDays() error {
	today := dayOf(v.now())
	v.mu.Lock()
	for i := firstDay; i < slotCount; i++ {
		_, label, err := v.slots.GetLabelled(i)
		if err == nil && uint32(label) < today {
			if err := v.slots.Erase(i); err != nil {
				v.mu.Unlock()
				return fmt.Errorf("device: erasing a day's key: %w", err)
			}
			delete(v.days, uint32(label))
		}
	}
	v.mu.Unlock()
	return v.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(historyBucket)
		var gone [][]byte
		err := b.ForEach(func(k, row []byte) error {
			if len(row) < 4 || binary.BigEndian.Uint32(row) < today {
				gone = append(gone, append([]byte(nil), k...))
			}
			return nil
		})
		for _, k := range gone {
			err = errors.Join(err, b.Delete(k))
		}
		return err
	})
}

func seal(a cipher.AEAD, bucket, key, plain []byte) []byte {
	out := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	rand.Read(out)
	return a.Seal(out, out, plain, bound(bucket, key))
}

func open(a cipher.AEAD, bucket, key, sealed []byte) ([]byte, error) {
	if a == nil || len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, errSealed
	}
	plain, err := a.Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], bound(bucket, key))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

func bound(bucket, key []byte) []byte {
	return append(append(append([]byte("entente.im/device/v1 "), bucket...), '/'), key...)
}
