package device

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func noStep(FileProgress) {}

// fileOf writes a file of n random bytes.
func fileOf(t testing.TB, name string, n int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, n)
	rand.Read(content)
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func (d *Device) sendFile(t testing.TB, to wire.Address, path string, o SendOptions, step func(FileProgress)) error {
	t.Helper()
	s, err := d.Sender(t.Context())
	if err != nil {
		return err
	}
	defer s.Close()
	return s.SendFile(t.Context(), to, wire.RoomID{}, path, "see here", o, step, func(Progress) {})
}

// theFile is the one file that a device has after receiving.
func (d *Device) theFile(t testing.TB) FileEntry {
	t.Helper()
	eventually(t, "a file has come", func() error {
		if err := d.Receive(t.Context(), false, func(Shown) error { return nil }); err != nil {
			return err
		}
		files, err := d.Files()
		if err == nil && len(files) != 1 {
			err = errors.New("no file")
		}
		return err
	})
	files, err := d.Files()
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

func idOf(t testing.TB, f FileEntry) MessageID {
	t.Helper()
	id, err := ParseMessageID(f.ID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAFileReachesAMemberOfAnotherOrganizationWhole(t *testing.T) {
	p := newPair(t)
	path, content := fileOf(t, "plan.pdf", 3<<20+5)
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep); err != nil {
		t.Fatal(err)
	}
	f := p.bob.theFile(t)
	if f.Name != "plan.pdf" || f.Size != uint64(len(content)) || f.From != p.alice.Address().String() {
		t.Errorf("it is shown as %+v", f)
	}
	dir := t.TempDir()
	saved, err := p.bob.GetFile(t.Context(), idOf(t, f), dir, false, noStep)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(saved); err != nil || !bytes.Equal(got, content) || saved != filepath.Join(dir, "plan.pdf") {
		t.Errorf("%s is another file (%v)", saved, err)
	}
	if _, err := p.bob.GetFile(t.Context(), idOf(t, f), dir, false, noStep); !errors.Is(err, ErrFileExists) {
		t.Errorf("a file was overwritten: %v", err)
	}
	if _, err := p.bob.GetFile(t.Context(), idOf(t, f), dir, true, noStep); err != nil {
		t.Errorf("with force: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	own := p.alice.theFile(t)
	if _, err := p.alice.GetFile(t.Context(), idOf(t, own), t.TempDir(), false, noStep); err != nil {
		t.Errorf("the sender cannot fetch it: %v", err)
	}
}

func TestATransferGoesOnWhereItWasAndAChangedFileIsRefused(t *testing.T) {
	p := newPair(t)
	path, content := fileOf(t, "plan.bin", 5<<20)
	interrupted := errors.New("interrupted")
	stop := func(event string, at uint64) (step func(FileProgress), ctx context.Context) {
		ctx, cancel := context.WithCancelCause(t.Context())
		return func(f FileProgress) {
			if f.Event == event && f.Done >= at {
				cancel(interrupted)
			}
		}, ctx
	}
	step, ctx := stop("uploading", 2<<20)
	s, err := p.alice.Sender(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendFile(ctx, p.bob.Address(), wire.RoomID{}, path, "", SendOptions{}, step, func(Progress) {}); err == nil || context.Cause(ctx) != interrupted {
		t.Fatalf("it was not interrupted: %v", err)
	}
	s.Close()
	path2 := path + ".kept"
	if err := errors.Join(os.Rename(path, path2), os.WriteFile(path, append(bytes.Clone(content[:len(content)-1]), 'x'), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep); !errors.Is(err, ErrFileChanged) {
		t.Fatalf("a changed file went on: %v", err)
	}
	if err := os.Rename(path2, path); err != nil {
		t.Fatal(err)
	}
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep); err != nil {
		t.Fatal(err)
	}
	f, dir := p.bob.theFile(t), t.TempDir()
	step, ctx = stop("downloading", 2<<20)
	if _, err := p.bob.GetFile(ctx, idOf(t, f), dir, false, step); err == nil {
		t.Fatal("it was not interrupted")
	}
	first := uint64(0)
	saved, err := p.bob.GetFile(t.Context(), idOf(t, f), dir, false, func(f FileProgress) {
		if first == 0 {
			first = f.Done
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(saved); err != nil || !bytes.Equal(got, content) || first <= 2<<20 {
		t.Errorf("another file, or from the beginning: first %d (%v)", first, err)
	}
}

func TestAFileThatIsAlteredOnTheNodeIsNeverSaved(t *testing.T) {
	p := newPair(t)
	path, _ := fileOf(t, "a.bin", 2<<20)
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep); err != nil {
		t.Fatal(err)
	}
	f := p.bob.theFile(t)
	path2, _ := fileOf(t, "b.bin", 2<<20)
	if err := p.alice.sendFile(t, p.bob.Address(), path2, SendOptions{}, noStep); err != nil {
		t.Fatal(err)
	}
	// The message names another blob of the same size: what a lying node would hand out.
	a, err := p.bob.attachmentOf(idOf(t, f))
	if err != nil {
		t.Fatal(err)
	}
	sent, err := p.alice.Files()
	if err != nil || len(sent) != 2 {
		t.Fatalf("%d files, %v", len(sent), err)
	}
	other, err := p.alice.attachmentOf(idOf(t, sent[1]))
	if err != nil {
		t.Fatal(err)
	}
	a.Blob = other.Blob
	part := filepath.Join(t.TempDir(), "x.part")
	if err := p.bob.fetchInto(t.Context(), a, part, noStep); !errors.Is(err, ErrFileAltered) {
		t.Errorf("a swapped file was taken: %v", err)
	}
	if info, err := os.Stat(part); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes of it were written", info.Size())
	}
}

func TestABurnedOrDeletedFileCannotBeFetchedAnyMore(t *testing.T) {
	p := newPair(t)
	path, _ := fileOf(t, "burn.bin", 1000)
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{Burn: 5 * time.Second}, noStep); err != nil {
		t.Fatal(err)
	}
	id := idOf(t, p.bob.theFile(t))
	eventually(t, "it burns", func() error {
		if _, err := p.bob.attachmentOf(id); err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
	if err := p.bob.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.bob.GetFile(t.Context(), id, t.TempDir(), false, noStep); err == nil {
		t.Error("a burned file was fetched")
	}
	path, _ = fileOf(t, "gone.bin", 1000)
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep); err != nil {
		t.Fatal(err)
	}
	f := p.bob.theFile(t)
	a, err := p.bob.attachmentOf(idOf(t, f))
	if err != nil {
		t.Fatal(err)
	}
	room, err := wire.ParseRoomID(f.Room)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.alice.Sender(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SendRoom(t.Context(), room, "", SendOptions{Action: ActionDelete, About: idOf(t, f)}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	_, err = p.bob.getChunk(t.Context(), a, 0, func(error) {})
	var st *wire.StatusError
	if !errors.As(err, &st) || st.Status.Code != pb.Code_CODE_NOT_FOUND {
		t.Errorf("the node still has a deleted file: %v", err)
	}
}

func TestWhatIsNoFileIsRefusedBeforeAnythingMoves(t *testing.T) {
	p := newPair(t)
	for name, path := range map[string]string{"a folder": t.TempDir(), "nothing": filepath.Join(t.TempDir(), "none")} {
		if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep); err == nil {
			t.Errorf("%s was sent", name)
		}
	}
	path, _ := fileOf(t, "empty.txt", 0)
	if err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep); err != nil {
		t.Fatal(err)
	}
	saved, err := p.bob.GetFile(t.Context(), idOf(t, p.bob.theFile(t)), t.TempDir(), false, noStep)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(saved); err != nil || info.Size() != 0 {
		t.Errorf("an empty file came as %v (%v)", info, err)
	}
}
