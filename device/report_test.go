package device

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// lastMessage is the newest text that a device was shown.
func lastMessage(t *testing.T, d *Device) MessageID {
	t.Helper()
	list, err := d.History()
	must(t, err)
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Event == "message" {
			id, err := ParseMessageID(list[i].ID)
			must(t, err)
			return id
		}
	}
	t.Fatal("no message")
	return MessageID{}
}

// reported has alice write to bob, and bob report it.
func reported(t *testing.T, p *pair, text string) (id MessageID, report []byte) {
	t.Helper()
	send(t, p.alice, p.bob.Address(), text, SendOptions{})
	receiveUntil(t, p.bob, text, func(list []Shown) bool { return len(list) > 0 && list[len(list)-1].Text == text })
	id = lastMessage(t, p.bob)
	report, err := p.bob.Report(t.Context(), id, "threatens me")
	must(t, err)
	return id, report
}

func TestAReportProvesWhoHasWrittenWhat(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	id, report := reported(t, p, "I know where you live")
	room, _ := onlyRoom(t, p.bob)
	r, err := VerifyReport(report, time.Now())
	must(t, err)
	if r.Sender != "alice@acme.example" || r.Text != "I know where you live" || r.Device != p.alice.ID().String() || r.Room != room.String() || r.ID != id.String() ||
		r.Reporter != "bob@globex.example" || r.Reason != "threatens me" || r.Hub != p.alice.account.Organization.String() || time.Since(r.Accepted) > time.Hour || r.Seq == 0 {
		t.Errorf("%+v", r)
	}
	if q := r.FrankRequest(); q == nil || len(q.Frank) != 32 {
		t.Error("the hub has not franked it")
	}
	// The administrator gets it, and who has written it is told nothing.
	n, until, err := p.bob.SubmitReport(t.Context(), report)
	must(t, err)
	if n == 0 || time.Until(until) < 29*24*time.Hour {
		t.Errorf("report %d until %s", n, until)
	}
	// An edit is proved as it is now; what was before is gone with it.
	send(t, p.alice, p.bob.Address(), "I know where you work", SendOptions{Action: ActionEdit, About: id})
	receiveUntil(t, p.bob, "the edit", func(list []Shown) bool { return len(list) > 0 && list[len(list)-1].Event == "edited" })
	report, err = p.bob.Report(t.Context(), id, "")
	must(t, err)
	if r, err = VerifyReport(report, time.Now()); err != nil || r.Text != "I know where you work" {
		t.Errorf("after an edit: %+v, %v", r, err)
	}
}

func TestAReportIsMadeOfWhatIsThereAndNothingElse(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	none := func(d *Device, id MessageID, what string) {
		t.Helper()
		var st *wire.StatusError
		if _, err := d.Report(t.Context(), id, ""); !errors.As(err, &st) || st.Status.Code != pb.Code_CODE_NOT_FOUND {
			t.Errorf("%s: %v", what, err)
		}
	}
	id, _ := reported(t, p, "a burden")
	none(p.alice, id, "one's own")
	send(t, p.alice, p.bob.Address(), "", SendOptions{Action: ActionDelete, About: id})
	receiveUntil(t, p.bob, "the deletion", func(list []Shown) bool { return len(list) > 0 && list[len(list)-1].Event == "deleted" })
	none(p.bob, id, "what its sender has deleted")
	send(t, p.alice, p.bob.Address(), "burns", SendOptions{Burn: 2 * time.Second})
	receiveUntil(t, p.bob, "burns", func(list []Shown) bool { return len(list) > 0 && list[len(list)-1].Text == "burns" })
	burning := lastMessage(t, p.bob)
	_, err := p.bob.Report(t.Context(), burning, "")
	must(t, err)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		must(t, p.bob.Sweep())
		if _, err := p.bob.Report(t.Context(), burning, ""); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not burn")
		}
	}
	none(p.bob, burning, "what has burned")
	none(p.bob, MessageID{messageIDAlgorithm}, "what never was")
	if _, err := p.bob.Report(t.Context(), id, strings.Repeat("x", maxReason+1)); err == nil {
		t.Error("a reason without end is taken")
	}
}

