package identity

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/entente-im/entente/wire"
	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is a verified head of an organization's directory log: a C2SP
// tlog-checkpoint, signed by the directory key.
type Checkpoint struct {
	Organization wire.OrganizationID
	Log          uint64 // which of the organization's logs: Manifest.Log
	Size         uint64
	Root         [32]byte // RFC 6962 §2.1
	Note         string
}

// LogOrigin is the first line of the checkpoints of one of an organization's logs
// (Manifest.Log), and the name of the key that signs them.
func LogOrigin(id wire.OrganizationID, log uint64) string {
	origin := "entente.im/log/v1/" + id.String()
	if log > 0 {
		origin += "/" + strconv.FormatUint(log, 10)
	}
	return origin
}

// HeadOfLaterLog reports whether a head, which nothing is verified of, says that it is of a log
// that has begun after the one which the manifests that are known here are about.
func HeadOfLaterLog(signed string, o *Organization) bool {
	line, _, _ := strings.Cut(signed, "\n")
	number, ok := strings.CutPrefix(line, LogOrigin(o.ID, 0)+"/")
	n, err := strconv.ParseUint(number, 10, 64)
	return ok && err == nil && n > o.Manifest.Log()
}

// text is what is signed.
func (c *Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", LogOrigin(c.Organization, c.Log), c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// SignCheckpoint signs a head of the log that an organization's manifest is about.
func SignCheckpoint(o *Organization, size uint64, root [32]byte, directory ed25519.PrivateKey) (string, error) {
	c := Checkpoint{Organization: o.ID, Log: o.Manifest.Log(), Size: size, Root: root}
	key := wire.NoteKey{Owner: LogOrigin(c.Organization, c.Log), Public: public(directory), Private: directory}
	b, err := note.Sign(&note.Note{Text: c.text()}, key)
	return string(b), err
}

// VerifyHead checks a head that was signed under any of an organization's manifests: a head
// of a past directory key is a past head of the same log, and one of a log that an incident
// has ended is still what it was.
func VerifyHead(signed string, o *Organization) (*Checkpoint, error) {
	c, err := VerifyCheckpoint(signed, o)
	tried := &o.Manifest
	for i := len(o.chain) - 2; err != nil && i >= 0; i-- {
		m := &o.chain[i]
		if m.Directory.Equal(tried.Directory) && m.Log() == tried.Log() {
			continue
		}
		past := *o
		past.Manifest, tried = *m, m
		c, err = VerifyCheckpoint(signed, &past)
	}
	return c, err
}

// canonical64 decodes base64 that is what its bytes encode to.
func canonical64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && base64.StdEncoding.EncodeToString(b) != s {
		err = refuse("base64 with line breaks")
	}
	return b, err
}

// VerifyCheckpoint checks a head of an organization. Extension lines, which ours do not
// have, are refused: what is taken re-encodes to the same text.
func VerifyCheckpoint(signed string, o *Organization) (*Checkpoint, error) {
	text, err := wire.OpenNote(signed, wire.NoteKey{Owner: LogOrigin(o.ID, o.Manifest.Log()), Public: o.Manifest.Directory})
	if err != nil {
		return nil, refuse("checkpoint: %v", err)
	}
	c := &Checkpoint{Organization: o.ID, Log: o.Manifest.Log(), Note: signed}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return nil, refuse("a checkpoint of %d lines", len(lines)-1)
	}
	c.Size, err = strconv.ParseUint(lines[1], 10, 62)
	root, err2 := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || err2 != nil || len(root) != len(c.Root) {
		return nil, refuse("a checkpoint without size and root")
	}
	c.Root = [32]byte(root)
	if c.text() != text {
		return nil, refuse("a checkpoint that is not written as they are, or of another log")
	}
	return c, nil
}
