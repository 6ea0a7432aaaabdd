package node

import (
	"context"
	"math"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/mailbox/blob"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// BlobFolder holds the ciphertext of members' files, in the data folder.
const BlobFolder = "blobs"

// How many chunks are in memory at once, for devices and, apart from them, for partners:
// neither waits for the other.
const (
	deviceChunks  = 16
	partnerChunks = 8
)

type chunkPlaces struct{ devices, partners chan struct{} }

// take waits for a place.
func take(ctx context.Context, places chan struct{}) (release func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *Node) openBlobs(dir string, seal [32]byte) (err error) {
	n.chunks = &chunkPlaces{make(chan struct{}, deviceChunks), make(chan struct{}, partnerChunks)}
	n.blobs, err = blob.Open(blob.Options{Dir: filepath.Join(dir, BlobFolder), Seal: seal, Now: n.clock.Now, Logger: n.log,
		Held: func() bool { return n.store.Status().ClockHeld }, Ceiling: n.config.Files.Ceiling, Spare: n.spareForFiles})
	return err
}

// spareForFiles is what files may still take of the disk: all but twice the room in which
// the store takes nothing any more, so that mail goes on when files do not.
func (n *Node) spareForFiles() int64 {
	st := n.store.Status()
	if st.Reserve < 0 || st.FreeBytes == 0 {
		return math.MaxInt64
	}
	return st.FreeBytes - 2*st.Reserve
}

// fileLimit is how large a file's ciphertext may be between us and a partner, by our
// configuration and the agreement; zero partner: within the organization.
func (n *Node) fileLimit(partner wire.OrganizationID) (uint64, error) {
	limit := n.config.Files.MaxSize
	if partner.IsZero() || partner == n.org.ID {
		return limit, nil
	}
	a, err := n.fed.InForce(partner, n.clock.Now())
	if err != nil {
		return 0, err
	}
	return min(limit, a.Terms.FileSize), nil
}

// chunkFor hands a chunk of ours to a partner: the ID, which only the encrypted message
// names, admits, as far as the agreement goes.
func (n *Node) chunkFor(ctx context.Context, from wire.OrganizationID, q *pb.BlobQuery) (*pb.BlobAnswer, error) {
	limit, err := n.fileLimit(from)
	if err != nil {
		return nil, err
	}
	id, err := wire.Bytes32(q.Blob)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a file's ID of %d bytes", len(q.Blob))
	}
	release, err := take(ctx, n.chunks.partners)
	if err != nil {
		return nil, err
	}
	defer release()
	size, chunk, err := n.blobs.Read(blob.ID(id), q.Index)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "the agreement allows files of %.1f MiB", float64(limit)/(1<<20))
	}
	return &pb.BlobAnswer{Size: size, Chunk: chunk}, nil
}

// getBlob gets a chunk for a device of ours, from our own files or the owner's node.
// Nothing of a partner's is kept.
func (n *Node) getBlob(ctx context.Context, m *pb.GetBlobRequest) (*pb.GetBlobResponse, error) {
	owner, err := wire.Bytes32(m.Organization)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(m.Organization))
	}
	id, err := wire.Bytes32(m.Blob)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a file's ID of %d bytes", len(m.Blob))
	}
	release, err := take(ctx, n.chunks.devices)
	if err != nil {
		return nil, err
	}
	defer release()
	if owner == n.org.ID {
		size, chunk, err := n.blobs.Read(blob.ID(id), m.Index)
		return &pb.GetBlobResponse{Size: size, Chunk: chunk}, err
	}
	limit, err := n.fileLimit(owner)
	if err != nil {
		return nil, err
	}
	a, err := n.ask(ctx, owner, &pb.QueryRequest{Query: &pb.QueryRequest_Blob{Blob: &pb.BlobQuery{Blob: m.Blob, Index: m.Index}}})
	if err != nil {
		return nil, err
	}
	got := a.GetBlob()
	switch {
	case len(got.GetChunk()) > wire.FileChunk:
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "the partner sent a chunk of %d bytes", len(got.GetChunk()))
	case got.GetSize() > limit:
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "files of %.1f MiB at most are exchanged with that partner", float64(limit)/(1<<20))
	}
	return &pb.GetBlobResponse{Size: got.GetSize(), Chunk: got.GetChunk()}, nil
}

// takesFiles refuses what the disk has no room for, and everything while the node recovers.
func (n *Node) takesFiles() error {
	if err := n.signs(); err != nil {
		return err
	}
	if n.store.Status().Full {
		return wire.Refuse(pb.Code_CODE_FULL, "the node's disk is full")
	}
	return nil
}

// startUpload checks policy and quota. The deadline is the message's, shortened by what
// the organization retains.
func (n *Node) startUpload(device wire.DeviceID, member wire.MemberID, m *pb.StartUploadRequest) (*pb.StartUploadResponse, error) {
	if err := n.takesFiles(); err != nil {
		return nil, err
	}
	if wait, ok := n.rates.device(device); !ok {
		return nil, &wire.StatusError{Status: wire.Retry(wire.Status(pb.Code_CODE_RATE_LIMITED, ""), wait)}
	}
	switch limit := n.config.Files.MaxSize; {
	case limit == 0:
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "this organization allows no files")
	case m.Size > limit:
		return nil, wire.Refuse(pb.Code_CODE_TOO_LARGE, "a file of %.1f MiB encrypted: this organization allows %.1f MiB", float64(m.Size)/(1<<20), float64(limit)/(1<<20))
	}
	now := n.clock.Now()
	deadline := now.Add(min(n.config.Retention, wire.RetentionCeiling))
	if own := time.Unix(m.DeadlineUnix, 0); own.Before(deadline) {
		deadline = own
	}
	id, err := n.blobs.Start(member, m.Size, deadline, n.config.Files.Quota)
	return &pb.StartUploadResponse{Upload: id[:], DeadlineUnix: deadline.Unix()}, err
}

