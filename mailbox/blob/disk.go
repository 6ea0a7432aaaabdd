package blob

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/entente-im/entente/store/slot"
	"github.com/entente-im/entente/wire"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keySuffix  = ".key"
	dataSuffix = ".data"
	metaSuffix = ".meta"
	newSuffix  = ".new"
	sealedOver = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	stride     = wire.FileChunk + sealedOver
	maxMeta    = 4 << 10
)

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func (s *Store) path(id UploadID, suffix string) string {
	return filepath.Join(s.dir, hex.EncodeToString(id[:])+suffix)
}

// load reads what there is. Files that belong to no upload go, keys first.
func (s *Store) load() error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("blob: reading the folder: %w", err)
	}
	var strays []UploadID
	for _, f := range files {
		stem, suffix, _ := strings.Cut(f.Name(), ".")
		raw, err := hex.DecodeString(stem)
		if err != nil || len(raw) != len(UploadID{}) {
			continue // not ours
		}
		id := UploadID(raw)
		if "."+suffix != metaSuffix {
			if _, err := os.Stat(s.path(id, metaSuffix)); errors.Is(err, os.ErrNotExist) {
				strays = append(strays, id)
			}
			continue
		}
		r, err := s.readMeta(id)
		if err != nil {
			s.log.Error("blob: the metadata of a file are damaged: it is not served", "file", f.Name())
			continue
		}
		e := &entry{id: id, record: r, touched: s.now()}
		if info, err := os.Stat(s.path(id, dataSuffix)); err == nil && info.ModTime().Before(e.touched) {
			e.touched = info.ModTime()
		} else if err != nil {
			e.touched = time.Unix(r.Started, 0)
		}
		s.add(e)
	}
	for _, id := range strays {
		if err := s.destroy(id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) readMeta(id UploadID) (r record, err error) {
	f, err := os.Open(s.path(id, metaSuffix))
	if err != nil {
		return r, err
	}
	defer f.Close()
	b := make([]byte, maxMeta)
	n, err := f.ReadAt(b, 0)
	if n == maxMeta || n < sealedOver {
		return r, errors.Join(errDamaged, err)
	}
	plain, err := s.meta.Open(nil, b[:chacha20poly1305.NonceSizeX], b[chacha20poly1305.NonceSizeX:n], id[:])
	if err != nil {
		return r, errDamaged
	}
	if err := json.Unmarshal(plain, &r); err != nil || r.Version != 1 || r.Size == 0 || r.Size > wire.MaxFile || r.Blob != nil && len(r.Blob) != len(ID{}) {
		return record{}, errDamaged
	}
	return r, nil
}

var errDamaged = errors.New("blob: damaged")

// writeMeta replaces the metadata, whole or not at all, on stable storage.
func (s *Store) writeMeta(id UploadID, r record) error {
	plain, err := json.Marshal(r)
	if err != nil {
		return err
	}
	sealed := make([]byte, chacha20poly1305.NonceSizeX, len(plain)+sealedOver)
	rand.Read(sealed)
	sealed = s.meta.Seal(sealed, sealed, plain, id[:])
	path := s.path(id, metaSuffix)
	f, err := os.OpenFile(path+newSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return s.syncFolder()
}

func (s *Store) syncFolder() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// newKey draws a blob's key. When it returns nil the key is on stable storage.
func (s *Store) newKey(id UploadID) error {
	k, err := slot.Open(s.path(id, keySuffix), 1)
	if err != nil {
		return err
	}
	var key [32]byte
	defer clear(key[:])
	rand.Read(key[:])
	return errors.Join(k.Put(0, key), k.Close())
}

// keyOf opens a blob's key; the entry's lock is held.
func (s *Store) keyOf(e *entry) (cipher.AEAD, error) {
	if e.data != nil {
		return e.data, nil
	}
	k, err := slot.Open(s.path(e.id, keySuffix), 1)
	if err != nil {
		return nil, err
	}
	key, err := k.Get(0)
	if err := errors.Join(err, k.Close()); err != nil {
		return nil, err
	}
	secret := append(key[:], s.seal[:]...)
	clear(key[:])
	defer clear(secret)
	e.data, err = derive(secret, "entente.im/blob/v1 data")
	return e.data, err
}

// destroy overwrites the key, then deletes the files. Repeating it is safe.
func (s *Store) destroy(id UploadID) error {
	path := s.path(id, keySuffix)
	if _, err := os.Stat(path); err == nil {
		k, err := slot.Open(path, 1)
		if err != nil {
			return fmt.Errorf("blob: erasing a key: %w", err)
		}
		if err := errors.Join(k.Erase(0), k.Close()); err != nil {
			return fmt.Errorf("blob: erasing a key: %w", err)
		}
	}
	for _, suffix := range []string{dataSuffix, keySuffix, keySuffix + newSuffix, metaSuffix + newSuffix, metaSuffix} {
		if err := os.Remove(s.path(id, suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("blob: deleting: %w", err)
		}
	}
	return nil
}

func bound(id UploadID, index uint32) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(id[:]), index)
}

// writeChunk seals a chunk into its place. It is not synced.
func (s *Store) writeChunk(e *entry, index uint32, chunk []byte) error {
	a, err := s.keyOf(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(e.id, dataSuffix), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sealed := make([]byte, chacha20poly1305.NonceSizeX, len(chunk)+sealedOver)
	rand.Read(sealed)
	sealed = a.Seal(sealed, sealed, chunk, bound(e.id, index))
	_, err = f.WriteAt(sealed, int64(index)*stride)
	if err == nil && index%syncEvery == syncEvery-1 {
		err = f.Sync() // so that Finish does not wait for gigabytes
	}
	return errors.Join(err, f.Close())
}

const syncEvery = 32

// readChunk opens a chunk: what was put in, or an error.
func (s *Store) readChunk(e *entry, a cipher.AEAD, index uint32) ([]byte, error) {
	f, err := os.Open(s.path(e.id, dataSuffix))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sealed := make([]byte, chunkLen(e.record.Size, index)+sealedOver)
	if _, err := f.ReadAt(sealed, int64(index)*stride); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: it ends before chunk %d does", errDamaged, index)
	} else if err != nil {
		return nil, err
	}
	nonce, box := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	chunk, err := a.Open(box[:0], nonce, box, bound(e.id, index))
	if err != nil {
		return nil, errDamaged
	}
	return chunk, nil
}
