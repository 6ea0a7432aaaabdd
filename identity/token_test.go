package identity

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

func exampleLink() Link {
	return Link{Host: "node.acme.example:4000", Name: "alice", Organization: "acme.example", Pin: deviceID("acme.example/peer"), Secret: [32]byte{1, 2, 3}}
}

func exampleToken() Token {
	return Token{Organization: wire.OrganizationID{7}, Name: "acme.example", Peer: deviceID("acme.example/peer"), Addresses: []string{"/ip4/192.0.2.1/tcp/4001"},
		ID: [16]byte{1}, Secret: [32]byte{9, 8, 7}, Expires: now.Add(time.Hour), Terms: DefaultTerms(now, now.Add(wire.AgreementLifetime))}
}

// textVector is one line of testdata/links.json.
type textVector struct {
	Name    string `json:"name"`
	Input   string `json:"input"`
	Accept  bool   `json:"accept"`
	Because string `json:"because,omitempty"`
}

// TestLinkVectors reads the links of docs/protocol.md 7.1 that stand and that do not.
func TestLinkVectors(t *testing.T) {
	if *update {
		writeLinks(t)
	}
	b, err := os.ReadFile("testdata/links.json")
	must(t, err)
	var vectors []textVector
	must(t, json.Unmarshal(b, &vectors))
	for _, v := range vectors {
		l, err := ParseLink(v.Input)
		if v.Accept {
			if err != nil || l.String() != v.Input {
				t.Errorf("%s: %v, comes back as %s", v.Name, err, l)
			}
			continue
		}
		t.Run(v.Name, func(t *testing.T) { refused(t, err, v.Because) })
		var status *wire.StatusError
		if !errors.As(err, &status) || wire.CodeName(status.Status.Code) != "malformed" {
			t.Errorf("%s: %v carries no status", v.Name, err)
		}
		if _, secret, ok := strings.Cut(v.Input, "#"); ok && len(secret) > 8 && err != nil && strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: the error holds the secret", v.Name)
		}
		if l != (Link{}) {
			t.Errorf("%s: a refused link leaves %+v", v.Name, l)
		}
	}
}

func writeLinks(t *testing.T) {
	good := exampleLink().String()
	six := exampleLink()
	six.Host = "[2001:db8::1]:4000"
	web := exampleLink()
	web.Web = true
	vectors := []textVector{{"as made", good, true, ""}, {"to an IPv6 address", six.String(), true, ""}, {"behind a proxy", web.String(), true, ""}}
	for _, e := range [][4]string{
		{"of another scheme", "begin", "entente://", "https://"},
		{"without a port", "HOST:PORT", ":4000", ""},
		{"port 0", "HOST:PORT", ":4000", ":0"},
		{"port over 65535", "HOST:PORT", ":4000", ":70000"},
		{"with a user", "HOST:PORT", "entente://", "entente://acme.example:1@"},
		{"with a path before the door", "HOST:PORT", "node.acme.example:4000", "evil.example/x:4000"},
		{"name in capitals", "name", "name=alice", "name=Alice"},
		{"without a name", "name", "name=alice&", ""},
		{"name twice", "written", "name=alice", "name=alice&name=bob"},
		{"organization without a dot", "organization", "organization=acme.example", "organization=acme"},
		{"a field more", "written", "&pin=", "&x=1&pin="},
		{"fields in another order", "written", "name=alice&organization=acme.example", "organization=acme.example&name=alice"},
		{"escaped where it need not be", "written", "name=alice", "name=%61lice"},
		{"pin cut", "pin", "&pin=12D3", "&pin=2D3"},
		{"another kind of TLS", "written", "#", "&tls=none#"},
		{"TLS named before the pin", "written", "&pin=", "&tls=web&pin="},
		{"no secret", "after the #", good[strings.Index(good, "#")+1:], ""},
		{"no #", "after the #", "#", ""},
		{"secret cut", "cut or mistyped", "aeba", "aeb"},
		{"secret in capitals", "cut or mistyped", "aeba", "AEBA"},
		{"secret with a space behind it", "cut or mistyped", "aeba", "aeba "},
		{"over a kilobyte", "too long", "name=alice", "name=" + strings.Repeat("a", 1_024)},
	} {
		vectors = append(vectors, textVector{e[0], replaced(t, good, e[2], e[3]), false, e[1]})
	}
	b, err := json.MarshalIndent(append(vectors, textVector{"empty", "", false, "after the #"}), "", " ")
	must(t, err)
	must(t, os.WriteFile("testdata/links.json", append(b, '\n'), 0o644))
}

// A node keeps only a hash of a link's secret, and its name says nothing about it.
func TestLinkIsNamedByAHashOfItsSecret(t *testing.T) {
	l := exampleLink()
	id, hash := l.ID(), LinkHash(l.Secret)
	if string(id[:]) != string(hash[:16]) {
		t.Error("the ID is not the hash's beginning")
	}
	other := l
	other.Secret[31] ^= 1
	if other.ID() == id {
		t.Error("two secrets have one ID")
	}
}