// uploader is the member whose upload a call is about.
func (a deviceAPI) uploader(ctx context.Context, upload []byte) (member wire.MemberID, id blob.UploadID, err error) {
	device, err := caller(ctx)
	if err != nil {
		return member, id, err
	}
	if len(upload) != len(id) {
		return member, id, wire.Refuse(pb.Code_CODE_MALFORMED, "an upload's ID of %d bytes", len(upload))
	}
	return a.n.memberOf(device), blob.UploadID(upload), nil
}

// FilePolicy says what a file to a partner's members may be.
func (a deviceAPI) FilePolicy(ctx context.Context, r *connect.Request[pb.FilePolicyRequest]) (*connect.Response[pb.FilePolicyResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.FilePolicyResponse](nil, err)
	}
	var partner wire.OrganizationID
	if len(r.Msg.Partner) > 0 {
		if partner, err = wire.Bytes32(r.Msg.Partner); err != nil {
			return answer[pb.FilePolicyResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "an organization ID of %d bytes", len(r.Msg.Partner)))
		}
	}
	limit, err := a.n.fileLimit(partner)
	f := a.n.config.Files
	return answer(&pb.FilePolicyResponse{MaxSize: limit, Types: f.Types, Used: a.n.blobs.Used(a.n.memberOf(device)), Quota: f.Quota}, err)
}

// StartUpload begins an upload.
func (a deviceAPI) StartUpload(ctx context.Context, r *connect.Request[pb.StartUploadRequest]) (*connect.Response[pb.StartUploadResponse], error) {
	device, err := caller(ctx)
	if err != nil {
		return answer[pb.StartUploadResponse](nil, err)
	}
	return answer(a.n.startUpload(device, a.n.memberOf(device), r.Msg))
}

// UploadStatus says where to go on.
func (a deviceAPI) UploadStatus(ctx context.Context, r *connect.Request[pb.UploadStatusRequest]) (*connect.Response[pb.UploadStatusResponse], error) {
	member, id, err := a.uploader(ctx, r.Msg.Upload)
	if err != nil {
		return answer[pb.UploadStatusResponse](nil, err)
	}
	have, done, err := a.n.blobs.Status(ctx, member, id)
	return answer(&pb.UploadStatusResponse{Have: have, Blob: done}, err)
}

// PutChunk takes a chunk.
func (a deviceAPI) PutChunk(ctx context.Context, r *connect.Request[pb.PutChunkRequest]) (*connect.Response[pb.PutChunkResponse], error) {
	member, id, err := a.uploader(ctx, r.Msg.Upload)
	if err == nil {
		err = a.n.takesFiles()
	}
	if err != nil {
		return answer[pb.PutChunkResponse](nil, err)
	}
	release, err := take(ctx, a.n.chunks.devices)
	if err != nil {
		return answer[pb.PutChunkResponse](nil, err)
	}
	defer release()
	have, err := a.n.blobs.Put(ctx, member, id, r.Msg.Index, r.Msg.Chunk)
	return answer(&pb.PutChunkResponse{Have: have}, err)
}

// FinishUpload makes an upload a file that can be fetched.
func (a deviceAPI) FinishUpload(ctx context.Context, r *connect.Request[pb.FinishUploadRequest]) (*connect.Response[pb.FinishUploadResponse], error) {
	member, id, err := a.uploader(ctx, r.Msg.Upload)
	if err == nil {
		err = a.n.takesFiles()
	}
	var sum [32]byte
	if err == nil {
		if sum, err = wire.Bytes32(r.Msg.Blob); err != nil {
			err = wire.Refuse(pb.Code_CODE_MALFORMED, "a file's ID of %d bytes", len(r.Msg.Blob))
		}
	}
	if err == nil {
		err = a.n.blobs.Finish(ctx, member, id, blob.ID(sum))
	}
	return answer(&pb.FinishUploadResponse{}, err)
}

// DropUpload destroys a file of the member's own.
func (a deviceAPI) DropUpload(ctx context.Context, r *connect.Request[pb.DropUploadRequest]) (*connect.Response[pb.DropUploadResponse], error) {
	member, id, err := a.uploader(ctx, r.Msg.Upload)
	if err == nil {
		err = a.n.blobs.Drop(member, id)
	}
	return answer(&pb.DropUploadResponse{}, err)
}

// GetBlob hands out a chunk of a file, whosever it is.
func (a deviceAPI) GetBlob(ctx context.Context, r *connect.Request[pb.GetBlobRequest]) (*connect.Response[pb.GetBlobResponse], error) {
	if _, err := caller(ctx); err != nil {
		return answer[pb.GetBlobResponse](nil, err)
	}
	return answer(a.n.getBlob(ctx, r.Msg))
}
