package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Field is one line of a record: a key and its value.
type Field struct{ Key, Value string }

// Record is the text of a durable statement: the type with its version, then
// fields, one a line (docs/protocol.md 2.1). Order matters and keys may repeat.
type Record struct {
	Type   string
	Fields []Field
}

// Add appends a field.
func (r *Record) Add(key, format string, args ...any) {
	r.Fields = append(r.Fields, Field{key, fmt.Sprintf(format, args...)})
}

// Text returns the record's text, which is what gets signed and hashed.
func (r Record) Text() (string, error) {
	var b strings.Builder
	b.WriteString(r.Type + "\n")
	for _, f := range r.Fields {
		b.WriteString(f.Key + " " + f.Value + "\n")
	}
	if _, err := ParseRecord(b.String(), r.Type); err != nil {
		return "", err
	}
	return b.String(), nil
}

// ParseRecord reads a record of the given type. It is strict: what it accepts
// re-encodes to the same bytes.
func ParseRecord(text, typ string) (Record, error) {
	if len(text) > maxNote(text) || !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") {
		return Record{}, malformed("a record that is too long, not UTF-8 or without its last newline")
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != typ {
		return Record{}, malformed("a record of type %.60q where %q is due", lines[0], typ)
	}
	r := Record{Type: typ}
	for _, line := range lines[1:] {
		key, value, ok := strings.Cut(line, " ")
		if !ok || !fieldKey(key) || !fieldValue(value) {
			return Record{}, malformed("the line %.60q in %s", line, typ)
		}
		r.Fields = append(r.Fields, Field{key, value})
	}
	return r, nil
}

// BlockListType is the one type of note that may be longer than others.
const BlockListType = "entente.im/blocklist/v1"

// maxNote bounds a note, or its text, by its first line.
func maxNote(s string) int {
	if strings.HasPrefix(s, BlockListType+"\n") {
		return MaxBlockList
	}
	return MaxNote
}

func fieldKey(s string) bool {
	for i := range len(s) {
		if !(s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '-' && i > 0) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 32
}

func fieldValue(s string) bool {
	for _, c := range s {
		if c < 0x20 || c == 0x7f || c == 0x2028 || c == 0x2029 {
			return false
		}
	}
	return s != "" && s[0] != ' ' && s[len(s)-1] != ' '
}

// Fields reads a record's fields in their fixed order; the first error sticks.
// Done must be called, so that nothing superfluous passes.
type Fields struct {
	left []Field
	typ  string
	err  error
}

// Read starts reading a record of the given type.
func Read(text, typ string) *Fields {
	r, err := ParseRecord(text, typ)
	return &Fields{left: r.Fields, typ: typ, err: err}
}

// One returns the value of the next field, which must have this key.
func (f *Fields) One(key string) string {
	if f.err != nil {
		return ""
	}
	if len(f.left) == 0 || f.left[0].Key != key {
		f.fail("the field %s is missing", key)
		return ""
	}
	v := f.left[0].Value
	f.left = f.left[1:]
	return v
}

// All returns the values of the next fields as long as they have this key, at
// most limit of them.
func (f *Fields) All(key string, limit int) []string {
	var out []string
	for f.err == nil && len(f.left) > 0 && f.left[0].Key == key {
		if len(out) == limit {
			f.fail("more than %d fields %s", limit, key)
			return nil
		}
		out = append(out, f.One(key))
	}
	return out
}

// Hash returns the next field as 32 bytes in base32.
func (f *Fields) Hash(key string) [32]byte {
	v := f.One(key)
	if f.err != nil {
		return [32]byte{}
	}
	h, err := parse32(v)
	if err != nil {
		f.fail("the field %s is not a hash", key)
	}
	return h
}

// Key returns the next field as an Ed25519 public key: "ed25519 <base64>".
func (f *Fields) Key(key string) ed25519.PublicKey {
	v := f.One(key)
	if f.err != nil {
		return nil
	}
	k, err := ParseKey(v)
	if err != nil {
		f.fail("the field %s: %v", key, err)
	}
	return k
}

// Time returns the next field as a time in RFC 3339, UTC, whole seconds.
func (f *Fields) Time(key string) time.Time {
	v := f.One(key)
	if f.err != nil {
		return time.Time{}
	}
	t, err := ParseTime(v)
	if err != nil {
		f.fail("the field %s is not a time such as 2026-11-23T00:00:00Z", key)
	}
	return t
}

// Uint returns the next field as a decimal number without leading zeros.
func (f *Fields) Uint(key string) uint64 {
	v := f.One(key)
	if f.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != v {
		f.fail("the field %s is not a number", key)
	}
	return n
}

// Bool returns the next field, which is true or false.
func (f *Fields) Bool(key string) bool {
	v := f.One(key)
	if f.err == nil && v != "true" && v != "false" {
		f.fail("the field %s is neither true nor false", key)
	}
	return v == "true"
}

// Fail records an error of the caller's own checks.
func (f *Fields) Fail(format string, args ...any) { f.fail(format, args...) }

func (f *Fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = malformed("%s: %s", f.typ, fmt.Sprintf(format, args...))
	}
}

// Done returns the first error, or one when fields are left over.
func (f *Fields) Done() error {
	if f.err == nil && len(f.left) > 0 {
		f.fail("the field %s is superfluous", f.left[0].Key)
	}
	return f.err
}

