package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// The order of rooms after a start (docs/protocol.md 3.5). A folder that was set back whole
// does not know which places it has given since; the home nodes that have followed its rooms
// do. Before a hub gives a place it hears from every partner what that partner knows, and
// goes on above it.

const (
	// placesPage bounds the rooms of one answer.
	placesPage = 1_024
	// maxPlacePages bounds the answers of one partner that are read.
	maxPlacePages = 64
	// maxLeap bounds how far beyond ours a place is believed: no partner or device uses up the
	// numbers that a room has.
	maxLeap = 1 << 20
)

// knownPlace is what a partner knows of a room that is ordered here, and we do not.
type knownPlace struct {
	by         wire.OrganizationID
	generation uint32
	seq        uint64
	hash       [32]byte // zeros: not known
	accepted   int64
	epoch      uint64
	member     bool // the partner has a leaf in the room, as far as we know
}

// placecall is which partners have said what they know of our rooms, since this start.
type placecall struct {
	mu        sync.Mutex
	awaited   map[wire.OrganizationID]bool // have not said it
	began     time.Time
	until     time.Time     // who has not by then is not waited for
	over      chan struct{} // closed when the call has ended
	ended     bool
	word      bool
	found     map[wire.RoomID][]knownPlace // to be settled
	vanished  map[wire.RoomID]bool         // ordered here once, and not known any more
	leaps     map[wire.RoomID]int          // how often devices have shown that it was set back
	published map[wire.RoomID]*published   // later epochs that devices have published
	raised    bool                         // the incarnation was; of callPartners
	epochs    map[wire.RoomID]shownEpoch   // that partners in the room have shown and no Commit leads to
}

// shownEpoch is an epoch of a room that partners in it say they are in.
type shownEpoch struct {
	epoch uint64
	by    []wire.OrganizationID
}

// startPlaces begins the call of a start: of the partners that there are, when any room is
// ordered here.
func (n *Node) startPlaces(wait time.Duration, acceptLoss bool) {
	p := &n.placing
	p.over, p.found, p.vanished, p.epochs = make(chan struct{}), make(map[wire.RoomID][]knownPlace), make(map[wire.RoomID]bool), make(map[wire.RoomID]shownEpoch)
	p.published = make(map[wire.RoomID]*published)
	p.awaited, p.began, p.until, p.word = make(map[wire.OrganizationID]bool), time.Now(), time.Now().Add(wait), acceptLoss
	for _, id := range n.voters() {
		p.awaited[id] = true
	}
	if n.hubRooms() == 0 {
		p.end()
	}
}

func (p *placecall) end() {
	if !p.ended {
		p.ended = true
		close(p.over)
	}
}

// placesCalled reports whether the call has ended: everybody has answered who is still a partner, or
// the time is over.
func (n *Node) placesCalled() bool {
	p := &n.placing
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		voters := n.voters()
		for id := range p.awaited {
			if !slices.Contains(voters, id) {
				delete(p.awaited, id)
			}
		}
		if len(p.awaited) == 0 || !time.Now().Before(p.until) {
			p.end()
		}
	}
	return p.ended
}

// reopen has the partners that have not answered waited for longer, because a loss is known.
func (p *placecall) reopen(wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.word || len(p.awaited) == 0 {
		return
	}
	if p.ended {
		p.ended, p.over = false, make(chan struct{})
	}
	p.until = time.Now().Add(wait)
}

// settles reports whether a room that is known to be set back may go on: every partner in it
// has said what it knows, or was waited for long enough.
func (n *Node) settles(id wire.RoomID) bool {
	in := make(map[wire.OrganizationID]bool)
	for _, m := range n.rooms.committed(id) {
		in[m.Organization] = true
	}
	n.placing.mu.Lock()
	defer n.placing.mu.Unlock()
	if n.placing.word || time.Since(n.placing.began) >= lossWait {
		return true
	}
	for by := range n.placing.awaited {
		if in[by] {
			return false
		}
	}
	return true
}

// placeable returns nil when a room's next place may be given.
func (n *Node) placeable(id wire.RoomID) *pb.Status {
	if !n.placesCalled() {
		return wire.Retry(wire.Status(pb.Code_CODE_RECOVERING, "partners are asked which places of this room were given"), rollPause)
	}
	n.placing.mu.Lock()
	defer n.placing.mu.Unlock()
	if len(n.placing.found[id]) > 0 {
		return wire.Retry(wire.Status(pb.Code_CODE_RECOVERING, "the room's hub was set back: it takes back from partners what it has lost"), rollPause)
	}
	return nil
}

// awaitPlaces waits, as long as a start waits for partners, until places in rooms may be
// given; at once where none of them is ordered here.
func (n *Node) awaitPlaces(ctx context.Context, ids []wire.RoomID) {
	if n.placesCalled() || !slices.ContainsFunc(ids, func(id wire.RoomID) bool { row, err := n.rooms.row(id); return err == nil && row.Hub == n.org.ID }) {
		return
	}
	late := time.NewTimer(startWait)
	defer late.Stop()
	n.placing.mu.Lock()
	over := n.placing.over
	n.placing.mu.Unlock()
	select {
	case <-over:
	case <-late.C:
	case <-n.stopping.Done():
	case <-ctx.Done():
	}
}

// missingPlaces lists the partners that have not said what they know, also once they are not
// waited for any more.
func (n *Node) missingPlaces() (out []wire.OrganizationID) {
	n.placing.mu.Lock()
	defer n.placing.mu.Unlock()
	for id := range n.placing.awaited {
		out = append(out, id)
	}
	return out
}

