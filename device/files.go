package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// FileInfo is what people see of a file. Its name and type are safe to print and to use.
type FileInfo struct {
	Name    string    `json:"name"`
	Type    string    `json:"type"`
	Size    uint64    `json:"size"`
	Expires time.Time `json:"expires"` // no later: then nobody has its key any more
}

func (a *attachment) info() *FileInfo {
	if a == nil {
		return nil
	}
	return &FileInfo{a.Name, a.Type, a.Size, time.Unix(a.Expires, 0)}
}

// FileProgress is a step of a file on its way. Done counts bytes of Size.
type FileProgress struct {
	Event  string `json:"event"` // hashing, uploading, downloading, waiting, saved
	Name   string `json:"name"`
	Done   uint64 `json:"done"`
	Size   uint64 `json:"size"`
	Path   string `json:"path,omitempty"`   // where it was saved
	Reason string `json:"reason,omitempty"` // why it waits: it is tried again
}

// FileEntry is a file that this device can still fetch.
type FileEntry struct {
	ID   string    `json:"id"`   // of its message
	From string    `json:"from"` // own files: who sends
	To   string    `json:"to,omitempty"`
	Room string    `json:"room"`
	At   time.Time `json:"at"`
	FileInfo
}

// Files lists the files of received and sent messages that have not ended, oldest first.
func (d *Device) Files() ([]FileEntry, error) {
	var out []FileEntry
	for _, prefix := range []string{"m/", "n/"} {
		got, err := list(d, prefix, func(t *txn, s *Shown) error { return t.withText(s) })
		if err != nil {
			return nil, err
		}
		for _, s := range got {
			if s.File != nil && s.Event == "message" {
				out = append(out, FileEntry{ID: s.ID, From: s.From, Room: s.Room, At: s.At, FileInfo: *s.File})
			}
		}
	}
	sent, err := d.Sent()
	for _, s := range sent {
		if s.File != nil && !s.Deleted {
			out = append(out, FileEntry{ID: s.ID, From: d.Address().String(), To: s.To, Room: s.Room, At: s.At, FileInfo: *s.File})
		}
	}
	slices.SortStableFunc(out, func(a, b FileEntry) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	return out, err
}

// attachmentOf is the file of a message, with its key, as long as it has not ended.
func (d *Device) attachmentOf(id MessageID) (a *attachment, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.vault.view(func(t *txn) error {
		x, ok, err := t.expiringText(id)
		if ok {
			a = x.File
		}
		return err
	})
	if err == nil && a == nil {
		err = wire.Refuse(pb.Code_CODE_NOT_FOUND, "that message has no file, or it has ended")
	}
	return a, err
}

// uploadOf is the upload behind a file of ours, nil when there is none.
func (d *Device) uploadOf(id MessageID) []byte {
	a, err := d.attachmentOf(id)
	if err != nil {
		return nil
	}
	return a.Upload
}

func (d *Device) dropUpload(ctx context.Context, upload []byte) error {
	_, err := call(ctx, d.home.Device.DropUpload, &pb.DropUploadRequest{Upload: upload})
	return err
}

// filePolicy is what the organization and its agreements allow between us and others.
type filePolicy struct {
	max   uint64
	by    string // whose limit it is
	types []string
}

func (d *Device) filePolicy(ctx context.Context, organizations ...wire.OrganizationID) (p filePolicy, err error) {
	p.max, p.by = wire.MaxFile, "by every organization"
	for i, org := range append([]wire.OrganizationID{d.account.Organization}, organizations...) {
		if i > 0 && org == d.account.Organization {
			continue
		}
		a, err := call(ctx, d.home.Device.FilePolicy, &pb.FilePolicyRequest{Partner: org[:]})
		if err != nil {
			return p, err
		}
		if p.types = a.Types; a.MaxSize < p.max {
			p.max, p.by = a.MaxSize, "by your organization"
			if i > 0 {
				p.by = "by the agreement with " + d.pinnedName(org)
			}
		}
	}
	return p, nil
}

// check refuses a file that the policy does not allow, before a byte of it moves.
func (p filePolicy) check(name, media string, size uint64) error {
	switch {
	case p.max == 0:
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "no files are allowed %s", p.by)
	case sealedSize(size) > p.max:
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "%s is a file of %s, %s encrypted: at most %s are allowed %s", name, sizeText(size, true), sizeText(sealedSize(size), true), sizeText(p.max, false), p.by)
	case !wire.FileAllowed(p.types, name, media):
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "your organization allows no files of type %s", media)
	}
	return nil
}

// sizeText is a size for people in one decimal, never smaller, or never larger, than it is.
func sizeText(n uint64, up bool) string {
	unit, name := uint64(1<<20), "MiB"
	if n < unit {
		unit, name = 1<<10, "KiB"
	}
	tenths := n * 10 / unit
	if up && n*10%unit > 0 {
		tenths++
	}
	return fmt.Sprintf("%d.%d %s", tenths/10, tenths%10, name)
}

// How a call about a chunk is repeated: as long as the node says that it may succeed
// later, and at most so long without a success.
const (
	chunkTimeout  = 45 * time.Second
	chunkPatience = 90 * time.Second
	chunkPause    = 250 * time.Millisecond
)

// waits tells of a call that is repeated.
func (a *attachment) waits(step func(FileProgress)) func(error) {
	return func(why error) {
		step(FileProgress{Event: "waiting", Name: a.Name, Size: a.Size, Reason: why.Error()})
	}
}

// inTurn lets several goroutines tell steps.
func inTurn(step func(FileProgress)) func(FileProgress) {
	var mu sync.Mutex
	return func(p FileProgress) {
		mu.Lock()
		defer mu.Unlock()
		step(p)
	}
}

// persist makes a call until it succeeds or shall not be repeated; waits is told why it is.
func persist[A any](ctx context.Context, waits func(error), f func(context.Context) (*A, error)) (*A, error) {
	until := time.Now().Add(chunkPatience)
	for pause := chunkPause; ; pause = min(2*pause, 5*time.Second) {
		one, cancel := context.WithTimeout(ctx, chunkTimeout)
		a, err := f(one)
		cancel()
		var st *wire.StatusError
		switch {
		case err == nil, ctx.Err() != nil, !temporary(err), time.Now().After(until):
			return a, err
		case errors.As(err, &st) && st.Status.Code == pb.Code_CODE_FULL:
			return a, err // waiting makes no room
		}
		waits(err)
		wait := pause
		if st != nil && st.Status.RetryMs > 0 {
			wait = min(time.Duration(st.Status.RetryMs)*time.Millisecond, chunkPatience)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}
