package identity

import (
	"slices"

	"github.com/entente-im/entente/wire"
)

// Names lists every name that the organization has had, the present one last.
func (o *Organization) Names() []string {
	var out []string
	for _, note := range o.Notes {
		text, err := wire.NoteText(note)
		if err != nil {
			continue
		}
		if m, err := parseManifest(text); err == nil {
			out = append(slices.DeleteFunc(out, func(n string) bool { return n == m.Name }), m.Name)
		}
	}
	return out
}
