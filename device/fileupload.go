package device

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"golang.org/x/crypto/chacha20poly1305"
)

// upload is a file on its way to the home node; state record "u/" ‖ SHA-256 of its path.
// It goes in the transaction that stores the message. Its key is for one content: another
// content under the same path ends the upload.
type upload struct {
	File  attachment
	MTime int64 // ns
	Want  time.Duration
	Until int64
}

const uploadPrefix = "u/"

func uploadKey(path string) []byte {
	h := sha256.Sum256([]byte(path))
	return append([]byte(uploadPrefix), h[:]...)
}

// ErrFileChanged says that a file is not what its upload began with; the upload is
// given up, and the next one sends what the file is now.
var ErrFileChanged = errors.New("device: the file has changed since its upload began: send it again")

// SendFile encrypts a file, uploads it to the home node, and sends a message with its key
// to a member, or to a room when the address is zero. text is its caption. An upload that
// was interrupted goes on where it was when the same file is sent again.
func (s *Sender) SendFile(ctx context.Context, to wire.Address, room wire.RoomID, path, text string, o SendOptions, step func(FileProgress), report func(Progress)) error {
	o, err := o.orDefault()
	if err != nil {
		return err
	}
	if _, err := o.expiry(s.l.d.now()); err != nil {
		return err
	}
	if len(text) > maxCaption {
		return wire.Refuse(pb.Code_CODE_TOO_LARGE, "a caption of %d bytes: at most %d are allowed", len(text), maxCaption)
	}
	d := s.l.d
	orgs, err := d.organizationsOf(ctx, to, room)
	if err != nil {
		return err
	}
	policy, err := d.filePolicy(ctx, orgs...)
	if err != nil {
		return err
	}
	if o.file, o.uploading, err = d.upload(ctx, path, o, policy, step); err != nil {
		return err
	}
	failpoint("file-uploaded")
	var id MessageID
	if to == (wire.Address{}) {
		id, err = d.queueRoom(room, text, o)
	} else {
		id, err = d.queue(ctx, to, text, o)
	}
	if err != nil {
		return err
	}
	return s.l.await(ctx, id, o.Wait, report)
}

const maxCaption = 4 << 10

// organizationsOf lists whose members a message goes to.
func (d *Device) organizationsOf(ctx context.Context, to wire.Address, room wire.RoomID) (out []wire.OrganizationID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if to != (wire.Address{}) {
		m, err := d.resolve(ctx, to)
		if err != nil {
			return nil, err
		}
		return []wire.OrganizationID{m.Organization.ID}, nil
	}
	r := d.rooms[room]
	if r == nil || r.state == nil || r.Ended {
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ROOM, "this device is not in that room")
	}
	for _, k := range r.people() {
		if !slices.Contains(out, k.Org) {
			out = append(out, k.Org)
		}
	}
	return out, nil
}

