package testnet

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/session"
)

const (
	benchDeviceCount = 64
	benchEach        = 450 // messages of a sender: its share of a mailbox is 500 (wire.MailboxPerSender)
	clockTick        = 100 // of /proc/PID/stat, per second (proc(5))
)

// benchDevices loads one node, a process of its own, with 64 devices in rooms of two: each
// sends 1 KiB of ciphertext into its room, so many at a time, while the other one is away;
// then those come and take and acknowledge it. The devices make no MLS of it: the node is
// what is measured.
func benchDevices(ctx context.Context, o BenchOptions, root string) error {
	org, err := startRaised(ctx, o.Binary, root, "acme.example")
	if err != nil {
		return err
	}
	defer org.Stop()
	devices, err := enrolMany(ctx, org, root, "device", 2*benchDeviceCount)
	defer closeAll(devices)
	if err != nil {
		return err
	}
	if err := converse(ctx, devices); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var senders []*load
	for i := 0; i < len(devices); i += 2 {
		l, err := newLoad(ctx, devices[i])
		if err != nil {
			return err
		}
		senders = append(senders, l)
	}
	marks := make([]uint64, len(senders))
	for i := range marks {
		marks[i] = devices[2*i+1].Mark()
	}
	for _, window := range []int{1, 16} {
		if err := loadNode(ctx, o, org, senders, window); err != nil {
			return err
		}
		if err := drainNode(ctx, o, org, devices, marks); err != nil {
			return err
		}
	}
	return nil
}

func loadNode(ctx context.Context, o BenchOptions, org *Organization, loads []*load, window int) error {
	for _, l := range loads {
		l.took = nil
	}
	cpu, began := cpuOf(org.cmd.Process.Pid), time.Now()
	next := make(chan *load, len(loads))
	for _, l := range loads {
		next <- l
	}
	if err := parallel(len(loads), func() error { return (<-next).send(ctx, window) }); err != nil {
		return err
	}
	spent, lasted := cpuOf(org.cmd.Process.Pid)-cpu, time.Since(began)
	var took []time.Duration
	for _, l := range loads {
		took = append(took, l.took...)
	}
	slices.Sort(took)
	fmt.Fprintf(o.Out, "devices: %d, %2d in flight each  %7.0f accepted/s, p50 %.1f ms, p99 %.1f ms, node CPU %.2f s per 10,000\n",
		len(loads), window, float64(len(took))/lasted.Seconds(), ms(took, 50), ms(took, 99), spent.Seconds()/float64(len(took))*1e4)
	return nil
}

// drainNode has every second device come and take what lies there for it.
func drainNode(ctx context.Context, o BenchOptions, org *Organization, devices []*device.Device, marks []uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var taken atomic.Int64
	want := int64(benchEach * len(marks))
	done := make(chan struct{})
	cpu, began := cpuOf(org.cmd.Process.Pid), time.Now()
	for i := range marks {
		c, err := devices[2*i+1].Home().Session(session.ClientOptions{
			Mark: func() uint64 { return atomic.LoadUint64(&marks[i]) },
			Handler: func(_ context.Context, ds []*pb.Deliver) ([]session.Unread, error) {
				atomic.StoreUint64(&marks[i], ds[len(ds)-1].Seq)
				if n := taken.Add(messagesOf(ds)); n >= want {
					select {
					case <-done:
					default:
						close(done)
					}
				}
				return nil, nil
			},
		})
		if err != nil {
			return err
		}
		go func() { _ = c.Run(ctx) }()
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		return fmt.Errorf("testnet: %d of %d were delivered", taken.Load(), want)
	}
	lasted := time.Since(began)
	_, err := org.until(ctx, time.Minute, func(v map[string]any) bool {
		for _, d := range devices {
			if mailbox(v, d.Address().String()).count > 0 {
				return false
			}
		}
		return true
	})
	spent := cpuOf(org.cmd.Process.Pid) - cpu
	fmt.Fprintf(o.Out, "devices: %d come and take     %7.0f delivered/s, sign-in included; node CPU %.2f s per 10,000, acknowledgements and notices included\n",
		len(marks), float64(want)/lasted.Seconds(), spent.Seconds()/float64(want)*1e4)
	return err
}

