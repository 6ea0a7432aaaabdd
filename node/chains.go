package node

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/policy"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// chains hold partners' members whose certificates were verified, so that the
// validator never waits for the network inside mls. What it misses it notes; the
// caller fetches that and tries again.
type chains struct {
	mu      sync.Mutex
	now     func() time.Time
	members map[memberKey]*identity.Member
	missing map[wanted]bool
	asked   map[wanted]asked
	askings map[memberKey]askings
	busy    map[wire.OrganizationID]bool // that is being asked: one question after the other
}

// wanted is what is missing of a member: a certificate that is not among those known, or
// with the zero hash all of them.
type wanted struct {
	memberKey
	certificate [32]byte
}

// askings counts how often a member's organization was asked for certificates that it had
// not shown, since a time.
type askings struct {
	since time.Time
	n     int
}

// maxAskings is how many unknown certificates of one member are asked for within
// chainPatience: a person links no more devices than that, and who makes certificates up
// has no more questions asked for them.
const maxAskings = 4

// asked is when a member's organization was asked last, and whether it answered.
type asked struct {
	at       time.Time
	answered bool
}

type memberKey struct {
	org    wire.OrganizationID
	member wire.MemberID
}

// maxChains bounds the cache; when it is full it starts anew.
const maxChains = 20_000

// chainPatience is how long an answer of a member's organization counts as its last
// word, and a failure to ask as reason to refuse a partner's Commit for good: a
// refusal for now would hold up the partner's room for as long as that lasts.
const chainPatience = 30 * time.Second

func newChains(now func() time.Time) *chains {
	return &chains{now: now, members: make(map[memberKey]*identity.Member), missing: make(map[wanted]bool),
		asked: make(map[wanted]asked), askings: make(map[memberKey]askings), busy: make(map[wire.OrganizationID]bool)}
}

// chainNeeded says whose certificates are missing, and whether they were asked for
// just now, in vain.
type chainNeeded struct {
	memberKey
	inVain bool
}

func (e *chainNeeded) Error() string {
	return fmt.Sprintf("node: the certificates of member %s are needed", e.member)
}

func (c *chains) get(k memberKey) (*identity.Member, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[k]; m != nil {
		return m, nil
	}
	return nil, c.need(wanted{memberKey: k})
}

// want notes that a member's certificates are to be fetched anew for one that is not among
// them.
func (c *chains) want(k memberKey, certificate [32]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.need(wanted{k, certificate})
}

// need notes what is missing and says so, unless its organization has just answered.
func (c *chains) need(k wanted) error {
	last, ok := c.asked[k]
	recent := ok && c.now().Sub(last.at) < chainPatience
	if recent && last.answered || !ok && !c.mayAsk(k.memberKey) {
		return fmt.Errorf("node: the organization of member %s does not bear its certificates out", k.member)
	}
	if len(c.missing) < maxChains {
		c.missing[k] = true
	}
	return &chainNeeded{k.memberKey, recent}
}

// mayAsk says whether certificates of a member may be asked for that were not before.
func (c *chains) mayAsk(k memberKey) bool {
	a := c.askings[k]
	return a.n < maxAskings || c.now().Sub(a.since) >= chainPatience
}

// heard notes that a member's organization was asked, with what came of it.
func (c *chains) heard(k wanted, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) >= maxChains {
		clear(c.asked)
	}
	c.asked[k] = asked{c.now(), err == nil || wire.ClassOf(wire.StatusOf(err).Code) != wire.Temporary}
	if len(c.askings) >= maxChains {
		clear(c.askings)
	}
	a := c.askings[k.memberKey]
	if c.now().Sub(a.since) >= chainPatience {
		a = askings{since: c.now()}
	}
	a.n++
	c.askings[k.memberKey] = a
}

// forget has a member's certificates fetched anew when they are needed next.
func (c *chains) forget(k memberKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.members, k)
	delete(c.askings, k)
	maps.DeleteFunc(c.asked, func(w wanted, _ asked) bool { return w.memberKey == k })
}

