package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"os"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Start begins an upload of a ciphertext of size bytes and reserves its place in the
// member's quota. When it returns nil the upload survives a crash.
func (s *Store) Start(member wire.MemberID, size uint64, deadline time.Time, quota uint64) (UploadID, error) {
	var id UploadID
	if size == 0 || size > wire.MaxFile {
		return id, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a file of %d bytes: 1 to %d are allowed", size, uint64(wire.MaxFile))
	}
	now := s.now()
	if !deadline.After(now) {
		return id, wire.Refuse(pb.Code_CODE_DEADLINE_PASSED, "")
	}
	rand.Read(id[:])
	e := &entry{id: id, touched: now, counted: true, sum: sha256.New(),
		record: record{Version: 1, Member: member, Size: size, Deadline: deadline.Unix(), Started: now.Unix()}}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.reserve(e, quota); err != nil {
		return id, err
	}
	err := s.newKey(id)
	if err == nil {
		err = s.writeMeta(id, e.record)
	}
	if err != nil {
		return id, disk("starting an upload", errors.Join(err, s.drop(e)))
	}
	return id, nil
}

func (s *Store) reserve(e *entry, quota uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.spare(e.record.Size); err != nil {
		return err
	}
	u := s.used[e.record.Member]
	total, _ := s.totalLocked()
	switch {
	case s.o.Ceiling > 0 && total+e.record.Size > s.o.Ceiling:
		return wire.Refuse(pb.Code_CODE_FULL, "all members' files take %d of %d bytes", total, s.o.Ceiling)
	case u.unfinished >= wire.MemberUploads:
		return wire.Refuse(pb.Code_CODE_FULL, "%d uploads are unfinished: finish them or wait a day", u.unfinished)
	case u.count >= MaxPerMember:
		return wire.Refuse(pb.Code_CODE_FULL, "%d files are kept for this member", u.count)
	case u.bytes+e.record.Size > quota:
		return wire.Refuse(pb.Code_CODE_FULL, "the member's files take %d of %d bytes", u.bytes, quota)
	}
	s.add(e)
	return nil
}

// Status says how many chunks are there, from the first on, and the ID of a blob
// that is finished.
func (s *Store) Status(ctx context.Context, member wire.MemberID, id UploadID) (have uint32, blob []byte, err error) {
	e, err := s.find(member, id)
	if err != nil {
		return 0, nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.record.Blob != nil {
		return e.chunks(), e.record.Blob, nil
	}
	err = s.recount(ctx, e)
	return e.have, nil, err
}

// recount finds out what a crash has left of an upload: every chunk is opened.
func (s *Store) recount(ctx context.Context, e *entry) error {
	if e.gone {
		return errNotFound
	}
	if e.counted {
		return nil
	}
	a, err := s.keyOf(e)
	if err != nil {
		return disk("opening an upload", err)
	}
	sum, have := sha256.New(), uint32(0)
	for ; have < e.chunks(); have++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		chunk, err := s.readChunk(e, a, have)
		if errors.Is(err, errDamaged) || errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return disk("reading an upload", err)
		}
		sum.Write(chunk)
	}
	e.sum, e.have, e.counted = sum, have, true
	return nil
}

// Put takes the next chunk and returns how many there are. One that is there already
// changes nothing. It need not survive a power cut before Finish.
func (s *Store) Put(ctx context.Context, member wire.MemberID, id UploadID, index uint32, chunk []byte) (uint32, error) {
	e, err := s.find(member, id)
	if err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.recount(ctx, e); err != nil {
		return 0, err
	}
	switch {
	case index >= e.chunks() || len(chunk) != chunkLen(e.record.Size, index):
		return e.have, wire.Refuse(pb.Code_CODE_MALFORMED, "chunk %d of %d bytes does not fit the upload", index, len(chunk))
	case e.record.Blob != nil || index < e.have:
		return e.have, nil
	case index > e.have:
		return e.have, wire.Refuse(pb.Code_CODE_MALFORMED, "chunk %d after %d chunks", index, e.have)
	}
	if err := s.spare(uint64(len(chunk))); err != nil {
		return e.have, err
	}
	if err := s.writeChunk(e, index, chunk); err != nil {
		return e.have, disk("writing a chunk", err)
	}
	e.sum.Write(chunk)
	e.have++
	s.mu.Lock()
	e.touched = s.now()
	s.mu.Unlock()
	return e.have, nil
}

// Finish makes an upload a blob. When it returns nil the blob is on stable storage
// and can be read by its ID, which must be the ciphertext's SHA-256.
func (s *Store) Finish(ctx context.Context, member wire.MemberID, id UploadID, blob ID) error {
	e, err := s.find(member, id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.record.Blob != nil {
		if subtle.ConstantTimeCompare(e.record.Blob, blob[:]) == 1 {
			return nil
		}
		return wire.Refuse(pb.Code_CODE_MALFORMED, "the upload was finished as another file")
	}
	if err := s.recount(ctx, e); err != nil {
		return err
	}
	if e.have != e.chunks() {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "%d of %d chunks are there", e.have, e.chunks())
	}
	if subtle.ConstantTimeCompare(e.sum.Sum(nil), blob[:]) != 1 {
		return wire.Refuse(pb.Code_CODE_MALFORMED, "the chunks are not those of that file")
	}
	if err := s.syncData(e); err != nil {
		return disk("finishing an upload", err)
	}
	done := e.record
	done.Blob = blob[:]
	if err := s.writeMeta(e.id, done); err != nil {
		return disk("finishing an upload", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(e)
	e.record, e.sum = done, nil
	s.add(e)
	return nil
}

func (s *Store) syncData(e *entry) error {
	f, err := os.OpenFile(s.path(e.id, dataSuffix), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), s.syncFolder())
}

// Drop destroys an upload or blob of the member's. When it returns nil its key is gone.
func (s *Store) Drop(member wire.MemberID, id UploadID) error {
	e, err := s.find(member, id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return s.drop(e)
}

// drop destroys an entry; its lock is held.
func (s *Store) drop(e *entry) error {
	if e.gone {
		return nil
	}
	if err := s.destroy(e.id); err != nil {
		return err
	}
	e.gone, e.data = true, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(e)
	return nil
}