func messagesOf(ds []*pb.Deliver) (n int64) {
	for _, d := range ds {
		if c, err := wire.ParseCore(d.Envelope.Core); err == nil && c.Kind == pb.Kind_KIND_APPLICATION {
			n++
		}
	}
	return n
}

// load is a device's session with ciphertext that nobody opens.
type load struct {
	client  *session.Client
	core    *pb.EnvelopeCore
	counter uint64

	mu    sync.Mutex
	took  []time.Duration
	wrong error
}

func newLoad(ctx context.Context, d *device.Device) (*load, error) {
	rooms := d.Rooms()
	if len(rooms) != 1 {
		return nil, fmt.Errorf("testnet: %s is in %d rooms", d.Address(), len(rooms))
	}
	room, err := wire.ParseRoomID(rooms[0].ID)
	if err != nil {
		return nil, err
	}
	l := &load{core: &pb.EnvelopeCore{Version: wire.ProtocolVersion, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION, Room: room[:], Epoch: rooms[0].Epoch, Deadline: time.Now().Add(30 * time.Minute).Unix()}}
	mark, welcomed := atomic.Uint64{}, make(chan struct{})
	mark.Store(d.Mark())
	l.client, err = d.Home().Session(session.ClientOptions{
		Mark: mark.Load,
		Handler: func(_ context.Context, ds []*pb.Deliver) ([]session.Unread, error) { // notices
			mark.Store(ds[len(ds)-1].Seq)
			return nil, nil
		},
		Welcomed: func(submitted uint64, _ time.Time) error { l.counter = submitted; close(welcomed); return nil },
	})
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- l.client.Run(ctx) }()
	select {
	case <-welcomed:
		return l, nil
	case err := <-ended:
		return nil, err
	}
}

// envelope is the next one: a PrivateMessage of random bytes.
func (l *load) envelope() ([]byte, error) {
	body := make([]byte, benchBody)
	_, _ = rand.Read(body)
	m := mls.PrivateMessage{GroupID: wire.GroupID(wire.RoomID(l.core.Room), l.core.Generation), Epoch: l.core.Epoch,
		Type: mls.ContentApplication, SenderData: body[:28], Ciphertext: body}
	l.core.Body = m.Encode()
	return wire.EncodeCore(l.core)
}

func (l *load) send(ctx context.Context, window int) error {
	free := make(chan struct{}, window)
	for range benchEach {
		core, err := l.envelope()
		if err != nil {
			return err
		}
		free <- struct{}{}
		l.counter++
		began := time.Now()
		err = l.client.Submit(ctx, l.counter, core, func(st *pb.Status) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if wire.ClassOf(st.Code) != wire.Success {
				l.wrong = &wire.StatusError{Status: st}
			}
			l.took = append(l.took, time.Since(began))
			<-free
		})
		if err != nil {
			return err
		}
	}
	for range window { // the last answers
		free <- struct{}{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrong
}

func startRaised(ctx context.Context, binary, root, name string) (*Organization, error) {
	org, err := NewOrganization(ctx, binary, root, name, time.Hour)
	if err == nil {
		err = org.raiseLimits()
	}
	if err == nil {
		err = org.Start(ctx)
	}
	return org, err
}

// enrolMany enrols members' first devices, in this process.
func enrolMany(ctx context.Context, org *Organization, root, name string, n int) ([]*device.Device, error) {
	devices := make([]*device.Device, n)
	var next atomic.Int64
	err := parallel(2, func() error {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			dir, link, err := org.invite(ctx, root, fmt.Sprint(name, i))
			if err == nil {
				devices[i], err = device.Enroll(ctx, dir, []byte(passphrase), link)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return slices.DeleteFunc(devices, func(d *device.Device) bool { return d == nil }), err
}

func closeAll(devices []*device.Device) {
	for _, d := range devices {
		d.Close()
	}
}

// converse makes a room of each two devices.
func converse(ctx context.Context, devices []*device.Device) error {
	var next atomic.Int64
	return parallel(4, func() error {
		for i := next.Add(2) - 2; i+1 < int64(len(devices)); i = next.Add(2) - 2 {
			a, b := devices[i], devices[i+1]
			if err := a.Send(ctx, b.Address(), "hello", device.SendOptions{}, func(device.Progress) {}); err != nil {
				return err
			}
			if err := b.Receive(ctx, false, func(device.Shown) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	})
}

// cpuOf is the processor time that a process has had, by proc(5).
func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / clockTick
}
