package device

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// ErrFileExists says that there is a file already where one would be saved.
var ErrFileExists = errors.New("device: there is a file of that name already")

// ErrFileAltered says that what the nodes handed out is not the file that was sent.
var ErrFileAltered = errors.New("device: the file is not what was sent")

// window is how many chunks are asked for at once.
const window = 4

// GetFile fetches the file of a message and saves it at out: a path, a folder, or "" for
// the current folder and the name that the message gives. Every chunk is verified before
// it is written, in a file beside it that ends in .part, from which an interrupted
// transfer goes on; the name appears when the whole was verified and is on the disk. An
// existing file is replaced only with force.
func (d *Device) GetFile(ctx context.Context, id MessageID, out string, force bool, step func(FileProgress)) (string, error) {
	step = inTurn(step)
	a, err := d.attachmentOf(id)
	if err != nil {
		return "", err
	}
	policy, err := d.filePolicy(ctx, a.Owner)
	if err == nil {
		err = policy.check(a.Name, a.Type, a.Size)
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(out); out == "" || err == nil && info.IsDir() {
		out = filepath.Join(out, a.Name)
	}
	if _, err := os.Lstat(out); err == nil && !force {
		return "", fmt.Errorf("%w: %s", ErrFileExists, out)
	}
	part := out + "." + hex.EncodeToString(a.Blob[:4]) + ".part"
	if err := d.fetchInto(ctx, a, part, step); err != nil {
		return "", err
	}
	if err := publish(part, out, force); err != nil {
		return "", err
	}
	step(FileProgress{Event: "saved", Name: a.Name, Done: a.Size, Size: a.Size, Path: out})
	return out, nil
}

// publish gives a finished file its name.
func publish(part, out string, force bool) error {
	if force {
		return os.Rename(part, out)
	}
	err := os.Link(part, out) // fails when the name was taken meanwhile
	switch {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%w: %s", ErrFileExists, out)
	case err != nil: // a disk without links
		return os.Rename(part, out)
	}
	return os.Remove(part)
}

// fetchInto completes a part file and syncs it.
func (d *Device) fetchInto(ctx context.Context, a *attachment, part string, step func(FileProgress)) error {
	if info, err := os.Lstat(part); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s", ErrFileExists, part)
	}
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	from, err := resumeAt(f, a, sum)
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	if err := d.fetchChunks(ctx, a, from, io.MultiWriter(f, sum), step); err != nil {
		if neverWhole(err) {
			err = errors.Join(err, os.Remove(part))
		}
		return err
	}
	if subtle.ConstantTimeCompare(sum.Sum(nil), a.Hash[:]) != 1 {
		return errors.Join(ErrFileAltered, os.Remove(part)) // it was changed here, or by its sender
	}
	return f.Sync()
}

// neverWhole reports whether a transfer ended so that going on from its part is of no use.
func neverWhole(err error) bool {
	switch wire.StatusOf(err).Code {
	case pb.Code_CODE_DAMAGED, pb.Code_CODE_NOT_FOUND, pb.Code_CODE_DEADLINE_PASSED:
		return true
	}
	return errors.Is(err, ErrFileAltered)
}

// resumeAt keeps the whole chunks of a part file, hashes them and returns the next.
func resumeAt(f *os.File, a *attachment, sum hash.Hash) (uint32, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	whole := uint32(min(uint64(info.Size()), a.Size) / plainChunk)
	at := int64(whole) * plainChunk
	if err := f.Truncate(at); err != nil {
		return 0, err
	}
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(f, 0, at), make([]byte, 1<<20)); err != nil {
		return 0, err
	}
	_, err = f.Seek(at, io.SeekStart)
	return whole, err
}

// fetchChunks gets the chunks from one on, a few at once, and writes them in order.
func (d *Device) fetchChunks(ctx context.Context, a *attachment, from uint32, w io.Writer, step func(FileProgress)) error {
	c, err := newChunker(a.Key, a.Size)
	if err != nil {
		return err
	}
	type got struct {
		chunk []byte
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	total := fileChunks(a.Size)
	var coming []chan got
	next := from
	for i := from; i < total; i++ {
		for ; next < total && len(coming) < window; next++ {
			ch, at := make(chan got, 1), next
			coming = append(coming, ch)
			go func() {
				chunk, err := d.getChunk(ctx, a, at, a.waits(step))
				ch <- got{chunk, err}
			}()
		}
		g := <-coming[0]
		coming = coming[1:]
		if g.err != nil {
			err = g.err
			break
		}
		content, e := c.open(i, g.chunk)
		if e != nil {
			err = fmt.Errorf("%w: chunk %d", ErrFileAltered, i)
			break
		}
		if _, err = w.Write(content); err != nil {
			err = fmt.Errorf("device: writing: %w", err)
			break
		}
		failpoint("file-got")
		step(FileProgress{Event: "downloading", Name: a.Name, Done: min(uint64(i+1)*plainChunk, a.Size), Size: a.Size})
	}
	cancel()
	for _, ch := range coming {
		<-ch
	}
	return err
}

func (d *Device) getChunk(ctx context.Context, a *attachment, i uint32, waits func(error)) ([]byte, error) {
	r, err := persist(ctx, waits, func(ctx context.Context) (*pb.GetBlobResponse, error) {
		return call(ctx, d.home.Device.GetBlob, &pb.GetBlobRequest{Organization: a.Owner[:], Blob: a.Blob[:], Index: i})
	})
	if err != nil {
		return nil, err
	}
	if r.Size != sealedSize(a.Size) || len(r.Chunk) > wire.FileChunk {
		return nil, ErrFileAltered
	}
	return r.Chunk, nil
}
