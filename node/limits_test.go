package node

import (
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestADeviceThatSubmitsTooFastIsToldHowLongToWait(t *testing.T) {
	w := newWorld(t)
	w.acme.rates = newRates(DefaultConfig().Limits)
	took := 0
	for {
		st := w.alice.submit(w.alice.message(w.room, "noise"))
		if st.Code == pb.Code_CODE_RATE_LIMITED {
			if st.RetryMs <= 0 || st.RetryMs > 1_000/wire.DeviceRate {
				t.Errorf("it is told to wait %d ms at %d a second", st.RetryMs, wire.DeviceRate)
			}
			break
		}
		if took++; st.Code != sequenced || took > 3*wire.DeviceBurst {
			t.Fatalf("message %d: %s %s", took, wire.CodeName(st.Code), st.Detail)
		}
	}
	if took < wire.DeviceBurst {
		t.Errorf("%d were taken, %d may come at once", took, wire.DeviceBurst)
	}
	if st := w.bob.submit(w.bob.message(w.room, "of another device")); st.Code != sequenced {
		t.Errorf("another device of the room: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}

// The world's room has three devices.
func TestARoomThatIsFullTakesNobodyAndGoesOn(t *testing.T) {
	w := newWorld(t)
	for _, limit := range []int{3, 2} { // 2: an operator has lowered it since
		w.acme.config.Limits.RoomDevices = limit
		dora := w.acme.client(map[int]string{3: "dora", 2: "emil"}[limit])
		growing, _ := w.alice.add(w.alice.state, dora)
		w.acme.refuses(w.room, forbidden, "at most", func() *pb.Status { return w.alice.hand(w.room, w.alice.state.Epoch(), growing) })
		turning, next := w.alice.commit(w.alice.state, group.CommitParams{})
		if st := w.alice.hand(w.room, w.alice.state.Epoch(), turning); st.Code != sequenced {
			t.Fatalf("a Commit that adds nobody, %d allowed: %s %s", limit, wire.CodeName(st.Code), st.Detail)
		}
		w.alice.state = next
	}
	w.catchUp(w.bob)
	replacing, next := w.alice.commit(w.alice.state, group.CommitParams{Removes: []mls.LeafIndex{w.pat.state.OwnLeaf()}})
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), replacing); st.Code != sequenced {
		t.Fatalf("a removal: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
}

// Every hour, a stranger may ask ten people and an organization's members together a
// hundred; one person keeps two hundred requests and nobody learns of more.
func TestRequestsForContactAreBoundedPerSenderAndOrganization(t *testing.T) {
	acme, now := newSite(t, "acme.example"), time.Now()
	var targets []*client
	for i := range wire.RequestsPerSender + 1 {
		targets = append(targets, acme.client("member"+string(rune('a'+i))))
	}
	ask := func(of *client, org byte, member int) *pb.Status {
		with := memberKey{wire.OrganizationID{org}, wire.MemberID{1, byte(member >> 8), byte(member)}}
		return wire.StatusOf(acme.request(t.Context(), of.member, with, now))
	}
	limited := func(what string, st *pb.Status) {
		t.Helper()
		if st.Code != pb.Code_CODE_RATE_LIMITED || st.RetryMs == 0 {
			t.Errorf("%s: %s, retry in %d ms", what, wire.CodeName(st.Code), st.RetryMs)
		}
	}
	taken := func(what string, st *pb.Status) {
		t.Helper()
		if wire.ClassOf(st.Code) != wire.Success {
			t.Errorf("%s: %s %s", what, wire.CodeName(st.Code), st.Detail)
		}
	}
	for i, of := range targets[:wire.RequestsPerSender] {
		taken("request "+string(rune('0'+i)), ask(of, 1, 0))
	}
	limited("one more of the same person", ask(targets[wire.RequestsPerSender], 1, 0))
	for member := range wire.RequestsPerPartner - wire.RequestsPerSender {
		taken("another person's", ask(targets[0], 1, member+1))
	}
	limited("one more of the organization", ask(targets[0], 1, wire.RequestsPerPartner))
	taken("another organization's", ask(targets[0], 2, 0))
	now = now.Add(time.Hour)
	taken("an hour later", ask(targets[wire.RequestsPerSender], 1, 0))

	for org := byte(3); org < 6; org++ {
		for member := range wire.RequestsPerPartner - 1 {
			taken("of many organizations", ask(targets[1], org, member))
		}
	}
	list, err := acme.listContacts(targets[1].member)
	must(t, err)
	if len(list) != wire.PendingRequests {
		t.Errorf("%d requests are kept, %d wanted", len(list), wire.PendingRequests)
	}
}

func TestProposalsOfAllMembersTogetherAreBounded(t *testing.T) {
	w := newWorld(t)
	var more []*client
	for i := range wire.MaxProposalsByRef/maxProposalsOfOne - 1 {
		more = append(more, w.acme.client("member"+string(rune('a'+i))))
	}
	adding, states := w.alice.add(w.alice.state, more...)
	if st := w.alice.hand(w.room, 1, adding); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = states[w.alice]
	all := []*client{w.alice}
	for _, c := range more {
		c.state = states[c]
		all = append(all, c)
	}
	propose := func(c *client, n int) *pb.Status {
		return c.submit(c.proposal(w.room, 2, w.proposeRemove(c, c, string(rune('a'+n)))))
	}
	for n := range maxProposalsOfOne {
		for _, c := range all {
			if st := propose(c, n); st.Code != sequenced {
				t.Fatalf("proposal %d of %s: %s %s", n, c.name, wire.CodeName(st.Code), st.Detail)
			}
		}
	}
	w.catchUp(w.bob)
	if st := propose(w.bob, 0); st.Code != forbidden {
		t.Errorf("one more than %d: %s %s", wire.MaxProposalsByRef, wire.CodeName(st.Code), st.Detail)
	}
}

func TestARoomIsResetSoManyTimesAnHour(t *testing.T) {
	w, _, notes := complained(t)
	r := w.bob.renewed(w, notes, w.pat)
	c, err := w.acme.begin(w.room)
	must(t, err)
	row, err := w.acme.caseOf(c.room(w.room))
	must(t, err)
	for range wire.ResetsPerRoom {
		row.Resets = append(row.Resets, w.acme.clock.Now().UnixMilli())
	}
	must(t, c.putCase(c.room(w.room), row))
	must(t, c.commit(t.Context()))
	w.acme.refuses(w.room, forbidden, "times an hour", r.hand)
}

func TestNoAgreementRaisesARateAboveItsLimit(t *testing.T) {
	acme := newSite(t, "acme.example")
	rate := uint64(wire.MaxAgreementRate + 1)
	_, err := acme.invitePartner(t.Context(), &pb.InvitePartnerRequest{Name: "globex.example", Contact: "open", Terms: &pb.TermsChange{Rate: &rate}})
	if wire.StatusOf(err).Code != pb.Code_CODE_MALFORMED {
		t.Errorf("%v", err)
	}
}

func TestACommitFromLongAgoIsNotComplainedAbout(t *testing.T) {
	w := newWorld(t)
	var made []*pb.Bundle
	for range wire.ComplaintCommits + 1 {
		b, next := w.alice.commit(w.alice.state, group.CommitParams{})
		if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != sequenced {
			t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
		}
		made, w.alice.state = append(made, b), next
	}
	for i, want := range []pb.Code{notFound, accepted} {
		if st := w.bob.complains(w, w.bob.complaint(w, made[i].Commit)); st.Code != want {
			t.Errorf("the Commit %d before the last: %s %s", wire.ComplaintCommits-i, wire.CodeName(st.Code), st.Detail)
		}
	}
}
