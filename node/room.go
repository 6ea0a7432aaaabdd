package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// Rows of rooms in the store (integers big-endian):
//
//	nd/room/<room ID>   JSON roomRow: who the hub is; at a follower, our devices in it
//	nd/seq/<room ID>    version 1 ‖ seq uint64 ‖ hash 32 ‖ accepted ms uint64 ‖ quiet 0 or 1
//	nd/top/<room ID>    at a follower: version 1 ‖ highest place that the hub has named (places.go)
//	nd/gaps/<room ID>   at a follower: places that were passed over (gaps.go)
//	nd/group/<room ID>  hub only: a snapshot of the room's PublicGroup
//	nd/delta/<room ID>/<n uint32>  hub only: what changed of it since, n from 1 (grouprows.go)
//	nd/info/<room ID>   hub only: the GroupInfo of the current epoch
//	nd/tree/<room ID>/<SHA-256>  a tree that a Welcome points to, and when it was stored
const (
	roomPrefix  = "nd/room/"
	seqPrefix   = "nd/seq/"
	groupPrefix = "nd/group/"
	deltaPrefix = "nd/delta/"
	infoPrefix  = "nd/info/"
)

// roomRow is what rarely changes about a room.
type roomRow struct {
	Version    int                 `json:"version"`
	Hub        wire.OrganizationID `json:"hub"`
	Generation uint32              `json:"generation"`
	Devices    []wire.DeviceID     `json:"devices,omitempty"` // ours, where another organization's node is the hub
	Members    uint32              `json:"members,omitempty"` // in the room, by the hub's word; 0: not said
	Epoch      uint64              `json:"epoch,omitempty"`   // at a follower: that the last Commit has begun; 0: not known
	Forked     uint64              `json:"forked,omitempty"`  // the highest place of which devices were told that the hub contradicts itself
}

const roomRowVersion = 1

// place is where a room's order stands: the last entry's number, hash and time.
type place struct {
	seq      uint64
	hash     [32]byte
	accepted int64 // ms
	quiet    bool  // the last Commit neither added nor removed anybody
}

func (p place) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{1}, p.seq)
	b = append(b, p.hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(p.accepted))
	if p.quiet {
		return append(b, 1)
	}
	return append(b, 0)
}

func parsePlace(b []byte) (p place, err error) {
	if len(b) != 50 || b[0] != 1 || b[49] > 1 {
		return p, fmt.Errorf("node: the place of a room has %d bytes or another version", len(b))
	}
	p.seq = binary.BigEndian.Uint64(b[1:])
	copy(p.hash[:], b[9:])
	p.accepted = int64(binary.BigEndian.Uint64(b[41:]))
	p.quiet = b[49] == 1
	return p, nil
}

// room is a room in memory: what is committed. It changes only while mu is held,
// which a change does from reading it until it is committed or given up.
type room struct {
	id wire.RoomID
	mu sync.Mutex

	known bool
	row   roomRow
	place place
	gaps  []gap
	group *mls.PublicGroup // nil where we are not the hub
	rows  groupRows        // that group is stored as

	leaves atomic.Pointer[[]wire.Credential] // of group, readable without mu
	count  atomic.Uint32                     // of members, readable without mu; 0: not known
	terms  terms                             // of the group's room extension
}

// draft is a room as a change would leave it.
type draft struct {
	*room
	row   roomRow
	place place
	gaps  []gap // never changed, only replaced
	group *mls.PublicGroup
	rows  groupRows
	known bool
	dirty struct{ row, place, group, gaps bool }
	info  []byte // GroupInfo of a new epoch
	anew  bool   // the group is another one: the room was reset
}

func (r *room) draft() *draft {
	row := r.row
	row.Devices = slices.Clone(row.Devices)
	return &draft{room: r, row: row, place: r.place, gaps: r.gaps, group: r.group, rows: r.rows, known: r.known}
}

