package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	"gopkg.in/yaml.v3"

	"github.com/entente-im/entente/federation"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// ConfigFile is the name of the configuration in the data folder.
const ConfigFile = "node.yaml"

// Config is what an operator sets. Its file is written by `entente node init`
// with every key commented (ConfigText) and read strictly.
type Config struct {
	Listen     string        `yaml:"listen"`
	API        string        `yaml:"api"`
	TLSCert    string        `yaml:"tls-cert"`
	TLSKey     string        `yaml:"tls-key"`
	ACME       []string      `yaml:"acme"`
	ACMEEmail  string        `yaml:"acme-email"`
	ACMEServer string        `yaml:"acme-server"`
	Proxied    bool          `yaml:"behind-proxy"`
	Proxies    []string      `yaml:"trusted-proxies"`
	Metrics    string        `yaml:"metrics"`
	Federation []string      `yaml:"federation"`
	Mode       string        `yaml:"mode"`
	Transit    []string      `yaml:"transit"`
	Verify     bool          `yaml:"verify-outsiders"`
	Announce   []string      `yaml:"announce"`
	Origins    []string      `yaml:"origins"`
	Retention  time.Duration `yaml:"retention"`
	Bucket     time.Duration `yaml:"bucket"`
	TrustClock bool          `yaml:"trust-clock"`
	ResetAfter time.Duration `yaml:"reset-after"`
	Witnesses  []string      `yaml:"witnesses"`
	DNS        string        `yaml:"dns"`
	LogLevel   string        `yaml:"log"`
	Files      FileConfig    `yaml:"files"`
	Limits     LimitConfig   `yaml:"limits"`
}

// FileConfig is the organization's policy for files. The size is held by the node, the
// types by the devices: a node sees ciphertext only.
type FileConfig struct {
	MaxSize uint64   `yaml:"max-size"`
	Quota   uint64   `yaml:"quota"`
	Ceiling uint64   `yaml:"ceiling"`
	Types   []string `yaml:"types"`
}

// LimitConfig raises or lowers the rates of docs/protocol.md section 9, and lowers how many
// devices a room that is ordered here may have, and how many messages wait for a device.
type LimitConfig struct {
	DeviceRate   float64 `yaml:"device-rate"`
	DeviceBurst  int     `yaml:"device-burst"`
	PartnerRate  float64 `yaml:"partner-rate"`
	PartnerBurst int     `yaml:"partner-burst"`
	PartnerBytes int     `yaml:"partner-bytes"`
	PartnerFiles int     `yaml:"partner-files"`
	RoomDevices  int     `yaml:"room-devices"`
	Mailbox      int     `yaml:"mailbox-messages"`
}

// maxPublicWitnesses bounds the public witnesses that an administrator configures.
const maxPublicWitnesses = 32

// maxFileTypes bounds the list that every device is told.
const maxFileTypes = 100

// DefaultConfig returns the values that a missing key stands for.
func DefaultConfig() Config {
	return Config{
		Listen:     "127.0.0.1:8443",
		Federation: []string{"/ip4/0.0.0.0/tcp/4801", "/ip4/0.0.0.0/udp/4801/quic-v1"},
		Mode:       string(federation.ModeAgreement),
		Retention:  wire.DefaultRetention,
		Bucket:     wire.DefaultBucket,
		ResetAfter: wire.ResetPatience,
		LogLevel:   "info",
		Files:      FileConfig{MaxSize: wire.MaxFile, Quota: wire.FileQuota},
		Limits: LimitConfig{
			DeviceRate: wire.DeviceRate, DeviceBurst: wire.DeviceBurst,
			PartnerRate: wire.PartnerRate, PartnerBurst: wire.PartnerBurst, PartnerBytes: wire.PartnerBytesRate,
			PartnerFiles: wire.PartnerFiles, RoomDevices: wire.MaxRoomDevices, Mailbox: wire.MailboxEnvelopes,
		},
	}
}

// LoadConfig reads dir's configuration. Unknown keys and wrong values are
// reported all at once.
func LoadConfig(dir string) (Config, error) {
	c := DefaultConfig()
	path := filepath.Join(dir, ConfigFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("node: reading the configuration: %w", err)
	}
	var problems []string
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		var te *yaml.TypeError
		if !errors.As(err, &te) {
			return c, fmt.Errorf("node: %s: %w", path, err)
		}
		for _, e := range te.Errors {
			problems = append(problems, strings.Replace(e, " not found in type node.Config", " is not a known key", 1))
		}
	}
	problems = append(problems, c.problems()...)
	if len(problems) > 0 {
		return c, fmt.Errorf("node: %s has %d problem(s):\n  %s", path, len(problems), strings.Join(problems, "\n  "))
	}
	return c, nil
}