// remember verifies a chain against the pinned organization and keeps it.
func (c *chains) remember(org wire.OrganizationID, chain *pb.MemberChain, now time.Time) error {
	m, err := identity.VerifyChain(chain, org, now)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) >= maxChains {
		clear(c.members)
	}
	k := memberKey{org, m.ID}
	if known := c.members[k]; known != nil {
		if err := m.Supersedes(known); err != nil {
			return err
		}
	}
	c.members[k] = m.Lasting()
	delete(c.missing, wanted{memberKey: k})
	return nil
}

// take returns what was missed since it was asked last, of organizations that nobody is asking
// now; whoever takes it says so to done.
func (c *chains) take() map[wire.OrganizationID]map[memberKey][]wanted {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[wire.OrganizationID]map[memberKey][]wanted)
	for w := range c.missing {
		if c.busy[w.org] {
			continue
		}
		if out[w.org] == nil {
			out[w.org] = make(map[memberKey][]wanted)
		}
		out[w.org][w.memberKey] = append(out[w.org][w.memberKey], w)
		delete(c.missing, w)
	}
	for org := range out {
		c.busy[org] = true
	}
	return out
}

func (c *chains) done(org wire.OrganizationID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, org)
}

// fetchMissing fetches what the validator missed and reports whether it got anything, so that
// trying again can help. Organizations are asked side by side: one that does not answer must
// not have another's Commits refused because nobody came to ask that one.
func (n *Node) fetchMissing(ctx context.Context) bool {
	var got atomic.Bool
	var wg sync.WaitGroup
	for org, members := range n.chains.take() {
		wg.Go(func() {
			defer n.chains.done(org)
			if org != n.org.ID && n.fetchOf(ctx, members) {
				got.Store(true)
			}
		})
	}
	wg.Wait()
	return got.Load()
}

// fetchOf fetches certificates of members of one organization.
func (n *Node) fetchOf(ctx context.Context, members map[memberKey][]wanted) (got bool) {
	for k, list := range members {
		chain, err := n.chain(ctx, k.org, k.member[:])
		for _, w := range list {
			n.chains.heard(w, err)
		}
		if err == nil {
			err = n.chains.remember(k.org, chain, n.clock.Now())
		}
		if err != nil {
			n.log.Warn("a member's certificates were not fetched", "partner", k.org, "error", err)
			continue
		}
		got = true
	}
	return got
}

// maxChainRounds bounds how often a Commit is tried again for certificates.
const maxChainRounds = 3

// withChains runs f, fetches the certificates that it missed, and runs it again.
func (n *Node) withChains(ctx context.Context, f func() *pb.Status) *pb.Status {
	status := f()
	for range maxChainRounds {
		if status.Code != pb.Code_CODE_UNREACHABLE || !n.fetchMissing(ctx) {
			break
		}
		status = f()
	}
	return status
}

// validator is the node's seat as MLS's authentication service: it lets in leaves
// of our directory's active devices and of partners in force, each bound to its
// certificates (docs/protocol.md 1.5).
type validator struct{ n *Node }

// ValidateLeaf implements mls.CredentialValidator.
func (v validator) ValidateLeaf(c mls.LeafCheck) error {
	cred, err := policy.CheckLeaf(c)
	if err != nil {
		return err
	}
	now := v.n.clock.Now()
	member, err := v.member(cred, now)
	if err != nil {
		return err
	}
	return identity.CheckCredential(cred, c.New.SignatureKey, member, now)
}

func (v validator) member(cred wire.Credential, now time.Time) (*identity.Member, error) {
	if cred.Organization == v.n.org.ID {
		return v.n.dir.Get(cred.Member)
	}
	if _, err := v.n.fed.InForce(cred.Organization, now); err != nil {
		return nil, err
	}
	k := memberKey{cred.Organization, cred.Member}
	m, err := v.n.chains.get(k)
	if err != nil {
		return nil, err
	}
	if d, ok := m.Devices[cred.Device]; !ok || d.Hash != cred.Certificate {
		return nil, v.n.chains.want(k, cred.Certificate) // a device that is newer than what we know
	}
	return m, nil
}

// ValidateExtensions implements mls.ExtensionsValidator.
func (v validator) ValidateExtensions(_ []byte, old, next []mls.Extension) error {
	return policy.CheckExtensions(old, next)
}
