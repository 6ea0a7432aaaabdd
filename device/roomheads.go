package device

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
)

// Commits say which heads of directories their maker has seen: a second way on which a lie
// about a directory is noticed, and one that no node can keep back without keeping the
// Commit back (docs/protocol.md 7.18). What a Commit says is its maker's word: it is told,
// and proves nothing; the nodes' gossip proves.

const (
	headsVersion = 2 // first byte of a Commit's authenticated data; 1 is a message's tag
	headLen      = 32 + 8 + 8 + 32
	// maxCommitHeads bounds the organizations whose heads a Commit names.
	maxCommitHeads = 64
	// keptHeads is how many heads of a log a device compares others' with.
	keptHeads = 64
)

// shownHead is a head as a Commit names it.
type shownHead struct {
	Org  wire.OrganizationID
	Log  uint64 `json:",omitempty"` // which of its logs
	Size uint64
	Root [32]byte
}

func encodeHeads(list []shownHead) []byte {
	if len(list) == 0 {
		return nil
	}
	out := []byte{headsVersion}
	for _, h := range list {
		out = binary.BigEndian.AppendUint64(append(out, h.Org[:]...), h.Log)
		out = append(binary.BigEndian.AppendUint64(out, h.Size), h.Root[:]...)
	}
	return out
}

var errHeads = errors.New("device: heads in a Commit that do not parse")

// decodeHeads reads what encodeHeads has written: by rising organization IDs, each once.
func decodeHeads(b []byte) (out []shownHead, err error) {
	if len(b) == 0 || b[0] != headsVersion {
		return nil, nil // nothing, or what is to come
	}
	if b = b[1:]; len(b) == 0 || len(b)%headLen != 0 || len(b) > maxCommitHeads*headLen {
		return nil, errHeads
	}
	for ; len(b) > 0; b = b[headLen:] {
		h := shownHead{wire.OrganizationID(b[:32]), binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint64(b[40:]), [32]byte(b[48:headLen])}
		if n := len(out); h.Size == 0 || n > 0 && bytes.Compare(out[n-1].Org[:], h.Org[:]) >= 0 {
			return nil, errHeads
		}
		out = append(out, h)
	}
	return out, nil
}

func seenHeadsKey(org wire.OrganizationID) string { return "seenheads/" + org.String() }

// keepHead remembers a head that was verified, to compare others' with; the oldest go.
func (t *txn) keepHead(h shownHead) error {
	var list []shownHead
	if err := t.metaJSON(seenHeadsKey(h.Org), &list); err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	if slices.ContainsFunc(list, func(x shownHead) bool { return x.Log == h.Log && x.Size == h.Size }) {
		return nil
	}
	list = append(list, h)
	slices.SortFunc(list, func(a, b shownHead) int { return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.Size, b.Size)) })
	if len(list) > keptHeads {
		list = list[len(list)-keptHeads:]
	}
	return t.putMetaJSON(seenHeadsKey(h.Org), list)
}

// roomHeads are the newest heads that this device has seen of the organizations in a room.
func (d *Device) roomHeads(r *room) (out []shownHead, err error) {
	if r.state == nil {
		return nil, nil
	}
	orgs := []wire.OrganizationID{d.account.Organization}
	for _, k := range r.others(d.account.Organization) {
		orgs = append(orgs, k.Org)
	}
	slices.SortFunc(orgs, func(a, b wire.OrganizationID) int { return bytes.Compare(a[:], b[:]) })
	err = d.vault.view(func(t *txn) error {
		for _, org := range orgs {
			var h headRow
			if err := t.metaJSON(headKey(org), &h); errors.Is(err, errNoRecord) || err == nil && (h.Size == 0 || len(h.Root) != 32) {
				continue
			} else if err != nil {
				return err
			}
			if out = append(out, shownHead{org, h.Log, h.Size, [32]byte(h.Root)}); len(out) == maxCommitHeads {
				break
			}
		}
		return nil
	})
	return out, err
}

// compareHeads tells of heads in a Commit that are not those that this device has seen.
func (b *batch) compareHeads(r *room, e *mls.Effects, from *mls.LeafNode) {
	list, err := decodeHeads(e.AAD)
	if err != nil || len(list) == 0 || from == nil {
		return // what does not parse says nothing; the Commit stands
	}
	c, err := policy.CredentialOf(from)
	if err != nil {
		return
	}
	by := memberKey{c.Organization, c.Member}
	b.writes = append(b.writes, func(t *txn) error {
		for _, h := range list {
			if err := t.compareHead(b.d, r, by, h); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *txn) compareHead(d *Device, r *room, by memberKey, h shownHead) error {
	var seen []shownHead
	if err := t.metaJSON(seenHeadsKey(h.Org), &seen); err != nil {
		if errors.Is(err, errNoRecord) {
			return nil
		}
		return err
	}
	i := slices.IndexFunc(seen, func(x shownHead) bool { return x.Log == h.Log && x.Size == h.Size })
	if i < 0 || seen[i].Root == h.Root {
		return nil
	}
	told := []byte(fmt.Sprintf("headtold/%s/%d/%d", h.Org, h.Log, h.Size))
	if _, err := t.meta(told); err == nil {
		return nil // once for each head
	}
	if err := t.putMeta(told, []byte{1}); err != nil {
		return err
	}
	name := h.Org.String()
	for _, k := range r.people() {
		if k.Org == h.Org {
			name = d.orgName(k)
		}
	}
	return t.show(Shown{Event: "identity", State: "heads", Room: r.ID.String(), RoomName: r.Name, From: d.nameOf(by), At: d.now(),
		Reason: fmt.Sprintf("says that it was shown another directory of %s than you, at %d entries: one of you is lied to, or this is not true; tell your administrators", name, h.Size)})
}