func TestAReportThatWasAlteredOrMadeUpProvesNothing(t *testing.T) {
	p := newPair(t)
	talk(t, p, 1)
	_, report := reported(t, p, "lunch at noon?")
	carol := p.globex.device("carol")
	forged := func(change func(*reportNote)) []byte {
		var n reportNote
		must(t, json.Unmarshal(report, &n))
		change(&n)
		digest, err := n.digest()
		must(t, err)
		n.Signed = ed25519.Sign(p.bob.account.DeviceKey, digest) // the reporter is the liar
		b, err := json.Marshal(n)
		must(t, err)
		return b
	}
	if _, err := VerifyReport(forged(func(*reportNote) {}), time.Now()); err != nil {
		t.Fatalf("nothing was changed: %v", err)
	}
	madeUp, _, err := newContent(wire.MemberURI(p.alice.account.Organization, p.alice.account.Member), "mimi://x", message{Text: "I will kill you"})
	must(t, err)
	tag, err := tagOf(madeUp)
	must(t, err)
	bobs, err := proto.Marshal(chainOf(t, p.bob))
	must(t, err)
	for what, b := range map[string][]byte{
		"another text":        forged(func(n *reportNote) { n.Data = bytes.Replace(n.Data, []byte("noon"), []byte("dawn"), 1) }),
		"a text of one's own": forged(func(n *reportNote) { n.Data, n.AAD = madeUp, tag }),
		"another tag":         forged(func(n *reportNote) { n.AAD = tag }),
		"no tag":              forged(func(n *reportNote) { n.AAD = nil }),
		"another room":        forged(func(n *reportNote) { n.Context = bytes.Replace(n.Context, n.Context[6:12], []byte("abcdef"), 1) }),
		"another leaf":        forged(func(n *reportNote) { n.Leaf++ }),
		"a signature":         forged(func(n *reportNote) { n.Signature[3] ^= 1 }),
		"one's own signature": forged(func(n *reportNote) {
			n.Device, n.Organization, n.Chain = p.bob.ID().String(), p.bob.account.Organization.String(), bobs
		}),
		"another device":       forged(func(n *reportNote) { n.Device = carol.ID().String() }),
		"another organization": forged(func(n *reportNote) { n.Organization = p.bob.account.Organization.String() }),
		"no certificates":      forged(func(n *reportNote) { n.Chain = nil }),
		"a reporter's name":    forged(func(n *reportNote) { n.Reporter.Device = carol.ID().String() }),
		"a changed reason":     bytes.Replace(report, []byte("threatens"), []byte("flatters "), 1),
		"a changed time":       bytes.Replace(report, []byte(`"at": 1`), []byte(`"at": 2`), 1),
		"two in one":           append(bytes.Clone(report), report...),
		"a field more":         bytes.Replace(report, []byte(`"type"`), []byte(`"more": 1, "type"`), 1),
		"a bracket more":       append(bytes.Clone(report), '}'),
		"a reason twice":       bytes.Replace(report, []byte(`"reason"`), []byte(`"reason": "harmless", "reason"`), 1),
		"a reason in capitals": bytes.Replace(report, []byte(`"reason"`), []byte(`"REASON"`), 1),
		"a reason left out":    bytes.Replace(report, []byte(`"reason": "threatens me",`), nil, 1),
		"garbage":              []byte("entente"),
		"nothing":              nil,
		"too much":             append(bytes.Clone(report), bytes.Repeat([]byte(" "), wire.MaxReport)...),
	} {
		if r, err := VerifyReport(b, time.Now()); !errors.Is(err, ErrReport) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

func TestTimeAndPlaceAreTheHubsWord(t *testing.T) {
	key := sha256.Sum256([]byte("the hub's"))
	f := wire.Franked{Room: wire.RoomID{1}, Generation: 2, Epoch: 3, Seq: 4, AcceptedMs: 5, Tag: tagContent([]byte("data"), make([]byte, 16))}
	frank := f.Frank(key[:])
	for what, change := range map[string]func(*wire.Franked){
		"room": func(f *wire.Franked) { f.Room[1] = 1 }, "generation": func(f *wire.Franked) { f.Generation++ }, "epoch": func(f *wire.Franked) { f.Epoch++ },
		"place": func(f *wire.Franked) { f.Seq++ }, "time": func(f *wire.Franked) { f.AcceptedMs++ }, "sender's organization": func(f *wire.Franked) { f.From[0]++ }, "sender": func(f *wire.Franked) { f.Device[31]++ }, "tag": func(f *wire.Franked) { f.Tag = tagContent([]byte("other"), make([]byte, 16)) },
	} {
		g := f
		change(&g)
		if bytes.Equal(g.Frank(key[:]), frank) {
			t.Errorf("another %s has the same frank", what)
		}
	}
	if other := sha256.Sum256([]byte("another hub's")); bytes.Equal(f.Frank(other[:]), frank) {
		t.Error("another hub makes the same frank")
	}
}

func TestAMessageWithTheTagOfAnotherIsNotTaken(t *testing.T) {
	data, id, err := newContent("mimi://a", "mimi://b", message{Text: "one"})
	must(t, err)
	other, _, err := newContent("mimi://a", "mimi://b", message{Text: "two"})
	must(t, err)
	m, err := parseContent("mimi://a", "mimi://b", data)
	must(t, err)
	tag, err := tagOf(data)
	must(t, err)
	wrong, err := tagOf(other)
	must(t, err)
	if m.ID != id || checkTag(tag, data, m.salt) != nil || checkTag(nil, data, m.salt) != nil {
		t.Error("an honest message is refused")
	}
	for what, aad := range map[string][]byte{"of another": wrong, "half": tag[:20], "more": append(bytes.Clone(tag), 0), "another version": append([]byte{2}, tag[1:]...)} {
		if err := checkTag(aad, data, m.salt); !errors.Is(err, errTag) {
			t.Errorf("the tag %s: %v", what, err)
		}
	}
}
