package wire

import "strings"

// Address is alice@acme.example: an alias that the organization's directory
// resolves to identifiers (docs/protocol.md 1.2).
type Address struct {
	Name         string // local part: the member's name
	Organization string // the organization's name, DNS-like
}

func (a Address) String() string { return a.Name + "@" + a.Organization }

// ParseAddress reads name@organization. Both parts are lower-case ASCII labels;
// other scripts are written in punycode.
func ParseAddress(s string) (Address, error) {
	name, org, ok := strings.Cut(s, "@")
	if !ok {
		return Address{}, malformed("address %.80q has no @: write name@organization", s)
	}
	if err := CheckMemberName(name); err != nil {
		return Address{}, err
	}
	if err := CheckOrganizationName(org); err != nil {
		return Address{}, err
	}
	return Address{Name: name, Organization: org}, nil
}

// CheckMemberName accepts 1 to 64 characters of a-z, 0-9, dot, hyphen and
// underscore, beginning and ending with a letter or digit.
func CheckMemberName(s string) error {
	if len(s) == 0 || len(s) > 64 {
		return malformed("a member name of %d characters: 1 to 64 are allowed", len(s))
	}
	for i := range len(s) {
		c := s[i]
		inner := (c == '.' || c == '-' || c == '_') && i > 0 && i < len(s)-1
		if !alphanumeric(c) && !inner {
			return malformed("member name %q: use a-z, 0-9 and, inside, . - _", s)
		}
	}
	return nil
}

// CheckOrganizationName accepts a DNS-like name: two or more labels of a-z, 0-9
// and hyphen, 253 characters at most (RFC 1035 §2.3.1, in lower case). Other scripts are
// written in Punycode (RFC 3492), which is read and must stand (unicodeLabel).
func CheckOrganizationName(s string) error {
	if len(s) == 0 || len(s) > 253 {
		return malformed("an organization name of %d characters: 1 to 253 are allowed", len(s))
	}
	labels := strings.Split(s, ".")
	if len(labels) < 2 {
		return malformed("organization name %q: it needs a dot, as in acme.example", s)
	}
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return malformed("organization name %q has the label %q", s, l)
		}
		for i := range len(l) {
			if !alphanumeric(l[i]) && l[i] != '-' {
				return malformed("organization name %q: use a-z, 0-9, hyphen and dot", s)
			}
		}
		if _, ok := unicodeLabel(l); !ok {
			return malformed("organization name %q: the label %q is no Punycode that stands", s, l)
		}
	}
	return nil
}

func alphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
