package device

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestADisabledMemberIsOutAndComesBackWithANewDevice(t *testing.T) {
	w, id := harbour(t)
	send(t, w.alice, w.bob.Address(), "before", SendOptions{})
	receiveUntil(t, w.bob, "alice's words", hasTexts(1))
	globex := node.DialOperator(w.globex.dir)
	_, err := globex.DisableMember(t.Context(), connect.NewRequest(&pb.DisableMemberRequest{Name: "bob"}))
	must(t, err)
	receiveUntil(t, w.alice, "bob is out, and by whom", func(all []Shown) bool {
		return slices.ContainsFunc(all, func(s Shown) bool {
			return s.State == "device revoked" && s.From == "bob@globex.example" && s.By == "globex.example" && s.Room == id.String()
		})
	})
	for name, f := range map[string]func(*Sender) error{
		"a message": func(s *Sender) error {
			return s.Send(t.Context(), w.bob.Address(), "are you there", SendOptions{Wait: patience}, func(Progress) {})
		},
		"an invitation": func(s *Sender) error { return s.Invite(t.Context(), id, w.bob.Address(), wire.RoleMember) },
		"a room": func(s *Sender) error {
			_, err := s.CreateRoom(t.Context(), "Other", RoomOptions{Members: []wire.Address{w.bob.Address()}})
			return err
		},
	} {
		if err := with(t, w.alice, f); err == nil || wire.StatusOf(err).Code != pb.Code_CODE_FORBIDDEN || !strings.Contains(err.Error(), "bob@globex.example is disabled") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.bob.Sender(t.Context()); err == nil {
		if err := w.bob.Receive(t.Context(), false, func(Shown) error { return nil }); err == nil {
			t.Error("bob's device is served")
		}
	}
	sendRoom(t, w.alice, id, "among us")
	receiveUntil(t, w.claire, "alice's words", hasTexts(1))
	link, err := globex.EnableMember(t.Context(), connect.NewRequest(&pb.ResetMemberRequest{Name: "bob"}))
	must(t, err)
	back, err := Enroll(t.Context(), filepath.Join(t.TempDir(), "bob2"), testPass, link.Msg.Link)
	must(t, err)
	defer back.Close()
	if back.account.Member != w.bob.account.Member {
		t.Error("bob is another member")
	}
	send(t, w.alice, back.Address(), "welcome back", SendOptions{})
	receiveUntil(t, back, "alice's words", func(all []Shown) bool { return slices.Contains(texts(all), "welcome back") })
}