const timeLayout = "2006-01-02T15:04:05Z"

// FormatTime is the inverse of Fields.Time; it drops what is below a second.
func FormatTime(t time.Time) string { return t.UTC().Truncate(time.Second).Format(timeLayout) }

// ParseTime is the inverse of FormatTime.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.Format(timeLayout) != s {
		return time.Time{}, malformed("the time %.40q", s)
	}
	return t, nil
}

// FormatHash writes 32 bytes as a field's value.
func FormatHash(h [32]byte) string { return text32.EncodeToString(h[:]) }

// FormatKey writes an Ed25519 public key as a field's value.
func FormatKey(k ed25519.PublicKey) string {
	return "ed25519 " + base64.StdEncoding.EncodeToString(k)
}

// ParseKey is the inverse of FormatKey.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b64, ok := strings.CutPrefix(s, "ed25519 ")
	b, err := base64.StdEncoding.Strict().DecodeString(b64)
	if !ok || err != nil || len(b) != ed25519.PublicKeySize || FormatKey(b) != s {
		return nil, malformed("a key that is not %q", "ed25519 <base64>")
	}
	return b, nil
}

// NoteKey is a named Ed25519 key of C2SP signed notes: it verifies, and signs
// when Private is set. Names say whose key it is and for what, as in
// "acme.example/root" (docs/protocol.md 2.2).
type NoteKey struct {
	Owner   string
	Public  ed25519.PublicKey
	Private ed25519.PrivateKey
}

// Name implements note.Signer and note.Verifier.
func (k NoteKey) Name() string { return k.Owner }

// KeyHash implements note.Signer and note.Verifier (C2SP signed-note: the first
// four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key)).
func (k NoteKey) KeyHash() uint32 {
	h := sha256.New()
	h.Write([]byte(k.Owner))
	h.Write([]byte{'\n', 0x01})
	h.Write(k.Public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// Sign implements note.Signer.
func (k NoteKey) Sign(msg []byte) ([]byte, error) {
	if len(k.Private) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("wire: the key %s cannot sign", k.Owner)
	}
	return ed25519.Sign(k.Private, msg), nil
}

// Verify implements note.Verifier.
func (k NoteKey) Verify(msg, sig []byte) bool {
	return len(k.Public) == ed25519.PublicKeySize && len(sig) == ed25519.SignatureSize && ed25519.Verify(k.Public, msg, sig)
}

// SignNote signs a record's text with every key given. A note that is already
// signed gets the signatures added (AddSignature).
func SignNote(r Record, keys ...NoteKey) (string, error) {
	text, err := r.Text()
	if err != nil {
		return "", err
	}
	signers := make([]note.Signer, len(keys))
	for i, k := range keys {
		signers[i] = k
	}
	b, err := note.Sign(&note.Note{Text: text}, signers...)
	return string(b), err
}

// AddSignature countersigns a note whose signatures by known are checked first.
func AddSignature(signed string, key NoteKey, known ...NoteKey) (string, error) {
	n, err := openNote(signed, known)
	if err != nil {
		return "", err
	}
	b, err := note.Sign(n, key)
	return string(b), err
}

// OpenNote returns a note's text when every key given has signed it. Signatures
// of other keys are ignored (C2SP signed-note).
func OpenNote(signed string, keys ...NoteKey) (string, error) {
	n, err := openNote(signed, keys)
	if err != nil {
		return "", err
	}
	return n.Text, nil
}

func openNote(signed string, keys []NoteKey) (*note.Note, error) {
	if len(signed) > maxNote(signed) {
		return nil, malformed("a note of %d bytes", len(signed))
	}
	verifiers := make([]note.Verifier, len(keys))
	for i, k := range keys {
		verifiers[i] = k
	}
	n, err := note.Open([]byte(signed), note.VerifierList(verifiers...))
	if err != nil || len(keys) == 0 {
		return nil, fmt.Errorf("%w: a note without a valid signature of %s", ErrMalformed, names(keys))
	}
	for _, sigs := range [][]note.Signature{n.Sigs, n.UnverifiedSigs} {
		for _, s := range sigs {
			if !canonicalBase64(s.Base64) {
				return nil, malformed("a signature with spare bits or line breaks")
			}
		}
	}
	for _, k := range keys {
		if !signedBy(n, k) {
			return nil, fmt.Errorf("%w: a note without a valid signature of %s", ErrMalformed, k.Owner)
		}
	}
	return n, nil
}

// canonicalBase64 reports whether s is what its bytes encode to. The note package reads
// base64 with spare bits in the last digit, which would give one signed note several texts.
func canonicalBase64(s string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && base64.StdEncoding.EncodeToString(b) == s
}

func signedBy(n *note.Note, k NoteKey) bool {
	for _, s := range n.Sigs {
		if s.Name == k.Owner && s.Hash == k.KeyHash() {
			return true
		}
	}
	return false
}

func names(keys []NoteKey) string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.Owner
	}
	return strings.Join(out, ", ")
}

// NoteText returns a note's text without checking any signature: only to learn
// whose keys to check it with.
func NoteText(signed string) (string, error) {
	text, _, ok := strings.Cut(signed, "\n\n")
	if !ok || len(signed) > maxNote(signed) {
		return "", malformed("a note without signatures")
	}
	return text + "\n", nil
}