// problems lists every value that does not stand.
func (c Config) problems() []string {
	var p []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			p = append(p, fmt.Sprintf(format, args...))
		}
	}
	for key, value := range map[string]string{"listen": c.Listen, "metrics": c.Metrics} {
		if value == "" && key == "metrics" {
			continue
		}
		_, _, err := net.SplitHostPort(value)
		add(err != nil, "%s: %q is not HOST:PORT", key, value)
	}
	add(c.API != "" && !strings.HasPrefix(c.API, "https://"), "api: %q does not begin with https://", c.API)
	add((c.TLSCert == "") != (c.TLSKey == ""), "tls-cert and tls-key: set both or none")
	add(c.TLSCert != "" && len(c.ACME) > 0, "tls-cert and acme: a certificate comes from files or from a CA, not from both")
	for _, name := range c.ACME {
		add(wire.CheckOrganizationName(name) != nil, "acme: %q is not a host name such as chat.acme.example", name)
	}
	add(c.ACMEServer != "" && !strings.HasPrefix(c.ACMEServer, "https://"), "acme-server: %q does not begin with https://", c.ACMEServer)
	add(len(c.ACME) == 0 && (c.ACMEEmail != "" || c.ACMEServer != ""), "acme-email and acme-server: they need acme")
	add(len(c.Federation) == 0 && len(c.Announce) > 0, "announce: there is nothing to announce where federation listens nowhere")
	for _, list := range [][]string{c.Federation, c.Announce} {
		for _, a := range list {
			_, err := multiaddr.NewMultiaddr(a)
			add(err != nil, "federation or announce: %q is not a multiaddr such as /ip4/0.0.0.0/tcp/4801", a)
		}
	}
	for _, p := range c.Proxies {
		_, err := parseProxy(p)
		add(err != nil, "trusted-proxies: %q is neither an address nor a range such as 10.0.0.0/8", p)
	}
	for _, o := range c.Origins {
		add(!isOrigin(o), "origins: %q is not an origin such as https://chat.acme.example", o)
	}
	add(len(c.Witnesses) > maxPublicWitnesses, "witnesses: at most %d", maxPublicWitnesses)
	for _, w := range c.Witnesses {
		_, err := identity.ParseWitness(w)
		add(err != nil, "witnesses: %q is not a verifier key such as NAME+HASH+BASE64", w)
	}
	add(c.Bucket < time.Second || c.Bucket > 24*time.Hour, "bucket: %s is not within 1s and 24h", c.Bucket)
	add(c.Retention < c.Bucket || c.Retention > wire.RetentionCeiling, "retention: %s is not within one bucket and 720h", c.Retention)
	add(c.ResetAfter < time.Second || c.ResetAfter > 24*time.Hour, "reset-after: %s is not within 1s and 24h", c.ResetAfter)
	add(c.Limits.DeviceRate <= 0 || c.Limits.DeviceBurst <= 0, "limits: device-rate and device-burst must be above 0")
	add(c.Limits.PartnerRate <= 0 || c.Limits.PartnerBurst <= 0 || c.Limits.PartnerBytes <= 0 || c.Limits.PartnerFiles <= 0, "limits: partner-rate, partner-burst, partner-bytes and partner-files must be above 0")
	add(c.Limits.RoomDevices < 2 || c.Limits.RoomDevices > wire.MaxRoomDevices, "limits: room-devices must be within 2 and %d", wire.MaxRoomDevices)
	add(c.Limits.Mailbox < 1 || c.Limits.Mailbox > wire.MailboxEnvelopes, "limits: mailbox-messages must be within 1 and %d", wire.MailboxEnvelopes)
	add(c.Files.MaxSize > wire.MaxFile, "files: max-size %d is above %d", c.Files.MaxSize, uint64(wire.MaxFile))
	add(len(c.Files.Types) > maxFileTypes, "files: more than %d types", maxFileTypes)
	for _, t := range c.Files.Types {
		add(!wire.IsFileType(t), "files: %q is no type such as .pdf, image/png or image/*", t)
	}
	for _, name := range c.Transit {
		add(wire.CheckOrganizationName(name) != nil, "transit: %q is no organization's name, such as globex.example", name)
	}
	_, err := federation.ParseMode(c.Mode)
	add(err != nil, "mode: %q is none of closed, agreement, open", c.Mode)
	_, _, err = net.SplitHostPort(c.DNS)
	add(err != nil && c.DNS != "" && c.DNS != "off", "dns: %q is neither HOST:PORT nor off", c.DNS)
	_, err = c.level()
	add(err != nil, "log: %q is none of debug, info, warn, error", c.LogLevel)
	return p
}

