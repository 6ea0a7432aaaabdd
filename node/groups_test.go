package node

import (
	"slices"
	"testing"

	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (s *site) groupOf(name string, members ...string) {
	s.t.Helper()
	_, err := s.changeGroup(s.t.Context(), &pb.ChangeGroupRequest{Group: name, Members: members})
	must(s.t, err)
}

func (s *site) allow(partner *site, list ...string) {
	s.t.Helper()
	_, err := s.partnerGroups(s.t.Context(), &pb.PartnerGroupsRequest{Name: partner.org.Manifest.Name, Change: true, Groups: list, AllowEmpty: true})
	must(s.t, err)
}

func wantCode(t *testing.T, what string, st *pb.Status, want pb.Code) {
	t.Helper()
	if st.Code != want {
		t.Errorf("%s: %s %q, want %s", what, wire.CodeName(st.Code), st.Detail, wire.CodeName(want))
	}
}

func (w *world) resolves(c *client, address string) *pb.Status {
	_, err := w.acme.resolve(w.t.Context(), c.id, address)
	return wire.StatusOf(err)
}

func TestOnlyTheGroupsThatMayDealWithAPartner(t *testing.T) {
	w := newWorld(t) // alice, bob and pat are in a room
	w.acme.groupOf("sales", "bob", "carol")
	w.acme.allow(w.globex, "sales")
	w.acme.halt() // the rule outlives the process
	w.acme.reopen(false)
	w.pat.knownTo(w.acme)

	wantCode(t, "a claim of who may not", w.asks(&pb.QueryRequest{Query: &pb.QueryRequest_Claim{Claim: &pb.ClaimQuery{Member: w.alice.member[:], Requester: w.pat.member[:]}}}), pb.Code_CODE_NO_CONSENT)
	wantCode(t, "a claim of who may", w.claimsBob(), pb.Code_CODE_NO_KEY_PACKAGE) // bob has published none
	wantCode(t, "a look-up by who may not", w.resolves(w.alice, "pat@globex.example"), noAgreement)
	wantCode(t, "a look-up by who may", w.resolves(w.bob, "pat@globex.example"), pb.Code_CODE_UNREACHABLE) // globex stands still
	wantCode(t, "a look-up of a colleague", w.resolves(w.alice, "bob@acme.example"), pb.Code_CODE_OK)

	wantCode(t, "a new room of who may not", w.creates(nil, w.pat), noAgreement)
	wantCode(t, "a new room of colleagues alone", w.creates(nil, w.bob), pb.Code_CODE_SEQUENCED)
}

func TestWhoMayNotDealWithAPartnerIsSilentInRoomsWithIt(t *testing.T) {
	w := newWorld(t)
	w.acme.groupOf("sales", "bob")
	w.acme.allow(w.globex, "sales")
	w.acme.refuses(w.room, noAgreement, "none of the groups", func() *pb.Status { return w.alice.submit(w.alice.message(w.room, "psst")) })
	if st := w.bob.submit(w.bob.message(w.room, "from sales")); st.Code != pb.Code_CODE_SEQUENCED {
		t.Errorf("who may: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.acme.refuses(w.room, noAgreement, "none of the groups", func() *pb.Status { // who comes into the room
		b, _ := w.alice.add(w.alice.state, w.carol)
		return w.alice.hand(w.room, w.alice.state.Epoch(), b)
	})
	b, next := w.alice.commit(w.alice.state, group.CommitParams{}) // and rooms go on: keys are renewed
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), b); st.Code != pb.Code_CODE_SEQUENCED {
		t.Errorf("a Commit: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.alice.state = next
	w.acme.allow(w.globex)
	if st := w.alice.submit(w.alice.message(w.room, "everybody may")); st.Code != pb.Code_CODE_SEQUENCED {
		t.Errorf("after the rule: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}

func TestUnderDirectoryGroupsAPartnerFindsThoseAlone(t *testing.T) {
	w := newWorldOn(t, &pb.TermsChange{Directory: to("groups")})
	wantCode(t, "without a rule", w.looksUp(), pb.Code_CODE_UNKNOWN_MEMBER)
	w.acme.groupOf("sales", "bob")
	w.acme.allow(w.globex, "sales", "support")
	wantCode(t, "a member of a group", w.looksUp(), pb.Code_CODE_OK)
	_, err := w.acme.changeGroup(t.Context(), &pb.ChangeGroupRequest{Group: "sales", Members: []string{"bob"}, Remove: true})
	must(t, err)
	wantCode(t, "a member that was taken off", w.looksUp(), pb.Code_CODE_UNKNOWN_MEMBER)
	for name, m := range map[string]*pb.ChangeGroupRequest{
		"a group without a name": {Group: "", Members: []string{"bob"}}, "a name with a zero": {Group: "a\x00b", Members: []string{"bob"}},
		"a stranger": {Group: "sales", Members: []string{"nobody"}}, "one stranger among members": {Group: "sales", Members: []string{"bob", "nobody"}},
	} {
		if _, err := w.acme.changeGroup(t.Context(), m); err == nil || len(w.acme.groups.list("sales")) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if g := w.acme.groups.names(); slices.Contains(g, "sales") {
		t.Errorf("a group that nobody is in is listed: %v", g)
	}
}

func TestAWelcomeReachesThoseAloneWhoMayDealWithItsHub(t *testing.T) {
	f := newFollowing(t)
	f.acme.groupOf("sales", "alice")
	f.acme.allow(f.globex, "sales")
	w := f.welcome(&pb.Bundle{Tree: []byte("tree"), Welcome: []byte("welcome")}, f.bob)
	f.refuses(t, []itemCase{{"a Welcome for who may not", pb.Code_CODE_UNKNOWN_DEVICE, "", f.globex, func() *pb.Item { return w }}})
}
