// Package testnet runs several organizations on one machine and looks at what
// they do: Walk is the main job with real processes, step by step.
//
// It holds no rule of the protocol; it only starts, stops, types commands and
// reads what a person would read.
package testnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/store"
)

// WalkOptions says where a walk runs.
type WalkOptions struct {
	Binary string // the entente binary
	Out    io.Writer
	Keep   bool          // leave the folders behind
	Bucket time.Duration // deadline bucket of the nodes

	Pictures string // folder to draw pictures of the walk into; "": none
}

// walk holds what the steps share.
type walk struct {
	WalkOptions
	root    string
	acme    *Organization
	globex  *Organization
	initech *Organization
	alice   *Device
	bob     *Device
	carol   *Device
	tablet  *Device // alice's second
	secret  string  // text of the first message
	before  string  // copy of globex's folder from before the delivery
	raised  bool    // limits out of the way
	album   album
	step    int
	steps   int
}

// step is one line of the walk: what it shows, and what was measured.
type step struct {
	title string
	run   func(*walk, context.Context) (string, error)
}

// Walk starts acme.example and globex.example, walks the main job and returns
// nil only if every step held. It leaves no process behind, and no folder
// unless Keep is set.
func Walk(ctx context.Context, o WalkOptions) error {
	root, err := os.MkdirTemp("", "entente-walk-")
	if err != nil {
		return fmt.Errorf("testnet: %w", err)
	}
	w := &walk{WalkOptions: o, root: root, secret: "meet me at the north gate " + randomText(16)}
	defer w.cleanUp()
	w.steps = len(walkSteps)
	began := time.Now()
	for _, s := range walkSteps {
		if err := w.do(ctx, s); err != nil {
			return err
		}
	}
	if err := w.draw(); err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "all %d steps held in %.1f s\n", w.steps, time.Since(began).Seconds())
	return nil
}

func (w *walk) do(ctx context.Context, s step) error {
	w.step++
	began := time.Now()
	measured, err := s.run(w, ctx)
	mark := "ok  "
	if err != nil {
		mark, measured = "FAIL", err.Error()
	}
	fmt.Fprintf(w.Out, "%s %2d/%d  %-58s %6.2f s  %s\n", mark, w.step, w.steps, s.title, time.Since(began).Seconds(), measured)
	if err != nil {
		return fmt.Errorf("testnet: step %d, %s: %w", w.step, s.title, err)
	}
	return nil
}

func (w *walk) cleanUp() {
	for _, o := range []*Organization{w.acme, w.globex, w.initech} {
		if o != nil {
			o.Stop()
		}
	}
	if w.Keep {
		fmt.Fprintln(w.Out, "kept:", w.root)
		return
	}
	_ = os.RemoveAll(w.root)
}

var walkSteps = []step{
	{"two organizations start as processes", (*walk).startBoth},
	{"each enrols a member's first device by a link", (*walk).enrolBoth},
	{"they sign an agreement (contact: open)", (*walk).agree},
	{"bob's device is offline; alice sends", (*walk).send},
	{"globex has accepted it for bob", (*walk).acceptedAtGlobex},
	{"no plaintext in both nodes' files; a canary is found", (*walk).searchPlaintext},
	{"the body's key is in globex's files before delivery", (*walk).keyIsThere},
	{"globex is killed with SIGKILL and started again", (*walk).killGlobex},
	{"bob comes online and is shown the message once", (*walk).bobReceives},
	{"bob's mailbox is empty and the body's key is gone", (*walk).keyIsGone},
	{"bob answers, alice is shown it once", (*walk).bobAnswers},
	{"a message that nobody fetches expires; alice is told", (*walk).expires},
	{"an organization without an agreement is refused", (*walk).refused},
	{"it signs agreements with both", (*walk).initechJoins},
	{"alice makes a room with bob, who invites carol", (*walk).makesRoom},
	{"carol writes, both read; roles hold", (*walk).everybodyReads},
	{"two change the room at once", (*walk).race},
	{"a file reaches two other organizations", (*walk).file},
	{"a message burns after it was read", (*walk).burns},
	{"alice and bob compare safety numbers", (*walk).verifies},
	{"alice links a second device; bob sees it", (*walk).linksTablet},
	{"bob's device is set back to an old copy", (*walk).resyncs},
	{"alice revokes her second device; bob sees her new key", (*walk).changesKey},
	{"initech revokes carol's device", (*walk).revokes},
	{"both sign stricter terms; what breaks them is refused", (*walk).termsRefused},
	{"globex suspends acme, and resumes", (*walk).suspends},
	{"acme puts globex in quarantine, and releases it", (*walk).quarantines},
	{"acme, restored from a copy, takes its directory back", (*walk).restoresDirectory},
	{"initech shows two pasts; both partners prove it offline", (*walk).splitView},
	{"initech tells of its incident and is let in again", (*walk).comesBack},
}