// upload brings a file to the home node and returns what a message says of it.
func (d *Device) upload(ctx context.Context, path string, o SendOptions, policy filePolicy, step func(FileProgress)) (*attachment, []byte, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, fmt.Errorf("device: %w", err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // opening a pipe would wait
		return nil, nil, wire.Refuse(pb.Code_CODE_MALFORMED, "%s is not a regular file", info.Name())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("device: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("device: %w", err)
	}
	media := mediaOf(path)
	if err := policy.check(info.Name(), media, uint64(info.Size())); err != nil {
		return nil, nil, err
	}
	u := &upload{MTime: info.ModTime().UnixNano(), Want: o.Expires, Until: o.Until.Unix(),
		File: attachment{Owner: d.account.Organization, Size: uint64(info.Size()), Name: safeName(info.Name()), Type: media}}
	if u.File.Hash, err = hashOf(ctx, f, u, step); err != nil {
		return nil, nil, err
	}
	key := uploadKey(path)
	u, have, err := d.beginUpload(ctx, key, u, o, u.File.waits(step))
	if err == nil {
		err = d.putChunks(ctx, f, u, have, step)
	}
	if errors.Is(err, ErrFileChanged) {
		err = errors.Join(err, d.giveUp(ctx, key, u))
	}
	if err != nil {
		return nil, nil, err
	}
	return &u.File, key, nil
}

// hashOf reads the whole file once.
func hashOf(ctx context.Context, f *os.File, u *upload, step func(FileProgress)) (sum [32]byte, err error) {
	h := sha256.New()
	in := &meter{ctx: ctx, r: io.LimitReader(f, int64(u.File.Size)+1), tell: func(n uint64) { step(FileProgress{Event: "hashing", Name: u.File.Name, Done: n, Size: u.File.Size}) }}
	n, err := io.CopyBuffer(h, in, make([]byte, wire.FileChunk))
	if err == nil && uint64(n) != u.File.Size {
		err = ErrFileChanged
	}
	if err != nil {
		return sum, fmt.Errorf("device: reading %s: %w", u.File.Name, err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return [32]byte(h.Sum(nil)), err
}

// meter reads, tells how far it is, and stops with its ctx.
type meter struct {
	ctx  context.Context
	r    io.Reader
	n    uint64
	tell func(uint64)
}

func (m *meter) Read(b []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(b)
	m.n += uint64(n)
	m.tell(m.n)
	return n, err
}

// beginUpload goes on with the upload that the record names, or starts one: its record, with
// the key, is stored before anything is encrypted with it.
func (d *Device) beginUpload(ctx context.Context, key []byte, want *upload, o SendOptions, waits func(error)) (*upload, uint32, error) {
	was, err := d.uploadRecord(key)
	if err != nil {
		return nil, 0, err
	}
	if was != nil && was.Want == want.Want && was.Until == want.Until {
		if was.File.Size != want.File.Size || was.MTime != want.MTime || was.File.Hash != want.File.Hash {
			return was, 0, ErrFileChanged
		}
		st, err := persist(ctx, waits, func(ctx context.Context) (*pb.UploadStatusResponse, error) {
			return call(ctx, d.home.Device.UploadStatus, &pb.UploadStatusRequest{Upload: was.File.Upload})
		})
		if err == nil {
			return was, st.Have, nil
		}
		var refused *wire.StatusError
		if !errors.As(err, &refused) || refused.Status.Code != pb.Code_CODE_NOT_FOUND {
			return nil, 0, err
		}
	} else if was != nil {
		_ = d.dropUpload(ctx, was.File.Upload) // else a day ends it
	}
	deadline := d.now().Add(o.Expires)
	if !o.Until.IsZero() && o.Until.Before(deadline) {
		deadline = o.Until
	}
	a, err := persist(ctx, waits, func(ctx context.Context) (*pb.StartUploadResponse, error) {
		return call(ctx, d.home.Device.StartUpload, &pb.StartUploadRequest{Size: sealedSize(want.File.Size), DeadlineUnix: deadline.Unix()})
	})
	if err != nil {
		return nil, 0, err
	}
	rand.Read(want.File.Key[:])
	want.File.Upload, want.File.Expires = a.Upload, min(a.DeadlineUnix, deadline.Unix())
	return want, 0, d.putUpload(key, want)
}

func (d *Device) uploadRecord(key []byte) (u *upload, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.vault.view(func(t *txn) error {
		b, err := t.state(key)
		if errors.Is(err, errNoRecord) {
			return nil
		}
		if err != nil {
			return err
		}
		u = &upload{}
		return json.Unmarshal(b, u)
	})
	return u, err
}

func (d *Device) putUpload(key []byte, u *upload) error {
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.vault.update(func(t *txn) error { return t.putState(key, b) })
}

func (d *Device) giveUp(ctx context.Context, key []byte, u *upload) error {
	if u != nil {
		_ = d.dropUpload(ctx, u.File.Upload) // else a day ends it
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.vault.update(func(t *txn) error { return t.deleteState(key) })
}

// putChunks encrypts the file, hands over the chunks that the node does not have, and
// finishes. What was read must be what was hashed before.
func (d *Device) putChunks(ctx context.Context, f io.Reader, u *upload, have uint32, step func(FileProgress)) error {
	c, err := newChunker(u.File.Key, u.File.Size)
	if err != nil {
		return err
	}
	plain, sealed := sha256.New(), sha256.New()
	in, buf := io.TeeReader(f, plain), make([]byte, plainChunk+chacha20poly1305.Overhead)
	done := uint64(0)
	for i := range fileChunks(u.File.Size) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, chunk, err := c.seal(i, in, buf)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrFileChanged
		}
		if err != nil {
			return fmt.Errorf("device: reading %s: %w", u.File.Name, err)
		}
		sealed.Write(chunk)
		if i >= have {
			if err := d.putChunk(ctx, u, i, chunk, step); err != nil {
				return err
			}
			failpoint("file-chunk")
		}
		done += uint64(n)
		step(FileProgress{Event: "uploading", Name: u.File.Name, Done: done, Size: u.File.Size})
	}
	if !bytes.Equal(plain.Sum(nil), u.File.Hash[:]) {
		return ErrFileChanged
	}
	u.File.Blob = [32]byte(sealed.Sum(nil))
	_, err = persist(ctx, u.File.waits(step), func(ctx context.Context) (*pb.FinishUploadResponse, error) {
		return call(ctx, d.home.Device.FinishUpload, &pb.FinishUploadRequest{Upload: u.File.Upload, Blob: u.File.Blob[:]})
	})
	return err
}

func (d *Device) putChunk(ctx context.Context, u *upload, i uint32, chunk []byte, step func(FileProgress)) error {
	_, err := persist(ctx, u.File.waits(step), func(ctx context.Context) (*pb.PutChunkResponse, error) {
		return call(ctx, d.home.Device.PutChunk, &pb.PutChunkRequest{Upload: u.File.Upload, Index: i, Chunk: chunk})
	})
	return err
}
