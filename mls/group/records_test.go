package group

import (
	"maps"
	"slices"

	"github.com/entente-im/entente/mls/internal/tls"
)

// EncodeGroup and EncodeRatchets are all records of a state as two values, for tests that
// ask whether it changed.
func (s *State) EncodeGroup() []byte { return s.encodeGroup() }

func (s *State) EncodeRatchets() []byte {
	var w tls.Writer
	w.Vector(func(w *tls.Writer) {
		for _, r := range s.Records(nil) {
			if r.Key != groupKey {
				w.Vec([]byte(r.Key))
				w.Vec(r.Value)
			}
		}
	})
	return w.B
}

// Decode is the inverse of both.
func Decode(cfg Config, group, ratchets []byte) (*State, error) {
	records, err := parseBundle(ratchets)
	if err != nil {
		return nil, err
	}
	return Restore(cfg, append(records, Record{groupKey, group}))
}

// disk is where a test's client keeps its records, written as a device writes them.
type disk struct {
	records map[string][]byte
	last    *State
}

// store writes what is different since the state stored last and returns everything.
func (d *disk) store(s *State) []Record {
	d.records = maps.Clone(d.records) // clients are copied
	if d.records == nil {
		d.records = map[string][]byte{}
	}
	for _, r := range s.Records(d.last) {
		if r.Value == nil {
			delete(d.records, r.Key)
		} else {
			d.records[r.Key] = r.Value
		}
	}
	d.last = s
	return d.all()
}

func (d *disk) all() (out []Record) {
	for _, k := range slices.Sorted(maps.Keys(d.records)) {
		out = append(out, Record{k, slices.Clone(d.records[k])})
	}
	return out
}

// sameRecords compares two sets, in any order.
func sameRecords(a, b []Record) bool {
	index := map[string]string{}
	for _, r := range a {
		index[r.Key] = string(r.Value)
	}
	for _, r := range b {
		if v, ok := index[r.Key]; !ok || v != string(r.Value) {
			return false
		}
	}
	return len(a) == len(b) && len(index) == len(a)
}
