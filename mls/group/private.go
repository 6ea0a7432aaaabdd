package group

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// MaxPlaintext bounds the data and the padding of one message, in bytes.
const MaxPlaintext = 4 << 20

// MaxReserve bounds Reserve: receivers follow a sender over MaxForward only.
const MaxReserve = 256

// sending is our own pair of ratchets. What is stored is ahead of what is used
// when generations were reserved, so that a crash never uses one twice.
type sending struct {
	hs       ratchet
	app      ratchet
	reserved ratchet // app as stored, at or ahead of app
}

func (o *sending) erase() {
	o.hs.erase()
	o.app.erase()
	o.reserved.erase()
}

// startSending takes our own ratchets out of the tree: nobody decrypts with them.
func startSending(t *secretTree, leaf mls.LeafIndex) (*secretTree, sending, error) {
	t, err := t.expand(leaf)
	if err != nil {
		return nil, sending{}, err
	}
	r := t.senders.get(leaf)
	return t.without(leaf), sending{hs: r.hs, app: r.app, reserved: r.app}, nil
}

// Reserve advances the stored application ratchet so that the next n calls of
// Encrypt change nothing that has to be stored. Store the new state before the
// first of them.
func (s *State) Reserve(n int) (*State, error) {
	if n < 0 || n > MaxReserve || s.own.app.generation > 1<<32-1-MaxReserve {
		return nil, mls.ErrLimit
	}
	c := *s
	if uint32(n) > c.own.reserved.generation-c.own.app.generation {
		c.used(false)
	}
	for uint32(n) > c.own.reserved.generation-c.own.app.generation {
		c.own.reserved, _, _ = c.own.reserved.step(s.pub.Suite())
	}
	return &c, nil
}

// Reserved is how many messages can be sent before the state has to be stored
// again. When it is 0, store what Encrypt returns before the message leaves.
func (s *State) Reserved() int { return int(s.own.reserved.generation - s.own.app.generation) }

// Encrypt makes an application message (an MLSMessage). aad is authenticated and
// readable by everybody on the way. The data, the signature and their framing
// are padded with zeros to a multiple of padTo bytes when it is positive. An ErrPending
// says that a Commit has to come first.
func (s *State) Encrypt(aad, data []byte, padTo int) (*State, []byte, error) {
	if len(data) > MaxPlaintext || padTo > MaxPlaintext || len(aad) > MaxPlaintext {
		return nil, nil, ErrTooLarge
	}
	if s.own.app.generation >= 1<<32-2 {
		return nil, nil, mls.ErrLimit
	}
	if s.MustCommit() {
		return nil, nil, ErrPending
	}
	c := &mls.Content{
		WireFormat: mls.WirePrivateMessage, GroupID: s.pub.GroupContext().GroupID, Epoch: s.Epoch(), AAD: aad,
		Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(s.priv.leaf)}, Type: mls.ContentApplication, Application: data,
	}
	if err := mls.CheckAAD(s.pub.GroupContext().Extensions, aad); err != nil {
		return nil, nil, err
	}
	if err := c.Sign(s.pub.Suite(), s.cfg.Signer, s.pub.Context()); err != nil {
		return nil, nil, err
	}
	n := *s
	generation := s.own.app.generation
	var key, nonce []byte
	n.own.app, key, nonce = s.own.app.step(s.pub.Suite())
	if n.own.reserved.generation < n.own.app.generation {
		n.own.reserved = n.own.app
		n.used(false)
	}
	msg, err := seal(s.pub.Suite(), c, s.secrets.senderData, generation, key, nonce, padTo)
	if err != nil {
		return nil, nil, err
	}
	return &n, msg.Encode(), nil
}

// seal is RFC 9420 §6.3: it encrypts content and sender data, and erases the key.
func seal(s *mls.Suite, c *mls.Content, senderData []byte, generation uint32, key, nonce []byte, padTo int) (*mls.PrivateMessage, error) {
	defer erase(key)
	w := tls.NewWriter(len(c.Application) + 128 + max(padTo, 0))
	c.WriteBody(w)
	c.WriteAuth(w)
	if padTo > 0 && len(w.B)%padTo != 0 {
		w.Raw(make([]byte, padTo-len(w.B)%padTo))
	}
	defer erase(w.B)
	return sealPlain(s, c, w.B, senderData, generation, key, nonce)
}

// sealPlain encrypts a PrivateMessageContent that is laid out already.
func sealPlain(s *mls.Suite, c *mls.Content, plain, senderData []byte, generation uint32, key, nonce []byte) (*mls.PrivateMessage, error) {
	guard := mls.Random(4)
	for i := range guard {
		nonce[i] ^= guard[i]
	}
	p := &mls.PrivateMessage{GroupID: c.GroupID, Epoch: c.Epoch, Type: c.Type, AAD: c.AAD}
	var err error
	if p.Ciphertext, err = s.Seal(key, nonce, p.ContentAAD(), plain); err != nil {
		return nil, err
	}
	var sd tls.Writer
	sd.U32(c.Sender.Index)
	sd.U32(generation)
	sd.Raw(guard)
	sk, sn := senderDataKey(s, senderData, p.Ciphertext)
	defer erase(sk)
	p.SenderData, err = s.Seal(sk, sn, p.SenderDataAAD(), sd.B)
	return p, err
}

// senderDataKey is that of §6.3.2: fresh for each ciphertext.
func senderDataKey(s *mls.Suite, secret, ciphertext []byte) (key, nonce []byte) {
	sample := ciphertext[:min(len(ciphertext), s.HashLen())]
	return s.ExpandWithLabel(secret, "key", sample, s.KeyLen()), s.ExpandWithLabel(secret, "nonce", sample, s.NonceLen())
}

