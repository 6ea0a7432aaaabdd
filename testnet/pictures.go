package testnet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Pictures of a walk for docs/agreements.md and docs/directory.md, drawn from what the
// nodes' own commands said at the time.

// album is what a walk has seen; nil: no pictures are asked for.
type album struct {
	moments []moment
	logs    []logView
	past    twoPasts
}

// moment is how each organization saw its partners when something had just happened.
type moment struct {
	title string
	views []view
}

// view is one line of `partner list --json`, with whose list it is.
type view struct {
	at, of, state string
}

// logView is one organization's log, and how much of it the others hold.
type logView struct {
	owner  string
	size   int
	copies []copyView
}

type copyView struct {
	at             string
	size, cosigned int
}

// twoPasts is what a proof shows, and where each head was shown.
type twoPasts struct {
	liar   string
	common int // entries before the lie
	heads  []headView
	shown  map[string]string // a head's root (base64) to whom it was shown
	took   string
}

type headView struct {
	size int
	root string // base64
}

// remember notes how all see each other now.
func (w *walk) remember(ctx context.Context, title string) error {
	if w.Pictures == "" {
		return nil
	}
	m := moment{title: title}
	for _, o := range w.running() {
		out, err := o.command(ctx, "partner", "list", "--json")
		if err != nil {
			return err
		}
		for line := range bytes.Lines(out) {
			var l struct{ Name, State string }
			if err := json.Unmarshal(line, &l); err != nil {
				return fmt.Errorf("testnet: the line %q: %w", line, err)
			}
			m.views = append(m.views, view{o.Name, l.Name, l.State})
		}
	}
	w.album.moments = append(w.album.moments, m)
	return nil
}

// rememberLogs notes how long each log is, and what the partners hold of it.
func (w *walk) rememberLogs(ctx context.Context) error {
	if w.Pictures == "" {
		return nil
	}
	for _, owner := range w.running() {
		text, err := owner.logSize(ctx)
		if err != nil {
			return err
		}
		v := logView{owner: owner.Name, size: int(number(text))}
		for _, o := range w.running() {
			out, err := o.command(ctx, "directory", "partners", "--json")
			if err != nil {
				return err
			}
			for line := range bytes.Lines(out) {
				var l struct{ Organization, Size, Cosigned string }
				if err := json.Unmarshal(line, &l); err != nil {
					return fmt.Errorf("testnet: the line %q: %w", line, err)
				}
				if l.Organization == owner.Name {
					v.copies = append(v.copies, copyView{o.Name, int(number(l.Size)), int(number(l.Cosigned))})
				}
			}
		}
		w.album.logs = append(w.album.logs, v)
	}
	return nil
}

// rememberFork notes what a proof of two pasts shows.
func (w *walk) rememberFork(proof []byte, took string) error {
	var p struct{ Older, Newer string }
	if err := json.Unmarshal(proof, &p); err != nil {
		return fmt.Errorf("testnet: the proof: %w", err)
	}
	w.album.past.took = took
	for _, note := range []string{p.Older, p.Newer} {
		lines := strings.SplitN(note, "\n", 4) // C2SP tlog-checkpoint: origin, size, root
		if len(lines) < 4 {
			return fmt.Errorf("testnet: the proof has the head %q", note)
		}
		w.album.past.heads = append(w.album.past.heads, headView{size: int(number(lines[1])), root: lines[2]})
	}
	return nil
}

func (w *walk) running() (out []*Organization) {
	for _, o := range []*Organization{w.acme, w.globex, w.initech} {
		if o != nil && o.cmd != nil {
			out = append(out, o)
		}
	}
	return out
}

// draw writes the pictures.
func (w *walk) draw() error {
	if w.Pictures == "" {
		return nil
	}
	for name, picture := range map[string]string{
		"agreements.svg": drawMoments(w.album.moments), "directory.svg": drawLogs(w.album.logs), "twopasts.svg": drawFork(w.album.past),
	} {
		if err := os.WriteFile(filepath.Join(w.Pictures, name), []byte(picture), 0o644); err != nil {
			return fmt.Errorf("testnet: a picture: %w", err)
		}
	}
	return nil
}
