package node

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/notice"
	"google.golang.org/protobuf/proto"
)

// following is a node with alice and bob, whose partner, which stands still, orders
// pat's room with alice in it. What the partner says is made by the test, with the
// partner's keys and order.
type following struct {
	t            testing.TB
	acme, globex *site
	third        *site // another partner of acme's, standing still too
	alice, bob   *client
	pat          *client
	room         wire.RoomID
	seq          uint64
	hash         [32]byte
	accepted     int64
}

func newFollowing(t testing.TB) *following {
	t.Helper()
	return newFollowingOn(t, nil)
}

func newFollowingOn(t testing.TB, terms *pb.TermsChange) *following {
	t.Helper()
	f := &following{t: t, acme: newSite(t, "acme.example"), globex: newSite(t, "globex.example"), third: newSite(t, "initech.example"), accepted: 1_000}
	agreeOn(t, f.acme, f.globex, terms)
	agree(t, f.acme, f.third)
	f.alice, f.bob, f.pat = f.acme.client("alice"), f.acme.client("bob"), f.globex.client("pat")
	f.globex.halt()
	f.third.halt()
	rand.Read(f.room[:])
	zero, err := group.Create(f.pat.config(), group.CreateParams{Suite: mls.SuiteX25519AES128, GroupID: wire.GroupID(f.room, 0),
		Credential: f.pat.credential(), Extensions: extensionsOf(t, f.globex, roomExtension(f.globex, f.room, f.acme, f.globex))})
	must(t, err)
	b, states := f.pat.add(zero, f.alice)
	f.pat.state, f.alice.state = states[f.pat], states[f.alice]
	if st := f.deliver(f.globex, f.welcome(b, f.alice)); st.Code != pb.Code_CODE_ACCEPTED {
		t.Fatalf("the Welcome: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	return f
}

// deliver has a partner hand over one item.
func (f *following) deliver(from *site, item *pb.Item) *pb.Status {
	nothing := func(_ *store.Batch, _ []*pb.Status) error { return nil }
	return f.acme.Deliver(f.t.Context(), from.org.ID, []*pb.Item{item}, nothing)[0]
}

func deviceRef(c *client) *pb.DeviceRef {
	return &pb.DeviceRef{Organization: c.home.org.ID[:], Device: bytes.Clone(c.id[:])}
}

// welcome is the hub's item for new devices of acme's.
func (f *following) welcome(b *pb.Bundle, to ...*client) *pb.Item {
	f.t.Helper()
	hash := treeHash(b.Tree)
	body, err := proto.Marshal(&pb.WelcomeBody{Welcome: b.Welcome, TreeHash: hash[:], Hub: f.globex.org.ID[:]})
	must(f.t, err)
	item := &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: encoded(f.t, &pb.EnvelopeCore{Version: 1,
		Class: pb.Class_CLASS_CONTROL, Kind: pb.Kind_KIND_WELCOME, Room: f.room[:], Epoch: 1, Deadline: time.Now().Add(time.Hour).Unix(), Body: body})}}
	for _, c := range to {
		item.Recipients = append(item.Recipients, deviceRef(c))
	}
	return item
}

// entry is the hub's next entry of the room; next makes it the last.
func (f *following) entry(edit ...func(*pb.Item, *pb.EnvelopeCore)) *pb.Item {
	f.t.Helper()
	core := &pb.EnvelopeCore{Version: 1, Class: pb.Class_CLASS_MESSAGE, Kind: pb.Kind_KIND_APPLICATION, Room: f.room[:], Epoch: 1,
		Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte("ciphertext"), ReturnHandle: bytes.Repeat([]byte{9}, wire.ReturnHandleLen)}
	item := &pb.Item{Kind: pb.ItemKind_ITEM_KIND_FANOUT, Origin: bytes.Clone(f.globex.org.ID[:]),
		Envelope: &pb.Envelope{Seq: f.seq + 1, Previous: bytes.Clone(f.hash[:]), AcceptedMs: f.accepted + 1}}
	for _, e := range edit {
		e(item, core)
	}
	if item.Envelope.Core == nil {
		item.Envelope.Core = encoded(f.t, core)
	}
	return item
}

