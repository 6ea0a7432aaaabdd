package node

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
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

type deviceResults struct {
	mark uint64              // highest counter with a result
	rows map[uint64]resultOf // the last wire.SubmitResultsKept
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

// load reads a device's rows once.
func (r *results) load(d wire.DeviceID) (*deviceResults, error) {
	if dr, ok := r.devices[d]; ok {
		return dr, nil
	}
	prefix := append([]byte(resultPrefix), d[:]...)
	rows, err := r.store.Scan(prefix, nil, wire.SubmitResultsKept)
	if err != nil {
		return nil, fmt.Errorf("node: results of a device: %w", err)
	}
	dr := &deviceResults{rows: make(map[uint64]resultOf)}
	for _, row := range rows {
		counter, result, err := parseResult(row.Value)
		if err != nil {
			return nil, err
		}
		dr.rows[counter] = result
		dr.mark = max(dr.mark, counter)
	}
	r.devices[d] = dr
	return dr, nil
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
	r.mu.Lock()
	defer r.mu.Unlock()
	dr, err := r.load(d)
	if err != nil {
		return 0, err
	}
	return dr.mark, nil
}

// first returns the result that a submission got before, or nil when it is new.
func (r *results) first(d wire.DeviceID, counter uint64, digest [32]byte) (*pb.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dr, err := r.load(d)
	if err != nil {
		return nil, err
	}
	if counter == 0 {
		return wire.Status(pb.Code_CODE_MALFORMED, "a submission without a counter"), nil
	}
	if counter > dr.mark {
		return nil, nil
	}
	if row, ok := dr.rows[counter]; ok && subtle.ConstantTimeCompare(row.digest[:], digest[:]) == 1 {
		return row.status, nil
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

// remember makes a committed result visible.
func (r *results) remember(d wire.DeviceID, counter uint64, digest [32]byte, s *pb.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dr := r.devices[d]
	if dr == nil {
		return // read from the store when it is asked for
	}
	dr.rows[counter] = resultOf{digest, s}
	dr.mark = max(dr.mark, counter)
	delete(dr.rows, counter-wire.SubmitResultsKept)
}

func digestOf(core []byte) [32]byte { return sha256.Sum256(core) }
