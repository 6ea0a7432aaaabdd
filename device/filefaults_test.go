package device

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
)

func TestATransferWhoseDeviceIsKilledGoesOn(t *testing.T) {
	p := newPair(t)
	dir, to := folder(p.alice), p.bob.Address()
	send(t, p.alice, to, "first", SendOptions{}) // the room is there
	path, content := fileOf(t, "plan.bin", 3<<20+7)
	p.alice.Close()
	for _, at := range []string{"file-chunk", "file-chunk", "file-uploaded"} {
		if !runKilled(t, dir, at, to.String(), "", killFile+"="+path) {
			t.Fatalf("%s was not reached", at)
		}
	}
	if runKilled(t, dir, "no such point", to.String(), "", killFile+"="+path) {
		t.Fatal("killed at no point")
	}
	f := p.bob.theFile(t)
	bobs := folder(p.bob)
	p.bob.Close()
	out := filepath.Join(t.TempDir(), "saved")
	for range 2 {
		if !runKilled(t, bobs, "file-got", "", "", killFile+"="+out, killText+"="+f.ID) {
			t.Fatal("file-got was not reached")
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatal("half a file has its name")
		}
	}
	if runKilled(t, bobs, "no such point", "", "", killFile+"="+out, killText+"="+f.ID) {
		t.Fatal("killed at no point")
	}
	got, err := os.ReadFile(out)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes arrived, not those that were sent", len(got))
	}
	again, err := Open(bobs, testPass)
	must(t, err)
	t.Cleanup(again.Close)
	receive(t, again)
	if files, err := again.Files(); err != nil || len(files) != 1 {
		t.Errorf("the file came %d times: %v", len(files), err)
	}
}

// badOwner is a home node that hands out chunks as it likes.
type badOwner struct {
	ententev1connect.DeviceServiceClient
	chunk func(ctx context.Context, index uint32, honest []byte) ([]byte, error)
}

func (o *badOwner) GetBlob(ctx context.Context, q *connect.Request[pb.GetBlobRequest]) (*connect.Response[pb.GetBlobResponse], error) {
	a, err := o.DeviceServiceClient.GetBlob(ctx, q)
	if err == nil {
		a.Msg.Chunk, err = o.chunk(ctx, q.Msg.Index, a.Msg.Chunk)
	}
	return a, err
}

func TestAnOwnerThatHandsOutSomethingElseGivesNoFile(t *testing.T) {
	p := newPair(t)
	path, content := fileOf(t, "a.bin", 3<<20)
	must(t, p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep))
	id := idOf(t, p.bob.theFile(t))
	honest := p.bob.home.Device
	for name, chunk := range map[string]func(ctx context.Context, i uint32, b []byte) ([]byte, error){
		"nothing":           func(context.Context, uint32, []byte) ([]byte, error) { return nil, nil },
		"a byte less":       func(_ context.Context, _ uint32, b []byte) ([]byte, error) { return b[:len(b)-1], nil },
		"a byte more":       func(_ context.Context, _ uint32, b []byte) ([]byte, error) { return append(b, 0), nil },
		"twice as much":     func(_ context.Context, _ uint32, b []byte) ([]byte, error) { return append(b, b...), nil },
		"an altered byte":   func(_ context.Context, i uint32, b []byte) ([]byte, error) { b[0] ^= byte(i + 1); return b, nil },
		"zeros":             func(_ context.Context, _ uint32, b []byte) ([]byte, error) { return make([]byte, len(b)), nil },
		"an end that fails": func(_ context.Context, i uint32, b []byte) ([]byte, error) { return b, errAfter(i, 2) },
	} {
		p.bob.home.Device = &badOwner{honest, chunk}
		dir := t.TempDir()
		if _, err := p.bob.GetFile(t.Context(), id, filepath.Join(dir, "saved"), false, noStep); err == nil {
			t.Errorf("%s: a file came out of it", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "saved")); err == nil {
			t.Errorf("%s: there is a file", name)
		}
	}
	// One that never answers holds nobody longer than they want to wait.
	p.bob.home.Device = &badOwner{honest, func(ctx context.Context, _ uint32, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }}
	short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := p.bob.GetFile(short, id, filepath.Join(t.TempDir(), "saved"), false, noStep); !errors.Is(err, context.DeadlineExceeded) && wire.StatusOf(err).Code != pb.Code_CODE_UNREACHABLE {
		t.Errorf("an owner that never answers: %v", err)
	}
	p.bob.home.Device = honest
	out := filepath.Join(t.TempDir(), "saved")
	_, err := p.bob.GetFile(t.Context(), id, out, false, noStep)
	must(t, err)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, content) {
		t.Errorf("afterwards: %d bytes, %v", len(got), err)
	}
}

func errAfter(i, n uint32) error {
	if i >= n {
		return connect.NewError(connect.CodeUnavailable, errors.New("gone"))
	}
	return nil
}

func TestWhatOrganizationOrAgreementForbidOfFilesIsRefusedBeforeAnythingMoves(t *testing.T) {
	p := newPair(t)
	small, _ := fileOf(t, "small.pdf", 10_000)
	large, _ := fileOf(t, "large.pdf", 2<<20)
	other, _ := fileOf(t, "program.exe", 10_000)
	p.acme.halt()
	p.acme.configure = func(c *node.Config) { c.Files.MaxSize, c.Files.Types = 1<<20, []string{".pdf"} }
	p.acme.start()
	for path, says := range map[string]string{large: "large.pdf is a file of 2.0 MiB, 2.1 MiB encrypted: at most 1.0 MiB are allowed by your organization", other: "no files of type"} {
		err := p.alice.sendFile(t, p.bob.Address(), path, SendOptions{}, noStep)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; wanted %q", filepath.Base(path), err, says)
		}
	}
	must(t, p.alice.sendFile(t, p.bob.Address(), small, SendOptions{}, noStep))
	p.bob.theFile(t)
	// An organization that wants no files sends none either.
	p.globex.halt()
	p.globex.configure = func(c *node.Config) { c.Files.MaxSize = 0 }
	p.globex.start()
	if err := p.bob.sendFile(t, p.alice.Address(), small, SendOptions{}, noStep); err == nil || wire.ClassOf(wire.StatusOf(err).Code) == wire.Success {
		t.Error("a file left an organization that wants none")
	}
}
