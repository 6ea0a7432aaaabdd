package device

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// room is a room of ours; state record "room/" ‖ room ID, beside those of its MLS state.
type room struct {
	ID         wire.RoomID
	Generation uint32
	Hub        wire.OrganizationID
	Peer       memberKey // whom we talk to in a room of two; zero in larger ones
	Name       string    // of a room of more than two: encrypted content, no node sees it
	Announce   bool      // the name is to be said to the room
	Leaving    bool
	LeaveEpoch uint64 // in which we have proposed it last
	// Heard says that the room has ended for us by the hub's word alone (Ended is set): what was
	// said until the Commit that removed us may lie in the mailbox, and is read.
	Heard bool `json:",omitempty"`
	// LeaveCounter is that of the last proposal to leave; see reviveLeaving.
	LeaveCounter uint64      `json:",omitempty"`
	Invited      bool        `json:",omitempty"` // into a room of two, by who is at the other end
	Into         wire.RoomID `json:",omitzero"`  // what this room of two was merged into: merge.go
	Seq          uint64      // last entry of the room's sequence that we have seen
	Head         []byte      // hash of entry HeadSeq: what the one after it has to name
	HeadSeq      uint64
	Holes        [][2]uint64 `json:",omitempty"` // places that were passed over, first and last: a message may still come
	Told         uint64      `json:",omitempty"` // place up to which people know that something may be missing
	Ended        bool        // we were removed
	Resynced     time.Time
	Brought      time.Time // when we tried last to bring our other devices in
	Creating     []byte    // CreateRoomRequest that waits for the hub's answer
	Committing   uint64    // counter of a staged Commit that waits for the hub's answer
	Handed       bool      // that Commit is at the home node; the hub's answer comes as a result
	Resyncing    bool      // that Commit is an external one that brings us back
	Behind       bool      // a Commit that we could not apply: see mend
	Lost         bool      // the ratchets were set back and must encrypt nothing: see restored
	Stopped      string    // why this device refuses to go on in it

	Accuse    *accusation `json:",omitempty"` // a Commit that we cannot apply: complain.go
	Vouch     []byte      `json:",omitempty"` // a Commit that others complain about and we have applied
	Missed    *missed     `json:",omitempty"` // the last Commit that we could not apply
	Steps     []step      `json:",omitempty"` // what the last Commits changed
	Resetting bool        `json:",omitempty"` // the Commit that waits is the first of the next generation: reset.go
	Why       string      `json:",omitempty"` // the room was reset
	Uninvited *uninvited  `json:",omitempty"` // the invitation into its next generation is of no use: resetback.go

	anew bool // state is of another group than what is stored

	state *group.State
}

func roomKey(prefix string, id wire.RoomID) []byte { return append([]byte(prefix), id[:]...) }

// save writes a room, and of its MLS state what changed.
func (r *room) save(t *txn) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("device: a room: %w", err)
	}
	if err := t.putState(roomKey("room/", r.ID), b); err != nil {
		return err
	}
	if r.state == nil {
		return nil
	}
	if r.anew {
		if err := t.deleteMLS(r.ID); err != nil {
			return err
		}
		r.anew = false
	}
	return t.putMLS(r.ID, r.state)
}

// unreadableState is why a room stops whose MLS records do not fit each other.
const unreadableState = "its keys on this device are damaged: somebody in the room has to remove this device's member and invite them again"

func (d *Device) loadRooms() error {
	return d.vault.view(func(t *txn) error {
		return t.eachState("room/", func(_, v []byte) error {
			r := &room{}
			if err := json.Unmarshal(v, r); err != nil {
				return fmt.Errorf("device: a room that does not parse: %w", err)
			}
			var old bool
			var err error
			if r.state, old, err = t.readMLS(r.ID, d.config()); errors.Is(err, group.ErrRecord) || errors.Is(err, errSealed) || errors.Is(err, errNoRecord) {
				r.Stopped = unreadableState // one room's damage does not keep the device from the others
			} else if err != nil {
				return err
			}
			if old && !r.Ended {
				r.Lost = true // its keys may have been used: see restored
			}
			if r.state != nil {
				d.vault.mls[r.ID] = r.state
			}
			d.rooms[r.ID] = r
			return nil
		})
	})
}

// roomWith returns the room of two with a member; of several the one with the
// smaller ID, as the other side chooses too (FORMATS, Identifiers). One that we are leaving
// is none to write to.
func (d *Device) roomWith(k memberKey) *room {
	var best *room
	for _, r := range d.rooms {
		if r.Peer == k && !r.Ended && !r.Leaving && r.Creating == nil && d.reaches(r, k) && (best == nil || bytes.Compare(r.ID[:], best.ID[:]) < 0) {
			best = r
		}
	}
	return best
}

