package federation

import (
	"bufio"
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

func frameOf(t testing.TB, m proto.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := wire.WriteFrame(&b, m, wire.MaxDeliverFrame); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzBatch reads what a partner may send and decides it against marks, twice: the
// second time nothing that was decided is fresh, and nothing open is lost.
func FuzzBatch(f *testing.F) {
	f.Add(frameOf(f, &pb.DeliverFrame{Frame: &pb.DeliverFrame_Batch{Batch: &pb.DeliverBatch{
		Items: []*pb.Item{{Number: 4}, {Number: 9, Kind: pb.ItemKind_ITEM_KIND_FANOUT, Envelope: &pb.Envelope{Core: []byte{8, 1}}}}, LowMark: 3}}}))
	f.Add(frameOf(f, &pb.DeliverFrame{Frame: &pb.DeliverFrame_Hello{Hello: &pb.DeliverHello{Version: 1}}}))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame pb.DeliverFrame
		if wire.ReadFrame(bufio.NewReader(bytes.NewReader(b)), &frame, 1<<16) != nil {
			return
		}
		batch := frame.GetBatch()
		if checkBatch(batch) != nil {
			return
		}
		m := marks{incarnation: 1}.raise(batch.LowMark)
		var fresh []*pb.Item
		var answers []*pb.Status
		for i, it := range batch.Items {
			_, _ = sizeOf(it), isMessage(it)
			if _, ok := m.seen(it.Number); ok {
				continue
			}
			fresh = append(fresh, it)
			answers = append(answers, wire.Status([]pb.Code{pb.Code_CODE_ACCEPTED, pb.Code_CODE_FULL, pb.Code_CODE_NO_AGREEMENT}[i%3], ""))
		}
		next, err := parseMarks(m.with(fresh, answers).encode())
		if err != nil {
			t.Fatal(err)
		}
		for i, it := range fresh {
			if _, decided := next.seen(it.Number); decided == staysOpen(it, answers[i].Code) {
				t.Fatalf("number %d, answered %s: decided %v", it.Number, wire.CodeName(answers[i].Code), decided)
			}
		}
	})
}

// FuzzLobby reads what a stranger may send; a proof made for it stands, and no other.
func FuzzLobby(f *testing.F) {
	f.Add(frameOf(f, &pb.LobbyRequest{Version: 1, TokenId: make([]byte, 16), Proof: make([]byte, 32), Manifest: "m\n\n— x y\n", Genesis: "a\n\nb\n"}))
	f.Add(frameOf(f, &pb.LobbyRequest{Genesis: "\n\n\n\n\n"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q pb.LobbyRequest
		if wire.ReadFrame(bufio.NewReader(bytes.NewReader(b)), &q, maxLobby) != nil {
			return
		}
		if org, notes, err := openManifests(q.Genesis, q.Manifest, wire.OrganizationID{}); err == nil {
			genesis, manifest := splitManifests(notes)
			if genesis != q.Genesis || manifest != q.Manifest || org == nil {
				t.Fatal("a chain that was accepted is written otherwise")
			}
		}
		if len(q.TokenId) != 16 {
			return
		}
		tr := requestTranscript(&q, wire.DeviceID{1}, wire.DeviceID{2})
		proof := tr.proof([32]byte{3})
		if tr.proves([32]byte{3}, q.Proof) && !bytes.Equal(proof[:], q.Proof) || tr.proves([32]byte{4}, proof[:]) {
			t.Fatal("a proof passes that is none")
		}
	})
}

// FuzzQuestion reads what a partner may ask.
func FuzzQuestion(f *testing.F) {
	f.Add(frameOf(f, &pb.QueryRequest{Version: 1, Organization: make([]byte, 32), Query: &pb.QueryRequest_Manifest{Manifest: &pb.ManifestQuery{}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q pb.QueryRequest
		if wire.ReadFrame(bufio.NewReader(bytes.NewReader(b)), &q, maxQuestion) == nil && proto.Size(&q) > maxQuestion+len(b) {
			t.Fatal("a question grew while it was read")
		}
	})
}

// FuzzRecords reads what may lie on disk.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"version":1,"agreement":"a","manifests":["m"],"ourManifests":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p partnerRecord
		if decode(b, &p) == nil && p.Version != recordVersion {
			t.Fatal("a record of another version is read")
		}
		fed := &Federation{opts: Options{Organization: &identity.Organization{}}}
		if _, err := fed.verify(wire.OrganizationID{}, p); err == nil {
			t.Fatal("a record without signatures stands")
		}
	})
}