func (f *following) next(item *pb.Item) *pb.Item {
	e := item.Envelope
	f.hash = wire.SequenceHash(f.room, e.Seq, [32]byte(e.Previous), wire.IDOf(e.Core), e.AcceptedMs)
	f.seq, f.accepted = e.Seq, e.AcceptedMs
	return item
}

// takes checks that the room is in order: the hub's next entry reaches alice.
func (f *following) takes() {
	f.t.Helper()
	before := f.acme.mail.Usage(f.alice.id).Messages
	if st := f.deliver(f.globex, f.next(f.entry())); st.Code != pb.Code_CODE_ACCEPTED {
		f.t.Fatalf("an honest entry: %s %s", wire.CodeName(st.Code), st.Detail)
	}
	if got := f.acme.mail.Usage(f.alice.id).Messages; got != before+1 {
		f.t.Fatalf("alice has %d messages after %d", got, before)
	}
}

type itemCase struct {
	name string
	code pb.Code
	says string
	from *site
	item func() *pb.Item
}

func (f *following) refuses(t *testing.T, cases []itemCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			outer := f.acme.t
			f.acme.t = t
			defer func() { f.acme.t = outer }()
			f.acme.refuses(f.room, c.code, c.says, func() *pb.Status { return f.deliver(c.from, c.item()) })
		})
	}
	f.takes()
}

