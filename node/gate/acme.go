package gate

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/crypto/chacha20poly1305"
)

// ACME says where certificates come from (RFC 8555), by the challenge on the devices'
// door itself (RFC 8737), which the CA has to reach on port 443.
type ACME struct {
	Names     []string // the only ones that are asked for
	Email     string   // whom the CA may write to; may be empty
	Directory string   // URL; empty: Let's Encrypt
	Folder    string   // of the certificates and their keys, sealed
	Secret    []byte   // that they are sealed under
	Client    *http.Client
}

// FromACME obtains certificates when the first connection asks for them, and renews
// them 30 days before they end. c, made by TLS, learns to answer the CA's challenge.
func FromACME(a ACME) (web WebCertificates, prepare func(c *tls.Config), err error) {
	cache, err := newSealedFiles(a.Folder, a.Secret)
	if err != nil {
		return nil, nil, err
	}
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(a.Names...), Email: a.Email, Cache: cache,
		Client: &acme.Client{DirectoryURL: a.Directory, HTTPClient: a.Client, UserAgent: "entente"}}
	if a.Directory == "" {
		m.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	return m.GetCertificate, func(c *tls.Config) { c.NextProtos = append(c.NextProtos, acme.ALPNProto) }, nil
}

// sealedFiles is an autocert.Cache: one sealed file per name.
type sealedFiles struct {
	dir  string
	aead cipher.AEAD
}

func newSealedFiles(dir string, secret []byte) (sealedFiles, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "entente.im/acme/v1", chacha20poly1305.KeySize)
	if err != nil {
		return sealedFiles{}, fmt.Errorf("gate: certificates: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	clear(key)
	if err != nil {
		return sealedFiles{}, fmt.Errorf("gate: certificates: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return sealedFiles{}, fmt.Errorf("gate: certificates: %w", err)
	}
	return sealedFiles{dir, aead}, nil
}

// maxCached bounds what is read back: a chain and its key.
const maxCached = 64 << 10

func (s sealedFiles) path(name string) string {
	h := sha256.Sum256([]byte(name))
	return filepath.Join(s.dir, hex.EncodeToString(h[:16]))
}

// Get implements autocert.Cache. What does not open counts as missing: it is asked for
// again.
func (s sealedFiles) Get(_ context.Context, name string) ([]byte, error) {
	info, err := os.Stat(s.path(name))
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() > maxCached {
		return nil, autocert.ErrCacheMiss
	}
	if err != nil {
		return nil, fmt.Errorf("gate: certificates: %w", err)
	}
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, fmt.Errorf("gate: certificates: %w", err)
	}
	n := s.aead.NonceSize()
	if len(b) < n {
		return nil, autocert.ErrCacheMiss
	}
	plain, err := s.aead.Open(nil, b[:n], b[n:], []byte(name))
	if err != nil {
		return nil, autocert.ErrCacheMiss
	}
	return plain, nil
}

// Put implements autocert.Cache.
func (s sealedFiles) Put(_ context.Context, name string, data []byte) error {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(data)+s.aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("gate: certificates: %w", err)
	}
	part := s.path(name) + ".part"
	if err := os.WriteFile(part, s.aead.Seal(nonce, nonce, data, []byte(name)), 0o600); err != nil {
		return fmt.Errorf("gate: certificates: %w", err)
	}
	if err := os.Rename(part, s.path(name)); err != nil {
		return fmt.Errorf("gate: certificates: %w", err)
	}
	return nil
}

// Delete implements autocert.Cache.
func (s sealedFiles) Delete(_ context.Context, name string) error {
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("gate: certificates: %w", err)
	}
	return nil
}
