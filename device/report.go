package device

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// A report of abuse proves from itself alone which device has said what, in which room and
// epoch: neither the reporter nor any node can make one up, for none of them has the
// sender's key. What the room's hub adds, its frank, says where and when it went through;
// only the hub can check that (docs/protocol.md 7.17).

const (
	reportType  = "entente.im/report/v1"
	reportLabel = "entente.im/report/v1\n"
	// maxReason bounds what a reporter writes, in bytes.
	maxReason = 2 << 10
)

// ErrReport says that a report does not prove what it says.
var ErrReport = errors.New("device: the report proves nothing")

// reportNote is the file; JSON, []byte as base64.
type reportNote struct {
	Type         string `json:"type"`
	Organization string `json:"organization"` // of the sender
	Device       string `json:"device"`
	Chain        []byte `json:"chain"`   // MemberChain of the sender, when it was received
	Context      []byte `json:"context"` // GroupContext
	Leaf         uint32 `json:"leaf"`
	AAD          []byte `json:"aad"`
	Data         []byte `json:"data"` // MIMI content
	Signature    []byte `json:"signature"`
	Seq          uint64 `json:"seq"`         // by the hub's word,
	AcceptedMs   int64  `json:"accepted_ms"` // as is this,
	Frank        []byte `json:"frank"`       // and this is its frank of both

	Reason   string `json:"reason"`
	AtUnix   int64  `json:"at"` // when it was reported
	Reporter struct {
		Organization string `json:"organization"`
		Device       string `json:"device"`
		Chain        []byte `json:"chain"`
	} `json:"reporter"`
	Signed []byte `json:"signed,omitempty"` // by the reporter's device, over all the others
}

// digest is what the reporter signs.
func (n reportNote) digest() ([]byte, error) {
	n.Signed = nil
	b, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("device: a report: %w", err)
	}
	sum := sha256.Sum256(b)
	return append([]byte(reportLabel), sum[:]...), nil
}

// encodes reports whether b is the note as it is encoded here, but for white space: no
// field twice, in other letters or unknown, so that nobody reads in it what was not verified.
func (n reportNote) encodes(b []byte) bool {
	var got bytes.Buffer
	want, err := json.Marshal(n)
	return err == nil && json.Compact(&got, b) == nil && bytes.Equal(got.Bytes(), want)
}

// Reported is what a report proves, and what it says beside that.
type Reported struct {
	// Proved by the sender's signature and certificates.
	Sender       string    `json:"sender"`       // address, as the organization's directory had it
	Organization string    `json:"organization"` // ID
	Member       string    `json:"member"`
	Device       string    `json:"device"`
	Hub          string    `json:"hub"` // organization ID
	Room         string    `json:"room"`
	Generation   uint32    `json:"generation"`
	Epoch        uint64    `json:"epoch"`
	ID           string    `json:"id"` // of the message
	Text         string    `json:"text"`
	File         *FileInfo `json:"file,omitempty"`
	// The hub's word, when CheckFrank holds.
	Seq      uint64    `json:"seq"`
	Accepted time.Time `json:"accepted"`
	Tag      []byte    `json:"-"` // nil: the sender has put none in, so no hub can say anything of it
	Frank    []byte    `json:"-"`
	// The reporter's word, which its device has signed.
	Reporter             string    `json:"reporter"`
	ReporterOrganization string    `json:"reporter_organization"`
	At                   time.Time `json:"at"`
	Reason               string    `json:"reason,omitempty"`
}

// Report makes a report of a message that this device was sent. After the message has
// ended, was deleted or burned there is nothing left to prove: CODE_NOT_FOUND.
func (d *Device) Report(ctx context.Context, id MessageID, reason string) ([]byte, error) {
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a reason of at most %d bytes of text", maxReason)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	own, err := call(ctx, d.home.Device.Chain, &pb.ChainRequest{Organization: d.account.Organization[:], Member: d.account.Member[:]})
	if err != nil {
		return nil, err
	}
	own.Chain.Currency = nil
	n := reportNote{Type: reportType, Reason: reason, AtUnix: d.now().Unix()}
	n.Reporter.Organization, n.Reporter.Device = d.account.Organization.String(), d.ID().String()
	if n.Reporter.Chain, err = proto.Marshal(own.Chain); err != nil {
		return nil, fmt.Errorf("device: a report: %w", err)
	}
	if err := d.vault.view(func(t *txn) error { return t.report(id, &n) }); err != nil {
		return nil, err
	}
	digest, err := n.digest()
	if err != nil {
		return nil, err
	}
	n.Signed = ed25519.Sign(d.account.DeviceKey, digest)
	out, err := json.MarshalIndent(n, "", " ")
	if err != nil {
		return nil, fmt.Errorf("device: a report: %w", err)
	}
	if out = append(out, '\n'); len(out) > wire.MaxReport {
		return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "the report has %d bytes: at most %d are taken", len(out), wire.MaxReport)
	}
	_, err = VerifyReport(out, d.now()) // nobody is to be handed what proves nothing
	return out, err
}