// askPlaces asks a partner what it knows of the order of our rooms, once since the start.
func (n *Node) askPlaces(ctx context.Context, id wire.OrganizationID) error {
	if !slices.Contains(n.missingPlaces(), id) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askOwnTime)
	defer cancel()
	var after []byte
	for range maxPlacePages {
		a, err := n.recall(ctx, id, &pb.QueryRequest{Query: &pb.QueryRequest_Places{Places: &pb.PlacesQuery{After: after}}})
		if wire.StatusOf(err).Code == pb.Code_CODE_UNSUPPORTED {
			break // of a version that follows rooms and does not say where they stand
		}
		if err != nil {
			return err
		}
		list := a.GetPlaces().GetPlaces()
		for _, k := range list[:min(len(list), placesPage)] {
			if err := n.hearPlace(ctx, id, k); err != nil {
				return err
			}
		}
		if after = a.GetPlaces().GetLast(); len(after) == 0 {
			break
		}
	}
	n.placing.mu.Lock()
	delete(n.placing.awaited, id)
	n.placing.mu.Unlock()
	return nil
}

// hearPlace holds what a partner knows of a room against it.
func (n *Node) hearPlace(ctx context.Context, by wire.OrganizationID, k *pb.KnownPlace) error {
	id, err := wire.Bytes32(k.Room)
	if err != nil || len(k.Hash) != 0 && len(k.Hash) != 32 || k.AcceptedMs < 0 {
		return nil
	}
	c, err := n.begin(id)
	if err != nil {
		return err
	}
	defer c.abandon()
	d := c.room(id)
	p := knownPlace{by: by, generation: k.Generation, seq: k.Seq, accepted: min(k.AcceptedMs, n.clock.Now().Add(time.Hour).UnixMilli()), epoch: k.Epoch}
	copy(p.hash[:], k.Hash)
	if d.group != nil {
		p.member = slices.ContainsFunc(members(d.group), func(m wire.Credential) bool { return m.Organization == by })
	}
	n.placing.mu.Lock()
	defer n.placing.mu.Unlock()
	switch {
	case !d.known:
		if len(n.placing.vanished) < maxPlacePages*placesPage {
			n.placing.vanished[id] = true
		}
	case d.beyond(p):
		if len(n.placing.found) == 0 {
			n.log.Error("a partner knows more of a room than its hub, as after a restore: nothing is ordered in it until that is taken back",
				"partner", by, "room", wire.RoomID(id), "ours", d.place.seq, "theirs", k.Seq)
		}
		n.placing.found[id] = append(n.placing.found[id], p)
	}
	return nil
}

// beyond reports whether a partner knows a place of a room that is ordered here which we have
// not given, as far as we know, or a later epoch. Of an older generation the places count,
// which go on in the next one.
func (d *draft) beyond(p knownPlace) bool {
	switch {
	case d.group == nil || p.seq > d.place.seq+maxLeap:
		return false
	case p.seq > d.place.seq:
		return true
	case p.seq == d.place.seq && p.seq > 0 && p.hash != [32]byte{} && p.hash != d.place.hash:
		return true
	}
	return p.member && (p.generation > d.row.Generation || p.generation == d.row.Generation && p.epoch > d.group.Epoch())
}

// topKey names the row with the highest place of a room of another hub that it has named to
// devices of ours, or to us; what is delivered has its place in the room itself.
const topPrefix = "nd/top/"

// namedPlace notes a place that a hub has given to a submission of ours.
func (n *Node) namedPlace(b *store.Batch, id wire.RoomID, seq uint64) error {
	top, err := n.top(id)
	if err != nil || seq <= top {
		return err
	}
	b.Put(roomKey(topPrefix, id), binary.BigEndian.AppendUint64([]byte{1}, seq))
	return nil
}

func (n *Node) top(id wire.RoomID) (uint64, error) {
	v, err := n.store.Get(roomKey(topPrefix, id))
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil || len(v) != 9 || v[0] != 1 {
		return 0, err
	}
	return binary.BigEndian.Uint64(v[1:]), nil
}

// placesFor tells a partner what is known here of the order of its rooms.
func (n *Node) placesFor(from wire.OrganizationID, q *pb.PlacesQuery) (*pb.PlacesAnswer, error) {
	if len(q.After) != 0 && len(q.After) != 32 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a room ID of %d bytes", len(q.After))
	}
	var after []byte
	if len(q.After) > 0 {
		after = append([]byte(roomPrefix), q.After...)
	}
	a := &pb.PlacesAnswer{}
	page, err := n.store.Scan([]byte(roomPrefix), after, placesPage)
	if err != nil {
		return nil, err
	}
	for _, kv := range page {
		id, err := wire.Bytes32(kv.Key[len(roomPrefix):])
		if err != nil {
			continue
		}
		row, err := n.rooms.row(id)
		if err != nil || row.Hub != from {
			continue
		}
		k, err := n.placeOf(id, row)
		if err != nil {
			return nil, err
		}
		a.Places = append(a.Places, k)
	}
	if len(page) == placesPage {
		a.Last = bytes.Clone(page[len(page)-1].Key[len(roomPrefix):])
	}
	return a, nil
}

func (n *Node) placeOf(id wire.RoomID, row roomRow) (*pb.KnownPlace, error) {
	seq, err := n.store.Get(roomKey(seqPrefix, id))
	if err != nil {
		return nil, err
	}
	at, err := parsePlace(seq)
	if err != nil {
		return nil, err
	}
	top, err := n.top(id)
	if err != nil {
		return nil, err
	}
	k := &pb.KnownPlace{Room: bytes.Clone(id[:]), Generation: row.Generation, Seq: at.seq, AcceptedMs: at.accepted, Epoch: row.Epoch}
	if top > at.seq {
		k.Seq = top
	} else if at.seq > 0 {
		k.Hash = bytes.Clone(at.hash[:])
	}
	return k, nil
}