func TestTokenSurvivesCopyingOrIsRefused(t *testing.T) {
	token := exampleToken()
	s := token.String()
	again, err := ParseToken(s)
	must(t, err)
	if again.String() != s || again.Secret != token.Secret || again.Terms != token.Terms || again.Addresses[0] != token.Addresses[0] {
		t.Errorf("comes back as %+v", again)
	}
	for i := range s {
		for _, bad := range []string{s[:i], s[:i] + s[i+1:], string(flipped([]byte(s), i)), s[:i] + " " + s[i:]} {
			got, err := ParseToken(bad)
			if err == nil || got != nil {
				t.Fatalf("accepted with position %d changed", i)
			}
			if i > len(tokenPrefix) && !strings.Contains(err.Error(), "mistyped") {
				t.Fatalf("position %d changed: %v", i, err)
			}
			if strings.Contains(err.Error(), s[60:80]) {
				t.Fatalf("the error holds the token: %v", err)
			}
		}
	}
	if _, err := ParseToken(tokenPrefix + strings.Repeat("a", MaxToken)); err == nil {
		t.Error("a token over the limit is read")
	}
}

// A token comes from a stranger's hand and is shown to an operator before anything
// else: what it holds must stand, also when its checksum does.
func TestTokensWithFieldsThatDoNotStandAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Token){
		"no organization":            func(t *Token) { t.Organization = wire.OrganizationID{} },
		"no peer":                    func(t *Token) { t.Peer = wire.DeviceID{} },
		"a name that is none":        func(t *Token) { t.Name = "acme" },
		"a name with an escape":      func(t *Token) { t.Name = "acme.example\x1b[2J" },
		"17 addresses":               func(t *Token) { t.Addresses = make([]string, 17) },
		"an overlong address":        func(t *Token) { t.Addresses = []string{strings.Repeat("a", 257)} },
		"an address with an escape":  func(t *Token) { t.Addresses = []string{"/ip4/\x1b]0;x\a"} },
		"abuse with an escape":       func(t *Token) { t.Terms.Abuse = "\x1b[1A mail us" },
		"abuse with a line more":     func(t *Token) { t.Terms.Abuse = "x\n  valid        for ever" },
		"abuse that turns text":      func(t *Token) { t.Terms.Abuse = "\u202e" },
		"abuse of 300 bytes":         func(t *Token) { t.Terms.Abuse = strings.Repeat("a", 300) },
		"retention over the ceiling": func(t *Token) { t.Terms.Retention = wire.RetentionCeiling + 1 },
		"negative retention":         func(t *Token) { t.Terms.Retention = -1 },
		"an unknown contact rule":    func(t *Token) { t.Terms.Contact = "all" },
		"an unknown directory rule":  func(t *Token) { t.Terms.Directory = "all" },
		"an unknown transit rule":    func(t *Token) { t.Terms.Transit = "all" },
		"terms that end at once":     func(t *Token) { t.Terms.ValidUntil = t.Terms.ValidFrom },
	} {
		token := exampleToken()
		change(&token)
		if _, err := ParseToken(token.String()); err == nil {
			t.Errorf("a token with %s is accepted", name)
		}
	}
}

// One token has one text: another spelling of the same fields, or fields that this
// version does not know, are refused even with a right checksum.
func TestTokensSpelledOtherwiseAreRefused(t *testing.T) {
	b, err := json.Marshal(exampleToken())
	must(t, err)
	for name, other := range map[string]string{
		"a space more":      replaced(t, string(b), `"Name":`, `"Name": `),
		"a field more":      replaced(t, string(b), `"Name":`, `"X":1,"Name":`),
		"a field twice":     replaced(t, string(b), `"Name":"acme.example"`, `"Name":"a.example","Name":"acme.example"`),
		"a field in lower":  replaced(t, string(b), `"Secret":`, `"secret":`),
		"something behind":  string(b) + " ",
		"no JSON":           "x",
		"nothing":           "",
		"another JSON type": "[]",
	} {
		token, err := ParseToken(tokenPrefix + token32.EncodeToString(append(tokenChecksum([]byte(other)), other...)))
		if err == nil {
			t.Errorf("with %s it stands as %+v", name, token)
		}
	}
}

// Whoever accepts a token agrees to every field of its terms: no field may change
// without the text that he is shown changing too.
func TestTermsAreShownWhole(t *testing.T) {
	shown := exampleToken().Terms.Text()
	changes := map[string]func(*Terms){
		"Directory":  func(t *Terms) { t.Directory = "groups" },
		"Rooms":      func(t *Terms) { t.Rooms = !t.Rooms },
		"FileSize":   func(t *Terms) { t.FileSize++ },
		"Calls":      func(t *Terms) { t.Calls = !t.Calls },
		"Guests":     func(t *Terms) { t.Guests = !t.Guests },
		"Contact":    func(t *Terms) { t.Contact = ContactRequest },
		"Transit":    func(t *Terms) { t.Transit = "any" },
		"Retention":  func(t *Terms) { t.Retention += time.Second },
		"Rate":       func(t *Terms) { t.Rate += 1_000_000 },
		"ValidFrom":  func(t *Terms) { t.ValidFrom = t.ValidFrom.Add(time.Second) },
		"ValidUntil": func(t *Terms) { t.ValidUntil = t.ValidUntil.Add(time.Second) },
		"Abuse":      func(t *Terms) { t.Abuse = "somebody else" },
	}
	for f := range reflect.TypeFor[Terms]().Fields() {
		change := changes[f.Name]
		if change == nil {
			t.Errorf("nothing here changes %s", f.Name)
			continue
		}
		terms := exampleToken().Terms
		change(&terms)
		if terms.Text() == shown {
			t.Errorf("another %s is not shown:\n%s", f.Name, shown)
		}
	}
}
