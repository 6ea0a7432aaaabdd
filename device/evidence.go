package device

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Who was sent something can prove to others what was said and by whom: MLS signs each
// message with the sender's device key, inside of what is encrypted. That signature and
// what it covers are kept beside the message, under the same key, and end with it
// (docs/protocol.md 7.17).

// evidence is what a report is made from. It lies in the record of a message that ends,
// or in the history under "v/" ‖ message ID.
type evidence struct {
	Organization wire.OrganizationID // of the sender
	Leaf         uint32
	AAD          []byte
	Data         []byte // MIMI content
	Signature    []byte
	Device       wire.DeviceID
	Context      [32]byte // SHA-256 of the GroupContext, kept under "e/"
	Chain        [32]byte // of the sender's chain as it was
	Seq          uint64
	AcceptedMs   int64
	Frank        []byte
}

// maxContext bounds a GroupContext and a chain that are kept for reports, in bytes.
const maxContext = 256 << 10

func evidenceKey(id MessageID) []byte   { return append([]byte("v/"), id[:]...) }
func contextKey(digest [32]byte) []byte { return append([]byte("e/"), digest[:]...) }

// tagContent is the authenticated data of a message: FrankTagVersion and an HMAC of the
// content under its salt, by which the hub knows again what it has not read
// (draft-ietf-mimi-protocol, franking).
func tagContent(data, salt []byte) []byte {
	h := hmac.New(sha256.New, salt)
	h.Write(data)
	return h.Sum([]byte{wire.FrankTagVersion})
}

// tagOf is tagContent of content that this device has encoded.
func tagOf(data []byte) ([]byte, error) {
	var c content
	if err := contentDecoder.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("device: content to be sent: %w", err)
	}
	return tagContent(data, c.Salt), nil
}

var errTag = errors.New("device: a message whose tag is of another content")

// checkTag refuses a message whose tag is of something else: a report of it would have no
// place and time. One without a tag is of an older device.
func checkTag(aad, data, salt []byte) error {
	if len(aad) == 0 || hmac.Equal(aad, tagContent(data, salt)) {
		return nil
	}
	return errTag
}

// evidenceOf is what is kept of a message that was just decrypted.
func evidenceOf(env *pb.Envelope, got *group.Received, sender wire.Credential) *evidence {
	return &evidence{Organization: sender.Organization, Leaf: uint32(got.Leaf), AAD: got.AAD, Data: got.Data, Signature: got.Signature, Device: sender.Device,
		Context: sha256.Sum256(got.Context), Seq: env.Seq, AcceptedMs: env.AcceptedMs, Frank: env.Frank}
}

// keep stores what a message's evidence refers to, once for all messages of an epoch; nil
// when it cannot be proved later, because the sender's chain names the device no more.
func (t *txn) keep(e *evidence, context []byte, from memberKey) (*evidence, error) {
	chain, err := t.meta(chainKey(from))
	if errors.Is(err, errNoRecord) || err == nil && (len(chain) > maxContext || len(context) > maxContext) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e.Chain = sha256.Sum256(chain)
	return e, errors.Join(t.keepBytes(e.Context, context), t.keepBytes(e.Chain, chain))
}

// keepBytes has bytes stay as long as a message of now does; they are no secret.
func (t *txn) keepBytes(digest [32]byte, b []byte) error {
	key, until := contextKey(digest), t.v.now().Add(HistoryLife)
	if row := t.tx.Bucket(historyBucket).Get(key); len(row) >= 4 && binary.BigEndian.Uint32(row) >= dayOf(until) {
		return nil
	}
	return t.putHistory(key, until, b)
}

func (t *txn) putEvidence(id MessageID, e *evidence) error {
	if e == nil {
		return nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return t.putHistory(evidenceKey(id), t.v.now().Add(HistoryLife), b)
}

// evidence finds what was kept of a message.
func (t *txn) evidence(id MessageID) (*evidence, error) {
	x, ok, err := t.expiringText(id)
	if err != nil {
		return nil, err
	}
	if ok && x.Evidence != nil {
		return x.Evidence, nil
	}
	raw, err := t.history(evidenceKey(id))
	if err != nil {
		return nil, err
	}
	e := &evidence{}
	return e, json.Unmarshal(raw, e)
}

func (e *evidence) signed(context []byte) *mls.Evidence {
	return &mls.Evidence{Context: context, Leaf: mls.LeafIndex(e.Leaf), AAD: e.AAD, Data: e.Data, Signature: e.Signature}
}
