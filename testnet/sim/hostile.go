package sim

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/node/gate"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/entente-im/entente/wire/ententev1/ententev1connect"
	"github.com/entente-im/entente/wire/session"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"
)

// Who is hostile in a run: by its seed, nobody, a member or a partner's node.
type side int

const (
	nobody side = iota
	aMember
	aNode
)

func sideOf(seed uint64) side { return side(seed % 3) }

const (
	mallory    = 10 // the hostile member, of an honest organization; an administrator then
	hostileOrg = 3  // the hostile node's organization; it orders no room of ours
)

// hostile reports whether nothing is promised to or of somebody.
func (t *talk) hostile(p *person) bool {
	return p.home.alter != nil || p.via != nil
}

// liar rewrites what a hostile node sends to its partners: it leaves out, repeats,
// reorders and alters items and lies about results. It holds its own keys, so all of it
// comes over a connection that is truly its own.
type liar struct {
	mu    sync.Mutex
	rng   *rand.Rand
	kept  []*pb.Item // of batches before
	count func(string)
}

// alter is simHost.alter: one call holds one frame, as wire.WriteFrame writes it.
func (l *liar) alter(p protocol.ID, b []byte) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p != federation.DeliverProtocol || l.rng.IntN(4) > 0 {
		return [][]byte{b}
	}
	var f pb.DeliverFrame
	if wire.ReadFrame(bufio.NewReader(bytes.NewReader(b)), &f, wire.MaxDeliverFrame) != nil {
		return [][]byte{b}
	}
	switch m := f.Frame.(type) {
	case *pb.DeliverFrame_Batch:
		l.items(m.Batch)
	case *pb.DeliverFrame_Result:
		l.statuses(m.Result)
	default:
		return [][]byte{b}
	}
	var out bytes.Buffer
	if wire.WriteFrame(&out, &f, wire.MaxDeliverFrame) != nil {
		return [][]byte{b}
	}
	return [][]byte{out.Bytes()}
}

func (l *liar) items(b *pb.DeliverBatch) {
	if len(b.Items) == 0 {
		return
	}
	i := l.rng.IntN(len(b.Items))
	l.count("lies of a node")
	for _, item := range b.Items {
		l.kept = append(l.kept, proto.Clone(item).(*pb.Item))
	}
	switch l.rng.IntN(6) {
	case 0: // left out
		b.Items = append(b.Items[:i:i], b.Items[i+1:]...)
	case 1: // the same under a number that is not used yet
		again := proto.Clone(b.Items[i]).(*pb.Item)
		again.Number = b.Items[len(b.Items)-1].Number + 1
		b.Items = append(b.Items, again)
	case 2: // in another order
		l.rng.Shuffle(len(b.Items), func(i, j int) { b.Items[i], b.Items[j] = b.Items[j], b.Items[i] })
	case 3: // altered
		if e := b.Items[i].Envelope; e != nil && len(e.Core) > 0 {
			e.Core[l.rng.IntN(len(e.Core))] ^= 1 << l.rng.IntN(8)
		}
	case 4: // something from before in its place
		old := proto.Clone(l.kept[l.rng.IntN(len(l.kept))]).(*pb.Item)
		old.Number = b.Items[i].Number
		b.Items[i] = old
	case 5: // another place in the room's order
		if e := b.Items[i].Envelope; e != nil {
			e.Seq += uint64(l.rng.IntN(5))
		}
	}
	if len(l.kept) > 64 {
		l.kept = l.kept[32:]
	}
}

func (l *liar) statuses(r *pb.DeliverResult) {
	if len(r.Statuses) == 0 {
		return
	}
	l.count("lies of a node")
	s := r.Statuses[l.rng.IntN(len(r.Statuses))]
	s.Status = &pb.Status{Code: pb.Code(l.rng.IntN(40)), Detail: "no", RetryMs: l.rng.Int64N(1000)}
}

// tamperer stands between the hostile member's device and its node, with her consent: it
// ends her TLS in the node's name and passes on what she would never have sent.
type tamperer struct {
	mu      sync.Mutex
	rng     *rand.Rand
	commits []*pb.SubmitCommitRequest
	count   func(string)
}

