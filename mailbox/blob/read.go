package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"time"

	"github.com/entente-im/entente/store/slot"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Read returns a chunk of a finished blob and the size of the whole ciphertext.
func (s *Store) Read(blob ID, index uint32) (size uint64, chunk []byte, err error) {
	s.mu.Lock()
	var e *entry
	for _, x := range s.blobs[blob] {
		if !s.ended(x) {
			e = x
		}
	}
	s.mu.Unlock()
	if e == nil {
		return 0, nil, errNotFound
	}
	e.mu.Lock()
	if e.gone {
		e.mu.Unlock()
		return 0, nil, errNotFound
	}
	a, err := s.keyOf(e)
	e.mu.Unlock()
	if err != nil {
		return 0, nil, s.lost(e, "opening a file", err)
	}
	if index >= e.chunks() {
		return 0, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "chunk %d of %d", index, e.chunks())
	}
	chunk, err = s.readChunk(e, a, index)
	if err != nil {
		return 0, nil, s.lost(e, "reading a file", err)
	}
	return e.record.Size, chunk, nil
}

// lost is disk of a finished blob: what was altered, cut short or taken away never comes
// back, so that asking again is no use. The log says it once.
func (s *Store) lost(e *entry, what string, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return errNotFound // its time ended meanwhile
	}
	if !errors.Is(err, errDamaged) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, slot.ErrDamaged) && !errors.Is(err, slot.ErrEmpty) {
		return disk(what, err)
	}
	if !e.damaged {
		e.damaged = true
		s.log.Error("blob: damaged: nobody gets this file any more", "upload", hex.EncodeToString(e.id[:]), "member", e.record.Member, "error", err)
	}
	return wire.Refuse(pb.Code_CODE_DAMAGED, "")
}

// sweepEvery is how long a key may outlive its deadline on a running node.
const sweepEvery = 2 * time.Second

// Run sweeps until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(); err != nil {
			s.log.Error("blob: sweep", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Sweep destroys every blob whose deadline has passed, and uploads that nobody goes on
// with. A clock that is held destroys nothing.
func (s *Store) Sweep() error {
	if s.held() {
		return nil
	}
	s.mu.Lock()
	var ended []*entry
	for _, e := range s.uploads {
		if s.ended(e) {
			ended = append(ended, e)
		}
	}
	s.mu.Unlock()
	var errs error
	for _, e := range ended {
		e.mu.Lock()
		errs = errors.Join(errs, s.drop(e))
		e.mu.Unlock()
	}
	return errs
}
