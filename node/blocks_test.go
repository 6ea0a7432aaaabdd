package node

import (
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func (s *site) block(who string) {
	s.t.Helper()
	_, err := s.changeBlock(s.t.Context(), &pb.ChangeBlockRequest{Who: who, Reason: "phishing"})
	must(s.t, err)
}

func (s *site) unblock(who string) {
	s.t.Helper()
	_, err := s.changeBlock(s.t.Context(), &pb.ChangeBlockRequest{Who: who, Remove: true})
	must(s.t, err)
}

// idsOf is how an administrator names a member whose organization it does not want to ask.
func idsOf(c *client) string {
	return c.cred.Organization.String() + "/" + c.member.String()
}

func (w *world) claimOf(requester *client) *pb.Status {
	return w.asks(&pb.QueryRequest{Query: &pb.QueryRequest_Claim{Claim: &pb.ClaimQuery{Member: w.bob.member[:], Requester: requester.member[:]}}})
}

func TestWhomTheAdministratorBlocksReachesNobodyHere(t *testing.T) {
	w := newWorld(t)
	w.acme.block(idsOf(w.pat))
	w.acme.halt() // the block outlives the process
	w.acme.reopen(false)
	w.pat.knownTo(w.acme)
	w.quinn.knownTo(w.acme)

	st := w.claimOf(w.pat)
	wantCode(t, "a claim of who is blocked", st, pb.Code_CODE_NO_CONSENT)
	if plain := wire.Status(pb.Code_CODE_NO_CONSENT, ""); st.Detail != plain.Detail {
		t.Errorf("an outsider is told %q, and not what whom a member has blocked is told", st.Detail)
	}
	wantCode(t, "a claim of another member", w.claimOf(w.quinn), pb.Code_CODE_NO_KEY_PACKAGE) // bob has published none
	wantCode(t, "a room with who is blocked", w.creates(nil, w.pat), noAgreement)
	wantCode(t, "a room with another", w.creates(nil, w.quinn), pb.Code_CODE_SEQUENCED)

	w.acme.unblock(idsOf(w.pat))
	wantCode(t, "a claim after the block", w.claimOf(w.pat), pb.Code_CODE_NO_KEY_PACKAGE)
	wantCode(t, "a room after the block", w.creates(nil, w.pat), pb.Code_CODE_SEQUENCED)
}

func TestABlockedOrganizationIsAnsweredAsIfNobodyWereHere(t *testing.T) {
	w := newWorld(t)
	w.acme.block("globex.example")
	for name, c := range map[string]*client{"pat": w.pat, "quinn": w.quinn} {
		wantCode(t, "a claim of "+name, w.claimOf(c), pb.Code_CODE_NO_CONSENT)
	}
	wantCode(t, "a look-up", w.looksUp(), pb.Code_CODE_NO_CONSENT)
	if err := w.acme.screen(w.globex.org); wire.StatusOf(err).Code != pb.Code_CODE_NO_CONSENT {
		t.Errorf("a new agreement with it: %v", err)
	}
	if err := w.acme.screen(w.acme.org); err != nil {
		t.Errorf("ourselves: %v", err)
	}
}

func TestARoomOfTwoWithWhoIsBlockedIsSilentAndARoomOfSeveralGoesOn(t *testing.T) {
	w := newWorld(t) // alice, bob and pat
	var pair wire.RoomID
	pair[0] = 7
	request, states := w.creation(pair, w.pat)
	wantCode(t, "a room of two", w.acme.createRoom(t.Context(), w.alice.id, request), pb.Code_CODE_SEQUENCED)
	several := w.alice.state
	w.alice.state = states[w.alice]
	wantCode(t, "before the block", w.alice.submit(w.alice.message(pair, "hello")), pb.Code_CODE_SEQUENCED)
	w.acme.block(idsOf(w.pat))
	w.acme.refuses(pair, noAgreement, "has blocked them", func() *pb.Status { return w.alice.submit(w.alice.message(pair, "psst")) })
	w.pat.state = states[w.pat]
	core := w.pat.message(pair, "let me in")
	items := []*pb.Item{{Kind: pb.ItemKind_ITEM_KIND_SUBMIT, Envelope: &pb.Envelope{Core: core}}}
	wantCode(t, "a message of who is blocked", w.acme.Deliver(t.Context(), w.globex.org.ID, items, func(*store.Batch, []*pb.Status) error { return nil })[0], pb.Code_CODE_NO_CONSENT)

	w.alice.state = several
	wantCode(t, "the room of several", w.alice.submit(w.alice.message(w.room, "we talk on")), pb.Code_CODE_SEQUENCED)
	b, next := w.alice.commit(w.alice.state, group.CommitParams{})
	wantCode(t, "a Commit that adds nobody", w.alice.hand(w.room, w.alice.state.Epoch(), b), pb.Code_CODE_SEQUENCED)
	w.alice.state = next
}

func TestABlockEndsByItselfAndIsNeverOfOurOwn(t *testing.T) {
	w := newWorld(t)
	now := w.acme.clock.Now()
	_, err := w.acme.changeBlock(t.Context(), &pb.ChangeBlockRequest{Who: idsOf(w.pat), UntilUnix: now.Add(time.Hour).Unix()})
	must(t, err)
	k := memberKey{w.pat.cred.Organization, w.pat.member}
	if _, _, ok := w.acme.blocks.find(k, now); !ok {
		t.Error("a block with an end does not hold before it")
	}
	if _, _, ok := w.acme.blocks.find(k, now.Add(time.Hour)); ok {
		t.Error("a block holds after its end")
	}
	for name, m := range map[string]*pb.ChangeBlockRequest{
		"our own organization": {Who: "acme.example"}, "a member of ours": {Who: idsOf(w.alice)}, "a colleague's address": {Who: "alice@acme.example"},
		"nobody": {Who: ""}, "an organization nobody knows": {Who: "hooli.example"}, "half an ID": {Who: w.pat.cred.Organization.String() + "/x"},
		"an end that has passed": {Who: idsOf(w.quinn), UntilUnix: now.Add(-time.Hour).Unix()},
		"a long reason":          {Who: idsOf(w.quinn), Reason: strings.Repeat("x", maxBlockReason+1)},
		"removing what is not":   {Who: idsOf(w.quinn), Remove: true},
		"zeros for a member":     {Who: w.pat.cred.Organization.String() + "/" + wire.MemberID{}.String()},
	} {
		if _, err := w.acme.changeBlock(t.Context(), m); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if n := len(w.acme.blocks.list(now)); n != 1 {
		t.Errorf("%d blocks after refusals", n)
	}
}

func TestTheLogOfBlocksKeepsTheLastChanges(t *testing.T) {
	s := newSite(t, "acme.example")
	who := wire.OrganizationID{9}.String()
	for range maxBlockLog/2 + 3 {
		s.block(who)
		s.unblock(who)
	}
	rows, err := s.store.Scan([]byte(blockLogPrefix), nil, 2*maxBlockLog)
	must(t, err)
	if len(rows) != maxBlockLog {
		t.Fatalf("%d entries, want %d", len(rows), maxBlockLog)
	}
	s.halt()
	s.reopen(false)
	if want := uint64(maxBlockLog + 6); s.blocks.logged != want {
		t.Errorf("after a start the log goes on from %d, want %d", s.blocks.logged, want)
	}
}

func TestABlockedHubBringsNobodyIntoARoomThatIsNewHere(t *testing.T) {
	f := newFollowing(t)
	f.acme.block("globex.example")
	w := f.welcome(&pb.Bundle{Tree: []byte("tree"), Welcome: []byte("welcome")}, f.bob)
	core, err := wire.ParseCore(w.Envelope.Core)
	must(t, err)
	core.Room[0] ^= 1
	w.Envelope.Core = encoded(t, core)
	if st := f.deliver(f.globex, w); st.Code != pb.Code_CODE_NO_CONSENT {
		t.Errorf("a Welcome of a new room: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	f.acme.unblock("globex.example")
	if st := f.deliver(f.globex, w); st.Code != pb.Code_CODE_ACCEPTED {
		t.Errorf("after the block: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}