func TestAnEntryThatIsNotTheHubsNextIsRefused(t *testing.T) {
	f := newFollowing(t)
	f.takes()
	f.takes()
	plain := f.entry
	edited := func(edit func(*pb.Item, *pb.EnvelopeCore)) func() *pb.Item {
		return func() *pb.Item { return plain(edit) }
	}
	// The Commit of a reset that alice has made.
	founding := func(edit func(*pb.Item)) func() *pb.Item {
		return func() *pb.Item {
			i := plain(func(i *pb.Item, c *pb.EnvelopeCore) {
				c.Class, c.Kind, c.Deadline, c.Generation, c.Epoch = pb.Class_CLASS_HANDSHAKE, pb.Kind_KIND_COMMIT, 0, 1, 0
				number, err := f.acme.numbers.of(f.alice.id)
				must(t, err)
				c.ReturnHandle = f.acme.handles.seal(number, 7)
				i.Origin, i.Change = bytes.Clone(f.acme.org.ID[:]), &pb.LeafChange{Added: []*pb.DeviceRef{deviceRef(f.alice)}}
			})
			edit(i)
			return i
		}
	}
	last := proto.CloneOf(f.next(plain()))
	if st := f.deliver(f.globex, last); st.Code != pb.Code_CODE_ACCEPTED {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	f.refuses(t, []itemCase{
		{"from a partner that is not the hub", unknownRoom, "", f.third, func() *pb.Item { return plain() }},
		{"of another room", unknownRoom, "", f.globex, edited(func(_ *pb.Item, c *pb.EnvelopeCore) { c.Room = make([]byte, 32) })},
		{"of another generation", unknownRoom, "", f.globex, edited(func(_ *pb.Item, c *pb.EnvelopeCore) { c.Generation = 1 })},
		{"that founds the next generation without its place", malformed, "without its place", f.globex, founding(func(i *pb.Item) { i.Envelope.Seq = 0 })},
		{"that founds the next generation, over its limit", tooLarge, "", f.globex, founding(func(i *pb.Item) {
			i.Envelope.Core = raw(t, i.Envelope.Core, func(c *pb.EnvelopeCore) { c.Body = make([]byte, wire.MaxHandshakeBody+1) })
		})},
		{"without its place", malformed, "without its place", f.globex, edited(func(i *pb.Item, _ *pb.EnvelopeCore) { i.Envelope.Seq = 0 })},
		{"without the hash before", malformed, "without its place", f.globex, edited(func(i *pb.Item, _ *pb.EnvelopeCore) { i.Envelope.Previous = nil })},
		{"with half the hash before", malformed, "without its place", f.globex, edited(func(i *pb.Item, _ *pb.EnvelopeCore) { i.Envelope.Previous = i.Envelope.Previous[:16] })},
		{"that is control", malformed, "without its place", f.globex, edited(func(_ *pb.Item, c *pb.EnvelopeCore) {
			c.Class, c.Kind = pb.Class_CLASS_CONTROL, pb.Kind_KIND_NOTICE
		})},
		{"of an earlier time", malformed, "accepted before", f.globex, edited(func(i *pb.Item, _ *pb.EnvelopeCore) { i.Envelope.AcceptedMs = 7 })},
		{"the last one again", pb.Code_CODE_DUPLICATE, "", f.globex, func() *pb.Item { return proto.CloneOf(last) }},
		{"one from before the last", pb.Code_CODE_DUPLICATE, "", f.globex, edited(func(i *pb.Item, _ *pb.EnvelopeCore) { i.Envelope.Seq = 1 })},
		{"with half an origin", malformed, "origin", f.globex, edited(func(i *pb.Item, _ *pb.EnvelopeCore) { i.Origin = i.Origin[:5] })},
		{"with a deadline that has passed", pb.Code_CODE_DEADLINE_PASSED, "", f.globex, edited(func(_ *pb.Item, c *pb.EnvelopeCore) { c.Deadline = time.Now().Add(-time.Minute).Unix() })},
		{"over its limit", tooLarge, "", f.globex, edited(func(i *pb.Item, c *pb.EnvelopeCore) {
			i.Envelope.Core = raw(t, encoded(t, c), func(c *pb.EnvelopeCore) { c.Body = make([]byte, wire.MaxMessageBody+1) })
		})},
		{"a handshake over its limit", tooLarge, "", f.globex, edited(func(i *pb.Item, c *pb.EnvelopeCore) {
			i.Envelope.Core = raw(t, encoded(t, c), func(c *pb.EnvelopeCore) {
				c.Class, c.Kind, c.Deadline, c.Body = pb.Class_CLASS_HANDSHAKE, pb.Kind_KIND_COMMIT, 0, make([]byte, wire.MaxHandshakeBody+1)
			})
		})},
		{"a submission for a room that is ordered there", unknownRoom, "", f.globex, edited(func(i *pb.Item, _ *pb.EnvelopeCore) { i.Kind = pb.ItemKind_ITEM_KIND_SUBMIT })},
	})
	f.seq += 3 // entries that expired on the way: devices show the gap
	f.takes()
}

// TestDevicesAreToldThatAHubContradictsItself: the entry is refused, once told of for each place.
func TestDevicesAreToldThatAHubContradictsItself(t *testing.T) {
	f := newFollowing(t)
	f.takes()
	f.takes()
	at, _ := f.acme.shown(f.room)
	said := func(want int, edit func(*pb.Item, *pb.EnvelopeCore)) {
		t.Helper()
		item := f.entry(edit)
		if st := f.deliver(f.globex, item); st.Code != malformed || !strings.Contains(st.Detail, "contradicts") {
			t.Fatalf("answered %s %q", wire.CodeName(st.Code), st.Detail)
		}
		var got []*pb.ForkedBody
		page, err := f.acme.mail.Fetch(t.Context(), f.alice.id, 0, 100, 1<<20)
		must(t, err)
		for _, e := range page {
			core, err := wire.ParseCore(e.Envelope.Core)
			must(t, err)
			if core.Kind == pb.Kind_KIND_FORKED {
				var body pb.ForkedBody
				must(t, proto.Unmarshal(core.Body, &body))
				got = append(got, &body)
			}
		}
		if len(got) != want || got[want-1].Seq > f.seq+1 || len(got[want-1].Refused) != 32 {
			t.Fatalf("alice is told %v, want %d", got, want)
		}
		if now, _ := f.acme.shown(f.room); now != at {
			t.Errorf("the refused entry moved the room from %+v to %+v", at, now)
		}
	}
	last := func(i *pb.Item, _ *pb.EnvelopeCore) { i.Envelope.Seq-- }
	next := func(i *pb.Item, _ *pb.EnvelopeCore) { i.Envelope.Previous[0] ^= 1 }
	said(1, last)
	said(1, last)
	said(2, next)
	said(2, last)
	f.takes()
}

// TestAPartnersWordAboutOriginsFillsNoOthersShare: what a partner says its items come
// from is not counted against them (P7).
func TestAPartnersWordAboutOriginsFillsNoOthersShare(t *testing.T) {
	f := newFollowing(t)
	forged := func(i *pb.Item, _ *pb.EnvelopeCore) { i.Origin = bytes.Clone(f.third.org.ID[:]) }
	for range wire.MailboxPerSender {
		if st := f.deliver(f.globex, f.next(f.entry(forged))); st.Code != pb.Code_CODE_ACCEPTED {
			t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
		}
	}
	// Initech's own room with alice in it.
	rand.Read(f.room[:])
	f.globex, f.third, f.seq, f.hash = f.third, f.globex, 0, [32]byte{}
	if st := f.deliver(f.globex, f.welcome(&pb.Bundle{Welcome: []byte("to alice"), Tree: []byte("tree")}, f.alice)); st.Code != pb.Code_CODE_ACCEPTED {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	f.takes()
}

func TestAWelcomeThatIsNotForOursOrNotTheHubsIsRefused(t *testing.T) {
	f := newFollowing(t)
	_, states := f.pat.add(f.pat.state)
	_ = states
	b, _ := f.pat.add(f.pat.state, f.bob)
	var own wire.RoomID
	rand.Read(own[:])
	gone := f.acme.client("gone")
	w := world{t: t, acme: f.acme, globex: f.globex, alice: f.alice}
	request, _ := w.creation(own, f.bob)
	if st := f.acme.createRoom(t.Context(), f.alice.id, request); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	w.revoke(gone)
	with := func(edit func(i *pb.Item, c *pb.EnvelopeCore, body *pb.WelcomeBody)) func() *pb.Item {
		return func() *pb.Item {
			i := f.welcome(b, f.bob)
			c, err := wire.ParseCore(i.Envelope.Core)
			must(t, err)
			var body pb.WelcomeBody
			must(t, proto.Unmarshal(c.Body, &body))
			edit(i, c, &body)
			c.Body, err = proto.Marshal(&body)
			must(t, err)
			i.Envelope.Core, err = proto.Marshal(c)
			must(t, err)
			return i
		}
	}
	unknownDevice := pb.Code_CODE_UNKNOWN_DEVICE
	f.refuses(t, []itemCase{
		{"for nobody", unknownDevice, "", f.globex, with(func(i *pb.Item, _ *pb.EnvelopeCore, _ *pb.WelcomeBody) { i.Recipients = nil })},
		{"for a device that does not exist", unknownDevice, "", f.globex, with(func(i *pb.Item, _ *pb.EnvelopeCore, _ *pb.WelcomeBody) { i.Recipients[0].Device[0] ^= 1 })},
		{"for a device of another organization", unknownDevice, "", f.globex, with(func(i *pb.Item, _ *pb.EnvelopeCore, _ *pb.WelcomeBody) { i.Recipients[0] = deviceRef(f.pat) })},
		{"for our device under another organization", unknownDevice, "", f.globex, with(func(i *pb.Item, _ *pb.EnvelopeCore, _ *pb.WelcomeBody) {
			i.Recipients[0].Organization = f.globex.org.ID[:]
		})},
		{"for a revoked device", unknownDevice, "", f.globex, with(func(i *pb.Item, _ *pb.EnvelopeCore, _ *pb.WelcomeBody) { i.Recipients[0] = deviceRef(gone) })},
		{"for half a device", unknownDevice, "", f.globex, with(func(i *pb.Item, _ *pb.EnvelopeCore, _ *pb.WelcomeBody) {
			i.Recipients[0].Device = i.Recipients[0].Device[:7]
		})},
		{"for another hub's room", forbidden, "another organization", f.third, with(func(_ *pb.Item, _ *pb.EnvelopeCore, b *pb.WelcomeBody) { b.Hub = f.third.org.ID[:] })},
		{"for a room of ours", forbidden, "another organization", f.globex, with(func(_ *pb.Item, c *pb.EnvelopeCore, _ *pb.WelcomeBody) { c.Room = own[:] })},
		{"in another hub's name", malformed, "does not name its hub", f.globex, with(func(_ *pb.Item, _ *pb.EnvelopeCore, b *pb.WelcomeBody) { b.Hub = f.third.org.ID[:] })},
		{"without a hub", malformed, "does not name its hub", f.globex, with(func(_ *pb.Item, _ *pb.EnvelopeCore, b *pb.WelcomeBody) { b.Hub = nil })},
		{"without a tree", malformed, "does not name its hub", f.globex, with(func(_ *pb.Item, _ *pb.EnvelopeCore, b *pb.WelcomeBody) { b.TreeHash = nil })},
		{"over its limit", tooLarge, "", f.globex, with(func(_ *pb.Item, _ *pb.EnvelopeCore, b *pb.WelcomeBody) { b.Welcome = make([]byte, wire.MaxControlBody) })},
		{"without a deadline", malformed, "", f.globex, with(func(_ *pb.Item, c *pb.EnvelopeCore, _ *pb.WelcomeBody) { c.Deadline = 0 })},
		{"past its deadline", pb.Code_CODE_DEADLINE_PASSED, "", f.globex, with(func(_ *pb.Item, c *pb.EnvelopeCore, _ *pb.WelcomeBody) { c.Deadline = 1 })},
		{"with half an origin", malformed, "origin", f.globex, with(func(i *pb.Item, _ *pb.EnvelopeCore, _ *pb.WelcomeBody) { i.Origin = []byte{1} })},
	})
	if f.acme.mail.Usage(f.bob.id).Control != 1 { // from the honest room of alice's
		t.Error("bob was sent a Welcome that was refused")
	}
	other, _ := w.creation(f.room, f.bob)
	f.acme.refuses(f.room, pb.Code_CODE_EXISTS, "", func() *pb.Status { return f.acme.createRoom(t.Context(), f.alice.id, other) })
	if st := f.deliver(f.globex, f.welcome(b, f.bob)); st.Code != pb.Code_CODE_ACCEPTED {
		t.Errorf("an honest Welcome: %s %s", wire.CodeName(st.Code), st.Detail)
	}
}

// notices is a signed notice of a site as an item, with what edit changes before it
// is signed.
func (f *following) notice(by *site, edit func(*notice.Notice)) *pb.Item {
	f.t.Helper()
	said := notice.Notice{Organization: by.org.ID, Origin: f.acme.org.ID, Room: f.room, Issued: time.Now().UTC().Truncate(time.Second)}
	number, err := f.acme.numbers.of(f.alice.id)
	must(f.t, err)
	handle := f.acme.handles.seal(number, 1)
	said.Ranges = []notice.Range{{State: notice.StateAcknowledged, From: 1, To: 1, Member: f.pat.member,
		Handles: [][wire.ReturnHandleLen]byte{[wire.ReturnHandleLen]byte(handle)}}}
	edit(&said)
	text, err := notice.New(said, by.statementKey)
	must(f.t, err)
	return f.control(pb.Kind_KIND_NOTICE, said.Room, text)
}

func (f *following) control(kind pb.Kind, room wire.RoomID, body string) *pb.Item {
	return &pb.Item{Kind: pb.ItemKind_ITEM_KIND_CONTROL, Envelope: &pb.Envelope{Core: encoded(f.t, &pb.EnvelopeCore{Version: 1,
		Class: pb.Class_CLASS_CONTROL, Kind: kind, Room: room[:], Deadline: time.Now().Add(time.Hour).Unix(), Body: []byte(body)})}}
}

func TestAForgedNoticeIsRefused(t *testing.T) {
	f := newFollowing(t)
	honest := func(*notice.Notice) {}
	var own wire.RoomID
	rand.Read(own[:])
	w := world{t: t, acme: f.acme, globex: f.globex, alice: f.alice}
	request, _ := w.creation(own, f.bob)
	if st := f.acme.createRoom(t.Context(), f.alice.id, request); st.Code != sequenced {
		t.Fatalf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	stranger := &site{Node: &Node{org: &identity.Organization{ID: wire.OrganizationID{5}}, statementKey: f.third.statementKey}}
	unsigned := func(by *site, as *site) func() *pb.Item {
		return func() *pb.Item {
			key := by.statementKey
			key.Owner = as.statementKey.Owner
			text, err := notice.New(notice.Notice{Organization: as.org.ID, Origin: f.acme.org.ID, Room: f.room, Issued: time.Now().UTC().Truncate(time.Second),
				Ranges: []notice.Range{{State: notice.StateAcknowledged, From: 1, To: 1, Member: f.pat.member}}}, key)
			must(t, err)
			return f.control(pb.Kind_KIND_NOTICE, f.room, text)
		}
	}
	f.refuses(t, []itemCase{
		{"signed by another", malformed, "does not stand", f.globex, unsigned(f.third, f.globex)},
		{"of an organization that nobody knows", pb.Code_CODE_UNKNOWN_ORGANIZATION, "", f.globex, func() *pb.Item { return f.notice(stranger, honest) }},
		{"in our own name", forbidden, "of our own", f.globex, func() *pb.Item { return f.notice(f.acme, honest) }},
		{"of another organization, by who is not the room's hub", forbidden, "not from its room's hub", f.third, func() *pb.Item { return f.notice(f.globex, honest) }},
		{"in the envelope of another room", malformed, "another room", f.globex, func() *pb.Item {
			i := f.notice(f.globex, honest)
			core, err := wire.ParseCore(i.Envelope.Core)
			must(t, err)
			return f.control(pb.Kind_KIND_NOTICE, own, string(core.Body))
		}},
		{"for another organization, in a room that is not ordered here", unknownRoom, "", f.globex, func() *pb.Item {
			return f.notice(f.globex, func(n *notice.Notice) { n.Origin = f.third.org.ID })
		}},
		{"for another organization, by who is not in the room", forbidden, "does not pass on", f.third, func() *pb.Item {
			return f.notice(f.third, func(n *notice.Notice) { n.Origin, n.Room = f.globex.org.ID, own })
		}},
		{"for an organization that is not in the room", forbidden, "does not pass on", f.globex, func() *pb.Item {
			return f.notice(f.globex, func(n *notice.Notice) { n.Origin, n.Room = f.third.org.ID, own })
		}},
		{"for an organization that does not exist", forbidden, "does not pass on", f.globex, func() *pb.Item {
			return f.notice(f.globex, func(n *notice.Notice) { n.Origin, n.Room = wire.OrganizationID{8}, own })
		}},
		{"that is no notice", malformed, "does not parse", f.globex, func() *pb.Item { return f.control(pb.Kind_KIND_NOTICE, f.room, "hello") }},
		{"a notice as a result", pb.Code_CODE_UNSUPPORTED, "", f.globex, func() *pb.Item { return f.control(pb.Kind_KIND_RESULT, f.room, "hello") }},
		{"a revocation of another's device", unknownRoom, "", f.globex, func() *pb.Item { return f.control(pb.Kind_KIND_REVOCATION, f.room, "hello") }},
	})
	// About a message of nobody of ours: taken, and given to nobody.
	before := f.acme.mail.Totals()
	if st := f.deliver(f.globex, f.notice(f.globex, func(n *notice.Notice) { n.Ranges[0].Handles[0][0] ^= 1 })); wire.ClassOf(st.Code) != wire.Success {
		t.Errorf("%s %s", wire.CodeName(st.Code), st.Detail)
	}
	if got := f.acme.mail.Totals(); got != before {
		t.Errorf("a notice with a handle that is not ours went to somebody: %+v to %+v", before, got)
	}
	if st := f.deliver(f.globex, f.notice(f.globex, honest)); wire.ClassOf(st.Code) != wire.Success || f.acme.mail.Usage(f.alice.id).Control != 2 {
		t.Errorf("an honest notice: %s %s, alice has %+v", wire.CodeName(st.Code), st.Detail, f.acme.mail.Usage(f.alice.id))
	}
	if f.acme.mail.Usage(f.bob.id).Control != 1 { // his Welcome
		t.Error("bob has a notice about alice's message")
	}
}
