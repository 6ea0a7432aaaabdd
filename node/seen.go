package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// The day on which each device of ours was last here: a device that stays away keeps old
// keys in every room that it is in, so one that was not seen for wire.DeviceIdle is
// proposed for removal to its member and to the administrator. Days, no times: nothing
// else needs to know more.
//
// Rows: "nd/seen/" ‖ device ID; value: day since 1970, uint32. One for each device of the
// directory; it goes with the device.
const seenPrefix = "nd/seen/"

func seenKey(d wire.DeviceID) []byte { return append([]byte(seenPrefix), d[:]...) }

// seen knows which devices were noted today, so that a day costs each one write.
type seen struct {
	mu    sync.Mutex
	today uint32
	noted map[wire.DeviceID]bool
}

func dayOf(t time.Time) uint32 { return uint32(max(0, t.Unix()) / 86_400) }

// first reports whether a device was not noted on that day yet.
func (s *seen) first(device wire.DeviceID, day uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.today != day || s.noted == nil {
		s.today, s.noted = day, make(map[wire.DeviceID]bool)
	}
	if s.noted[device] {
		return false
	}
	s.noted[device] = true
	return true
}

// noteSeen writes down that a device is here. That it fails is no reason to send a device
// away.
func (n *Node) noteSeen(device wire.DeviceID) {
	day := dayOf(n.clock.Now())
	if !n.seen.first(device, day) {
		return
	}
	var b store.Batch
	b.Put(seenKey(device), binary.BigEndian.AppendUint32(nil, day))
	if _, err := n.store.Commit(context.Background(), &b); err != nil && !errors.Is(err, store.ErrClosed) {
		n.log.Warn("the day of a device's visit was not written", "error", err)
	}
}

// lastSeen is the beginning of the day on which a device was last here; of one that never
// was, of the day of its certificate.
func (n *Node) lastSeen(device wire.DeviceID, issued time.Time) (time.Time, error) {
	v, err := n.store.Get(seenKey(device))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return time.Unix(int64(dayOf(issued))*86_400, 0), nil
	case err != nil:
		return time.Time{}, err
	case len(v) != 4:
		return time.Time{}, fmt.Errorf("node: the day of a device's visit has %d bytes", len(v))
	}
	return time.Unix(int64(binary.BigEndian.Uint32(v))*86_400, 0), nil
}

// idle reports whether a device was not here for so long that it should leave.
func (n *Node) idle(last time.Time) bool { return n.clock.Now().Sub(last) >= wire.DeviceIdle }

// visits tells a member when each of their devices was last here.
func (n *Node) visits(member wire.MemberID) ([]*pb.DeviceVisit, error) {
	m, err := n.dir.Get(member)
	if err != nil {
		return nil, err
	}
	var out []*pb.DeviceVisit
	for id, d := range m.Devices {
		last, err := n.lastSeen(id, d.Issued)
		if err != nil {
			return nil, err
		}
		out = append(out, &pb.DeviceVisit{Device: id[:], SeenUnix: last.Unix(), Idle: n.idle(last)})
	}
	return out, nil
}

// idleDevices counts the devices that are proposed for removal.
func (n *Node) idleDevices() (count int) {
	for _, m := range n.dir.Members() {
		for id, d := range m.Devices {
			if last, err := n.lastSeen(id, d.Issued); err == nil && n.idle(last) {
				count++
			}
		}
	}
	return count
}
