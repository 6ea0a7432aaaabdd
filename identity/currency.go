package identity

import (
	"crypto/sha256"

	"github.com/entente-im/entente/identity/prefix"
	"github.com/entente-im/entente/identity/vrf"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	labelDomain      = "entente.im/label/v1\n"
	commitmentDomain = "entente.im/commitment/v1\n"

	maxInclusion = 64 // hashes: a log has at most 2^62 leaves
)

// Label is where a member stands in its directory's map: without the VRF key or a proof,
// nobody can tell whose it is.
func Label(output [vrf.OutputLen]byte) prefix.Label { return prefix.Label(output[:32]) }

// LabelInput is what the VRF is applied to for a member.
func LabelInput(id wire.MemberID) []byte { return append([]byte(labelDomain), id[:]...) }

// Commitment hides a record behind a nonce.
func Commitment(nonce [32]byte, recordText string) [32]byte {
	h := sha256.New()
	h.Write([]byte(commitmentDomain))
	h.Write(nonce[:])
	text := wire.TextHash(recordText)
	h.Write(text[:])
	return [32]byte(h.Sum(nil))
}

// MapLeaf is the leaf that ends every batch of a log: the root of the map of all labels,
// with their number, under the label of zeros, which no VRF gives.
func MapLeaf(labels uint64, root prefix.Hash) prefix.Entry {
	return prefix.Entry{Version: labels, Commitment: root}
}

// VerifyCurrency checks a proof that record, a note, is the latest that an organization's
// log has of a member as of the checkpoint that it returns; or, with an empty record,
// that the log has no such member. Whether others have seen the same checkpoint is
// for witnesses to say.
func VerifyCurrency(c *pb.Currency, o *Organization, id wire.MemberID, record string) (*Checkpoint, error) {
	if c == nil {
		return nil, refuse("no proof of currency")
	}
	head, err := VerifyCheckpoint(c.Checkpoint, o)
	if err != nil {
		return nil, err
	}
	root, err := wire.Bytes32(c.MapRoot)
	if err != nil || head.Size == 0 || len(c.Inclusion) > maxInclusion {
		return nil, refuse("a proof of currency without map or log")
	}
	var inclusion tlog.RecordProof
	for _, h := range c.Inclusion {
		x, err := wire.Bytes32(h)
		if err != nil {
			return nil, refuse("a proof of currency with a hash of %d bytes", len(h))
		}
		inclusion = append(inclusion, tlog.Hash(x))
	}
	leaf := tlog.RecordHash(MapLeaf(c.Labels, root).Append(nil))
	if err := tlog.CheckRecord(inclusion, int64(head.Size), tlog.Hash(head.Root), int64(head.Size-1), leaf); err != nil {
		return nil, refuse("the map is not the last entry of the log")
	}
	output, err := vrf.Verify(o.Manifest.VRF, LabelInput(id), c.Vrf)
	if err != nil {
		return nil, refuse("the label is not this member's")
	}
	p, err := prefix.ParseProof(c.Map)
	if err != nil {
		return nil, refuse("a proof of currency: %v", err)
	}
	e, found, err := p.Verify(root, Label(output))
	if err != nil {
		return nil, refuse("the map does not say so")
	}
	return head, checkCurrent(e, found, c.Nonce, o, record)
}

func checkCurrent(e prefix.Entry, found bool, nonce []byte, o *Organization, record string) error {
	switch {
	case record == "" && found:
		return refuse("a member that the log has")
	case record == "":
		return nil
	case !found:
		return refuse("a member that the log does not have")
	}
	r, err := VerifyRecord(record, o)
	if err != nil {
		return err
	}
	text, err := wire.NoteText(record)
	if err != nil {
		return err
	}
	n, err := wire.Bytes32(nonce)
	if err != nil || e.Version != r.Version || e.Commitment != Commitment(n, text) {
		return refuse("version %d of the record, where the log has another as version %d", r.Version, e.Version)
	}
	return nil
}
