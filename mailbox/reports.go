package mailbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// reportsQueue holds what members have reported to their administrator. Reports show
// texts, so they lie like envelopes: under a key of their own that goes with the
// deadline or when they are dropped. Boxes are numbered from 1 upwards.
const reportsQueue = ^store.QueueID(0)

// Report is a member's report, which this node keeps and does not read.
type Report struct {
	ID       uint64
	Reporter wire.MemberID
	At       time.Time
	Expires  time.Time
	Body     []byte // nil in lists
}

// PutReport keeps a report for wire.ReportLife. Full for the member or the node: CODE_FULL.
func (m *Mailbox) PutReport(ctx context.Context, reporter wire.MemberID, body []byte) (uint64, error) {
	m.reports.Lock()
	defer m.reports.Unlock()
	list, err := m.Reports()
	if err != nil {
		return 0, err
	}
	own := 0
	for _, r := range list {
		if r.Reporter == reporter {
			own++
		}
	}
	switch {
	case len(body) == 0 || len(body) > wire.MaxReport:
		return 0, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a report of %d bytes: at most %d are taken", len(body), wire.MaxReport)
	case own >= wire.ReportsPerMember:
		return 0, wire.Refuse(pb.Code_CODE_FULL, "%d of your reports wait for your administrator", own)
	case len(list) >= wire.ReportsPerNode:
		return 0, wire.Refuse(pb.Code_CODE_FULL, "too many reports wait for the administrator")
	}
	now := m.clock.Now()
	var b store.Batch
	b.Deposit(store.Deposit{Body: body, Meta: binary.BigEndian.AppendUint64(reporter[:], uint64(now.Unix())),
		Deadline: now.Add(wire.ReportLife), Queues: []store.QueueID{reportsQueue}})
	done, err := m.store.Commit(ctx, &b)
	if err != nil {
		return 0, fmt.Errorf("mailbox: keeping a report: %w", err)
	}
	return uint64(done.LSNs[0]), nil
}

// Reports lists what waits for the administrator, the oldest first.
func (m *Mailbox) Reports() ([]Report, error) {
	items, err := m.store.Peek(reportsQueue, 0, wire.ReportsPerNode)
	if err != nil {
		return nil, fmt.Errorf("mailbox: the reports: %w", err)
	}
	var out []Report
	for _, it := range items {
		if r, ok := reportOf(it); ok {
			out = append(out, r)
		}
	}
	return out, nil
}

// Report returns one with its body; store.ErrNotFound when it is not there (any more).
func (m *Mailbox) Report(id uint64) (Report, error) {
	if id == 0 {
		return Report{}, store.ErrNotFound
	}
	items, err := m.store.FetchThese(reportsQueue, []store.LSN{store.LSN(id)})
	if err != nil {
		return Report{}, fmt.Errorf("mailbox: a report: %w", err)
	}
	if len(items) == 1 {
		if items[0].Err != nil {
			return Report{}, fmt.Errorf("mailbox: a report: %w", items[0].Err)
		}
		if r, ok := reportOf(items[0]); ok {
			r.Body = items[0].Body
			return r, nil
		}
	}
	return Report{}, store.ErrNotFound
}

// DropReport destroys one; store.ErrNotFound when it is not there.
func (m *Mailbox) DropReport(ctx context.Context, id uint64) error {
	if _, err := m.Report(id); errors.Is(err, store.ErrNotFound) {
		return err
	}
	var b store.Batch
	b.Ack(reportsQueue, store.LSN(id))
	_, err := m.store.Commit(ctx, &b)
	return err
}

func reportOf(it store.Item) (Report, bool) {
	if it.Err != nil || len(it.Meta) != 40 {
		return Report{}, false
	}
	return Report{ID: uint64(it.LSN), Reporter: wire.MemberID(it.Meta[:32]), At: time.Unix(int64(binary.BigEndian.Uint64(it.Meta[32:])), 0), Expires: it.Deadline}, true
}
