package node

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// groupRows of a room as they lie in the store.
func (w *world) rows() (snapshot []byte, deltas []store.KV) {
	w.t.Helper()
	snapshot, err := w.acme.store.Get(roomKey(groupPrefix, w.room))
	must(w.t, err)
	deltas, err = w.acme.store.Scan(roomKey(deltaPrefix, w.room), nil, 1_000)
	must(w.t, err)
	return snapshot, deltas
}

// again reads the room from the store, as after a restart.
func (w *world) again() (*mls.PublicGroup, groupRows, error) { return w.acme.rooms.readGroup(w.room) }

func TestAGroupIsStoredAsASnapshotAndWhatChanged(t *testing.T) {
	w := newWorld(t)
	w.acme.rooms.byID[w.room].rows.snapshot += 10_000 // as of a larger room: the deltas do not outgrow it
	before, _ := w.rows()
	for n := range 5 {
		w.takes()
		now, deltas := w.rows()
		if !bytes.Equal(before, now) || len(deltas) != n+1 {
			t.Fatalf("after %d Commits there are %d deltas; the snapshot is written again: %v", n+1, len(deltas), !bytes.Equal(before, now))
		}
		_, want := w.acme.shown(w.room)
		got, rows, err := w.again()
		must(t, err)
		if !bytes.Equal(got.Marshal(), want) || rows.deltas != uint32(n+1) {
			t.Fatalf("read back it is another group, of %d deltas", rows.deltas)
		}
	}
	w.bob.submit(w.bob.proposal(w.room, w.bob.state.Epoch(), w.proposeRemove(w.bob, w.bob, "")))
	_, want := w.acme.shown(w.room)
	if got, rows, err := w.again(); err != nil || !bytes.Equal(got.Marshal(), want) || rows.deltas != 6 {
		t.Fatalf("with a proposal it is another group, of %d deltas: %v", rows.deltas, err)
	}
	w.acme.halt()
	w.acme.reopen(false)
	if _, got := w.acme.shown(w.room); !bytes.Equal(got, want) {
		t.Fatal("after a restart it is another group")
	}
}

func TestASnapshotTakesThePlaceOfDeltasThatOutgrowIt(t *testing.T) {
	w := newWorld(t)
	w.takes()
	first, _ := w.rows()
	most := 0
	for range 8 {
		w.takes()
		snapshot, deltas := w.rows()
		size := 0
		for _, d := range deltas {
			size += len(d.Value)
		}
		if size > len(snapshot) {
			t.Fatalf("%d bytes of deltas on a snapshot of %d", size, len(snapshot))
		}
		most = max(most, len(deltas))
		if got, _, err := w.again(); err != nil || got.Epoch() != w.alice.state.Epoch() {
			t.Fatal(err)
		}
	}
	if now, _ := w.rows(); bytes.Equal(first, now) || most == 0 {
		t.Fatalf("no snapshot in eight Commits, %d deltas at most", most)
	}
}

// A group that was pieced together wrongly must not order anything.
func TestAGroupWithADeltaMissingOrForeignIsNotUsed(t *testing.T) {
	w := newWorld(t)
	w.acme.rooms.byID[w.room].rows.snapshot += 10_000
	for range 3 {
		w.takes()
	}
	_, d := w.rows()
	extra := deltaKey(w.room, 4)
	write := func(f func(b *store.Batch)) {
		t.Helper()
		var b store.Batch
		f(&b)
		_, err := w.acme.store.Commit(t.Context(), &b)
		must(t, err)
	}
	for name, damage := range map[string]func(b *store.Batch){
		"the first missing": func(b *store.Batch) { b.Delete(d[0].Key) },
		"one missing":       func(b *store.Batch) { b.Delete(d[1].Key) },
		"the last missing":  func(b *store.Batch) { b.Delete(d[2].Key) },
		"swapped":           func(b *store.Batch) { b.Put(d[0].Key, d[1].Value); b.Put(d[1].Key, d[0].Value) },
		"repeated":          func(b *store.Batch) { b.Put(d[2].Key, d[1].Value) },
		"cut":               func(b *store.Batch) { b.Put(d[2].Key, d[2].Value[:len(d[2].Value)-1]) },
		"one too many":      func(b *store.Batch) { b.Put(extra, d[2].Value) },
	} {
		write(damage)
		if _, _, err := w.again(); err == nil {
			t.Errorf("%s: it was read", name)
		}
		write(func(b *store.Batch) {
			for _, kv := range d {
				b.Put(kv.Key, kv.Value)
			}
			b.Delete(extra)
		})
		if _, _, err := w.again(); err != nil {
			t.Fatalf("%s: mended it is not read: %v", name, err)
		}
	}
	write(func(b *store.Batch) { b.Delete(d[2].Key) })
	w.acme.halt()
	w.acme.reopen(false)
	bundle, _ := w.alice.commit(w.alice.state, group.CommitParams{})
	if st := w.alice.hand(w.room, w.alice.state.Epoch(), bundle); st.Code == pb.Code_CODE_SEQUENCED {
		t.Fatal("a Commit was ordered")
	}
}

// BenchmarkGroupRows reports what a Commit writes of a room's group, with the snapshots
// that come between.
func BenchmarkGroupRows(b *testing.B) {
	for _, n := range []int{10, 100, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			creator := benchClient(b, 0)
			state, err := group.Create(creator, group.CreateParams{Suite: mls.SuiteX25519AES128, GroupID: []byte("rows"), Credential: benchCredential(0)})
			must(b, err)
			var p group.CommitParams
			for i := 1; i < n; i++ {
				kp, _, err := group.NewKeyPackage(group.KeyPackageParams{Suite: mls.SuiteX25519AES128, Signer: benchClient(b, i).Signer,
					Credential: benchCredential(i), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
				must(b, err)
				p.Adds = append(p.Adds, kp)
			}
			step := func(p group.CommitParams) {
				_, staged, err := state.Stage(p)
				must(b, err)
				state, err = staged.Apply(state)
				must(b, err)
			}
			step(p)
			rows, whole, written, snapshots := groupRows{}.put(&store.Batch{}, wire.RoomID{}, nil, state.Public()), 0, 0, 0
			commits := 0
			for b.Loop() {
				before := state.Public()
				step(group.CommitParams{})
				next := rows.put(&store.Batch{}, wire.RoomID{}, before, state.Public())
				if written += next.bytes - rows.bytes; next.deltas == 0 {
					written += rows.bytes + next.snapshot
					snapshots++
				}
				rows, whole, commits = next, whole+len(state.Public().Marshal()), commits+1
			}
			b.ReportMetric(float64(whole)/float64(commits), "whole-B/Commit")
			b.ReportMetric(float64(written)/float64(commits), "written-B/Commit")
			b.ReportMetric(float64(snapshots), "snapshots")
		})
	}
}

func benchCredential(i int) mls.Credential {
	return mls.Credential{Type: mls.CredentialBasic, Identity: fmt.Appendf(nil, "client %d", i)}
}

func benchClient(b *testing.B, i int) group.Config {
	b.Helper()
	return group.Config{Validator: trusting{}, Signer: ed25519.NewKeyFromSeed(fmt.Appendf(nil, "%032d", i))}
}
