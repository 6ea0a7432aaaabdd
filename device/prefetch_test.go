package device

import (
	"testing"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestAJoinersCertificatesAreFetchedBeforeTheyAreMissed(t *testing.T) {
	w := newTrio(t)
	dora := w.acme.device("dora")
	var id wire.RoomID
	must(t, with(t, w.alice, func(s *Sender) (err error) {
		id, err = s.CreateRoom(t.Context(), "Large", RoomOptions{Members: []wire.Address{w.bob.Address(), w.claire.Address(), w.adam.Address()}})
		return err
	}))
	pub := w.alice.rooms[id].state.Public()
	if n := len(dora.chains.members); n > 1 { // herself
		t.Fatalf("dora knows %d others", n)
	}
	dora.prefetchTree(t.Context(), pub.Suite().ID, pub.Tree())
	must(t, pub.RatchetTree().Leaves(func(_ mls.LeafIndex, l *mls.LeafNode) error {
		cred, err := wire.ParseCredential(l.Credential.Identity)
		must(t, err)
		m, err := dora.chains.get(memberKey{cred.Organization, cred.Member})
		if err != nil {
			t.Errorf("a member's chain was not fetched: %v", err)
			return nil
		}
		return identity.CheckCredential(cred, l.SignatureKey, m, dora.now())
	}))
	for what, f := range map[string]func(){
		"no tree":       func() { dora.prefetchTree(t.Context(), pub.Suite().ID, []byte("no tree")) },
		"no suite":      func() { dora.prefetchTree(t.Context(), 0, pub.Tree()) },
		"no Commit":     func() { dora.prefetchCommit(t.Context(), []byte("no Commit")) },
		"no Welcome":    func() { _ = suiteOf([]byte("no Welcome")) },
		"foreign leaf":  func() { dora.prefetch(t.Context(), []*mls.LeafNode{{}, {}}) },
		"nobody at all": func() { dora.prefetch(t.Context(), nil) },
	} {
		t.Run(what, func(*testing.T) { f() })
	}
}

func TestOfManyChainsThoseAreKeptThatStand(t *testing.T) {
	w := newTrio(t)
	chainOf := func(d *Device) (memberKey, *pb.MemberChain) {
		k := memberKey{d.account.Organization, d.account.Member}
		a, err := call(t.Context(), d.home.Device.Chain, &pb.ChainRequest{Organization: k.Org[:], Member: k.Member[:]})
		must(t, err)
		return k, a.Chain
	}
	bob, bobs := chainOf(w.bob)
	claire, claires := chainOf(w.claire)
	adam, adams := chainOf(w.adam)
	must(t, w.alice.vault.update(func(x *txn) error { // the name stood for somebody else
		return x.putMetaJSON(pinKey("hooli.example"), wire.OrganizationID{1})
	}))
	w.alice.learnAll([]memberKey{bob, claire, adam, bob}, []*pb.MemberChain{nil, claires, adams, adams})
	if _, err := w.alice.chains.get(adam); err != nil {
		t.Errorf("adam's chain stands: %v", err)
	}
	for k, whose := range map[memberKey]string{bob: "an answer for another member", claire: "an organization under another's name"} {
		if _, err := w.alice.chains.get(k); err == nil {
			t.Errorf("%s was kept", whose)
		}
	}
	w.alice.learnAll([]memberKey{bob}, []*pb.MemberChain{bobs})
	if _, err := w.alice.chains.get(bob); err != nil {
		t.Errorf("bob's chain stands: %v", err)
	}
}