// report fills in what was kept of a message.
func (t *txn) report(id MessageID, n *reportNote) error {
	e, err := t.evidence(id)
	if errors.Is(err, errNoRecord) {
		return wire.Refuse(pb.Code_CODE_NOT_FOUND, "nothing is kept of this message that proves it: it has ended, was deleted, is your own, or came before devices kept such proof")
	}
	if err != nil {
		return err
	}
	if n.Context, err = t.history(contextKey(e.Context)); err != nil {
		return err
	}
	if n.Chain, err = t.history(contextKey(e.Chain)); err != nil {
		return err
	}
	n.Organization, n.Device, n.Leaf = e.Organization.String(), e.Device.String(), e.Leaf
	n.AAD, n.Data, n.Signature = e.AAD, e.Data, e.Signature
	n.Seq, n.AcceptedMs, n.Frank = e.Seq, e.AcceptedMs, e.Frank
	return nil
}

// SubmitReport leaves a report for the administrator of the own organization.
func (d *Device) SubmitReport(ctx context.Context, report []byte) (id uint64, until time.Time, err error) {
	a, err := call(ctx, d.home.Device.Report, &pb.ReportRequest{Report: report})
	if err != nil {
		return 0, until, err
	}
	return a.Id, time.Unix(a.ExpiresUnix, 0), nil
}

// VerifyReport says what a report proves; ErrReport, with why, when it does not. It asks
// nobody: whom the IDs of the organizations stand for is for the reader to know.
func VerifyReport(b []byte, now time.Time) (*Reported, error) {
	var n reportNote
	if len(b) > wire.MaxReport {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrReport, len(b), wire.MaxReport)
	}
	if err := json.Unmarshal(b, &n); err != nil || n.Type != reportType || !n.encodes(b) {
		return nil, fmt.Errorf("%w: no report, or one of another version", ErrReport)
	}
	sender, device, err := certified(n.Organization, n.Device, n.Chain, now)
	if err != nil {
		return nil, fmt.Errorf("%w: the sender: %w", ErrReport, err)
	}
	reporter, key, err := certified(n.Reporter.Organization, n.Reporter.Device, n.Reporter.Chain, now)
	if err != nil {
		return nil, fmt.Errorf("%w: the reporter: %w", ErrReport, err)
	}
	digest, err := n.digest()
	if err != nil || len(n.Signed) != ed25519.SignatureSize || !ed25519.Verify(key[:], digest, n.Signed) {
		return nil, fmt.Errorf("%w: it was changed after its reporter had signed it", ErrReport)
	}
	out := &Reported{Sender: sender.Address().String(), Organization: sender.Organization.ID.String(), Member: sender.ID.String(), Device: device.String(),
		Seq: n.Seq, Accepted: time.UnixMilli(n.AcceptedMs), Frank: n.Frank,
		Reporter: reporter.Address().String(), ReporterOrganization: reporter.Organization.ID.String(), At: time.Unix(n.AtUnix, 0), Reason: n.Reason}
	if err := out.said(&n, sender, device); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	return out, nil
}

// said verifies the message's signature and reads what it covers.
func (out *Reported) said(n *reportNote, sender *identity.Member, device wire.DeviceID) error {
	e := evidence{Leaf: n.Leaf, AAD: n.AAD, Data: n.Data, Signature: n.Signature}
	g, err := e.signed(n.Context).Verify(device[:])
	if err != nil {
		return errors.New("the sender's device has not signed this in this room")
	}
	rules, err := policy.Of(g.Extensions)
	if err != nil {
		return err
	}
	room, generation, err := wire.ParseGroupID(g.GroupID)
	if err != nil || !bytes.Equal(rules.Room.ID, room[:]) {
		return errors.New("the group is no room")
	}
	hub, err := wire.Bytes32(rules.Room.Hub)
	if err != nil {
		return err
	}
	m, err := parseContent(wire.MemberURI(sender.Organization.ID, sender.ID), wire.RoomURI(hub, room), n.Data)
	if err != nil {
		return err
	}
	if err := checkTag(n.AAD, n.Data, m.salt); err != nil {
		return err
	}
	out.Hub, out.Room, out.Generation, out.Epoch = wire.OrganizationID(hub).String(), room.String(), generation, g.Epoch
	out.ID, out.Text, out.File, out.Tag = m.ID.String(), m.Text, m.File.info(), wire.FrankTag(n.AAD)
	return nil
}

// certified verifies a chain and that it names a device.
func certified(org, device string, chain []byte, now time.Time) (*identity.Member, wire.DeviceID, error) {
	var none wire.DeviceID
	o, err := wire.ParseOrganizationID(org)
	if err != nil {
		return nil, none, err
	}
	id, err := wire.ParseDeviceID(device)
	if err != nil {
		return nil, none, err
	}
	var c pb.MemberChain
	if err := proto.Unmarshal(chain, &c); err != nil {
		return nil, none, errors.New("certificates that do not parse")
	}
	m, err := identity.VerifyChain(&c, o, now)
	if err != nil {
		return nil, none, err
	}
	if m.Devices[id] == nil {
		return nil, none, errors.New("a device that the certificates do not name")
	}
	return m, id, nil
}

// FrankRequest is what to ask the hub about; nil when there is nothing that it could know.
func (r *Reported) FrankRequest() *pb.CheckFrankRequest {
	room, err := wire.ParseRoomID(r.Room)
	org, err2 := wire.ParseOrganizationID(r.Organization)
	device, err3 := wire.ParseDeviceID(r.Device)
	if errors.Join(err, err2, err3) != nil || r.Tag == nil || len(r.Frank) == 0 {
		return nil
	}
	return &pb.CheckFrankRequest{Organization: org[:], Device: device[:], Room: room[:], Generation: r.Generation, Epoch: r.Epoch, Seq: r.Seq, AcceptedMs: r.Accepted.UnixMilli(), Tag: r.Tag, Frank: r.Frank}
}
