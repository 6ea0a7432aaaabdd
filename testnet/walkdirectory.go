package testnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The last part of the walk: what directories have shown stays shown.

// partnerLog is a line of `directory partners --json`.
type partnerLog struct {
	Organization string `json:"organization"`
	Size         string `json:"size"`
	Problem      string `json:"problem"`
	Fork         bool   `json:"fork"`
	Incident     string `json:"incident"`
	Settled      bool   `json:"settled"`
}

// holds waits until an organization's copy of another's log is as it should be.
func (o *Organization) holds(ctx context.Context, of *Organization, right func(partnerLog) bool) error {
	return eventually(ctx, 90*time.Second, func() error {
		out, err := o.command(ctx, "directory", "partners", "--json")
		if err != nil {
			return err
		}
		for line := range bytes.Lines(out) {
			var l partnerLog
			if err := json.Unmarshal(line, &l); err != nil {
				return fmt.Errorf("testnet: the line %q: %w", line, err)
			}
			if l.Organization == of.Name && right(l) {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
		return fmt.Errorf("%w: %s has of partners' logs\n%s", errNotYet, o.Name, out)
	})
}

// ownLog is a line of `directory show --json`.
type ownLog struct {
	Size string `json:"size"`
	Root string `json:"root"` // base64
}

func (o *Organization) ownLog(ctx context.Context) (v ownLog, err error) {
	out, err := o.command(ctx, "directory", "show", "--json")
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	return v, err
}

// logSize is how long an organization's own log is.
func (o *Organization) logSize(ctx context.Context) (string, error) {
	v, err := o.ownLog(ctx)
	return v.Size, err
}

// logRoot is what it hashes to, in base64.
func (o *Organization) logRoot(ctx context.Context) (string, error) {
	v, err := o.ownLog(ctx)
	return v.Root, err
}

// seenBy waits until others hold an organization's log as it is now.
func (o *Organization) seenBy(ctx context.Context, others ...*Organization) error {
	size, err := o.logSize(ctx)
	if err != nil {
		return err
	}
	for _, other := range others {
		if err := other.holds(ctx, o, func(l partnerLog) bool { return l.Size == size && l.Problem == "" && !l.Fork }); err != nil {
			return err
		}
	}
	return nil
}

// restoresDirectory sets acme back to a copy of its folder: it takes its log back from its
// partners before it signs anything, and they have nothing against it.
func (w *walk) restoresDirectory(ctx context.Context) (string, error) {
	w.acme.Stop()
	old := filepath.Join(w.root, "acme-before")
	if err := copyFolder(old, w.acme.Dir); err != nil {
		return "", err
	}
	if err := w.acme.Start(ctx); err != nil {
		return "", err
	}
	before, err := w.acme.logSize(ctx)
	if err != nil {
		return "", err
	}
	if _, err := w.acme.NewDevice(ctx, w.root, "dora"); err != nil {
		return "", err
	}
	if err := w.acme.seenBy(ctx, w.globex); err != nil {
		return "", err
	}
	w.acme.Stop()
	if err := os.RemoveAll(w.acme.Dir); err != nil {
		return "", err
	}
	if err := copyFolder(w.acme.Dir, old); err != nil {
		return "", err
	}
	if err := w.acme.Start(ctx); err != nil {
		return "", err
	}
	var after string
	err = eventually(ctx, 60*time.Second, func() error {
		if after, err = w.acme.logSize(ctx); err == nil && after != before {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
		return fmt.Errorf("%w: the log has %s entries: %v", errNotYet, after, err)
	})
	if err != nil {
		return "", err
	}
	err = errors.Join(w.acme.seenBy(ctx, w.globex), w.rememberLogs(ctx))
	return fmt.Sprintf("%s entries, then %s: taken back", before, after), err
}

// splitView has initech show acme one past and globex another; both prove it.
func (w *walk) splitView(ctx context.Context) (string, error) {
	size, err := w.initech.logSize(ctx)
	if err != nil {
		return "", err
	}
	w.album.past = twoPasts{liar: w.initech.Name, common: int(number(size)), shown: make(map[string]string)}
	w.initech.Stop()
	other := *w.initech
	other.Dir += "-other"
	if err := copyFolder(other.Dir, w.initech.Dir); err != nil {
		return "", err
	}
	w.acme.Stop()
	if err := w.face(ctx, w.initech, "mallory", w.globex); err != nil {
		return "", err
	}
	w.globex.Stop()
	if err := w.acme.Start(ctx); err != nil {
		return "", err
	}
	if err := w.face(ctx, &other, "oscar", w.acme); err != nil {
		return "", err
	}
	if err := w.globex.Start(ctx); err != nil {
		return "", err
	}
	began := time.Now()
	for _, o := range []*Organization{w.globex, w.acme} {
		if err := o.holds(ctx, w.initech, func(l partnerLog) bool { return l.Fork }); err != nil {
			return "", err
		}
	}
	took := time.Since(began)
	proof, err := w.globex.command(ctx, "directory", "fork", w.initech.Name)
	if err != nil {
		return "", err
	}
	file := filepath.Join(w.root, "initech.fork")
	if err := os.WriteFile(file, proof, 0o600); err != nil {
		return "", err
	}
	err = errors.Join(w.rememberFork(proof, fmt.Sprintf("%.1f", took.Seconds())), w.remember(ctx, "initech shows two pasts"))
	if err != nil {
		return "", err
	}
	said, err := runCommand(ctx, w.Binary, "directory", "verify", file)
	if err == nil && !strings.Contains(string(said), "two pasts") {
		err = fmt.Errorf("the proof shows:\n%s", said)
	}
	return fmt.Sprintf("proved %.1f s after the two met, %d bytes", took.Seconds(), len(proof)), err
}

// comesBack has initech's root tell of the incident: a new log begins, which both partners
// follow, and when they have ended the quarantine, its members are believed again.
func (w *walk) comesBack(ctx context.Context) (string, error) {
	const reason = "a copy of our node ran beside it"
	if _, err := w.initech.command(ctx, "organization", "incident", reason, "--yes"); err != nil {
		return "", err
	}
	began := time.Now()
	if err := w.initech.Start(ctx); err != nil {
		return "", err
	}
	for _, o := range []*Organization{w.globex, w.acme} {
		err := o.holds(ctx, w.initech, func(l partnerLog) bool {
			return !l.Fork && l.Settled && l.Incident == reason && l.Problem == "" && number(l.Size) > 0
		})
		if err == nil {
			_, err = o.command(ctx, "partner", "release", w.initech.Name)
		}
		if err != nil {
			return "", err
		}
	}
	took := time.Since(began)
	erin, err := w.initech.NewDevice(ctx, w.root, "erin")
	if err != nil {
		return "", err
	}
	if _, err := w.alice.command(ctx, "receive"); err != nil { // her node was restored: it has no KeyPackage of her
		return "", err
	}
	text := "back " + randomText(8)
	if _, err := erin.command(ctx, "send", w.alice.Address, text); err != nil {
		return "", err
	}
	err = w.reads(ctx, w.alice, erin.Address, text)
	return fmt.Sprintf("followed anew after %.1f s", took.Seconds()), err
}

// face runs one of two copies of a liar's node, which enrols a member, until somebody has
// been shown that.
func (w *walk) face(ctx context.Context, liar *Organization, member string, shown *Organization) error {
	if err := liar.Start(ctx); err != nil {
		return err
	}
	defer liar.Stop()
	if _, err := liar.NewDevice(ctx, w.root, member); err != nil {
		return err
	}
	if err := liar.seenBy(ctx, shown); err != nil {
		return err
	}
	root, err := liar.logRoot(ctx)
	w.album.past.shown[root] = shown.Name
	return err
}