// write adds what the draft changed to a batch.
func (d *draft) write(b *store.Batch) error {
	if d.dirty.row {
		v, err := json.Marshal(d.row)
		if err != nil {
			return fmt.Errorf("node: a room's row: %w", err)
		}
		b.Put(roomKey(roomPrefix, d.id), v)
	}
	if d.dirty.place {
		b.Put(roomKey(seqPrefix, d.id), d.place.encode())
	}
	if d.dirty.gaps {
		b.Put(roomKey(gapsPrefix, d.id), encodeGaps(d.gaps))
	}
	if d.dirty.group {
		before := d.room.group
		if d.anew {
			before = nil
		}
		d.rows = d.room.rows.put(b, d.id, before, d.group)
	}
	if d.info != nil { // of a new epoch; proposals leave it as it is
		b.Put(roomKey(infoPrefix, d.id), d.info)
	}
	return nil
}

// publish makes a committed draft the room's state.
func (d *draft) publish() {
	d.room.known, d.room.row, d.room.place = d.known, d.row, d.place
	d.room.group, d.room.rows, d.room.gaps = d.group, d.rows, d.gaps
	if d.dirty.group {
		d.room.show()
	} else if d.dirty.row && d.group == nil {
		d.room.count.Store(d.row.Members)
	}
}

// show makes the committed group's leaves readable without the lock.
func (r *room) show() {
	leaves := members(r.group)
	r.leaves.Store(&leaves)
	r.count.Store(uint32(countMembers(leaves)))
	r.terms = termsOf(r.group)
}

// people are the credentials in the draft's group: those that are committed, as long as the
// draft has changed nothing. A message to a room of a thousand reads no leaf.
func (d *draft) people() []wire.Credential {
	if leaves := d.room.leaves.Load(); leaves != nil && d.group == d.room.group {
		return *leaves
	}
	return members(d.group)
}

// terms are what a room's description says about its messages.
type terms struct {
	ended bool
	keep  time.Duration // the hub's copies are kept no longer than this
}

func termsOf(g *mls.PublicGroup) terms {
	rules, err := policy.Of(g.Extensions())
	if err != nil {
		return terms{} // not let in; see checkNewRoom and policy.CheckExtensions
	}
	keep := rules.Room.DeadlineMax
	if rules.Room.Retention > 0 {
		keep = min(keep, rules.Room.Retention)
	}
	return terms{rules.Room.Ended, time.Duration(keep) * time.Second}
}

// now returns the terms for what comes now.
func (d *draft) now() terms {
	if d.group == d.room.group {
		return d.room.terms
	}
	return termsOf(d.group)
}

// committed returns the leaves of a room that is ordered here, as last committed. The
// room may be locked by whoever asks.
func (rs *rooms) committed(id wire.RoomID) []wire.Credential {
	r := rs.entry(id)
	if leaves := r.leaves.Load(); leaves != nil {
		return *leaves
	}
	var group *mls.PublicGroup
	for range 3 { // a change may be committed while its rows are read
		var err error
		if group, _, err = rs.readGroup(id); err == nil {
			break
		}
		if seen := r.leaves.Load(); seen != nil {
			return *seen
		}
	}
	if group == nil {
		return nil
	}
	leaves := members(group)
	r.leaves.CompareAndSwap(nil, &leaves) // a change that was committed meanwhile knows better
	return *r.leaves.Load()
}

// size returns how many members a room has, as last committed; 0: not known. The room
// may be locked by whoever asks.
func (rs *rooms) size(id wire.RoomID) int {
	if n := rs.entry(id).count.Load(); n > 0 {
		return int(n)
	}
	if leaves := rs.committed(id); leaves != nil {
		return countMembers(leaves)
	}
	row, err := rs.row(id)
	if err != nil {
		return 0
	}
	return int(row.Members)
}

func countMembers(leaves []wire.Credential) int {
	type member struct {
		organization wire.OrganizationID
		id           wire.MemberID
	}
	seen := make(map[member]bool, len(leaves))
	for _, l := range leaves {
		seen[member{l.Organization, l.Member}] = true
	}
	return len(seen)
}

