package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

func TestAMemberAddedByWelcomeReadsWhatTheOthersWrite(t *testing.T) {
	for _, n := range []int{2, 3, 7, 8, 9} {
		room := newRoom(t, n)
		everybodyTalks(t, room)
		// every member commits once: all paths are used
		for i, c := range room {
			st := c.commit(CommitParams{})
			for j, o := range room {
				if i != j {
					o.process(st.Commit)
				}
			}
			everybodyTalks(t, room)
		}
	}
}

func TestAddAndRemoveKeepEverybodyInStep(t *testing.T) {
	room := newRoom(t, 6)
	for round := range 6 {
		by := room[round%len(room)]
		victim := room[(round+2)%len(room)]
		n := newClient(t, "new")
		st := by.commit(CommitParams{Adds: [][]byte{n.kp}, Removes: []mls.LeafIndex{victim.st.OwnLeaf()}})
		var next []*client
		for _, c := range room {
			if c == by {
				next = append(next, c)
				continue
			}
			e := c.process(st.Commit)
			if e.SelfRemoved != (c == victim) {
				t.Fatalf("%s: SelfRemoved = %v", c.name, e.SelfRemoved)
			}
			if c != victim {
				next = append(next, c)
			}
		}
		n.join(st)
		room = append(next, n)
		everybodyTalks(t, room)
		if _, _, err := victim.st.Decrypt(by.send("secret")); err == nil {
			t.Fatal("a removed member reads on")
		}
		for _, c := range room {
			if c != by {
				c.reload()
			}
		}
	}
}

func TestAPublicGroupFollowsAndTheBundleFits(t *testing.T) {
	room := newRoom(t, 4)
	info, err := room[0].st.GroupInfo(true)
	must(t, err)
	hub, err := mls.NewPublicGroup(info, nil, mls.PublicOptions{Validator: testValidator{}})
	must(t, err)
	for i, c := range room {
		n, prop, err := room[(i+1)%4].st.ProposeAdd(newClient(t, "x").kp, nil)
		must(t, err)
		room[(i+1)%4].st = n
		hub, _, err = hub.Process(prop)
		must(t, err)
		for j, o := range room {
			if j != (i+1)%4 {
				o.process(prop)
			}
		}
		st := c.commit(CommitParams{ByReference: true})
		for j, o := range room {
			if i != j {
				o.process(st.Commit)
			}
		}
		hub, _, err = hub.Process(st.Commit)
		must(t, err)
		must(t, hub.CheckBundle(st.GroupInfo, st.Tree))
		must(t, hub.CheckBundle(st.GroupInfo, nil))
		hub, err = mls.UnmarshalPublicGroup(hub.Marshal(), mls.PublicOptions{Validator: testValidator{}})
		must(t, err)
		if string(hub.Context()) != string(c.st.Public().Context()) {
			t.Fatal("hub and member disagree")
		}
		everybodyTalks(t, room)
	}
}

func TestResyncByExternalCommitReplacesOnesOwnLeaf(t *testing.T) {
	room := newRoom(t, 5)
	info, err := room[0].st.GroupInfo(false)
	must(t, err)
	lost := room[3]
	leaf := lost.st.OwnLeaf()
	st, err := ExternalJoin(lost.cfg, info, room[0].st.Tree(), ExternalParams{Credential: credential(lost.name), Resync: &leaf})
	must(t, err)
	for i, c := range room {
		if i != 3 {
			e := c.process(st.Commit)
			if !e.External || len(e.Removed) != 1 || len(e.Added) != 1 {
				t.Fatalf("effects %+v", e)
			}
		}
	}
	lost.st, err = st.Apply(nil)
	must(t, err)
	everybodyTalks(t, room)
}
