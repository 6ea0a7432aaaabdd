package device

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// find returns the row of a text in a history.
func find(t *testing.T, d *Device, text string) Shown {
	t.Helper()
	all, err := d.History()
	must(t, err)
	for _, s := range all {
		if s.Event == "message" && s.Text == text {
			return s
		}
	}
	t.Fatalf("%s has no %q: %+v", d.Address(), text, all)
	return Shown{}
}

// forge has a device send what it would refuse to, in its one room.
func forge(t *testing.T, d *Device, m message) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.rooms {
		encoded, id, err := newContent(wire.MemberURI(d.account.Organization, d.account.Member), wire.RoomURI(r.Hub, r.ID), m)
		must(t, err)
		o := &outgoing{ID: id, Room: r.ID, Content: encoded, Deadline: time.Now().Add(time.Hour).Unix(), Queued: time.Now(), Silent: true}
		must(t, d.vault.update(func(x *txn) error { return o.save(x) }))
	}
}

func TestMessagesAreAnsweredEditedAndDeletedByTheirSendersOnly(t *testing.T) {
	p := newPair(t)
	to, from := p.bob.Address(), p.alice.Address()
	send(t, p.alice, to, "meet at noon", SendOptions{})
	receiveUntil(t, p.bob, "the message", hasTexts(1))
	row := find(t, p.bob, "meet at noon")
	id, _, err := p.bob.FindMessage(row.ID[:12])
	must(t, err)
	kind := func(event, text string) func([]Shown) bool {
		return func(all []Shown) bool {
			return slices.ContainsFunc(all, func(s Shown) bool { return s.Event == event && s.Text == text })
		}
	}
	t.Run("a reply and a reaction name what they are about", func(t *testing.T) {
		send(t, p.bob, from, "fine", SendOptions{Action: ActionReply, About: id})
		send(t, p.bob, from, "+1", SendOptions{Action: ActionReact, About: id})
		shown := receiveUntil(t, p.alice, "both", kind("reaction", "+1"))
		for _, s := range shown {
			if (s.Event == "message" || s.Event == "reaction") && s.ReplyTo != row.ID {
				t.Errorf("about nothing: %+v", s)
			}
		}
		if got := texts(shown); !slices.Equal(got, []string{"fine"}) {
			t.Errorf("shown: %q", got)
		}
	})
	t.Run("its sender edits it", func(t *testing.T) {
		send(t, p.alice, to, "meet at one", SendOptions{Action: ActionEdit, About: id})
		receiveUntil(t, p.bob, "the edit", kind("edited", "meet at one"))
		if got := find(t, p.bob, "meet at one"); !got.Edited || got.ID != row.ID {
			t.Errorf("%+v", got)
		}
		sent, err := p.alice.Sent()
		must(t, err)
		if len(sent) != 1 || sent[0].Text != "meet at one" || !sent[0].Edited {
			t.Errorf("alice's own: %+v", sent)
		}
	})
	t.Run("nobody else does", func(t *testing.T) {
		if err := p.bob.Send(t.Context(), from, "meet never", SendOptions{Action: ActionEdit, About: id}, func(Progress) {}); err == nil {
			t.Error("bob's device edits what alice said")
		}
		// A device that does not keep to it is not believed.
		forge(t, p.bob, message{Text: "meet never", Replaces: &id})
		send(t, p.bob, from, "and after it", SendOptions{})
		shown := receiveUntil(t, p.alice, "what follows", hasTexts(1))
		if kind("edited", "meet never")(shown) {
			t.Errorf("shown: %+v", shown)
		}
		find(t, p.bob, "meet at one")
	})
	t.Run("its sender deletes it, and it stays deleted", func(t *testing.T) {
		send(t, p.alice, to, "", SendOptions{Action: ActionDelete, About: id})
		receiveUntil(t, p.bob, "the deletion", kind("deleted", ""))
		for name, o := range map[string]SendOptions{"edit": {Action: ActionEdit}, "delete": {Action: ActionDelete}, "reply": {Action: ActionReply}, "react": {Action: ActionReact}} {
			o.About = id
			if err := p.alice.Send(t.Context(), to, "back again", o, func(Progress) {}); wire.StatusOf(err).Code != pb.Code_CODE_FORBIDDEN {
				t.Errorf("%s of what was deleted: %v", name, err)
			}
		}
		for _, o := range []SendOptions{{Action: ActionReply, About: id}, {Action: ActionReact, About: id}} {
			if err := p.bob.Send(t.Context(), from, "x", o, func(Progress) {}); wire.StatusOf(err).Code != pb.Code_CODE_FORBIDDEN {
				t.Errorf("an answer to what was deleted: %v", err)
			}
		}
		// A device that edits all the same undoes nothing on the others, nor here.
		forge(t, p.alice, message{Text: "back again", Replaces: &id})
		must(t, p.alice.vault.update(func(x *txn) error { _, err := x.editOwn(message{Text: "back again", Replaces: &id}); return err }))
		if list, err := p.alice.Sent(); err != nil || !list[0].Deleted || list[0].Edited || list[0].Text != "" {
			t.Errorf("alice's own: %+v, %v", list, err)
		}
		send(t, p.alice, to, "end", SendOptions{})
		receiveUntil(t, p.bob, "the end", hasTexts(1))
		all, err := p.bob.History()
		must(t, err)
		for _, s := range all {
			if s.Text == "back again" || s.ID == row.ID && s.Event == "message" && (!s.Deleted || s.Text != "") {
				t.Errorf("%+v", s)
			}
		}
	})
}