type senderData struct {
	leaf       mls.LeafIndex
	generation uint32
	guard      []byte
}

func openSenderData(s *mls.Suite, secret []byte, p *mls.PrivateMessage) (sd senderData, err error) {
	key, nonce := senderDataKey(s, secret, p.Ciphertext)
	defer erase(key)
	b, err := s.Open(key, nonce, p.SenderDataAAD(), p.SenderData)
	if err != nil {
		return sd, err
	}
	r := tls.NewReader(b)
	sd = senderData{leaf: mls.LeafIndex(r.U32()), generation: r.U32(), guard: r.Fixed(4)}
	return sd, r.Done()
}

// openPrivate decrypts a message with the ratchets of an epoch and returns the
// secret tree without the key. The signature is for the caller to verify.
func openPrivate(s *mls.Suite, p *mls.PrivateMessage, t *secretTree, secret []byte, own mls.LeafIndex, cfg Config) (*secretTree, *mls.Content, uint32, error) {
	sd, err := openSenderData(s, secret, p)
	if err != nil {
		return nil, nil, 0, err
	}
	if sd.leaf == own {
		return nil, nil, 0, ErrOwnMessage
	}
	t, key, nonce, err := t.take(sd.leaf, p.Type != mls.ContentApplication, sd.generation, cfg.now())
	if err != nil {
		return nil, nil, 0, err
	}
	defer erase(key)
	for i, g := range sd.guard {
		nonce[i] ^= g
	}
	plain, err := s.Open(key, nonce, p.ContentAAD(), p.Ciphertext)
	if err != nil {
		return nil, nil, 0, err
	}
	c := &mls.Content{
		WireFormat: mls.WirePrivateMessage, GroupID: p.GroupID, Epoch: p.Epoch, AAD: p.AAD, Type: p.Type,
		Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(sd.leaf)},
	}
	r := tls.NewReader(plain)
	c.ReadBody(r)
	c.ReadAuth(r)
	padding := r.Rest()
	erase(plain)
	if err := r.Done(); err != nil {
		return nil, nil, 0, err
	}
	if len(bytes.TrimLeft(padding, "\x00")) > 0 { // §6.3.1
		return nil, nil, 0, mls.ErrDecode
	}
	return t, c, sd.generation, nil
}

// Received is an application message that was opened and verified.
type Received struct {
	Leaf         mls.LeafIndex
	Credential   mls.Credential // of the sender in that epoch
	SignatureKey []byte
	Epoch        uint64
	Generation   uint32
	AAD          []byte
	Data         []byte
	Signature    []byte // of the sender; with Context, mls.Evidence
	Context      []byte // encoded GroupContext that it covers; not to be changed
}

// Decrypt opens an application message (an MLSMessage) of this epoch or of a
// past one that is still kept, verified against the members of that epoch. A
// message is opened once: the new state has not its key. On an error nothing has
// changed.
func (s *State) Decrypt(msg []byte) (*State, *Received, error) {
	m, err := mls.ParseMessage(msg)
	if err != nil {
		return nil, nil, err
	}
	p := m.PrivateMessage
	if p == nil || p.Type != mls.ContentApplication {
		return nil, nil, mls.ErrWireFormat
	}
	if !bytes.Equal(p.GroupID, s.pub.GroupContext().GroupID) {
		return nil, nil, mls.ErrWrongGroup
	}
	s = s.tidy()
	if p.Epoch != s.Epoch() {
		return s.decryptPast(p)
	}
	suite := s.pub.Suite()
	t, c, generation, err := openPrivate(suite, p, s.tree, s.secrets.senderData, s.priv.leaf, s.cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := s.pub.VerifyContent(c); err != nil {
		return nil, nil, err
	}
	n := *s
	n.tree = t
	n.used(false)
	leaf := s.pub.Member(mls.LeafIndex(c.Sender.Index))
	return &n, received(c, generation, leaf.Credential, leaf.SignatureKey, s.pub.Context()), nil
}

func (s *State) decryptPast(p *mls.PrivateMessage) (*State, *Received, error) {
	at := slices.IndexFunc(s.past, func(e *pastEpoch) bool { return e.epoch == p.Epoch })
	if at < 0 {
		return nil, nil, &mls.EpochError{Have: s.Epoch(), Got: p.Epoch}
	}
	e, suite := s.past[at], s.pub.Suite()
	t, c, generation, err := openPrivate(suite, p, e.tree, e.senderData, e.own, s.cfg)
	if err != nil {
		return nil, nil, err
	}
	if int(c.Sender.Index) >= len(e.members) || e.members[c.Sender.Index].key == nil {
		return nil, nil, mls.ErrSender
	}
	sender := e.members[c.Sender.Index]
	if err := c.VerifySignature(suite, sender.key, e.context); err != nil {
		return nil, nil, err
	}
	if err := e.checkAAD(c.AAD); err != nil {
		return nil, nil, err
	}
	n := *s
	n.used(false)
	q := *e
	q.tree = t
	n.past = slices.Clone(s.past)
	n.past[at] = &q
	return &n, received(c, generation, sender.credential, sender.key, e.context), nil
}

func (p *pastEpoch) checkAAD(aad []byte) error {
	c, err := mls.ParseGroupContext(p.context)
	if err != nil {
		return err
	}
	return mls.CheckAAD(c.Extensions, aad)
}

func received(c *mls.Content, generation uint32, cred mls.Credential, key, context []byte) *Received {
	return &Received{
		Leaf: mls.LeafIndex(c.Sender.Index), Credential: cred, SignatureKey: key, Epoch: c.Epoch,
		Generation: generation, AAD: c.AAD, Data: c.Application, Signature: c.Signature, Context: context,
	}
}