// tamper puts a tamperer on a person's way to her node. stop ends it.
func (t *talk) tamper(p *person) (stop func(), err error) {
	keys, err := identity.OpenNodeKeys(filepath.Join(p.home.dir, node.KeysFile), passphrase)
	if err != nil {
		return nil, err
	}
	conf, err := gate.TLS(keys.Peer, nil)
	if err != nil {
		return nil, err
	}
	const address = "mallory.tamperer:443"
	l, err := t.net.listen(p.place(), address)
	if err != nil {
		return nil, err
	}
	back := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return t.net.dial(ctx, p.place(), addr) }}
	to := &url.URL{Scheme: "https", Host: p.home.name + ":8443"}
	m := &tamperer{rng: rand.New(rand.NewPCG(t.seed, 0xbad)), count: t.count}
	on := &httputil.ReverseProxy{Transport: back, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	srv := gate.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == session.Path { // no WebSocket: she goes by calls
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if b, err := m.rewrite(r); err == nil && b != nil {
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
			r.Header.Del("Content-Length")
		}
		on.ServeHTTP(w, r)
	}), conf, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, "", "")
	}()
	p.via = func(ctx context.Context, _ string) (net.Conn, error) { return t.net.dial(ctx, p.place(), address) }
	return func() {
		_ = srv.Close()
		<-done
		back.CloseIdleConnections()
	}, nil
}

var errAsItIs = errors.New("sim: nothing is changed")

// rewrite returns what goes on instead of a call's body; an error: what was read goes on.
func (m *tamperer) rewrite(r *http.Request) ([]byte, error) {
	commit := r.URL.Path == ententev1connect.DeviceServiceSubmitCommitProcedure
	submit := r.URL.Path == ententev1connect.DeviceServiceSubmitProcedure
	if !commit && !submit {
		return nil, errAsItIs
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if commit {
		var q pb.SubmitCommitRequest
		if proto.Unmarshal(b, &q) != nil {
			return b, nil
		}
		m.commit(&q)
		return proto.Marshal(&q)
	}
	var q pb.SubmitRequest
	if proto.Unmarshal(b, &q) != nil || len(q.Submissions) == 0 || m.rng.IntN(4) > 0 {
		return b, nil
	}
	m.count("lies of a member")
	s := q.Submissions[m.rng.IntN(len(q.Submissions))]
	switch {
	case m.rng.IntN(2) == 0 && len(s.Envelope) > 0: // garbage where a message was
		s.Envelope[m.rng.IntN(len(s.Envelope))] ^= 0x10
	default: // the same bytes twice, under a counter of its own
		q.Submissions = append(q.Submissions, &pb.Submission{Counter: s.Counter + 1, Envelope: s.Envelope})
	}
	return proto.Marshal(&q)
}

// tags is how long a PublicMessage's confirmation and membership tags are together, with
// their lengths (RFC 9420 §6.2; 32 bytes each in suite 1).
const tags = 2 * 33

func (m *tamperer) commit(q *pb.SubmitCommitRequest) {
	kept := proto.Clone(q).(*pb.SubmitCommitRequest)
	defer func() { m.commits = append(m.commits, kept) }()
	b := q.Bundle
	if b == nil || len(b.Commit) < 2*tags {
		return
	}
	m.count("lies of a member")
	flip := func(x []byte) {
		if len(x) > 0 {
			x[m.rng.IntN(len(x))] ^= 1 << m.rng.IntN(8)
		}
	}
	switch m.rng.IntN(8) {
	case 0: // garbage
		flip(b.Commit)
	case 1, 2: // a confirmation tag that the hub cannot check
		b.Commit[len(b.Commit)-tags+1+m.rng.IntN(32)] ^= 1
	case 3: // a membership tag that the hub cannot check
		b.Commit[len(b.Commit)-1-m.rng.IntN(32)] ^= 1
	case 4:
		flip(b.GroupInfo)
	case 5:
		flip(b.Welcome)
	case 6: // a Commit of before
		if len(m.commits) > 0 {
			q.Bundle = proto.Clone(m.commits[m.rng.IntN(len(m.commits))].Bundle).(*pb.Bundle)
		}
	case 7: // the tree of another epoch
		if len(m.commits) > 0 {
			b.Tree = m.commits[m.rng.IntN(len(m.commits))].Bundle.Tree
		}
	}
}

// newLiar makes the rewriting of a hostile node.
func (t *talk) newLiar() *liar {
	return &liar{rng: rand.New(rand.NewPCG(t.seed, 0xbad)), count: t.count}
}
