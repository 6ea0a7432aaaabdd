package identity

import (
	"crypto/sha256"
	"encoding/base32"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

var secret32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Link is an enrolment link (docs/protocol.md 7.1):
//
//	entente://HOST:PORT/enroll?name=NAME&organization=ORG&pin=PEERID[&tls=web]#SECRET
//
// The secret admits; the pin says which node may see it. A device link has /link for
// /enroll: it is made by a device of the member, for the next one, and no node may see
// its secret (docs/protocol.md 7.11).
type Link struct {
	Device       bool   // a device link
	Host         string // host:port of the node's API
	Name         string
	Organization string
	Pin          wire.DeviceID // the node's peer
	Web          bool          // HOST has a certificate of a web CA; else TLS itself shows the pin
	Secret       [32]byte
}

const maxLink = 1_024

// ID names the link without giving the secret away: the first 16 bytes of its hash.
func (l Link) ID() [16]byte { return LinkID(l.Secret) }

// LinkID is the first 16 bytes of SHA-256("entente.im/link/v1\n" ‖ secret).
func LinkID(secret [32]byte) [16]byte {
	h := LinkHash(secret)
	return [16]byte(h[:16])
}

// LinkHash is what a node stores of a link's secret.
func LinkHash(secret [32]byte) [32]byte {
	return sha256.Sum256(append([]byte("entente.im/link/v1\n"), secret[:]...))
}

func (l Link) String() string {
	q := "name=" + url.QueryEscape(l.Name) + "&organization=" + url.QueryEscape(l.Organization) + "&pin=" + l.Pin.String()
	if l.Web {
		q += "&tls=web"
	}
	path := "/enroll?"
	if l.Device {
		path = "/link?"
	}
	return "entente://" + l.Host + path + q + "#" + secret32.EncodeToString(l.Secret[:])
}

// ParseLink is the inverse of String; its errors never hold the secret.
func ParseLink(s string) (l Link, err error) {
	bad := func(what string) (Link, error) {
		return Link{}, wire.Refuse(pb.Code_CODE_MALFORMED, "this is no enrolment link: %s", what)
	}
	if len(s) > maxLink {
		return bad("it is too long")
	}
	head, secret, ok := strings.Cut(s, "#")
	if !ok || secret == "" {
		return bad("the part after the # is missing: copy it whole")
	}
	rest, ok := strings.CutPrefix(head, "entente://")
	host, query, ok2 := strings.Cut(rest, "/enroll?")
	if !ok2 {
		host, query, l.Device = strings.Cut(rest, "/link?")
	}
	if !ok || !ok2 && !l.Device {
		return bad("it does not begin with entente://HOST:PORT/enroll? or /link?")
	}
	if !hostPort(host) {
		return bad("it names no HOST:PORT")
	}
	l.Host = host
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("its fields do not parse")
	}
	l.Name, l.Organization = values.Get("name"), values.Get("organization")
	if wire.CheckMemberName(l.Name) != nil || wire.CheckOrganizationName(l.Organization) != nil {
		return bad("its name or organization is none")
	}
	if l.Pin, err = wire.ParseDeviceID(values.Get("pin")); err != nil {
		return bad("its pin is no peer ID")
	}
	l.Web = values.Get("tls") == "web"
	b, err := secret32.DecodeString(secret)
	if err != nil || len(b) != 32 {
		return bad("the part after the # is cut or mistyped")
	}
	copy(l.Secret[:], b)
	if l.String() != s {
		return bad("it is not written as links are")
	}
	return l, nil
}

// hostPort accepts a DNS name or IP address with a port, and nothing that a URL
// would read as something else (a user, a path).
func hostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || len(host) > 253 || strings.Trim(host, hostCharacters) != "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

const hostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:"