// reaches reports whether a member has a device in the room that is not known to be revoked:
// who was reset has none in rooms of before, and what is written there reaches nobody.
func (d *Device) reaches(r *room, k memberKey) bool {
	if !r.holds(k) {
		return false
	}
	m, err := d.chains.get(k)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(r.state.Members(), func(x mls.Member) bool {
		c, err := policy.CredentialOf(x.Node)
		return err == nil && c.Organization == k.Org && c.Member == k.Member && !revoked(m, c.Device)
	})
}

// holds reports whether a member has a device in the room.
func (r *room) holds(k memberKey) bool {
	if r.state == nil {
		return false
	}
	for _, m := range r.state.Members() {
		if c, err := policy.CredentialOf(m.Node); err == nil && c.Organization == k.Org && c.Member == k.Member {
			return true
		}
	}
	return false
}

// ensureRoom returns the room of two with a member, making it when there is none.
func (d *Device) ensureRoom(ctx context.Context, m *identity.Member) (*room, error) {
	if err := d.askPolicy(ctx); err != nil {
		return nil, err
	}
	if err := d.checkPinned(m); err != nil {
		return nil, err
	}
	if err := d.finishCreating(ctx); err != nil {
		return nil, err
	}
	k := memberKey{m.Organization.ID, m.ID}
	if r := d.roomWith(k); r != nil {
		return r, nil
	}
	if err := d.beginRoom(ctx, k); err != nil {
		return nil, err
	}
	if err := d.finishCreating(ctx); err != nil {
		return nil, err
	}
	if r := d.roomWith(k); r != nil {
		return r, nil
	}
	return nil, errors.New("device: the room was not made")
}

// beginRoom makes a room of two with a member.
func (d *Device) beginRoom(ctx context.Context, k memberKey) error {
	var id wire.RoomID
	rand.Read(id[:])
	adds, err := d.claim(ctx, id, k, Suite)
	if err != nil {
		return err
	}
	own, err := d.claimOthers(ctx, Suite)
	if err != nil {
		return err
	}
	adds = append(adds, own...)
	extensions, err := d.roomExtensions(ctx, id, Suite, []wire.OrganizationID{d.account.Organization, k.Org}, nil)
	if err != nil {
		return err
	}
	return d.begin(ctx, &room{ID: id, Peer: k}, Suite, extensions, adds)
}

// claim gets a KeyPackage of a suite of each of a member's devices.
func (d *Device) claim(ctx context.Context, id wire.RoomID, k memberKey, suite mls.SuiteID) ([][]byte, error) {
	claimed, err := call(ctx, d.home.Device.ClaimKeyPackages, &pb.ClaimKeyPackagesRequest{
		Organization: k.Org[:], Member: k.Member[:], Room: id[:], Suites: []uint32{uint32(suite)}})
	if err != nil {
		return nil, err
	}
	if claimed.Chain.GetCurrency() == nil {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "KeyPackages without a proof that the member's record is the latest")
	}
	if m, err := d.learn(k.Org, claimed.Chain); err != nil || m.ID != k.Member {
		return nil, errors.Join(errors.New("device: KeyPackages with certificates that do not stand"), err)
	}
	return d.checkClaimed(claimed.Packages, k, suite)
}

// begin makes a group of epoch 0 and the Commit that brings the first others in, and
// stores both before anything is sent.
func (d *Device) begin(ctx context.Context, r *room, suite mls.SuiteID, extensions []mls.Extension, adds [][]byte) error {
	id := r.ID
	var zero, next *group.State
	var staged *group.Staged
	err := d.withChains(ctx, func() (err error) {
		zero, err = group.Create(d.config(), group.CreateParams{Suite: suite, GroupID: wire.GroupID(id, 0), Credential: d.credential(), Extensions: extensions})
		if err != nil {
			return err
		}
		if _, staged, err = zero.Stage(group.CommitParams{Adds: adds}); err != nil {
			return err
		}
		next, err = staged.Apply(zero)
		return err
	})
	if err != nil {
		return err
	}
	info, err := zero.GroupInfo(false)
	if err != nil {
		return err
	}
	request, err := proto.Marshal(&pb.CreateRoomRequest{Room: id[:], GroupInfo: info, Tree: zero.Tree(),
		Bundle: &pb.Bundle{Commit: staged.Commit, Welcome: staged.Welcome, GroupInfo: staged.GroupInfo, Tree: staged.Tree}})
	if err != nil {
		return err
	}
	zero.Erase()
	r.Hub, r.Creating, r.state = d.account.Organization, request, next
	if err := d.vault.update(func(t *txn) error { return r.save(t) }); err != nil {
		return err
	}
	d.rooms[id] = r
	return nil
}

