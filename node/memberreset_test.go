package node

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A thief of an unlocked device adds another one with each that is still active, as fast as the
// node takes them. The administrator's reset ends that.
func TestAResetOutrunsAThiefWhoKeepsAddingDevices(t *testing.T) {
	s := newSite(t, "acme.example")
	alice := s.client("alice")
	last, stop, ended := alice.id, make(chan struct{}), make(chan struct{})
	added := make(chan struct{}, 1)
	go func() {
		defer close(ended)
		for s.active(last) { // it is asked with each call
			select {
			case <-stop:
				return
			default:
			}
			pub, _, _ := ed25519.GenerateKey(nil)
			c, err := identity.SignDeviceCertificate(s.org.ID, alice.member, wire.DeviceID(pub), alice.master, time.Now())
			if err == nil {
				if _, err = s.Node.dir.AddDevice(t.Context(), alice.member, c.Note, nil); err == nil {
					last = wire.DeviceID(pub)
				}
			}
			select {
			case added <- struct{}{}:
			default:
			}
		}
	}()
	<-added
	_, err := s.resetMember(t.Context(), &pb.ResetMemberRequest{Name: "alice"})
	close(stop)
	<-ended
	must(t, err)
	m, err := s.Node.dir.Get(alice.member)
	must(t, err)
	if len(m.Devices) > 0 {
		t.Errorf("%d devices are left", len(m.Devices))
	}
}
