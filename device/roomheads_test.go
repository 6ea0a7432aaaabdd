package device

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
)

func TestHeadsInACommitAreReadOrPassedOver(t *testing.T) {
	two := []shownHead{{wire.OrganizationID{1}, 0, 4, [32]byte{7}}, {wire.OrganizationID{2}, 1_700_000_000, 6, [32]byte{8}}}
	b := encodeHeads(two)
	if got, err := decodeHeads(b); err != nil || !slices.Equal(got, two) {
		t.Fatalf("%+v, %v", got, err)
	}
	if encodeHeads(nil) != nil {
		t.Error("no heads are something")
	}
	for what, b := range map[string][]byte{"nothing": nil, "another version": append([]byte{9}, b[1:]...)} {
		if got, err := decodeHeads(b); err != nil || got != nil {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	turned := append(append([]byte{headsVersion}, b[1+headLen:]...), b[1:1+headLen]...)
	zero := bytes.Clone(b)
	clear(zero[41:49])
	for what, b := range map[string][]byte{"the version alone": b[:1], "half": b[:40], "a byte more": append(bytes.Clone(b), 0), "out of order": turned,
		"one twice": append(bytes.Clone(b), b[1+headLen:]...), "an empty log": zero, "too many": append([]byte{headsVersion}, make([]byte, (maxCommitHeads+1)*headLen)...)} {
		if got, err := decodeHeads(b); !errors.Is(err, errHeads) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

// toldOfHeads are what a device was told of others' heads.
func toldOfHeads(list []Shown) bool {
	return slices.ContainsFunc(list, func(s Shown) bool {
		return s.Event == "identity" && s.State == "heads" && s.From == "alice@acme.example" && strings.Contains(s.Reason, "another directory of acme.example than you")
	})
}

func TestAnotherHeadThanOnesOwnInACommitIsTold(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, _ := onlyRoom(t, p.alice)
	acme := p.alice.account.Organization
	_, err := p.bob.SafetyNumber(t.Context(), p.alice.Address()) // bob has a head of acme's log now
	must(t, err)
	_, err = p.alice.SafetyNumber(t.Context(), p.bob.Address())
	must(t, err)
	row := func(d *Device) (h headRow) {
		must(t, d.vault.view(func(x *txn) error { return x.metaJSON(headKey(acme), &h) }))
		return h
	}
	// Honest Commits tell nothing.
	mine, err := p.alice.roomHeads(p.alice.rooms[id])
	must(t, err)
	if len(mine) < 1 {
		t.Fatalf("alice has seen %d heads", len(mine))
	}
	must(t, p.alice.commitNow(t, id))
	told := receive(t, p.bob)
	if toldOfHeads(told) {
		t.Fatalf("told of honest heads: %+v", told)
	}
	// alice was shown another log of the size that bob knows.
	theirs := row(p.bob)
	lie := row(p.alice)
	lie.Size, lie.Root = theirs.Size, bytes.Repeat([]byte{9}, 32)
	must(t, p.alice.vault.update(func(x *txn) error { return x.putMetaJSON(headKey(acme), lie) }))
	must(t, p.alice.commitNow(t, id))
	receiveUntil(t, p.bob, "another head", toldOfHeads)
	must(t, p.alice.commitNow(t, id))
	if told := receive(t, p.bob); toldOfHeads(told) {
		t.Error("told twice")
	}
	send(t, p.bob, p.alice.Address(), "is that so?", SendOptions{})
}

// commitNow has a device commit in a room, and the hub take it.
func (d *Device) commitNow(t *testing.T, id wire.RoomID) error {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commitRoom(t.Context(), id)
}