// opensAnywhere tells whether anything in a device's file opens to a text, with every
// key that its folder holds: what somebody with folder and passphrase can do.
func opensAnywhere(t *testing.T, dir, text string) bool {
	t.Helper()
	v, err := openVault(dir, testPass, time.Now)
	must(t, err)
	defer v.close()
	found := false
	must(t, v.view(func(x *txn) error {
		look := func(_, value []byte) error {
			found = found || strings.Contains(string(value), text)
			return nil
		}
		if err := x.eachState("", look); err != nil {
			return err
		}
		return x.eachHistory("", look)
	}))
	return found
}

func TestAMessageBurnsOnEveryDeviceAfterItWasRead(t *testing.T) {
	p := newPair(t)
	to := p.bob.Address()
	send(t, p.alice, to, "first", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	const secret = "the combination is 7312"
	send(t, p.alice, to, secret, SendOptions{Burn: 2 * time.Second})
	shown := receiveUntil(t, p.bob, "the message", hasTexts(1))
	if got := texts(shown); !slices.Equal(got, []string{secret}) || !shown[len(shown)-1].Expiring {
		t.Fatalf("shown: %+v", shown)
	}
	find(t, p.bob, secret) // read, and not burned yet
	dirs := []string{folder(p.alice), folder(p.bob)}
	copies := t.TempDir()
	p.bob.Close()
	copyFolder(t, dirs[1], filepath.Join(copies, "before"))
	if !opensAnywhere(t, filepath.Join(copies, "before"), secret) {
		t.Fatal("the hunt does not find what is there")
	}
	// The sealed record as the file has it, which bbolt may keep in a free page.
	key, sealed := expiringRow(t, filepath.Join(copies, "before"))
	var err error
	if !opens(t, filepath.Join(copies, "before"), stateBucket, string(key), sealed) {
		t.Fatal("the record does not open before it burns")
	}
	eventually(t, "it burns", func() error {
		p.bob, err = Open(dirs[1], testPass)
		must(t, err)
		defer p.bob.Close()
		all, err := p.bob.History()
		must(t, err)
		for _, s := range all {
			if s.Text == secret {
				return fmt.Errorf("still there: %+v", s)
			}
		}
		return nil
	})
	must(t, p.alice.Sweep())
	p.alice.Close()
	for _, dir := range dirs {
		if opensAnywhere(t, dir, secret) {
			t.Errorf("%s: it opens after it burned", filepath.Base(dir))
		}
	}
	if opens(t, dirs[1], stateBucket, string(key), sealed) {
		t.Error("the old record opens with what the folder holds now")
	}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		must(t, err)
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f.Name()))
			must(t, err)
			if strings.Contains(string(b), secret) {
				t.Errorf("plaintext in %s", f.Name())
			}
		}
	}
	p.alice, err = Open(dirs[0], testPass)
	must(t, err)
	t.Cleanup(p.alice.Close)
	sent, err := p.alice.Sent()
	must(t, err)
	if !slices.ContainsFunc(sent, func(s Sent) bool { return s.Gone && s.Text == "" }) {
		t.Errorf("alice's own copy: %+v", sent)
	}
}

func TestAMessageEndsAtItsTimeReadOrNot(t *testing.T) {
	p := newPair(t)
	to := p.bob.Address()
	send(t, p.alice, to, "first", SendOptions{})
	receiveUntil(t, p.bob, "the room", hasTexts(1))
	send(t, p.alice, to, "until then", SendOptions{Until: time.Now().Add(3 * time.Second)})
	receiveUntil(t, p.bob, "the message", hasTexts(1))
	eventually(t, "it ends", func() error {
		must(t, p.bob.Sweep())
		all, err := p.bob.History()
		must(t, err)
		if slices.ContainsFunc(all, func(s Shown) bool { return s.Text == "until then" }) {
			return fmt.Errorf("still there")
		}
		return nil
	})
	for name, o := range map[string]SendOptions{
		"both too late":   {Burn: time.Minute, Until: time.Now().Add(31 * 24 * time.Hour)},
		"in the past":     {Until: time.Now().Add(-time.Hour)},
		"too late":        {Until: time.Now().Add(31 * 24 * time.Hour)},
		"burns too late":  {Burn: 31 * 24 * time.Hour},
		"burns too early": {Burn: time.Millisecond},
		"burns before":    {Burn: -time.Minute},
	} {
		if err := p.alice.Send(t.Context(), to, "x", o, func(Progress) {}); err == nil {
			t.Errorf("%s: sent", name)
		}
	}
}