func (w *walk) startBoth(ctx context.Context) (string, error) {
	for _, o := range []struct {
		name string
		into **Organization
	}{{"acme.example", &w.acme}, {"globex.example", &w.globex}} {
		org, err := NewOrganization(ctx, w.Binary, w.root, o.name, w.Bucket)
		if err != nil {
			return "", err
		}
		*o.into = org
		if w.raised {
			if err := org.raiseLimits(); err != nil {
				return "", err
			}
		}
		if err := org.Start(ctx); err != nil {
			return "", err
		}
	}
	v, err := w.acme.Status(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.0f MB resident each at rest", number(v["rss_bytes"])/1e6), nil
}

func (w *walk) enrolBoth(ctx context.Context) (_ string, err error) {
	if w.alice, err = w.acme.NewDevice(ctx, w.root, "alice"); err != nil {
		return "", err
	}
	if w.bob, err = w.globex.NewDevice(ctx, w.root, "bob"); err != nil {
		return "", err
	}
	return w.alice.Address + ", " + w.bob.Address, nil
}

func (w *walk) agree(ctx context.Context) (string, error) {
	return "both signatures, connected", w.concludes(ctx, w.acme, w.globex)
}

func (w *walk) send(ctx context.Context) (string, error) {
	began := time.Now()
	lines, err := w.alice.command(ctx, "send", w.bob.Address, w.secret, "--expires", "45m")
	if err != nil {
		return "", err
	}
	if err := wantEvents(lines, "accepted", "sequenced"); err != nil {
		return "", err
	}
	return fmt.Sprintf("accepted and sequenced at acme after %d ms", time.Since(began).Milliseconds()), nil
}

func (w *walk) acceptedAtGlobex(ctx context.Context) (string, error) {
	v, err := w.globex.until(ctx, 10*time.Second, func(v map[string]any) bool { return mailbox(v, w.bob.Address).count >= 2 })
	if err != nil {
		return "", fmt.Errorf("bob's mailbox does not fill: %w", err)
	}
	m := mailbox(v, w.bob.Address)
	return fmt.Sprintf("mailbox: %.0f envelopes, %.0f bytes, until %s", m.count, m.bytes, m.deadline.Format("15:04:05")), nil
}

func (w *walk) searchPlaintext(context.Context) (string, error) {
	places := []string{w.acme.Dir, w.globex.Dir, w.acme.Log, w.globex.Log}
	hits, searched, err := search(places, w.secret)
	if err != nil {
		return "", err
	}
	if len(hits) > 0 {
		return "", fmt.Errorf("the text stands in %v", hits)
	}
	canary := filepath.Join(w.globex.Dir, "canary")
	if err := os.WriteFile(canary, append(make([]byte, 4093), w.secret...), 0o600); err != nil {
		return "", err
	}
	defer os.Remove(canary)
	hits, _, err = search(places, w.secret)
	if err == nil && (len(hits) != 1 || hits[0] != canary) {
		err = errors.New("the planted canary was not found: the search proves nothing")
	}
	return fmt.Sprintf("%d files, %.1f MB", searched.files, float64(searched.bytes)/1e6), err
}

// keyIsThere copies globex's store, as an attacker would, and shows that the hunt
// for keys works: while bob has not fetched, what waits for him opens.
func (w *walk) keyIsThere(context.Context) (string, error) {
	w.before = filepath.Join(w.root, "globex-before")
	now := filepath.Join(w.globex.Dir, node.StoreFolder)
	if err := copyFolder(w.before, now); err != nil {
		return "", err
	}
	r, err := store.Hunt(w.before, now)
	if err != nil {
		return "", err
	}
	if r.Bodies == 0 || r.Opened != r.Bodies {
		return "", fmt.Errorf("the positive control failed: %d of %d bodies open", r.Opened, r.Bodies)
	}
	return fmt.Sprintf("%d of %d sealed bodies open", r.Opened, r.Bodies), nil
}

// keyIsGone: the same attacker, with the bodies kept from before and all files of
// the running node, opens nothing any more.
func (w *walk) keyIsGone(ctx context.Context) (string, error) {
	began := time.Now()
	_, err := w.globex.until(ctx, 10*time.Second, func(v map[string]any) bool { return mailbox(v, w.bob.Address).count == 0 })
	if err != nil {
		return "", fmt.Errorf("bob's mailbox does not get empty: %w", err)
	}
	var r store.HuntResult
	err = eventually(ctx, time.Minute, func() (err error) {
		if r, err = store.Hunt(w.before, filepath.Join(w.globex.Dir, node.StoreFolder)); err == nil && r.Opened > 0 {
			err = fmt.Errorf("%w: %d of %d bodies open", errNotYet, r.Opened, r.Bodies)
		}
		return err
	})
	return fmt.Sprintf("0 of %d bodies open, %.1f s after", r.Bodies, time.Since(began).Seconds()), err
}

func (w *walk) killGlobex(ctx context.Context) (string, error) {
	w.globex.Kill()
	began := time.Now()
	if err := w.globex.Start(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("ready again after %d ms", time.Since(began).Milliseconds()), nil
}

func (w *walk) bobReceives(ctx context.Context) (string, error) {
	lines, err := w.bob.command(ctx, "receive")
	if err != nil {
		return "", err
	}
	if n := shown(lines, w.alice.Address, w.secret); n != 1 {
		return "", fmt.Errorf("shown %d times", n)
	}
	again, err := w.bob.command(ctx, "receive")
	if err != nil {
		return "", err
	}
	if n := shown(again, w.alice.Address, w.secret); n != 0 {
		return "", fmt.Errorf("shown again")
	}
	return "from " + w.alice.Address, nil
}

func (w *walk) bobAnswers(ctx context.Context) (string, error) {
	answer := "on my way " + randomText(8)
	lines, err := w.bob.command(ctx, "send", w.alice.Address, answer)
	if err != nil {
		return "", err
	}
	if err := wantEvents(lines, "accepted"); err != nil {
		return "", err
	}
	return "", eventually(ctx, 10*time.Second, func() error {
		lines, err := w.alice.command(ctx, "receive")
		if err != nil {
			return err
		}
		if n := shown(lines, w.bob.Address, answer); n != 1 {
			return fmt.Errorf("%w: shown %d times", errNotYet, n)
		}
		return nil
	})
}

func (w *walk) expires(ctx context.Context) (string, error) {
	lines, err := w.alice.command(ctx, "send", w.bob.Address, "nobody will read this", "--expires", w.Bucket.String())
	if err != nil {
		return "", err
	}
	if err := wantEvents(lines, "sequenced"); err != nil {
		return "", err
	}
	began := time.Now()
	err = eventually(ctx, 4*w.Bucket+20*time.Second, func() error {
		lines, err := w.alice.command(ctx, "receive")
		if err != nil {
			return err
		}
		for _, l := range lines {
			if l["event"] == "notice" && l["state"] == "expired" && l["to"] == w.bob.Address {
				return nil
			}
		}
		return fmt.Errorf("%w: no notice of the expiry", errNotYet)
	})
	if err != nil {
		return "", err
	}
	waited := time.Since(began)
	if m, err := w.bob.command(ctx, "receive"); err != nil || shown(m, w.alice.Address, "nobody will read this") != 0 {
		return "", fmt.Errorf("the expired message was shown: %v", err)
	}
	return fmt.Sprintf("buckets of %s; told after %.1f s", w.Bucket, waited.Seconds()), nil
}

func (w *walk) refused(ctx context.Context) (_ string, err error) {
	if w.initech, err = NewOrganization(ctx, w.Binary, w.root, "initech.example", w.Bucket); err != nil {
		return "", err
	}
	if err := w.initech.Start(ctx); err != nil {
		return "", err
	}
	if w.carol, err = w.initech.NewDevice(ctx, w.root, "carol"); err != nil {
		return "", err
	}
	_, err = w.carol.command(ctx, "send", w.bob.Address, "hello")
	var refused *commandError
	if !errors.As(err, &refused) || refused.Code != 4 {
		return "", fmt.Errorf("initech's message to globex was not refused by policy: %v", err)
	}
	return firstLine(refused.Stderr), nil
}
