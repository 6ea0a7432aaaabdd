package node

import (
	"testing"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A tag travels in clear: who sends another's once more gets a frank of a later time, which
// must not pass for one of the other's message.
func TestATagThatAnotherSendsOnceMoreIsNotFrankedAsItsAuthors(t *testing.T) {
	here, partner, alice, bob := wire.OrganizationID{1}, wire.OrganizationID{2}, wire.DeviceID{3}, wire.DeviceID{4}
	key, err := frankKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{org: &identity.Organization{ID: here}, frankKey: key}
	said := wire.Franked{Room: wire.RoomID{5}, Generation: 1, Epoch: 6, Seq: 7, AcceptedMs: 8, Tag: append([]byte{wire.FrankTagVersion}, make([]byte, 32)...)}
	for _, c := range []struct {
		what   string
		from   wire.OrganizationID // as ordered
		by     wire.DeviceID
		org    wire.OrganizationID // as reported
		device wire.DeviceID
		ours   bool
	}{
		{"her own", here, alice, here, alice, true},
		{"what a colleague sent once more", here, bob, here, alice, false},
		{"what a partner's device sent once more", partner, wire.DeviceID{}, here, alice, false},
		{"a partner's", partner, wire.DeviceID{}, partner, bob, true},
		{"a partner's, which ours sent once more", here, alice, partner, bob, false},
	} {
		f := said
		f.From, f.Device = c.from, c.by
		a, err := operatorAPI{n}.CheckFrank(t.Context(), connect.NewRequest(&pb.CheckFrankRequest{Room: f.Room[:], Generation: f.Generation, Epoch: f.Epoch, Seq: f.Seq,
			AcceptedMs: f.AcceptedMs, Tag: f.Tag, Frank: n.frank(f), Organization: c.org[:], Device: c.device[:]}))
		if err != nil || a.Msg.Ours != c.ours {
			t.Errorf("%s: %v, %v", c.what, a, err)
		}
	}
}
