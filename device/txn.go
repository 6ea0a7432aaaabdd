package device

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	bolt "go.etcd.io/bbolt"
)

// txn is a transaction of the vault.
type txn struct {
	v   *vault
	tx  *bolt.Tx
	mls map[wire.RoomID]*group.State // what it makes v.mls
}

// update runs f in one durable transaction: all of it or nothing.
func (v *vault) update(f func(*txn) error) error {
	v.updating.Lock()
	defer v.updating.Unlock()
	t := &txn{v: v}
	err := v.db.Update(func(tx *bolt.Tx) error {
		t.tx = tx
		return f(t)
	})
	if err == nil {
		maps.Copy(v.mls, t.mls)
	}
	return err
}

func (v *vault) view(f func(*txn) error) error {
	return v.db.View(func(tx *bolt.Tx) error { return f(&txn{v: v, tx: tx}) })
}

func (t *txn) meta(key []byte) ([]byte, error) {
	sealed := t.tx.Bucket(metaBucket).Get(key)
	if sealed == nil {
		return nil, errNoRecord
	}
	return open(t.v.master, metaBucket, key, sealed)
}

func (t *txn) putMeta(key, value []byte) error {
	return t.tx.Bucket(metaBucket).Put(key, seal(t.v.master, metaBucket, key, value))
}

func (t *txn) deleteMeta(key []byte) error { return t.tx.Bucket(metaBucket).Delete(key) }

// number reads a counter; 0 when there is none.
func (t *txn) number(key string) (uint64, error) {
	b, err := t.meta([]byte(key))
	if errors.Is(err, errNoRecord) {
		return 0, nil
	}
	if err != nil || len(b) != 8 {
		return 0, fmt.Errorf("device: the counter %s: %w", key, errSealed)
	}
	return binary.BigEndian.Uint64(b), nil
}

func (t *txn) putNumber(key string, n uint64) error {
	return t.putMeta([]byte(key), binary.BigEndian.AppendUint64(nil, n))
}

func (t *txn) metaJSON(key string, v any) error {
	b, err := t.meta([]byte(key))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func (t *txn) putMetaJSON(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("device: encoding %s: %w", key, err)
	}
	return t.putMeta([]byte(key), b)
}

func (t *txn) state(key []byte) ([]byte, error) {
	sealed := t.tx.Bucket(stateBucket).Get(key)
	if sealed == nil {
		return nil, errNoRecord
	}
	return open(t.v.state, stateBucket, key, sealed)
}

func (t *txn) putState(key, value []byte) error {
	return t.tx.Bucket(stateBucket).Put(key, seal(t.v.state, stateBucket, key, value))
}

func (t *txn) deleteState(key []byte) error { return t.tx.Bucket(stateBucket).Delete(key) }

// eachMeta calls f for every record of meta whose key begins with prefix.
func (t *txn) eachMeta(prefix string, f func(key, value []byte) error) error {
	return each(t.tx.Bucket(metaBucket).Cursor(), t.v.master, metaBucket, prefix, f)
}

// eachState calls f for every record of state whose key begins with prefix.
func (t *txn) eachState(prefix string, f func(key, value []byte) error) error {
	return each(t.tx.Bucket(stateBucket).Cursor(), t.v.state, stateBucket, prefix, f)
}

func each(c *bolt.Cursor, key cipher.AEAD, bucket []byte, prefix string, f func(key, value []byte) error) error {
	p := []byte(prefix)
	for k, sealed := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, sealed = c.Next() {
		v, err := open(key, bucket, k, sealed)
		if err != nil {
			return err
		}
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

// putHistory stores a row under the key of the day on which it expires.
func (t *txn) putHistory(key []byte, expires time.Time, value []byte) error {
	day := dayOf(expires)
	a, err := t.v.dayKey(day, true)
	if err != nil {
		return err
	}
	row := binary.BigEndian.AppendUint32(nil, day)
	return t.tx.Bucket(historyBucket).Put(key, append(row, seal(a, historyBucket, key, value)...))
}

func (t *txn) history(key []byte) ([]byte, error) {
	row := t.tx.Bucket(historyBucket).Get(key)
	if row == nil {
		return nil, errNoRecord
	}
	return t.openRow(key, row)
}

func (t *txn) openRow(key, row []byte) ([]byte, error) {
	if len(row) < 4 {
		return nil, errSealed
	}
	a, err := t.v.dayKey(binary.BigEndian.Uint32(row), false)
	if err != nil {
		return nil, err
	}
	return open(a, historyBucket, key, row[4:])
}

// eachHistory calls f for every row whose key begins with prefix, in order; rows
// whose day is over are skipped.
func (t *txn) eachHistory(prefix string, f func(key, value []byte) error) error {
	c := t.tx.Bucket(historyBucket).Cursor()
	p := []byte(prefix)
	for k, row := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, row = c.Next() {
		v, err := t.openRow(k, row)
		if err != nil {
			continue
		}
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}
