package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/node"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// Directories that lie, and honest ones that are restored: twenty organizations whose nodes
// watch each other's logs, by stream and by gossip (docs/protocol.md 2.11 to 2.14, 5.12).

// directoryOrgs is how many organizations a run has; the first may lie. It is everybody's
// partner; of the others each is the partner of the next one alone: one honest path.
const directoryOrgs = 20

// caughtWithin is how long a lie may last, in virtual time.
const caughtWithin = 120 * time.Second

// lie is what the first organization does.
type lie string

const (
	splitView   lie = "split view"          // two members, each shown to some
	ghost       lie = "ghost"               // a member's record that some are shown, and others never
	withholds   lie = "withheld revocation" // a revocation that some are never shown
	ghostDevice lie = "ghost device"        // a member is reset to a device of the organization, as some are shown; the member is not
	forged      lie = "forged device"       // a version of a member's record that no key of the member has signed, for some
)

var lies = []lie{splitView, ghost, withholds, ghostDevice, forged}

// hidden are the leaves that those who are not shown a lie learn of and never get: each
// change has one, and one of the map after it.
var hidden = map[lie][]int{ghost: {2}, withholds: {2}, ghostDevice: {2, 4}, forged: {2}}

func directoryName(i int) string { return fmt.Sprintf("org%02d.example", i) }

// logs is a run about directories.
type logs struct {
	*world
	lie       lie
	templates string // the folder of the organizations' folders
	other     *site  // the liar's second node
	cut       int    // organizations from here on are shown that one
	size      int    // organizations; 0: directoryOrgs
	forger    *forger
	weather   func()        // before the lie; nil: links are as good as ever
	within    time.Duration // the lie has to be caught; 0: caughtWithin
}

