package gate

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often the files of a certificate are looked at again.
const recheck = time.Minute

// files is a certificate in PEM files that somebody else renews.
type files struct {
	cert, key string
	log       *slog.Logger
	now       func() time.Time

	mu      sync.Mutex
	loaded  *tls.Certificate
	stamp   [2]time.Time // modification times of what is loaded
	checked time.Time
}

// FromFiles reads a certificate and its key from PEM files, and again when they
// have changed: a renewal needs no restart. New files that do not fit together are
// named in the log, and the old ones stand.
func FromFiles(cert, key string, l *slog.Logger) (WebCertificates, error) {
	f := &files{cert: cert, key: key, log: l, now: time.Now}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f.get, nil
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.checked) >= recheck {
		f.checked = now
		if stamp, err := f.stamps(); err != nil || stamp != f.stamp {
			if err := f.load(); err != nil {
				f.log.Warn("the new TLS files are not used", "error", err)
			}
		}
	}
	return f.loaded, nil
}

func (f *files) load() error {
	stamp, err := f.stamps()
	if err != nil {
		return err
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("gate: TLS files: %w", err)
	}
	f.loaded, f.stamp = &c, stamp
	return nil
}

func (f *files) stamps() (out [2]time.Time, err error) {
	for i, name := range []string{f.cert, f.key} {
		info, err := os.Stat(name)
		if err != nil {
			return out, fmt.Errorf("gate: TLS files: %w", err)
		}
		out[i] = info.ModTime()
	}
	return out, nil
}