// parseProxy reads an address, or a range of them.
func parseProxy(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// proxies are those whose word about their clients' addresses counts.
func (c Config) proxies() (out []netip.Prefix) {
	for _, s := range c.Proxies {
		if p, err := parseProxy(s); err == nil { // check has refused others
			out = append(out, p)
		}
	}
	return out
}

// isOrigin reports whether a browser could send s as Origin (RFC 6454 §6.2): all
// lower case, without a path, and without the port that is the scheme's own. The
// null origin stands for any page that hides its own, so it is none.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" {
		return false
	}
	standard := u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80"
	return s == strings.ToLower(u.Scheme+"://"+u.Host) && !standard && !strings.HasSuffix(s, ":") && !strings.ContainsAny(s, "*")
}

// ConfigText is the file that `entente node init` writes: every key, with its
// default and what it does.
func (c Config) ConfigText() string {
	var b strings.Builder
	line := func(comment, key string, value any) {
		v, err := yaml.Marshal(map[string]any{key: value})
		if err != nil {
			v = []byte("# " + key + ": " + err.Error() + "\n")
		}
		fmt.Fprintf(&b, "# %s\n%s\n", comment, v)
	}
	b.WriteString("# The configuration of an Entente node. Unknown keys are refused.\n\n")
	line("Where devices connect (HTTPS, HOST:PORT).", "listen", c.Listen)
	line("The address that devices are told, https://HOST:PORT; empty: made from listen.", "api", c.API)
	line("Certificate and key files (PEM) for browsers; read again when they change. Devices pin the node's peer ID and need none.", "tls-cert", c.TLSCert)
	line("See tls-cert.", "tls-key", c.TLSKey)
	line("Or host names to get certificates for by ACME (the CA reaches listen on port 443). Setting it accepts the CA's terms.", "acme", c.ACME)
	line("Whom the CA may write to; empty: nobody.", "acme-email", c.ACMEEmail)
	line("The CA's ACME directory, https://...; empty: Let's Encrypt.", "acme-server", c.ACMEServer)
	line("A proxy with a web CA's certificate ends TLS before this node: enrolment links tell devices so (tls=web).", "behind-proxy", c.Proxied)
	line("Proxies before listen, by address or range (10.0.0.0/8), whose X-Forwarded-For says for whom a connection counts; none: for who connects.", "trusted-proxies", c.Proxies)
	line("Where /healthz, /readyz and /metrics answer without sign-in (HOST:PORT); empty: nowhere.", "metrics", c.Metrics)
	line("Where partners connect (multiaddrs; QUIC may be blocked somewhere, so keep TCP); none, []: nowhere, behind a NAT: this node then dials its partners and holds the connection.", "federation", c.Federation)
	line("The addresses that partners are told, when the organization is made; empty: those of federation, but 0.0.0.0 and ::. Later: entente organization addresses.", "announce", c.Announce)
	line("With whom agreements are made: closed (nobody), agreement (by tokens), open (strangers may leave a request). See entente node mode.", "mode", c.Mode)
	line("Partners that may meet in rooms of ours without an agreement of their own, where the agreement says transit: named.", "transit", c.Transit)
	line("Members write to people of other organizations only after they have compared safety numbers with them (entente verify).", "verify-outsiders", c.Verify)
	line("Web origins whose pages may call this node from a browser, as https://chat.acme.example; none: no page may.", "origins", c.Origins)
	line("How long undelivered messages are kept, at most 720h.", "retention", c.Retention.String())
	line("Length of a deadline bucket: keys are destroyed when it ends. Cannot change once messages are stored.", "bucket", c.Bucket.String())
	line("Trust this machine's clock after a start without asking partners.", "trust-clock", c.TrustClock)
	line("How long a room, of which a device has complained that it cannot follow, may stand still before it is reset.", "reset-after", c.ResetAfter.String())
	line("Public witnesses (C2SP verifier keys) whose cosignatures count beside those of partners.", "witnesses", c.Witnesses)
	line("The resolver (HOST:PORT) that partners' names are looked up with; empty: this machine's; off: none is asked.", "dns", c.DNS)
	line("debug, info, warn or error.", "log", c.LogLevel)
	line("Files: bytes of one at most (0: none), bytes of all of a member's, of all members' together (ceiling; 0: what the disk has beside twice the room that mail keeps); types that devices may send and take, as .pdf, image/png, image/* (none: all).", "files", c.Files)
	line("Rates: submissions per second and device; items and bytes per second and partner, and bytes of files that it may fetch. Devices in a room that is ordered here. Messages that wait for a device before more are refused.", "limits", c.Limits)
	return b.String()
}