// found starts all organizations and makes them partners.
func (l *logs) found(ctx context.Context, templates string) error {
	size := l.size
	if size == 0 {
		size = directoryOrgs
	}
	for i := range size {
		s := &site{w: l.world, name: directoryName(i), dir: filepath.Join(l.root, directoryName(i)), gossips: true}
		if err := os.CopyFS(s.dir, os.DirFS(filepath.Join(templates, s.name))); err != nil {
			return err
		}
		l.sites = append(l.sites, s)
		if i == 0 && l.lie == forged {
			org, err := node.OpenOrganization(s.dir)
			if err != nil {
				return err
			}
			l.forger = &forger{org: org}
			s.alter = l.forger.listen
		}
		if err := s.start(); err != nil {
			return err
		}
	}
	for i := 1; i < size; i++ {
		if err := agree(ctx, l.sites[0], l.sites[i]); err != nil {
			return err
		}
		if i > 1 {
			if err := agree(ctx, l.sites[i-1], l.sites[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds is what a site has of another's log.
func (s *site) holds(ctx context.Context, of *site) (*pb.PartnerLog, error) {
	a, err := s.operator.ListLogs(ctx, connect.NewRequest(&pb.ListLogsRequest{}))
	if err != nil {
		return nil, err
	}
	for _, p := range a.Msg.Logs {
		if p.Organization == of.name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("sim: %s does not follow %s", s.name, of.name)
}

// errNever says that something has not come true in its time.
var errNever = errors.New("sim: it has not come true")

// eventually waits, in virtual time, until something holds at all of some sites.
func eventually(sites []*site, within time.Duration, holds func(*site) error) (time.Duration, error) {
	began := time.Now()
	for {
		var err error
		for _, s := range sites {
			if err = holds(s); err != nil {
				break
			}
		}
		if err == nil || time.Since(began) > within {
			return time.Since(began), err
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// storms has every link between organizations lose one write in fifty, with its connection,
// and take up to 300 ms.
func (l *logs) storms() {
	for i, s := range l.sites {
		for _, other := range l.sites[:i] {
			l.net.between(s.name, other.name).setLoss(0.02, 300*time.Millisecond)
		}
	}
}

// pauses has an organization's node answer nobody for a while.
func (l *logs) pauses(s *site, length time.Duration) {
	for _, other := range l.sites {
		if other != s {
			l.net.between(s.name, other.name).hold(length)
		}
	}
}

// follows waits until sites hold as much of another's log as there is.
func (l *logs) follows(ctx context.Context, of *site, size uint64, sites []*site) error {
	_, err := eventually(sites, 5*time.Minute, func(s *site) error {
		p, err := s.holds(ctx, of)
		if err == nil && (p.Size != size || p.Problem != "" || p.Fork) {
			err = fmt.Errorf("%w: %s holds %d of %d entries of %s: %s", errNever, s.name, p.Size, size, of.name, p.Problem)
		}
		return err
	})
	return err
}

// split halts the liar and starts two nodes of it, which the others meet one of each.
func (l *logs) split() error {
	liar := l.sites[0]
	if err := liar.halt(); err != nil {
		return err
	}
	l.other = &site{w: l.world, name: liar.name, dir: liar.dir + "-other", face: "other-", gossips: true}
	if err := copyFiles(l.other.dir, liar.dir); err != nil {
		return err
	}
	if l.lie == forged {
		if err := l.forger.forge(l.other.dir); err != nil {
			return err
		}
		l.other.alter = l.forger.lie
	}
	l.cut = 2 + l.rng.IntN(directoryOrgs-3)
	l.fabric.mu.Lock()
	for _, s := range l.sites[l.cut:] {
		l.fabric.sees[s.name] = true
	}
	l.fabric.mu.Unlock()
	// The second one first: who is to meet it never meets the other.
	return errors.Join(l.other.start(), liar.start())
}

// lies has the liar lie, and returns the sites that have to notice.
func (l *logs) lies(ctx context.Context) ([]*site, error) {
	device := ""
	if l.lie == withholds {
		d, _ := l.people[0].now()
		device = d.ID().String()
	}
	if err := l.split(); err != nil {
		return nil, err
	}
	first, second := l.sites[1:l.cut], l.sites[l.cut:]
	switch l.lie {
	case splitView:
		if _, err := l.person(ctx, l.sites[0], "mallory"); err != nil {
			return nil, err
		}
		_, err := l.ghostAt(ctx, "oscar")
		return l.sites[1:], err
	case ghost:
		_, err := l.ghostAt(ctx, "ghost")
		return first, err
	case ghostDevice:
		return first, l.resets(ctx, "alice")
	case forged:
		return first, nil // its node shows it from the start on
	}
	_, err := l.sites[0].operator.DisableDevice(ctx, connect.NewRequest(&pb.DisableDeviceRequest{DeviceId: device}))
	return second, err
}

// ghostAt enrols somebody at the liar's second node.
func (l *logs) ghostAt(ctx context.Context, name string) (*person, error) {
	return l.personVia(ctx, l.other, name, l.toOther)
}

// toOther is a device's way to the liar's second node.
func (l *logs) toOther(ctx context.Context, addr string) (net.Conn, error) {
	return l.net.dial(ctx, "device of a ghost", l.other.face+addr)
}

// resets puts a device of the liar's into the place of a member's, at its second node.
func (l *logs) resets(ctx context.Context, name string) error {
	a, err := l.other.operator.ResetMember(ctx, connect.NewRequest(&pb.ResetMemberRequest{Name: name}))
	if err == nil {
		_, err = l.enrol(ctx, l.other, name+"-ghost", a.Msg.Link, l.toOther)
	}
	return err
}

// lyingRun runs one lie and returns how long it lasted.
func (l *logs) lyingRun(ctx context.Context) (took time.Duration, err error) {
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.found(ctx, l.templates); err != nil {
		return 0, err
	}
	if _, err := l.person(ctx, l.sites[0], "alice"); err != nil {
		return 0, err
	}
	if err := l.follows(ctx, l.sites[0], 2, l.sites[1:]); err != nil {
		return 0, err
	}
	if l.weather != nil {
		l.weather()
	}
	by, err := l.lies(ctx)
	if err != nil {
		return 0, err
	}
	if took, err = l.caught(ctx, by); err == nil {
		err = l.shownTo(ctx)
	}
	if err != nil {
		for _, s := range l.sites[1:] {
			if p, e := s.holds(ctx, l.sites[0]); e == nil {
				err = fmt.Errorf("%w\n%s: %d entries, proof %v, %s", err, s.name, p.Size, p.Fork, p.Problem)
			}
		}
	}
	return took, err
}

// caught waits until every site that has to has noticed what there is to notice: a proof of
// two pasts, or that there is a head whose leaves the log's owner does not show it.
func (l *logs) caught(ctx context.Context, by []*site) (time.Duration, error) {
	within := caughtWithin
	if l.within > 0 {
		within = l.within
	}
	return eventually(by, within, func(s *site) error {
		p, err := s.holds(ctx, l.sites[0])
		if err != nil {
			return err
		}
		if !l.named(p) {
			err = fmt.Errorf("%w: %s has noticed nothing of a %s; it holds %d entries: proof %v, %q", errNever, s.name, l.lie, p.Size, p.Fork, p.Problem)
		}
		return err
	})
}

// shownTo checks that a device which the organization has added was truly shown to some, and
// that the member's own device, which meets the other node, goes on as if nothing were.
func (l *logs) shownTo(ctx context.Context) error {
	if l.lie != ghostDevice && l.lie != forged {
		return nil
	}
	shown := 0
	for _, s := range l.sites[l.cut:] { // one that had no answer at first waits before it asks again
		p, err := s.holds(ctx, l.sites[0])
		if err != nil {
			return err
		}
		if p.Size > 2 && !p.Fork {
			shown++
		}
	}
	if shown == 0 {
		return fmt.Errorf("sim: nobody was shown the %s", l.lie)
	}
	return l.people[0].visit(0)
}

// named reports whether what a site has noticed is this lie.
func (l *logs) named(p *pb.PartnerLog) bool {
	if l.lie == splitView {
		return p.Fork && p.Problem == "replica: the log has two pasts"
	}
	return !p.Fork && p.Size == 2 && slices.ContainsFunc(hidden[l.lie], func(n int) bool {
		return p.Problem == fmt.Sprintf("replica: does not fit: 0 bytes for %d leaves", n)
	})
}

// close ends everything.
func (l *logs) close() error {
	for _, p := range l.people {
		p.close()
	}
	sites := l.sites
	if l.other != nil {
		sites = append(sites, l.other)
	}
	errs := make([]error, len(sites))
	var wg sync.WaitGroup
	for i, s := range sites {
		wg.Go(func() { errs[i] = s.halt() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
