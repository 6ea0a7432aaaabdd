package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// What a hub keeps of the last Commits of a room that it orders (wire.ComplaintCommits), so
// that it can judge a complaint about one of them and say what the room was before it.
//
// Rows: "nd/commit/" ‖ room ID ‖ "/" ‖ generation uint32 ‖ epoch uint64 that the Commit ended;
// value: JSON commitRecord.
const commitPrefix = "nd/commit/"

type commitRecord struct {
	Version  int             `json:"version"`
	Author   identity.Author `json:"author"`           // of the Commit
	External bool            `json:"external"`         // it is an external one
	BaseBy   identity.Author `json:"base_by,omitzero"` // who signed the GroupInfo that an external one began from
	Step     policy.Step     `json:"step"`             // what it changed
	Info     []byte          `json:"info"`             // the GroupInfo that came with it
}

const commitRecordVersion = 1

func commitsOf(room wire.RoomID) []byte { return append(roomKey(commitPrefix, room), '/') }

func commitKey(room wire.RoomID, generation uint32, epoch uint64) []byte {
	k := binary.BigEndian.AppendUint32(commitsOf(room), generation)
	return binary.BigEndian.AppendUint64(k, epoch)
}

// recordCommit adds what is kept of an accepted Commit to the change; d is the room before
// it. About the first Commit nobody can complain, since nobody but its maker has seen epoch
// 0; but others come in by the GroupInfo that came with it.
func (c *change) recordCommit(d *draft, s submission, next *mls.PublicGroup, e *mls.Effects) error {
	epoch := d.group.Epoch()
	who, err := policy.CredentialOf(next.Member(e.Committer))
	if err != nil {
		return err
	}
	r := commitRecord{Version: commitRecordVersion, Author: authorOf(who), External: e.External, Info: s.bundle.GroupInfo,
		Step: policy.StepOf(d.group, e, sha256.Sum256(s.bundle.Commit))}
	if e.External {
		if info, err := c.n.store.Get(roomKey(infoPrefix, d.id)); err == nil {
			r.BaseBy, _ = signerOf(d.group, info)
		}
	}
	v, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("node: the record of a Commit: %w", err)
	}
	c.batch.Put(commitKey(d.id, d.row.Generation, epoch), v)
	if epoch >= wire.ComplaintCommits {
		c.batch.Delete(commitKey(d.id, d.row.Generation, epoch-wire.ComplaintCommits))
	}
	if epoch == 0 {
		return nil
	}
	return c.noteCommitted(d, seatOf(r.Author), e.External)
}

// forgetCommits drops the records of a room's generation.
func (c *change) forgetCommits(d *draft) error {
	page, err := c.n.store.Scan(commitsOf(d.id), nil, 4*wire.ComplaintCommits)
	for _, kv := range page {
		c.batch.Delete(kv.Key)
	}
	return err
}

// commits reads the records of a room's generation, the newest first.
func (n *Node) commits(d *draft) ([]commitRecord, error) {
	prefix := commitKey(d.id, d.row.Generation, 0)
	prefix = prefix[:len(prefix)-8]
	page, err := n.store.Scan(prefix, nil, 4*wire.ComplaintCommits)
	if err != nil {
		return nil, fmt.Errorf("node: the last Commits of a room: %w", err)
	}
	var out []commitRecord
	for _, kv := range page {
		var r commitRecord
		if err := json.Unmarshal(kv.Value, &r); err != nil || r.Version != commitRecordVersion {
			return nil, fmt.Errorf("node: the record of a Commit of room %s does not parse", d.id)
		}
		out = append(out, r)
	}
	slices.Reverse(out)
	return out, nil
}

// baseOf finds a Commit among the last of a room, and what the room was before it.
func (n *Node) baseOf(d *draft, commit [32]byte) (*commitRecord, policy.Base, error) {
	list, err := n.commits(d)
	if err != nil {
		return nil, policy.Base{}, err
	}
	base, epoch := policy.BaseOf(d.group), d.group.Epoch()
	for _, r := range list {
		if r.Step.Epoch+1 != epoch {
			break // one is missing: what was before it cannot be told
		}
		epoch = r.Step.Epoch
		base = base.Undo(r.Step)
		if r.Step.Commit == commit {
			return &r, base, nil
		}
	}
	return nil, policy.Base{}, wire.Refuse(pb.Code_CODE_NOT_FOUND, "no such Commit in this room, or one too long ago")
}

func authorOf(c wire.Credential) identity.Author {
	return identity.Author{Organization: c.Organization, Member: c.Member, Device: c.Device}
}

func seatOf(a identity.Author) policy.Seat {
	return policy.Seat{Person: policy.Person{Organization: a.Organization, Member: a.Member}, Device: a.Device}
}

// signerOf reads who signed a GroupInfo of a group's epoch; the caller has checked it.
func signerOf(g *mls.PublicGroup, info []byte) (a identity.Author, err error) {
	m, err := mls.ParseMessage(info)
	if err != nil {
		return a, err
	}
	if m.GroupInfo == nil || !bytes.Equal(m.GroupInfo.Context.Encode(), g.Context()) {
		return a, mls.ErrGroupInfo
	}
	leaf := g.Member(m.GroupInfo.Signer)
	if leaf == nil {
		return a, mls.ErrGroupInfo
	}
	c, err := policy.CredentialOf(leaf)
	return authorOf(c), err
}
