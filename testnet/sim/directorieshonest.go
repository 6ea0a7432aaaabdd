package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// honestEvents is how much befalls the organizations of an honest run.
const honestEvents = 14

// honest is a run in which nobody lies: members come and go, nodes go back to backups, lose
// bits and have their clocks set.
type honest struct {
	logs
	backups map[*site]string
	roots   map[*site]string // where an organization's root keys are, off its node
	did     map[string]int
	talkers []*person // one of each of the first three organizations
	rooms   []wire.RoomID
	texts   map[string]string // of agreements: pair and version to hash
}

// run returns the first accusation, or what does not converge.
func (h *honest) run(ctx context.Context) (err error) {
	defer func() {
		if e := h.close(); err == nil {
			err = e
		}
	}()
	if err := h.found(ctx, h.templates); err != nil {
		return err
	}
	if err := h.gather(ctx); err != nil {
		return err
	}
	for i := range honestEvents {
		s := h.sites[h.rng.IntN(3)] // few, so that restores meet what was lost
		if err := h.event(ctx, s, i); err != nil {
			return err
		}
		time.Sleep(time.Duration(h.rng.Int64N(int64(10 * time.Second))))
		if err := h.accusations(ctx); err != nil {
			return err
		}
	}
	for _, s := range h.sites {
		s.skew.Store(0)
	}
	if err := h.agreeInTheEnd(ctx); err != nil {
		return err
	}
	if err := h.honestReceipts(); err != nil {
		return err
	}
	return h.converge(ctx)
}

// event is one thing that happens to an organization.
func (h *honest) event(ctx context.Context, s *site, i int) error {
	what := []string{"enrol", "backup", "enrol", "restore", "enrol", "bit flip", "clock step", "rotate"}[h.rng.IntN(8)]
	h.did[what]++
	for range h.rng.IntN(4) { // what a restore may take
		if err := h.talk(); err != nil {
			return err
		}
	}
	if h.rng.IntN(3) == 0 {
		if err := h.amend(ctx, s); err != nil {
			return err
		}
	}
	switch what {
	case "enrol":
		return h.enrol(ctx, s, i)
	case "backup":
		synctest.Wait()
		next, err := h.snapshot(s.dir)
		h.backups[s] = next
		return err
	case "restore":
		if h.backups[s] == "" {
			return nil
		}
		if err := s.halt(); err != nil {
			return err
		}
		from := h.backups[s]
		next, err := h.snapshot(from)
		if err != nil {
			return err
		}
		s.dir = next
		if err := s.start(); err != nil {
			return err
		}
		if err := h.talk(); err != nil {
			return err
		}
		return h.enrol(ctx, s, i) // at once, before anybody has told it anything
	case "bit flip":
		return h.flip(s)
	case "rotate":
		return h.rotate(s)
	}
	s.skew.Store(int64(time.Duration(h.rng.IntN(21)-10) * time.Minute))
	return nil
}

// enrol adds a member; a node that recovers refuses that for now, and voids the link.
func (h *honest) enrol(ctx context.Context, s *site, i int) error {
	_, err := h.person(ctx, s, fmt.Sprintf("member%d", i))
	if err != nil && (strings.Contains(err.Error(), "recovering") || strings.Contains(err.Error(), "the link was revoked")) {
		h.did["refused: recovering"]++
		return nil
	}
	return err
}

// rotate brings the next root into office. The keys are not in the node's folder, so that no
// restore brings older ones back; with those a restored folder's manifest is followed up
// only if it is the newest.
func (h *honest) rotate(s *site) error {
	if err := s.halt(); err != nil {
		return err
	}
	keys := h.roots[s]
	if keys == "" {
		keys = filepath.Join(h.templates, s.name, node.RootFile)
	}
	out := filepath.Join(h.root, fmt.Sprintf("%s-root-%d", s.name, h.did["rotate"]))
	_, err := node.RotateRoot(s.dir, keys, out, passphrase, time.Now())
	switch {
	case err == nil:
		h.roots[s] = out
	case strings.Contains(err.Error(), "holds other keys"):
		h.did["not rotated: an older manifest"]++
	default:
		return err
	}
	return s.start()
}

// flip changes one bit of a halted node's store. A node that does not open any more goes
// back to its backup, or to what it was.
func (h *honest) flip(s *site) error {
	if err := s.halt(); err != nil {
		return err
	}
	sound, err := h.snapshot(s.dir)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "store", "*"))
	if err != nil {
		return err
	}
	for _, k := range h.rng.Perm(len(files)) {
		b, err := os.ReadFile(files[k])
		if err != nil || len(b) == 0 {
			continue
		}
		at := h.rng.IntN(len(b))
		b[at] ^= 1 << h.rng.IntN(8)
		if err := os.WriteFile(files[k], b, 0o600); err != nil {
			return err
		}
		break
	}
	if s.start() == nil {
		return nil
	}
	h.did["flip named"]++
	if s.dir = sound; h.backups[s] != "" {
		if s.dir, err = h.snapshot(h.backups[s]); err != nil {
			return err
		}
	}
	return s.start()
}

// accusations is an error when any organization holds a proof against another, or has signed
// two texts of one version with it.
func (h *honest) accusations(ctx context.Context) error {
	for _, s := range h.sites {
		a, err := s.operator.ListLogs(ctx, connect.NewRequest(&pb.ListLogsRequest{}))
		if err != nil {
			return err
		}
		for _, p := range a.Msg.Logs {
			if p.Fork || p.Roots {
				return fmt.Errorf("sim: %s accuses %s: %s", s.name, p.Organization, p.Problem)
			}
		}
	}
	return h.signed(ctx)
}

// converge waits until every partner holds every log as it is, with nothing against it.
func (h *honest) converge(ctx context.Context) error {
	for _, of := range h.sites[:3] {
		var by []*site
		for _, s := range h.sites {
			if _, err := s.holds(ctx, of); err == nil {
				by = append(by, s)
			}
		}
		_, err := eventually(by, 10*time.Minute, func(s *site) error {
			head, err := of.operator.ShowDirectory(ctx, connect.NewRequest(&pb.ShowDirectoryRequest{}))
			if err != nil {
				return err
			}
			p, err := s.holds(ctx, of)
			if err == nil && (p.Size != head.Msg.Size || p.Problem != "" || p.Fork) {
				err = fmt.Errorf("%w: %s holds %d of %d entries of %s: %s", errNever, s.name, p.Size, head.Msg.Size, of.name, p.Problem)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return h.accusations(ctx)
}
