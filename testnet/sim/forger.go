package sim

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"sync"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/mod/sumdb/tlog"
)

// forger rewrites what a lying organization's node answers about its own log. It holds the
// organization's keys and not its members': it can write a version of a member's record into
// the log that no key of the member has signed.
type forger struct {
	mu     sync.Mutex
	leaves []byte // of the log as it is
	head   string // of the forged one; empty: nothing is forged
	forged []byte // its leaves
	org    *identity.Organization
}

// listen keeps the leaves that a node hands out, until it lies.
func (f *forger) listen(p protocol.ID, b []byte) [][]byte { return f.rewrite(p, b, false) }

// lie shows the forged log.
func (f *forger) lie(p protocol.ID, b []byte) [][]byte { return f.rewrite(p, b, true) }

// rewrite is simHost.alter: one call holds one frame, as wire.WriteFrame writes it.
func (f *forger) rewrite(p protocol.ID, b []byte, lies bool) [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var a pb.QueryResponse
	if p != federation.QueryProtocol || wire.ReadFrame(bufio.NewReader(bytes.NewReader(b)), &a, 4<<20) != nil {
		return [][]byte{b}
	}
	switch x := a.Answer.(type) {
	case *pb.QueryResponse_Leaves:
		if lies && f.head != "" && len(x.Leaves.Leaves) == 0 {
			x.Leaves.Leaves = f.forged[len(f.leaves):]
			break
		}
		if !lies && f.head == "" && len(x.Leaves.Leaves) > 0 {
			f.leaves = bytes.Clone(x.Leaves.Leaves)
		}
		return [][]byte{b}
	case *pb.QueryResponse_Head:
		if _, err := identity.VerifyHead(x.Head.Checkpoint, f.org); err != nil || !lies || f.head == "" {
			return [][]byte{b}
		}
		x.Head.Checkpoint = f.head
	default:
		return [][]byte{b}
	}
	var out bytes.Buffer
	if wire.WriteFrame(&out, &a, 4<<20) != nil {
		return [][]byte{b}
	}
	return [][]byte{out.Bytes()}
}

// forge makes the log with another version of its first member's record.
func (f *forger) forge(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys, err := identity.OpenNodeKeys(filepath.Join(dir, node.KeysFile), passphrase)
	if err != nil {
		return err
	}
	if len(f.leaves) != 2*directory.LeafLen {
		return errors.New("sim: the leaves of the log as it is were not seen")
	}
	member, ok := prefix.ParseEntry(f.leaves[:directory.LeafLen])
	if !ok {
		return errors.New("sim: a leaf that is none")
	}
	labels := prefix.Tree{}.Set(member)
	member.Version, member.Commitment = member.Version+1, sha256.Sum256([]byte("a record with a device more"))
	labels = labels.Set(member)
	f.forged = identity.MapLeaf(uint64(labels.Len()), labels.Root()).Append(member.Append(bytes.Clone(f.leaves)))
	var made hashes
	size := int64(len(f.forged) / directory.LeafLen)
	for i := range size {
		h, err := tlog.StoredHashes(i, f.forged[i*directory.LeafLen:(i+1)*directory.LeafLen], made)
		if err != nil {
			return err
		}
		made = append(made, h...)
	}
	root, err := tlog.TreeHash(size, made)
	if err != nil {
		return err
	}
	f.head, err = identity.SignCheckpoint(f.org, uint64(size), root, keys.Directory)
	return err
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(at []int64) (out []tlog.Hash, _ error) {
	for _, i := range at {
		out = append(out, h[i])
	}
	return out, nil
}
