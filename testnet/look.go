package testnet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// errNotYet marks a condition that may still come true.
var errNotYet = errors.New("not yet")

// eventually repeats an attempt while it answers errNotYet, at most for the
// given time. The attempt itself is what takes time: each is a process.
func eventually(ctx context.Context, limit time.Duration, attempt func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := attempt()
		if err == nil || !errors.Is(err, errNotYet) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("after %s: %w", limit, err)
		}
	}
}

// searched counts what a search has read.
type searched struct {
	files int
	bytes int64
}

// search returns the files under the places that hold the text.
func search(places []string, text string) (hits []string, all searched, err error) {
	for _, place := range places {
		err = filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return skipGone(err)
			}
			found, n, err := contains(path, []byte(text))
			all.files++
			all.bytes += n
			if found {
				hits = append(hits, path)
			}
			return skipGone(err)
		})
		if err != nil {
			return nil, all, err
		}
	}
	return hits, all, nil
}

// skipGone forgives files that a running node has removed meanwhile.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// contains reads a file in overlapping pieces, so that no border hides a text.
func contains(path string, text []byte) (bool, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	var total int64
	buffer := make([]byte, 0, 1<<20)
	for {
		n, err := f.Read(buffer[len(buffer):cap(buffer)])
		total += int64(n)
		buffer = buffer[:len(buffer)+n]
		if bytes.Contains(buffer, text) {
			return true, total, nil
		}
		if err == io.EOF {
			return false, total, nil
		}
		if err != nil {
			return false, total, err
		}
		keep := min(len(text)-1, len(buffer))
		buffer = buffer[:copy(buffer, buffer[len(buffer)-keep:])]
	}
}

// copyFolder copies the files of a folder that a running node writes to.
func copyFolder(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return skipGone(err)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if !d.Type().IsRegular() {
			return nil // a socket
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return skipGone(err)
		}
		return os.WriteFile(target, b, 0o600)
	})
}

// mailboxView is one row of a node's status.
type mailboxView struct {
	count, bytes float64
	deadline     time.Time
}

func mailbox(status map[string]any, member string) mailboxView {
	list, _ := status["mailboxes"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		if m["member"] == member {
			return mailboxView{number(m["count"]), number(m["bytes"]), time.Unix(int64(number(m["earliest_deadline_unix"])), 0)}
		}
	}
	return mailboxView{}
}

func partnerState(status map[string]any, name string) string {
	list, _ := status["partners"].([]any)
	for _, e := range list {
		p, _ := e.(map[string]any)
		if p["name"] == name {
			s, _ := p["state"].(string)
			return s
		}
	}
	return ""
}

// number reads a JSON number; 64-bit ones are strings in protobuf's JSON.
func number(v any) float64 {
	switch n := v.(type) {
	case float64:
		return n
	case string:
		f, _ := strconv.ParseFloat(n, 64)
		return f
	}
	return 0
}

// shown counts how often a text from a sender is among a command's lines.
func shown(lines []map[string]any, from, text string) int {
	n := 0
	for _, l := range lines {
		if l["event"] == "message" && l["from"] == from && l["text"] == text {
			n++
		}
	}
	return n
}

// wantEvents checks that a command reported these events.
func wantEvents(lines []map[string]any, events ...string) error {
	for _, want := range events {
		found := false
		for _, l := range lines {
			found = found || l["event"] == want
		}
		if !found {
			return fmt.Errorf("no event %q among %v", want, lines)
		}
	}
	return nil
}

func jsonField(b []byte, key string) (string, error) {
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		return "", err
	}
	s, ok := v[key].(string)
	if !ok {
		return "", fmt.Errorf("no field %q in %s", key, b)
	}
	return s, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func randomText(n int) string { return strings.ToLower(rand.Text()[:min(n, 26)]) }
