// Wasm is a program that only chats, for GOOS=js GOARCH=wasm: the MLS half of a
// device in a page or a worker. It is the measure of how small that can be; its
// size is in RESULTS.md. It keeps its state in memory and hands the records to
// store to whoever called: persistence, the network and the check of identities
// are the page's.
package main

import (
	"crypto/ed25519"
	"errors"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
)

// chat is one device and its rooms, by group ID.
type chat struct {
	cfg   group.Config
	name  []byte
	suite mls.SuiteID
	keys  *group.KeyPackageSecrets // of the KeyPackage handed out last
	rooms map[string]*group.State

	stored map[string]*group.State // the states whose records were handed out
}

var errRoom = errors.New("wasm: no such room")

// newChat makes a device from the 32-byte seed of its Ed25519 key.
func newChat(seed, name []byte, suite mls.SuiteID) (*chat, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, errors.New("wasm: a seed has 32 bytes")
	}
	if _, err := mls.LookupSuite(suite); err != nil {
		return nil, err
	}
	return &chat{cfg: group.Config{Validator: steady{}, Signer: ed25519.NewKeyFromSeed(seed)}, name: name, suite: suite, rooms: map[string]*group.State{}, stored: map[string]*group.State{}}, nil
}

// steady takes everybody and lets nobody become somebody else. Who is who is
// settled outside, by comparing the epoch authenticator.
type steady struct{}

func (steady) ValidateLeaf(c mls.LeafCheck) error {
	if c.New.Credential.Type != mls.CredentialBasic || c.Old != nil && !c.Old.Credential.Equal(c.New.Credential) {
		return mls.ErrCredential
	}
	return nil
}

func (c *chat) credential() mls.Credential {
	return mls.Credential{Type: mls.CredentialBasic, Identity: c.name}
}

// keyPackage is a fresh KeyPackage, good for 30 days and one room.
func (c *chat) keyPackage() (kp []byte, err error) {
	now := time.Now()
	kp, c.keys, err = group.NewKeyPackage(group.KeyPackageParams{Suite: c.suite, Signer: c.cfg.Signer, Credential: c.credential(),
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour)})
	return kp, err
}

// create makes a room with the device alone in it.
func (c *chat) create(id []byte) error {
	if c.rooms[string(id)] != nil {
		return errors.New("wasm: the room is there already")
	}
	st, err := group.Create(c.cfg, group.CreateParams{Suite: c.suite, GroupID: id, Credential: c.credential()})
	if err == nil {
		c.rooms[string(id)] = st
	}
	return err
}

// add adds the owners of KeyPackages at once. The Commit is for the others of the
// room, the Welcome, with the tree in it, for the new ones.
func (c *chat) add(id []byte, keyPackages [][]byte) (commit, welcome []byte, err error) {
	st := c.rooms[string(id)]
	if st == nil {
		return nil, nil, errRoom
	}
	st, staged, err := st.Stage(group.CommitParams{Adds: keyPackages, WelcomeTree: true})
	if err != nil {
		return nil, nil, err
	}
	if st, err = staged.Apply(st); err != nil {
		return nil, nil, err
	}
	c.rooms[string(id)] = st
	return staged.Commit, staged.Welcome, nil
}

// join enters a room by a Welcome for the last KeyPackage, whose keys are erased.
func (c *chat) join(welcome []byte) (id []byte, err error) {
	if c.keys == nil {
		return nil, group.ErrNotForUs
	}
	st, _, err := group.Join(c.cfg, welcome, nil, c.keys)
	if err != nil {
		return nil, err
	}
	if c.rooms[string(st.GroupID())] != nil {
		return nil, errors.New("wasm: the room is there already")
	}
	c.rooms[string(st.GroupID())] = st
	c.keys.Erase()
	c.keys = nil
	return st.GroupID(), nil
}

// send encrypts for a room, padded to multiples of 64 bytes. The records are to be
// stored before the message leaves.
func (c *chat) send(id, data []byte) (msg []byte, records []group.Record, err error) {
	st := c.rooms[string(id)]
	if st == nil {
		return nil, nil, errRoom
	}
	if st, msg, err = st.Encrypt(nil, data, 64); err != nil {
		return nil, nil, err
	}
	return msg, c.keep(st), nil
}

// receive opens a message of a room, and the records are to be stored with what it
// said; or it takes a Commit or proposal, and data is nil.
func (c *chat) receive(id, msg []byte) (from, data []byte, records []group.Record, err error) {
	st := c.rooms[string(id)]
	if st == nil {
		return nil, nil, nil, errRoom
	}
	next, got, err := st.Decrypt(msg)
	if errors.Is(err, mls.ErrWireFormat) {
		if next, _, err = st.Process(msg); err != nil {
			return nil, nil, nil, err
		}
		return nil, nil, c.keep(next), nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	return got.Credential.Identity, got.Data, c.keep(next), nil
}

// keep makes st the room's state and lists what is to be stored for it.
func (c *chat) keep(st *group.State) []group.Record {
	id := string(st.GroupID())
	records := st.Records(c.stored[id])
	c.rooms[id], c.stored[id] = st, st
	return records
}

// save lists all records of a room, in place of all that were stored of it.
func (c *chat) save(id []byte) ([]group.Record, error) {
	st := c.rooms[string(id)]
	if st == nil {
		return nil, errRoom
	}
	delete(c.stored, string(id))
	return c.keep(st), nil
}

// load takes up a room whose records were stored.
func (c *chat) load(records []group.Record) (id []byte, err error) {
	st, err := group.Restore(c.cfg, records)
	if err != nil {
		return nil, err
	}
	c.rooms[string(st.GroupID())], c.stored[string(st.GroupID())] = st, st
	return st.GroupID(), nil
}
