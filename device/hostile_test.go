package device

import (
	"context"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"google.golang.org/protobuf/proto"
)

// liar is a home node that changes some of its answers.
type liar struct {
	ententev1connect.DeviceServiceClient
	resolve func(*pb.ResolveResponse)
	claim   func(*pb.ClaimKeyPackagesResponse)
}

func (l *liar) Resolve(ctx context.Context, q *connect.Request[pb.ResolveRequest]) (*connect.Response[pb.ResolveResponse], error) {
	a, err := l.DeviceServiceClient.Resolve(ctx, q)
	if err == nil && l.resolve != nil {
		l.resolve(a.Msg)
	}
	return a, err
}

func (l *liar) ClaimKeyPackages(ctx context.Context, q *connect.Request[pb.ClaimKeyPackagesRequest]) (*connect.Response[pb.ClaimKeyPackagesResponse], error) {
	a, err := l.DeviceServiceClient.ClaimKeyPackages(ctx, q)
	if err == nil && l.claim != nil {
		l.claim(a.Msg)
	}
	return a, err
}

// chainOf is the chain of a device's own member, as its node gives it out.
func chainOf(t *testing.T, d *Device) *pb.MemberChain {
	t.Helper()
	a, err := call(t.Context(), d.home.Device.Chain, &pb.ChainRequest{Organization: d.account.Organization[:], Member: d.account.Member[:]})
	must(t, err)
	return a.Chain
}

func TestAHomeNodeThatLiesIsNotBelieved(t *testing.T) {
	p := newPair(t)
	mallory := p.globex.device("mallory") // a colleague of bob's whom the node favours
	other := newOrganization(t, "globex.example", defaultBucket)
	double := other.device("bob") // bob@globex.example of another organization of that name
	if _, err := p.alice.resolve(t.Context(), p.bob.Address()); err != nil {
		t.Fatal(err)
	}
	colleague, bobs, doubles := chainOf(t, mallory), chainOf(t, p.bob), chainOf(t, double)
	claimed, err := call(t.Context(), p.alice.home.Device.ClaimKeyPackages, &pb.ClaimKeyPackagesRequest{Organization: mallory.account.Organization[:],
		Member: mallory.account.Member[:], Room: make([]byte, 32), Suites: []uint32{uint32(Suite)}})
	must(t, err)
	honest := p.alice.home.Device
	lies := []struct {
		name string
		liar liar
		is   error
		says string
	}{
		{"another member for the address", liar{resolve: func(a *pb.ResolveResponse) { a.Chain = colleague }}, nil, "answered for"},
		{"another's device in the member's chain", liar{resolve: func(a *pb.ResolveResponse) {
			a.Chain = proto.CloneOf(bobs)
			a.Chain.Devices = colleague.Devices
		}}, nil, ""},
		{"another's record in the member's chain", liar{resolve: func(a *pb.ResolveResponse) {
			a.Chain = proto.CloneOf(bobs)
			a.Chain.Record = colleague.Record
		}}, nil, ""},
		{"another organization for the chain", liar{resolve: func(a *pb.ResolveResponse) { a.Organization = double.account.Organization[:] }}, nil, ""},
		{"no chain", liar{resolve: func(a *pb.ResolveResponse) { a.Chain = nil }}, nil, ""},
		{"another organization behind the name", liar{resolve: func(a *pb.ResolveResponse) {
			a.Organization, a.Chain = double.account.Organization[:], doubles
		}}, ErrIdentityChanged, "globex.example"},
		{"another member's KeyPackages", liar{claim: func(a *pb.ClaimKeyPackagesResponse) {
			a.Packages = claimed.Packages
		}}, nil, "KeyPackage"},
		{"another member's KeyPackages under the member's device", liar{claim: func(a *pb.ClaimKeyPackagesResponse) {
			id := p.bob.ID()
			a.Packages = proto.CloneOf(claimed).Packages
			a.Packages[0].Device = id[:]
		}}, nil, "KeyPackage"},
		{"another member's KeyPackages and chain", liar{claim: func(a *pb.ClaimKeyPackagesResponse) {
			a.Packages, a.Chain = claimed.Packages, colleague
		}}, nil, "certificates that do not stand"},
		{"a KeyPackage that was changed", liar{claim: func(a *pb.ClaimKeyPackagesResponse) {
			kp := a.Packages[0].KeyPackage
			kp[len(kp)/2] ^= 1
		}}, nil, "KeyPackage"},
	}
	for _, l := range lies {
		t.Run(l.name, func(t *testing.T) {
			l.liar.DeviceServiceClient = honest
			p.alice.home.Device = &l.liar
			defer func() { p.alice.home.Device = honest }()
			_, err := p.alice.queue(t.Context(), p.bob.Address(), "a secret", SendOptions{})
			if err == nil || l.is != nil && !errors.Is(err, l.is) || !strings.Contains(err.Error(), l.says) {
				t.Errorf("believed, or refused for another reason: %v", err)
			}
			if sent, err := p.alice.Sent(); err != nil || len(sent) > 0 || len(p.alice.Rooms()) > 0 {
				t.Errorf("left behind: %v, %v, %v", sent, p.alice.Rooms(), err)
			}
		})
	}
	send(t, p.alice, p.bob.Address(), "the truth", SendOptions{})
	if got := texts(receiveUntil(t, p.bob, "the message", hasTexts(1))); len(got) != 1 || got[0] != "the truth" {
		t.Errorf("shown: %q", got)
	}
}

func TestAChangedOrganizationStaysRefusedAfterARestart(t *testing.T) {
	first, second := newOrganization(t, "globex.example", defaultBucket), newOrganization(t, "globex.example", defaultBucket)
	bob, double := first.device("bob"), second.device("bob")
	carol := first.device("carol")
	if _, err := carol.learn(bob.account.Organization, chainOf(t, bob)); err != nil {
		t.Fatal(err)
	}
	dir := folder(carol)
	carol.Close()
	carol, err := Open(dir, testPass)
	must(t, err)
	defer carol.Close()
	if _, err := carol.learn(double.account.Organization, chainOf(t, double)); !errors.Is(err, ErrIdentityChanged) {
		t.Errorf("another organization of a known name: %v", err)
	}
	k := memberKey{double.account.Organization, double.account.Member}
	if _, err := carol.chains.get(k); err == nil {
		t.Error("its member was remembered")
	}
	if m, err := carol.remembered(bob.Address()); err == nil && m.Organization.ID != bob.account.Organization {
		t.Error("the address stands for the other organization")
	}
}
