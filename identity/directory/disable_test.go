package directory

import (
	"testing"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestADisabledMemberHasNoActiveDeviceAndIsAdmittedByNoLink(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	ctx := t.Context()
	code(t, w.Disable(ctx, "nobody", ""), pb.Code_CODE_UNKNOWN_MEMBER)
	before, err := w.Get(alice.id)
	w.must(err)
	note, err := w.SignRevocation(alice.device)
	w.must(err)
	for range 2 { // repeating it is a success
		w.must(w.Disable(ctx, "alice", "left on Friday"))
	}
	m, err := w.Get(alice.id)
	w.must(err)
	if !m.Disabled || m.Version != before.Version+1 || w.WhyDisabled(m) != "left on Friday" {
		t.Errorf("%+v: %q", m, w.WhyDisabled(m))
	}
	w.must(m.Supersedes(before))
	if _, active := w.ByDevice(alice.device); active {
		t.Error("her device is active")
	}
	_, err = w.Claim(ctx, w.org.ID, bob.id[:], alice.id)
	code(t, err, pb.Code_CODE_FORBIDDEN)
	_, err = w.CreateLink(ctx, "alice", time.Hour)
	code(t, err, pb.Code_CODE_NAME_TAKEN)
	w.must(w.RevokeDevice(ctx, note)) // signed before
	_, err = w.CreateResetLink(ctx, "alice", time.Hour)
	code(t, err, pb.Code_CODE_FORBIDDEN)

	w.restart()
	if m, err = w.Get(alice.id); err != nil || !m.Disabled || len(m.Devices) != 0 || w.WhyDisabled(m) != "left on Friday" {
		t.Errorf("after a restart: %+v, %v", m, err)
	}
	w.must(w.Enable(ctx, "alice"))
	if m, err = w.Get(alice.id); err != nil || m.Disabled || w.WhyDisabled(m) != "" {
		t.Errorf("enabled: %+v, %v", m, err)
	}
	_, err = w.CreateResetLink(ctx, "alice", time.Hour)
	w.must(err)
}
