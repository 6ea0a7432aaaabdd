package device

import (
	"encoding/hex"
	"mime"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/entente-im/entente/wire"
)

// attachment is a file that a message names: what draft-ietf-mimi-content-08 §4.6
// (ExternalPart) says of it. It holds the key, so it stands where texts that end do:
// under the state key alone.
type attachment struct {
	Owner   wire.OrganizationID
	Blob    [32]byte // SHA-256 of the ciphertext
	Key     [32]byte
	Hash    [32]byte // SHA-256 of the plaintext
	Size    uint64   // of the plaintext
	Name    string
	Type    string
	Expires int64  // Unix: the blob's deadline
	Upload  []byte `json:",omitempty"` // the sender's: with it he destroys the blob
}

const (
	cardinalityExternal = 2
	dispositionAttach   = 6      // "attachment"
	aeadChunked         = 0xF0E1 // private use: the chunks of docs/protocol.md 7.9
	hashSHA256          = 1      // Named Information registry (RFC 6920)
	maxFileName         = 200    // bytes
	maxFileType         = 100
)

// blobURL is mimi://<organization>/b/<blob ID>.
func (a *attachment) url() string {
	return "mimi://" + a.Owner.String() + "/b/" + hex.EncodeToString(a.Blob[:])
}

// part is the nested part of a message with a file; text is its caption.
func (a *attachment) part(text string) []any {
	return []any{dispositionAttach, "", cardinalityExternal, a.Type, a.url(), uint64(a.Expires), a.Size, aeadChunked, a.Key[:], []byte{}, []byte{}, hashSHA256, a.Hash[:], text, a.Name}
}

// parseAttachment is the inverse of part, strictly.
func parseAttachment(p []any) (a *attachment, text string, err error) {
	if len(p) != 15 || p[2] != uint64(cardinalityExternal) || p[7] != uint64(aeadChunked) || p[11] != uint64(hashSHA256) {
		return nil, "", errContent
	}
	kind, ok1 := p[3].(string)
	url, ok2 := p[4].(string)
	expires, ok3 := p[5].(uint64)
	size, ok4 := p[6].(uint64)
	key, ok5 := p[8].([]byte)
	hash, ok6 := p[12].([]byte)
	text, ok7 := p[13].(string)
	name, ok8 := p[14].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || !ok8 ||
		len(key) != 32 || len(hash) != 32 || len(name) > maxFileName || len(kind) > maxFileType || expires > maxExpiry || size > wire.MaxFile || sealedSize(size) > wire.MaxFile {
		return nil, "", errContent
	}
	a = &attachment{Key: [32]byte(key), Hash: [32]byte(hash), Size: size, Name: safeName(name), Type: safeType(kind), Expires: int64(expires)}
	rest, ok := strings.CutPrefix(url, "mimi://")
	org, blob, found := strings.Cut(rest, "/b/")
	raw, err := hex.DecodeString(blob)
	if !ok || !found || err != nil || len(raw) != 32 {
		return nil, "", errContent
	}
	if a.Owner, err = wire.ParseOrganizationID(org); err != nil {
		return nil, "", errContent
	}
	if a.Blob = [32]byte(raw); a.url() != url {
		return nil, "", errContent
	}
	return a, strings.ToValidUTF8(text, "\uFFFD"), nil
}

// safeName is a name that can be a file's here, whatever a message says: its last
// element, without control or invisible characters, not hidden, not empty, and never a
// device of some system.
func safeName(name string) string {
	name = strings.ReplaceAll(strings.ToValidUTF8(name, "_"), "\\", "/")
	name = path.Base(name)
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`/\:*?"<>|`, r):
			return '_'
		case unicode.IsControl(r), !unicode.IsPrint(r) && r != ' ', unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, name)
	name = strings.Trim(name, " .-~")
	for len(name) > maxFileName {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	stem, _, _ := strings.Cut(strings.ToUpper(name), ".")
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "LPT1", "LPT2", "LPT3":
		name = "_" + name
	case "":
		name = "file"
	}
	return name
}

// media types that a system may not know.
var media = map[string]string{".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".pdf": "application/pdf", ".zip": "application/zip",
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".mp4": "video/mp4", ".json": "application/json"}

// mediaOf is a file's media type by its name, without parameters.
func mediaOf(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if t, ok := media[ext]; ok {
		return t
	}
	t, _, err := mime.ParseMediaType(mime.TypeByExtension(ext))
	if err != nil {
		t = ""
	}
	return safeType(t)
}

func safeType(t string) string {
	for _, r := range t {
		if r < 0x21 || r > 0x7e {
			return "application/octet-stream"
		}
	}
	if t == "" {
		return "application/octet-stream"
	}
	return t
}
