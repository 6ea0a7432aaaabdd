package mls

// Evidence is what a member has signed of an application message, with what the
// signature covers: who has it proves to others what that member's leaf has said, in
// which group and epoch (RFC 9420 §6.1). The message itself, a PrivateMessage, shows
// none of it.
type Evidence struct {
	Context   []byte // encoded GroupContext of the epoch
	Leaf      LeafIndex
	AAD       []byte // authenticated data
	Data      []byte // application data
	Signature []byte
}

// Verify checks the signature with the sender's key and returns the group context. That
// the key is of a member of that epoch is for the caller to know.
func (e *Evidence) Verify(key []byte) (*GroupContext, error) {
	g, err := ParseGroupContext(e.Context)
	if err != nil {
		return nil, err
	}
	s, err := LookupSuite(g.Suite)
	if err != nil {
		return nil, err
	}
	c := &Content{
		WireFormat: WirePrivateMessage, GroupID: g.GroupID, Epoch: g.Epoch, AAD: e.AAD, Signature: e.Signature,
		Sender: Sender{Type: SenderMember, Index: uint32(e.Leaf)}, Type: ContentApplication, Application: e.Data,
	}
	if err := c.VerifySignature(s, key, e.Context); err != nil {
		return nil, err
	}
	return g, nil
}
