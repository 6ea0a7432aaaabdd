package node

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// results remembers what became of a device's last submissions (docs/protocol.md
// 6.5): the same counter with the same bytes gets its first result, anything else
// at or below the mark is rolledBack.
//
// Rows: "nd/res/" ‖ device ID ‖ uint16 slot (counter mod 1,024); value: counter
// uint64 ‖ SHA-256 of the core ‖ Status.
type results struct {
	store *store.Store

	mu      sync.Mutex
	devices map[wire.DeviceID]*deviceResults
}

// deviceResults is what is in memory of a device's: rows are read when they are asked
// for.
type deviceResults struct {
	taking sync.Mutex // held while a submission of the device is decided
	loaded bool
	mark   uint64 // highest counter with a result
}

type resultOf struct {
	digest [32]byte
	status *pb.Status
}

const resultPrefix = "nd/res/"

func newResults(s *store.Store) *results {
	return &results{store: s, devices: make(map[wire.DeviceID]*deviceResults)}
}

func resultKey(d wire.DeviceID, counter uint64) []byte {
	k := append([]byte(resultPrefix), d[:]...)
	return binary.BigEndian.AppendUint16(k, uint16(counter%wire.SubmitResultsKept))
}

// of returns a device's entry, with its mark read from the store once.
func (r *results) of(d wire.DeviceID) (*deviceResults, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dr := r.devices[d]
	if dr == nil {
		dr = &deviceResults{}
		r.devices[d] = dr
	}
	if dr.loaded {
		return dr, nil
	}
	rows, err := r.store.Scan(append([]byte(resultPrefix), d[:]...), nil, wire.SubmitResultsKept)
	if err != nil {
		return nil, fmt.Errorf("node: results of a device: %w", err)
	}
	for _, row := range rows {
		counter, _, err := parseResult(row.Value)
		if err != nil {
			return nil, err
		}
		dr.mark = max(dr.mark, counter)
	}
	dr.loaded = true
	return dr, nil
}

// take has the device's submissions decided one after another, whichever way they
// come; the function that it returns lets the next one in.
func (r *results) take(d wire.DeviceID) (func(), error) {
	dr, err := r.of(d)
	if err != nil {
		return nil, err
	}
	dr.taking.Lock()
	return dr.taking.Unlock, nil
}

func parseResult(b []byte) (uint64, resultOf, error) {
	if len(b) < 40 {
		return 0, resultOf{}, fmt.Errorf("node: a result of %d bytes", len(b))
	}
	var s pb.Status
	if err := proto.Unmarshal(b[40:], &s); err != nil {
		return 0, resultOf{}, fmt.Errorf("node: a result that does not parse: %w", err)
	}
	return binary.BigEndian.Uint64(b), resultOf{[32]byte(b[8:40]), &s}, nil
}

// mark returns the highest counter that has a result.
func (r *results) mark(d wire.DeviceID) (uint64, error) {
	dr, err := r.of(d)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return dr.mark, nil
}

// first returns the result that a submission got before, or nil when it is new.
func (r *results) first(d wire.DeviceID, counter uint64, digest [32]byte) (*pb.Status, error) {
	if counter == 0 {
		return wire.Status(pb.Code_CODE_MALFORMED, "a submission without a counter"), nil
	}
	mark, err := r.mark(d)
	if err != nil || counter > mark {
		return nil, err
	}
	row, err := r.store.Get(resultKey(d, counter))
	if errors.Is(err, store.ErrNotFound) {
		return wire.Status(pb.Code_CODE_ROLLED_BACK, ""), nil
	}
	if err != nil {
		return nil, fmt.Errorf("node: a result: %w", err)
	}
	had, result, err := parseResult(row)
	if err != nil {
		return nil, err
	}
	if had == counter && subtle.ConstantTimeCompare(result.digest[:], digest[:]) == 1 {
		return result.status, nil
	}
	return wire.Status(pb.Code_CODE_ROLLED_BACK, ""), nil
}

// put adds a result to the batch of its submission. It counts only once remember
// is called, after the commit.
func (r *results) put(b *store.Batch, d wire.DeviceID, counter uint64, digest [32]byte, s *pb.Status) error {
	v := binary.BigEndian.AppendUint64(nil, counter)
	v = append(v, digest[:]...)
	v, err := proto.MarshalOptions{}.MarshalAppend(v, s)
	if err != nil {
		return fmt.Errorf("node: a result: %w", err)
	}
	b.Put(resultKey(d, counter), v)
	return nil
}

// remember makes a committed result's counter the device's mark.
func (r *results) remember(d wire.DeviceID, counter uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dr := r.devices[d]; dr != nil {
		dr.mark = max(dr.mark, counter)
	}
}

func digestOf(core []byte) [32]byte { return sha256.Sum256(core) }
