package node

import (
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// publishes has a site sign a list of these entries, with the sequence that it says.
func (s *site) publishes(sequence uint64, entries ...identity.BlockEntry) string {
	s.t.Helper()
	now := s.clock.Now()
	note, err := s.Node.dir.SignBlockList(identity.BlockList{Sequence: sequence, Issued: now, Until: now.Add(time.Hour), Entries: entries})
	must(s.t, err)
	return note
}

func (s *site) subscribes(to *site, mode, note string) (*pb.BlockListDetails, error) {
	return s.subscribe(s.t.Context(), &pb.SubscribeBlockListRequest{Organization: to.org.Manifest.Name, Mode: mode, Note: note})
}

func entryOf(k memberKey) identity.BlockEntry {
	return identity.BlockEntry{Organization: k.org, Member: k.member, Reason: "phishing"}
}

// twoPartners are partners, both running.
func twoPartners(t *testing.T) (acme, globex *site) {
	t.Helper()
	acme, globex = newSite(t, "acme.example"), newSite(t, "globex.example")
	agree(t, acme, globex)
	return acme, globex
}

var mallory = memberKey{wire.OrganizationID{7}, wire.MemberID{8}}

func TestAPublishedListIsFetchedAndEnforcedUntilItsSubscriptionEnds(t *testing.T) {
	acme, globex := twoPartners(t)
	_, err := globex.changeBlock(t.Context(), &pb.ChangeBlockRequest{Who: mallory.org.String() + "/" + mallory.member.String(), Code: "phishing", Reason: "ticket 4711"})
	must(t, err)
	_, err = globex.changeBlock(t.Context(), &pb.ChangeBlockRequest{Who: wire.OrganizationID{9}.String(), Reason: "our own affair"})
	must(t, err)
	must(t, globex.publishList(t.Context(), globex.blocks.published(globex.clock.Now(), false), listLife))
	if strings.Contains(globex.lists.own, "4711") || strings.Contains(globex.lists.own, wire.OrganizationID{9}.String()) {
		t.Error("the list says more than the blocks with a code, and their codes")
	}
	d, err := acme.subscribes(globex, listShown, "")
	must(t, err)
	if d.Status.Entries != 1 || d.Status.Enforced || acme.blocked(mallory) {
		t.Fatalf("a list that is only shown: %v, mallory blocked: %v", d.Status, acme.blocked(mallory))
	}
	d, err = acme.subscribes(globex, listEnforced, "")
	must(t, err)
	if !d.Status.Enforced || !acme.blocked(mallory) || acme.blocked(memberKey{org: wire.OrganizationID{9}}) {
		t.Fatalf("an enforced list: %v", d.Status)
	}
	acme.halt()
	acme.reopen(false)
	if !acme.blocked(mallory) {
		t.Fatal("after a start the list is not enforced")
	}
	if acme.blocked(memberKey{mallory.org, wire.MemberID{9}}) {
		t.Error("another member of that organization is blocked")
	}
	_, err = acme.subscribe(t.Context(), &pb.SubscribeBlockListRequest{Organization: "globex.example", Remove: true})
	must(t, err)
	if acme.blocked(mallory) {
		t.Error("blocked after the subscription has ended")
	}
}

func TestAListThatIsOlderForgedOrAnotherOfItsSequenceIsNotTaken(t *testing.T) {
	acme, globex := twoPartners(t)
	hooli := newSite(t, "hooli.example")
	first, second := globex.publishes(5, entryOf(mallory)), globex.publishes(6)
	_, err := acme.subscribes(globex, listEnforced, first)
	must(t, err)
	for name, c := range map[string]struct{ note, says string }{
		"an older one":                  {globex.publishes(4), "older"},
		"another of the same sequence":  {globex.publishes(5, entryOf(memberKey{org: wire.OrganizationID{1}})), "two block lists"},
		"one of another organization":   {hooli.publishes(9, entryOf(mallory)), "another organization"},
		"one with another reason":       {strings.Replace(first, " phishing ", " spam ", 1), "does not stand"},
		"one that is none":              {"entente.im/blocklist/v1\n", "no block list"},
		"one of ours":                   {acme.publishes(7), "another organization"},
		"one that is issued in a while": {laterList(t, globex, 8), "future"},
	} {
		if _, err := acme.subscribes(globex, listEnforced, c.note); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if !acme.blocked(mallory) {
			t.Fatalf("%s: the list before it is not enforced any more", name)
		}
	}
	d, err := acme.showList(globex.org.ID)
	must(t, err)
	if !d.Status.Equivocation || d.Note != first || d.Other == "" || d.Other == first {
		t.Errorf("of two lists with one sequence are shown %q and %q", d.Note, d.Other)
	}
	// Unsubscribing forgets no sequence.
	_, err = acme.subscribe(t.Context(), &pb.SubscribeBlockListRequest{Organization: "globex.example", Remove: true})
	must(t, err)
	if _, err := acme.subscribes(globex, listEnforced, globex.publishes(3, entryOf(mallory))); err == nil || acme.blocked(mallory) {
		t.Errorf("an older list after unsubscribing: %v", err)
	}
	_, err = acme.subscribes(globex, listEnforced, second)
	must(t, err)
	if acme.blocked(mallory) {
		t.Error("the later list, without mallory, is not what holds")
	}
}

func laterList(t *testing.T, s *site, sequence uint64) string {
	t.Helper()
	at := s.clock.Now().Add(time.Hour)
	note, err := s.Node.dir.SignBlockList(identity.BlockList{Sequence: sequence, Issued: at, Until: at.Add(time.Hour)})
	must(t, err)
	return note
}

func TestAListBlocksNeitherOurselvesNorPastItsEnd(t *testing.T) {
	acme, globex := twoPartners(t)
	alice := acme.client("alice")
	ours := memberKey{acme.org.ID, alice.member}
	soon := entryOf(memberKey{org: wire.OrganizationID{4}})
	soon.Until = acme.clock.Now().Add(time.Minute).Truncate(time.Second)
	_, err := acme.subscribes(globex, listEnforced, globex.publishes(1, entryOf(mallory), entryOf(ours), soon))
	must(t, err)
	if acme.blocked(ours) || acme.blocked(memberKey{org: acme.org.ID}) {
		t.Error("a list blocks our own")
	}
	now := acme.clock.Now()
	for k, times := range map[memberKey][2]time.Duration{mallory: {0, time.Hour}, {org: wire.OrganizationID{4}}: {0, time.Minute}} {
		if _, ok := acme.lists.find(k, now.Add(times[0])); !ok {
			t.Errorf("%v is not blocked", k)
		}
		if _, ok := acme.lists.find(k, now.Add(times[1])); ok {
			t.Errorf("%v is blocked after the end", k)
		}
	}
	_, err = globex.Node.dir.SignBlockList(identity.BlockList{Sequence: 2, Issued: now, Until: now.Add(time.Hour), Entries: []identity.BlockEntry{entryOf(memberKey{org: globex.org.ID})}})
	if err == nil {
		t.Error("a list that names its issuer is signed")
	}
	// Blocking the issuer does not end what its list says, nor the fetching of it.
	acme.block("globex.example")
	if !acme.blocked(mallory) {
		t.Error("blocking the issuer has ended its list")
	}
	must(t, globex.publishList(t.Context(), nil, listLife))
	must(t, acme.follow1(t.Context(), globex.org.ID))
	if acme.blocked(mallory) {
		t.Error("the later list was not fetched")
	}
}

func TestAListIsPublishedAnewBeforeItEnds(t *testing.T) {
	s := newSite(t, "acme.example")
	must(t, s.publishList(t.Context(), []identity.BlockEntry{entryOf(mallory)}, 30*24*time.Hour))
	first := s.lists.ownList
	must(t, s.renewList(t.Context()))
	if s.lists.ownList != first {
		t.Error("a fresh list is published anew")
	}
	must(t, s.publishList(t.Context(), []identity.BlockEntry{entryOf(mallory)}, time.Nanosecond+time.Hour))
	s.lists.ownList.Issued, s.lists.ownList.Until = s.clock.Now().Add(-time.Hour), s.clock.Now().Add(time.Minute)
	before := s.lists.ownList.Sequence
	must(t, s.renewList(t.Context()))
	if got := s.lists.ownList; got.Sequence <= before || len(got.Entries) != 1 {
		t.Errorf("a list that ends soon: sequence %d after %d, %d entries", got.Sequence, before, len(got.Entries))
	}
}

func TestNoMoreListsAreSubscribedToThanMayBe(t *testing.T) {
	acme, globex := twoPartners(t)
	acme.lists.mu.Lock()
	for i := range wire.BlockLists {
		acme.lists.of[wire.OrganizationID{byte(i), 1}] = &list{row: listRow{Mode: listShown}}
	}
	acme.lists.mu.Unlock()
	if _, err := acme.subscribes(globex, listShown, ""); wire.StatusOf(err).Code != pb.Code_CODE_FULL {
		t.Errorf("one more: %v", err)
	}
}
