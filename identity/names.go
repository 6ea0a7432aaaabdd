package identity

import (
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/entente-im/entente/wire"
)

// An organization is its ID; its name may change, by its root (docs/protocol.md 2.18).

const (
	// MaxNames bounds the names that one organization can have had.
	MaxNames = 16
	// FormerName is how long an organization is still found under a name that it has given up.
	FormerName = 30 * 24 * time.Hour
)

// KeyName is the name under which the organization's keys sign, for good: its first one. A
// signature from before a change of the name stands after it.
func (o *Organization) KeyName() string { return o.Manifest.keyName() }

func (m *Manifest) keyName() string {
	if m.first != "" {
		return m.first
	}
	return m.Name
}

// Names lists every name that the organization has had, the present one last.
func (o *Organization) Names() []string {
	var out []string
	for i := range o.chain {
		name := o.chain[i].Name
		out = append(slices.DeleteFunc(out, func(n string) bool { return n == name }), name)
	}
	return out
}

// Answers reports whether the organization is found under a name: its own, or one that it has
// given up, by its own word, less than FormerName ago.
func (o *Organization) Answers(name string, now time.Time) bool {
	if name == o.Manifest.Name {
		return true
	}
	for i := len(o.chain) - 1; i > 0; i-- {
		if o.chain[i-1].Name == name && o.chain[i].Name != name {
			return now.Before(o.chain[i].Issued.Add(FormerName))
		}
	}
	return false
}

// Rename signs a manifest with another name by the present root. Everything that was signed
// before stands: members, agreements and rooms go by the ID.
func (o *Organization) Rename(root ed25519.PrivateKey, name string, now time.Time) (*Organization, error) {
	if err := wire.CheckOrganizationName(name); err != nil {
		return nil, refuse("a name: %v", err)
	}
	if name == o.Manifest.Name {
		return nil, refuse("the organization is called %s already", name)
	}
	return o.extend(root, now, func(m *Manifest) { m.Name = name })
}