// told notes how many members the hub says that the room has.
func (d *draft) told(members uint32) {
	if members = min(members, wire.MaxRoomDevices); members > 0 && members != d.row.Members {
		d.row.Members, d.dirty.row = members, true
	}
}

func roomKey(prefix string, id wire.RoomID) []byte { return append([]byte(prefix), id[:]...) }

// rooms are loaded when they are first asked for and stay.
type rooms struct {
	store   *store.Store
	options mls.PublicOptions

	mu   sync.Mutex
	byID map[wire.RoomID]*room
}

func newRooms(s *store.Store, o mls.PublicOptions) *rooms {
	return &rooms{store: s, options: o, byID: make(map[wire.RoomID]*room)}
}

// lock returns the rooms asked for, locked in the order of their IDs, so that two
// changes never wait for each other, and a function that unlocks them.
func (rs *rooms) lock(ids []wire.RoomID) (map[wire.RoomID]*room, func(), error) {
	slices.SortFunc(ids, func(a, b wire.RoomID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	out := make(map[wire.RoomID]*room, len(ids))
	unlock := func() {
		for _, r := range out {
			r.mu.Unlock()
		}
	}
	for _, id := range ids {
		r := rs.entry(id)
		r.mu.Lock()
		out[id] = r
		if err := rs.load(r); err != nil {
			unlock()
			return nil, nil, err
		}
	}
	return out, unlock, nil
}

func (rs *rooms) entry(id wire.RoomID) *room {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	if r == nil {
		r = &room{id: id}
		rs.byID[id] = r
	}
	return r
}

// load reads a room from the store unless it is in memory; an unknown one stays
// unknown.
func (rs *rooms) load(r *room) error {
	if r.known {
		return nil
	}
	row, err := rs.store.Get(roomKey(roomPrefix, r.id))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node: room %s: %w", r.id, err)
	}
	if err := json.Unmarshal(row, &r.row); err != nil || r.row.Version != roomRowVersion {
		return fmt.Errorf("node: the row of room %s does not parse", r.id)
	}
	seq, err := rs.store.Get(roomKey(seqPrefix, r.id))
	if err == nil {
		r.place, err = parsePlace(seq)
	}
	if err != nil {
		return fmt.Errorf("node: the place of room %s: %w", r.id, err)
	}
	if gaps, err := rs.store.Get(roomKey(gapsPrefix, r.id)); err == nil {
		if r.gaps, err = parseGaps(gaps); err != nil {
			return fmt.Errorf("node: room %s: %w", r.id, err)
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("node: the gaps of room %s: %w", r.id, err)
	}
	if r.group, r.rows, err = rs.readGroup(r.id); err != nil {
		r.group = nil
		return fmt.Errorf("node: the group of room %s: %w", r.id, err)
	}
	r.known = true
	if r.group != nil {
		r.show()
	} else {
		r.count.Store(r.row.Members)
	}
	return nil
}

// row reads what rarely changes about a room, as committed.
func (rs *rooms) row(id wire.RoomID) (row roomRow, err error) {
	b, err := rs.store.Get(roomKey(roomPrefix, id))
	if err == nil {
		err = json.Unmarshal(b, &row)
	}
	return row, err
}

// all lists the IDs of every room in the store.
func (rs *rooms) all() ([]wire.RoomID, error) {
	var out []wire.RoomID
	var after []byte
	for {
		page, err := rs.store.Scan([]byte(roomPrefix), after, 1_000)
		if err != nil {
			return nil, fmt.Errorf("node: listing rooms: %w", err)
		}
		for _, kv := range page {
			after = kv.Key
			if id, err := wire.Bytes32(kv.Key[len(roomPrefix):]); err == nil {
				out = append(out, id)
			}
		}
		if len(page) < 1_000 {
			return out, nil
		}
	}
}
