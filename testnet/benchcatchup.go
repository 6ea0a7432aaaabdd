package testnet

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
)

// benchCatchUp has the administrator of a large room change it many times while a member
// of another organization is away, and measures that member's return: time and bytes on
// its connection to its home node.
func benchCatchUp(ctx context.Context, o BenchOptions, root string) error {
	var both [2]*Organization
	for i, name := range []string{"acme.example", "globex.example"} {
		org, err := startRaised(ctx, o.Binary, root, name)
		if err != nil {
			return err
		}
		defer org.Stop()
		both[i] = org
	}
	if err := agreeBetween(ctx, root, both[0], both[1]); err != nil {
		return err
	}
	people, err := enrolMany(ctx, both[0], root, "device", o.Members-1)
	defer closeAll(people)
	if err != nil {
		return err
	}
	away, err := enrolMany(ctx, both[1], root, "away", 1)
	defer closeAll(away)
	if err != nil {
		return err
	}
	for _, d := range append(people, away...) { // a visit publishes KeyPackages
		if err := d.Receive(ctx, false, func(device.Shown) error { return nil }); err != nil {
			return err
		}
	}
	dir := deviceFolder(root, away[0].Address().String())
	away[0].Close()
	admin, err := people[0].Sender(ctx)
	if err != nil {
		return err
	}
	defer admin.Close()
	room, err := roomOf(ctx, o, admin, append(people[1:], away...))
	if err != nil {
		return err
	}
	if _, err := comeBack(ctx, o, dir, "joining"); err != nil {
		return err
	}
	began := time.Now()
	for i := range o.Commits {
		role := []wire.Role{wire.RoleGuest, wire.RoleMember}[i%2]
		if err := admin.SetRole(ctx, room, people[1].Address(), role); err != nil {
			return fmt.Errorf("testnet: Commit %d: %w", i, err)
		}
	}
	fmt.Fprintf(o.Out, "room:  %d devices, %d Commits by one of them %.1f ms each\n", o.Members, o.Commits, float64(time.Since(began).Milliseconds())/float64(o.Commits))
	epoch, err := comeBack(ctx, o, dir, fmt.Sprintf("catching up %d Commits", o.Commits))
	for _, r := range people[0].Rooms() {
		if err == nil && r.Epoch != epoch {
			return fmt.Errorf("testnet: epoch %d after its return, %d at the others", epoch, r.Epoch)
		}
	}
	return err
}

// roomOf makes the room with everybody in it.
func roomOf(ctx context.Context, o BenchOptions, admin *device.Sender, people []*device.Device) (wire.RoomID, error) {
	var members []wire.Address
	for _, d := range people {
		members = append(members, d.Address())
	}
	began := time.Now()
	room, err := admin.CreateRoom(ctx, "Large", device.RoomOptions{Members: members})
	if err == nil {
		fmt.Fprintf(o.Out, "room:  %d devices in two organizations, made in %.1f s\n", o.Members, time.Since(began).Seconds())
	}
	return room, err
}

// comeBack is a visit of a device, counted.
func comeBack(ctx context.Context, o BenchOptions, dir, what string) (epoch uint64, err error) {
	var in, out atomic.Int64
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		return countedConn{c, &in, &out}, err
	}
	d, err := device.Open(dir, []byte(passphrase), device.Dialing(dial))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	began := time.Now()
	if err := d.Receive(ctx, false, func(device.Shown) error { return nil }); err != nil {
		return 0, err
	}
	fmt.Fprintf(o.Out, "room:  %s %.2f s, %.2f MB in, %.2f MB out\n", what, time.Since(began).Seconds(), float64(in.Load())/1e6, float64(out.Load())/1e6)
	for _, r := range d.Rooms() {
		epoch = r.Epoch
	}
	return epoch, nil
}

type countedConn struct {
	net.Conn
	in, out *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.Add(int64(n))
	return n, err
}
