package main

import (
	"crypto/ed25519"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
)

var suites = []struct {
	name string
	id   mls.SuiteID
}{
	{"1, X25519 AES-128-GCM", mls.SuiteX25519AES128},
	{"3, X25519 ChaCha20-Poly1305", mls.SuiteX25519ChaCha20},
	{"0xF0E1, MLKEM768-X25519 ChaCha20-Poly1305", mls.SuiteXWingChaCha20},
}

// row is what a group of a size costs. Costs are the least of seven runs, those of
// messages the median of 300.
type row struct {
	members int
	add     cost   // a Commit that adds all, its Welcome and GroupInfo
	addMem  uint64 // bytes allocated by it
	join    cost
	commit  cost // an empty Commit
	process cost
	send    time.Duration // 200 bytes, with the record to store
	receive time.Duration

	// Sizes in bytes.
	addSize, welcomeSize, commitSize, treeSize, messageSize int
	groupRecord, ratchetRecord                              int
}

// cost is the time that passes, and that of all processors together: on a busy
// machine the second says more.
type cost struct{ wall, cpu time.Duration }

func (c cost) String() string {
	return fmt.Sprintf("%.3g (%.3g) ms", float64(c.wall)/1e6, float64(c.cpu)/1e6)
}

const header = "| members | add all, Welcome | allocated | join | Commit | process | send | receive |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n"

func (r row) String() string {
	us := func(d time.Duration) string { return fmt.Sprintf("%.0f us", float64(d)/1e3) }
	return fmt.Sprintf("| %d | %s | %.1f MB | %s | %s | %s | %s | %s |\n", r.members, r.add, float64(r.addMem)/1e6, r.join, r.commit, r.process, us(r.send), us(r.receive))
}

const sizesHeader = "| members | adding Commit | Welcome | empty Commit | tree | message of 200 bytes | group record | stored after a message |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n"

func (r row) sizes() string {
	return fmt.Sprintf("| %d | %s | %s | %s | %s | %s | %s | %s |\n", r.members, kb(r.addSize), kb(r.welcomeSize), kb(r.commitSize), kb(r.treeSize), kb(r.messageSize), kb(r.groupRecord), kb(r.ratchetRecord))
}

func kb(n int) string {
	if n >= 10_000 {
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.2f kB", float64(n)/1e3)
}

type anybody struct{}

func (anybody) ValidateLeaf(mls.LeafCheck) error { return nil }

type client struct {
	cfg  group.Config
	kp   []byte
	keys *group.KeyPackageSecrets
}

func credential(i int) mls.Credential {
	return mls.Credential{Type: mls.CredentialBasic, Identity: []byte(fmt.Sprint("member ", i))}
}

func newClient(suite mls.SuiteID, i int) (c client, err error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return c, err
	}
	c.cfg = group.Config{Validator: anybody{}, Signer: key}
	now := time.Now()
	c.kp, c.keys, err = group.NewKeyPackage(group.KeyPackageParams{Suite: suite, Signer: key, Credential: credential(i),
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)})
	return c, err
}

// least runs f seven times, fewer once two seconds have gone, and returns the
// lowest cost: other work on the machine only ever adds to it.
func least(f func() error) (best cost, err error) {
	runtime.GC()
	for i, begun := 0, time.Now(); i < 2 || i < 7 && time.Since(begun) < 2*time.Second; i++ {
		start, cpu := time.Now(), processor()
		if err := f(); err != nil {
			return best, err
		}
		c := cost{time.Since(start), processor() - cpu}
		if i == 0 {
			best = c
		}
		best = cost{min(best.wall, c.wall), min(best.cpu, c.cpu)}
	}
	return best, nil
}

func measure(suite mls.SuiteID, members int) (r row, err error) {
	r.members = members
	first, err := newClient(suite, 0)
	if err != nil {
		return r, err
	}
	var last client
	var kps [][]byte
	for i := 1; i < members; i++ {
		if last, err = newClient(suite, i); err != nil {
			return r, err
		}
		kps = append(kps, last.kp)
	}
	state, err := group.Create(first.cfg, group.CreateParams{Suite: suite, GroupID: []byte("growth"), Credential: credential(0)})
	if err != nil {
		return r, err
	}
	var added *group.Staged
	add := func() (err error) { // as in every first Commit: all are verified and sealed to
		_, added, err = state.Stage(group.CommitParams{Adds: kps})
		return err
	}
	if r.add, err = least(add); err != nil {
		return r, err
	}
	r.addMem = allocated(add)
	r.addSize, r.welcomeSize, r.treeSize = len(added.Commit), len(added.Welcome), len(added.Tree)
	if state, err = added.Apply(state); err != nil {
		return r, err
	}
	var joined *group.State
	if r.join, err = least(func() (err error) {
		joined, _, err = group.Join(last.cfg, added.Welcome, added.Tree, last.keys)
		return err
	}); err != nil {
		return r, err
	}
	if err := r.commits(state, joined); err != nil {
		return r, err
	}
	return r, r.messages(state, joined)
}

// allocated is how many bytes a call of f asks for.
func allocated(f func() error) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if f() != nil {
		return 0
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func (r *row) commits(from, to *group.State) (err error) {
	var staged *group.Staged
	if r.commit, err = least(func() (err error) {
		_, staged, err = from.Stage(group.CommitParams{})
		return err
	}); err != nil {
		return err
	}
	r.commitSize = len(staged.Commit)
	r.process, err = least(func() error {
		_, _, err := to.Process(staged.Commit)
		return err
	})
	return err
}

func (r *row) messages(from, to *group.State) (err error) {
	const many = 300
	data := make([]byte, 200)
	sent := make([][]byte, 0, many)
	took := make([]time.Duration, many)
	for i := range many {
		start := time.Now()
		next, msg, err := from.Encrypt(nil, data, 0)
		if err != nil {
			return err
		}
		next.Records(from)
		took[i] = time.Since(start)
		from, sent = next, append(sent, msg)
	}
	slices.Sort(took)
	r.send = took[many/2]
	for i, msg := range sent {
		start := time.Now()
		next, _, err := to.Decrypt(msg)
		if err != nil {
			return err
		}
		stored := next.Records(to)
		took[i] = time.Since(start)
		to, r.ratchetRecord = next, sizeOf(stored)
	}
	slices.Sort(took)
	r.receive = took[many/2]
	r.messageSize, r.groupRecord = len(sent[0]), sizeOf(to.Records(nil)[:1])
	return nil
}

func sizeOf(records []group.Record) (n int) {
	for _, r := range records {
		n += len(r.Key) + len(r.Value)
	}
	return n
}