// checkClaimed takes the KeyPackages that stand and are the member's.
func (d *Device) checkClaimed(packages []*pb.ClaimedKeyPackage, k memberKey, suite mls.SuiteID) ([][]byte, error) {
	var adds [][]byte
	for _, p := range packages {
		if len(p.KeyPackage) == 0 {
			continue
		}
		kp, err := mls.ParseKeyPackage(p.KeyPackage)
		if err == nil {
			err = kp.Verify(d.now(), d.chains)
		}
		if errors.Is(err, mls.ErrLifetime) {
			return nil, fmt.Errorf("device: a KeyPackage outside its lifetime: is this device's clock right, and that of %s? %w", d.nameOf(k), err)
		}
		if err != nil {
			return nil, fmt.Errorf("device: a KeyPackage that does not stand: %w", err)
		}
		c, err := policy.CredentialOf(kp.Leaf)
		if err != nil || c.Organization != k.Org || c.Member != k.Member || !bytes.Equal(c.Device[:], p.Device) {
			return nil, errors.New("device: a KeyPackage of somebody else")
		}
		if kp.Suite != suite {
			return nil, errors.New("device: a KeyPackage of another cipher suite")
		}
		adds = append(adds, p.KeyPackage)
	}
	if len(adds) == 0 {
		return nil, wire.Refuse(pb.Code_CODE_NO_KEY_PACKAGE, "")
	}
	return adds, nil
}

// roomExtensions are the GroupContext of a new room (docs/protocol.md 1.6, 1.8); roles
// is nil in a room of two.
func (d *Device) roomExtensions(ctx context.Context, id wire.RoomID, suite mls.SuiteID, orgs []wire.OrganizationID, roles *wire.Roles) ([]mls.Extension, error) {
	self, err := d.self(ctx)
	if err != nil {
		return nil, err
	}
	description := wire.Room{ID: id[:], Hub: d.account.Organization[:], HubNode: d.account.Pin[:], MinVersion: wire.ProtocolVersion,
		SuiteFloor: uint32(suite), DeadlineMin: 1, DeadlineDefault: int64(wire.DefaultRetention / time.Second),
		DeadlineMax: int64(wire.RetentionCeiling / time.Second), Transit: "none", Resync: wire.ResyncOwnLeaf}
	for _, o := range orgs {
		description.Organizations = append(description.Organizations, wire.RoomMember{Organization: bytes.Clone(o[:])})
	}
	description.Organizations = sortedOrgs(description.Organizations)
	required := mls.RequiredCapabilities{Extensions: []mls.ExtensionType{mls.ExtensionRoom}, Credentials: []mls.CredentialType{mls.CredentialEntente}}
	out := []mls.Extension{{Type: mls.ExtensionRoom}}
	if roles != nil {
		encoded, err := roles.Encode()
		if err != nil {
			return nil, err
		}
		description.Roles = wire.RolesDigest(encoded)
		required.Extensions = append(required.Extensions, mls.ExtensionRoles)
		out = append(out, mls.Extension{Type: mls.ExtensionRoles, Data: encoded})
	}
	if out[0].Data, err = description.Encode(); err != nil {
		return nil, err
	}
	return append(out, required.Extension(), policy.HubSender(self.Organization.ID, self.Organization.Manifest.Hub)), nil
}

// sortedOrgs are a room's organizations in order, each once.
func sortedOrgs(list []wire.RoomMember) []wire.RoomMember {
	slices.SortFunc(list, func(a, b wire.RoomMember) int { return bytes.Compare(a.Organization, b.Organization) })
	return slices.CompactFunc(list, func(a, b wire.RoomMember) bool { return bytes.Equal(a.Organization, b.Organization) })
}

// self is this member as the directory has it.
func (d *Device) self(ctx context.Context) (*identity.Member, error) {
	k := memberKey{d.account.Organization, d.account.Member}
	if m, err := d.chains.get(k); err == nil {
		return m, nil
	}
	return d.fetch(ctx, k)
}

// finishCreating hands rooms that wait for it to the hub; repeating it is safe. A
// room that the hub refuses for good is dropped.
func (d *Device) finishCreating(ctx context.Context) error {
	for id, r := range d.rooms {
		if r.Creating == nil {
			continue
		}
		var request pb.CreateRoomRequest
		if err := proto.Unmarshal(r.Creating, &request); err != nil {
			return fmt.Errorf("device: a stored request: %w", err)
		}
		answer, err := call(ctx, d.home.Device.CreateRoom, &request)
		if err != nil {
			return err
		}
		if err := wire.Err(answer.Status); err != nil {
			if wire.ClassOf(answer.Status.Code) == wire.Temporary {
				return err
			}
			if e := d.dropRoom(id); e != nil {
				return e
			}
			return err
		}
		r.Creating, r.Seq = nil, answer.Status.Seq
		if err := d.vault.update(func(t *txn) error { return r.save(t) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) dropRoom(id wire.RoomID) error {
	err := d.vault.update(func(t *txn) error {
		return errors.Join(t.deleteState(roomKey("room/", id)), t.deleteMLS(id))
	})
	delete(d.rooms, id)
	return err
}
