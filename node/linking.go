package node

import (
	"bytes"
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// linking holds the slots through which two devices of a member talk until the second
// one is a device (docs/protocol.md 7.12). A slot is opened by the old one, under a name
// that only who has the link's secret knows; all that lies in it is sealed with keys
// from that secret. Slots are memory: who restarts the node in between starts again.
type linking struct {
	mu    sync.Mutex
	slots map[[16]byte]*linkSlot
}

type linkSlot struct {
	member  wire.MemberID
	expires time.Time
	sides   [2][][]byte   // of the old device, of the joining one
	changed chan struct{} // closed and replaced at each message
}

const (
	maxLinkSlots    = 200
	maxLinkMessages = 4 // of each side
	maxLinkWait     = 20 * time.Second
)

// open makes a slot; an older one of the same member goes.
func (l *linking) open(slot [16]byte, member wire.MemberID, now time.Time) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.slots {
		if s.member == member && id != slot || now.After(s.expires) {
			close(s.changed)
			delete(l.slots, id)
		}
	}
	if had := l.slots[slot]; had != nil {
		return had.expires, nil
	}
	if len(l.slots) >= maxLinkSlots {
		return time.Time{}, wire.Refuse(pb.Code_CODE_FULL, "too many devices are being linked: try again in %s", wire.DeviceLinkLife)
	}
	if l.slots == nil {
		l.slots = make(map[[16]byte]*linkSlot)
	}
	s := &linkSlot{member: member, expires: now.Add(wire.DeviceLinkLife), changed: make(chan struct{})}
	l.slots[slot] = s
	return s.expires, nil
}

func (l *linking) slot(id []byte, now time.Time) (*linkSlot, error) {
	if len(id) == 16 {
		if s := l.slots[[16]byte(id)]; s != nil && now.Before(s.expires) {
			return s, nil
		}
	}
	return nil, wire.Refuse(pb.Code_CODE_LINK_UNKNOWN, "no device waits at the other end of this link: it ends after %s, and with a new one", wire.DeviceLinkLife)
}

func sideOf(joining bool) int {
	if joining {
		return 1
	}
	return 0
}

// put leaves a side's next message. The same one again is a success; another one in its
// place means that two hold the link.
func (l *linking) put(m *pb.PutLinkMessageRequest, now time.Time) error {
	if len(m.Message) == 0 || len(m.Message) > wire.MaxLinkMessage {
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "a message of %d bytes: at most %d are allowed", len(m.Message), wire.MaxLinkMessage)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.slot(m.Slot, now)
	if err != nil {
		return err
	}
	list := &s.sides[sideOf(m.Joining)]
	switch n := int(m.N); {
	case n < len(*list) && bytes.Equal((*list)[n], m.Message):
		return nil
	case n < len(*list):
		return wire.Refuse(pb.Code_CODE_LINK_USED, "another device has used this link: make a new one, and see that nobody else gets it")
	case n > len(*list) || n >= maxLinkMessages:
		return wire.Refuse(pb.Code_CODE_MALFORMED, "message %d of a link after %d", n, len(*list))
	}
	*list = append(*list, bytes.Clone(m.Message))
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// get waits for a side's message; nil when it did not come in time.
func (l *linking) get(ctx context.Context, m *pb.GetLinkMessageRequest, now func() time.Time) ([]byte, error) {
	wait := time.NewTimer(min(time.Duration(m.WaitMs)*time.Millisecond, maxLinkWait))
	defer wait.Stop()
	for {
		l.mu.Lock()
		s, err := l.slot(m.Slot, now())
		if err != nil {
			l.mu.Unlock()
			return nil, err
		}
		if list := s.sides[sideOf(m.Joining)]; int(m.N) < len(list) {
			l.mu.Unlock()
			return list[m.N], nil
		}
		changed := s.changed
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait.C:
			return nil, nil
		case <-changed:
		}
	}
}

func (a enrolmentAPI) PutLinkMessage(_ context.Context, r *connect.Request[pb.PutLinkMessageRequest]) (*connect.Response[pb.PutLinkMessageResponse], error) {
	return answer(&pb.PutLinkMessageResponse{}, a.n.linking.put(r.Msg, a.n.clock.Now()))
}

func (a enrolmentAPI) GetLinkMessage(ctx context.Context, r *connect.Request[pb.GetLinkMessageRequest]) (*connect.Response[pb.GetLinkMessageResponse], error) {
	m, err := a.n.linking.get(ctx, r.Msg, a.n.clock.Now)
	return answer(&pb.GetLinkMessageResponse{Message: m}, err)
}

// OpenLink opens a slot for the caller's member.
func (a deviceAPI) OpenLink(ctx context.Context, r *connect.Request[pb.OpenLinkRequest]) (*connect.Response[pb.OpenLinkResponse], error) {
	device, err := caller(ctx)
	if err == nil && len(r.Msg.Slot) != 16 {
		err = wire.Refuse(pb.Code_CODE_MALFORMED, "a slot of %d bytes", len(r.Msg.Slot))
	}
	if err != nil {
		return answer[pb.OpenLinkResponse](nil, err)
	}
	expires, err := a.n.linking.open([16]byte(r.Msg.Slot), a.n.memberOf(device), a.n.clock.Now())
	return answer(&pb.OpenLinkResponse{ExpiresUnix: expires.Unix()}, err)
}

// AddDevice takes a certificate that the caller's member key has signed: possession of
// the bearer token alone is not enough.
func (a deviceAPI) AddDevice(ctx context.Context, r *connect.Request[pb.AddDeviceRequest]) (*connect.Response[pb.AddDeviceResponse], error) {
	chain, err := a.n.addDevice(context.WithoutCancel(ctx), r.Msg.Certificate)
	return answer(&pb.AddDeviceResponse{Chain: chain}, err)
}

func (n *Node) addDevice(ctx context.Context, certificate string) (*pb.MemberChain, error) {
	device, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.records(ctx); err != nil {
		return nil, err
	}
	var keep func()
	chain, err := n.dir.AddDeviceBy(ctx, device, certificate, n.numberFor(&keep))
	if err == nil && keep != nil {
		keep()
	}
	return chain, err
}

// ClaimOwn gets KeyPackages of the caller's own other devices.
func (a deviceAPI) ClaimOwn(ctx context.Context, r *connect.Request[pb.ClaimOwnRequest]) (*connect.Response[pb.ClaimKeyPackagesResponse], error) {
	return answer(a.n.claimOwn(ctx, r.Msg))
}

func (n *Node) claimOwn(ctx context.Context, m *pb.ClaimOwnRequest) (*pb.ClaimKeyPackagesResponse, error) {
	device, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.signs(); err != nil {
		return nil, err
	}
	var devices []wire.DeviceID
	for _, b := range m.Devices {
		id, err := wire.Bytes32(b)
		if err != nil {
			return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a device ID of %d bytes", len(b))
		}
		devices = append(devices, id)
	}
	if m.Suite > 1<<16-1 {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a suite of more than 16 bits")
	}
	member := n.memberOf(device)
	packages, err := n.dir.ClaimOwn(ctx, member, devices, uint16(m.Suite))
	if err != nil {
		return nil, err
	}
	chain, err := n.dir.Chain(member)
	return &pb.ClaimKeyPackagesResponse{Packages: packages, Chain: chain}, err
}
