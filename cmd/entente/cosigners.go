package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
)

// cosignedRow is who has cosigned a head, as directory verify prints it.
type cosignedRow struct {
	Name    string `json:"name"`
	At      string `json:"at"`      // by the cosigner's clock
	Checked bool   `json:"checked"` // by the key of that name; else the file alone says so
}

func (r cosignedRow) text() string {
	if r.Checked {
		return r.Name + " " + r.At
	}
	return r.Name + " " + r.At + " (says the file: name its key with --witness)"
}

// cosignedBy lists who has cosigned the head of a proof. The organization's own key is in
// the proof, those of others are named; one that is named and has signed otherwise is
// an error.
func cosignedBy(p *identity.Proved, witnesses []string) ([]cosignedRow, error) {
	known := []identity.Cosigner{identity.CosignerOf(p.Organization)}
	for _, text := range witnesses {
		w, err := identity.ParseWitness(text)
		if err != nil {
			return nil, &usageError{err}
		}
		known = append(known, w)
	}
	said, err := identity.SaidCosignatures(p.Head.Note)
	if err != nil {
		return nil, err
	}
	stand, err := identity.Cosignatures(p.Head.Note, known)
	if err != nil {
		return nil, err
	}
	rows := []cosignedRow{}
	for _, s := range said {
		row := cosignedRow{Name: cosignerName(s.Name), At: wire.FormatTime(s.At)}
		for _, k := range stand {
			row.Checked = row.Checked || k.By.Owner == s.Name && k.By.KeyHash() == s.Hash && k.At.Equal(s.At)
		}
		rows = append(rows, row)
	}
	for _, w := range known[1:] {
		if !hasSigned(stand, w) {
			return nil, &hintError{fmt.Errorf("%s has not cosigned this head, with that key", oneLine(cosignerName(w.Owner), 253)), "leave --witness out to see who has", exitRefused}
		}
	}
	return rows, nil
}

func hasSigned(stand []identity.Cosignature, w identity.Cosigner) bool {
	for _, k := range stand {
		if k.By.Owner == w.Owner && k.By.Public.Equal(w.Public) {
			return true
		}
	}
	return false
}

// cosignerName is an organization's name, of that of its cosigner key.
func cosignerName(key string) string { return strings.TrimSuffix(key, identity.CosignerName("")) }

// cosigners names who has cosigned a checkpoint of our own node, and when.
func cosigners(checkpoint string) string {
	said, err := identity.SaidCosignatures(checkpoint)
	if err != nil || len(said) == 0 {
		return "by nobody yet"
	}
	var names []string
	for _, s := range said {
		names = append(names, cosignerName(s.Name)+" ("+s.At.Format(time.DateTime)+")")
	}
	return "by " + strings.Join(names, ", ")
}
