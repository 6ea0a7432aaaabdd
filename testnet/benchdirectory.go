package testnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/identity/directory"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// benchDirectory enrols many members into a durable directory, a device each, and measures
// what a change, a currency proof, an audit and opening it cost when they are all there.
func benchDirectory(ctx context.Context, o BenchOptions, root string) error {
	b, err := newDirectoryBench(ctx, filepath.Join(root, "store"))
	if err != nil {
		return err
	}
	defer func() { b.store.Close() }()
	fmt.Fprintf(o.Out, "directory of %d members, one device each\n", o.Directory)
	var some []wire.MemberID
	var last []time.Duration
	began := time.Now()
	for i := range o.Directory {
		before := time.Now()
		id, err := b.enrol(ctx, fmt.Sprintf("member%d", i))
		if err != nil {
			return err
		}
		if i%max(1, o.Directory/200) == 0 {
			some = append(some, id)
		}
		if i >= o.Directory-500 {
			last = append(last, time.Since(before))
		}
	}
	slices.Sort(last)
	fmt.Fprintf(o.Out, "  enrolled in %.0f s; one of the last 500: p50 %.2f ms, p99 %.2f ms (link and enrolment, two durable commits)\n",
		time.Since(began).Seconds(), ms(last, 50), ms(last, 99))
	if err := b.proofs(ctx, o, some); err != nil {
		return err
	}
	return b.reopen(ctx, o)
}

type directoryBench struct {
	dir   string
	org   *identity.Organization
	keys  *identity.NodeKeys
	store *store.Store
	*directory.Directory
}

type benchClock struct{ began time.Time }

func (benchClock) Now() time.Time        { return time.Now() }
func (c benchClock) Boot() time.Duration { return time.Since(c.began) }

func newDirectoryBench(ctx context.Context, dir string) (*directoryBench, error) {
	roots, keys, err := identity.NewKeys()
	if err != nil {
		return nil, err
	}
	org, _, err := identity.CreateOrganization(identity.Creation{Name: "acme.example", Root: roots, Keys: keys, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	b := &directoryBench{dir: dir, org: org, keys: keys}
	return b, b.open(ctx)
}

func (b *directoryBench) open(ctx context.Context) (err error) {
	clock := benchClock{time.Now()}
	if b.store, err = store.Open(ctx, store.Options{Dir: b.dir, SealKey: b.keys.Store, Bucket: time.Hour, TrustClock: true, Clock: clock}); err != nil {
		return err
	}
	b.Directory, err = directory.Open(ctx, b.store, directory.Options{Organization: b.org, Directory: b.keys.Directory, VRF: b.keys.VRF, Clock: clock})
	return err
}

// enrol redeems a link for a new member with a device.
func (b *directoryBench) enrol(ctx context.Context, name string) (id wire.MemberID, err error) {
	link, err := b.CreateLink(ctx, name, wire.LinkLifetime)
	if err != nil {
		return id, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return id, err
	}
	device, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return id, err
	}
	genesis, id, err := identity.NewGenesis(b.org.ID, name, key, time.Now())
	if err != nil {
		return id, err
	}
	c, err := identity.SignDeviceCertificate(b.org.ID, id, wire.DeviceID(device), key, time.Now())
	if err != nil {
		return id, err
	}
	_, err = b.Enroll(ctx, directory.Enrolment{Secret: link.Secret, Genesis: genesis, Device: c.Note}, nil)
	return id, err
}

// proofs makes and verifies currency proofs, each under the same head.
func (b *directoryBench) proofs(ctx context.Context, o BenchOptions, list []wire.MemberID) error {
	var made, verified []time.Duration
	size := 0
	for _, id := range list {
		began := time.Now()
		chain, err := b.ProvedChain(id)
		if err != nil {
			return err
		}
		made = append(made, time.Since(began))
		size = max(size, proto.Size(chain.Currency))
		began = time.Now()
		if _, err := identity.VerifyCurrency(chain.Currency, b.org, id, chain.Record); err != nil {
			return err
		}
		verified = append(verified, time.Since(began))
	}
	slices.Sort(made)
	slices.Sort(verified)
	began := time.Now()
	audit, err := b.Audit(ctx)
	if err != nil {
		return err
	}
	if len(audit.Problems) > 0 {
		return errors.New("testnet: the audit finds " + audit.Problems[0])
	}
	took := time.Since(began)
	fmt.Fprintf(o.Out, "  currency proof: at most %d bytes; made in p50 %.2f ms, verified in %.2f ms\n", size, ms(made, 50), ms(verified, 50))
	fmt.Fprintf(o.Out, "  audit of %d entries: %.1f s\n", audit.Leaves, took.Seconds())
	return nil
}

// reopen measures the disk, and what a start costs.
func (b *directoryBench) reopen(ctx context.Context, o BenchOptions) error {
	if err := b.store.Close(); err != nil {
		return err
	}
	b.Directory = nil
	var bytes int64
	err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		if err == nil {
			bytes += i.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	if err := b.open(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	fmt.Fprintf(o.Out, "  disk %.0f MB; opened in %.1f s, holds %.0f MB of memory\n", float64(bytes)/1e6, took.Seconds(), float64(after.HeapAlloc-before.HeapAlloc)/1e6)
	return nil
}
