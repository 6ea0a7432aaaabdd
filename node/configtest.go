package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/entente-im/entente/federation"
	"github.com/multiformats/go-multiaddr"
)

// Finding is something that TestConfig saw.
type Finding struct {
	Key  string `json:"key,omitempty"`
	Text string `json:"text"`
	// Fatal: the node would not start, or nobody would reach it.
	Fatal bool `json:"fatal"`
}

// TestConfig reads dir's configuration as a start would, and looks at what it names:
// certificate files, addresses, the folder. It changes nothing and needs no
// passphrase; a node may be running. The error is that of a file which does not stand.
func TestConfig(dir string, now time.Time) (Config, []Finding, error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return c, nil, err
	}
	var out []Finding
	add := func(fatal bool, key, format string, args ...any) {
		out = append(out, Finding{key, fmt.Sprintf(format, args...), fatal})
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		add(false, "", "the data folder can be read by others (%s): chmod 700", info.Mode().Perm())
	}
	c.testCertificate(now, add)
	u, err := url.Parse(c.apiURL())
	if err != nil || u.Hostname() == "" || (u.Path != "" && u.Path != "/") {
		add(true, "api", "%q is not https://HOST or https://HOST:PORT", c.apiURL())
	} else if ip := net.ParseIP(u.Hostname()); ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) || u.Hostname() == "localhost" {
		add(false, "api", "devices are told %s, which no other machine reaches: set api", u.Host)
	}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil && len(c.ACME) > 0 && port != "443" {
		add(false, "acme", "the CA comes to port 443, and listen is on %s: something has to lead it here", port)
	}
	if running(dir) {
		return c, out, nil // it has them itself
	}
	for _, x := range [][2]string{{"listen", c.Listen}, {"metrics", c.Metrics}} {
		if x[1] == "" {
			continue
		}
		l, err := net.Listen("tcp", x[1])
		if err != nil {
			add(true, x[0], "%v", err)
			continue
		}
		_ = l.Close()
	}
	for _, text := range c.Federation {
		a, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			continue // LoadConfig has said so
		}
		if err := federation.CanListen(a); err != nil {
			add(true, "federation", "%v", err)
		}
	}
	return c, out, nil
}

// running reports whether a node answers on dir's operator socket.
func running(dir string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := dialUnix(ctx, filepath.Join(dir, OperatorSocket))
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func (c Config) testCertificate(now time.Time, add func(bool, string, string, ...any)) {
	if c.TLSCert == "" {
		return
	}
	cert, err := os.ReadFile(c.TLSCert)
	if err != nil {
		add(true, "tls-cert", "%v", err)
	}
	key, err2 := os.ReadFile(c.TLSKey)
	if err2 != nil {
		add(true, "tls-key", "%v", err2)
	}
	if err != nil || err2 != nil {
		return
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		add(true, "tls-cert", "with tls-key: %v", err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		add(true, "tls-cert", "%v", err)
		return
	}
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		add(true, "tls-cert", "it ended on %s", leaf.NotAfter.Format(time.DateOnly))
	case left < 14*24*time.Hour:
		add(false, "tls-cert", "it ends on %s: renew it", leaf.NotAfter.Format(time.DateOnly))
	}
	if now.Before(leaf.NotBefore) {
		add(true, "tls-cert", "it begins on %s only", leaf.NotBefore.Format(time.DateOnly))
	}
	if u, err := url.Parse(c.apiURL()); err == nil && leaf.VerifyHostname(u.Hostname()) != nil {
		add(false, "tls-cert", "it is not for %s, which api tells browsers", u.Hostname())
	}
}
