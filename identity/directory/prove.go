package directory

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/identity/vrf"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint signs the log's present head.
func (d *Directory) Checkpoint() (string, error) {
	size, root, err := d.Head()
	if err != nil {
		return "", err
	}
	return d.signHead(size, root)
}

// headMark is the name of the store's mark of the highest head that was signed of the log:
// size ‖ the first four bytes of its root.
func headMark(log uint64) string {
	if log > 0 {
		return "directory/head/" + strconv.FormatUint(log, 10)
	}
	return "directory/head"
}

// signHead signs a head above the mark, or the one at it again: a log that was set back
// signs nothing, or it would have two pasts. It is recovering then.
func (d *Directory) signHead(size uint64, root [32]byte) (string, error) {
	if size > math.MaxUint32 {
		return "", fmt.Errorf("directory: a log of %d entries", size)
	}
	d.mu.RLock()
	name := headMark(d.log.number)
	d.mu.RUnlock()
	next := size<<32 | uint64(binary.BigEndian.Uint32(root[:]))
	switch mark := d.store.Mark(name); {
	case size < mark>>32 || size == mark>>32 && next != mark && mark != 0: // 0: nothing was signed yet
		return "", wire.Refuse(pb.Code_CODE_RECOVERING, "the directory is behind a head that it has signed, of %d entries", mark>>32)
	case next != mark:
		if err := d.store.SetMark(name, next); err != nil {
			return "", err
		}
		if err := d.store.SyncMarks(); err != nil { // before anybody sees the signature
			return "", err
		}
	}
	return identity.SignCheckpoint(d.opts.Organization, size, root, d.opts.Directory)
}

// Currency proves what the log's present head has of a member: its latest record, or
// that there is none. It is refused as unsupported while the log ends without a map, as
// those of versions before this one do until their next record.
func (d *Directory) Currency(id wire.MemberID) (*pb.Currency, error) {
	d.write.Lock()
	defer d.write.Unlock()
	d.mu.RLock()
	log, e := d.log, d.members[id]
	d.mu.RUnlock()
	return d.currency(id, log, e)
}

// ProvedChain is Chain with the proof that it is the latest.
func (d *Directory) ProvedChain(id wire.MemberID) (*pb.MemberChain, error) {
	d.write.Lock()
	defer d.write.Unlock()
	d.mu.RLock()
	log, e := d.log, d.members[id]
	d.mu.RUnlock()
	if e == nil {
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_MEMBER, "")
	}
	chain := d.chain(&e.row)
	var err error
	chain.Currency, err = d.currency(id, log, e)
	return chain, err
}

func (d *Directory) currency(id wire.MemberID, log logState, e *entry) (*pb.Currency, error) {
	if err := d.endsWithMap(log); err != nil {
		return nil, err
	}
	if e != nil && e.row.Log != log.number {
		return nil, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "the new log does not have the member yet")
	}
	output, proof, err := vrf.Prove(d.opts.VRF, identity.LabelInput(id))
	if err != nil {
		return nil, fmt.Errorf("directory: a label: %w", err)
	}
	hashes := hashReader{d.store}
	inclusion, err := tlog.ProveRecord(int64(log.size), int64(log.size-1), hashes)
	if err != nil {
		return nil, fmt.Errorf("directory: proving the map: %w", err)
	}
	root, err := tlog.TreeHash(int64(log.size), hashes)
	if err != nil {
		return nil, fmt.Errorf("directory: the log's head: %w", err)
	}
	mapRoot := log.labels.Root()
	c := &pb.Currency{Labels: uint64(log.labels.Len()), MapRoot: mapRoot[:], Vrf: proof[:], Map: log.labels.Prove(identity.Label(output)).Append(nil)}
	for _, h := range inclusion {
		c.Inclusion = append(c.Inclusion, h[:])
	}
	if e != nil {
		c.Nonce = e.row.Nonce
	}
	c.Checkpoint, err = d.signHead(log.size, [32]byte(root))
	return c, err
}

// HasMap reports whether the log ends with the root of the map: Currency proves.
func (d *Directory) HasMap() bool {
	d.write.Lock()
	defer d.write.Unlock()
	return d.endsWithMap(d.log) == nil
}

func (d *Directory) endsWithMap(log logState) error {
	if log.size > 0 {
		leaf, err := d.Leaf(log.size - 1)
		if err != nil {
			return err
		}
		if e, ok := prefix.ParseEntry(leaf); ok && e == rootLeaf(log.labels) {
			return nil
		}
	}
	return wire.Refuse(pb.Code_CODE_UNSUPPORTED, "the log has no map yet")
}
