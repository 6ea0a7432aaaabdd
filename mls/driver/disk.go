package main

import "github.com/entente-im/entente/mls/group"

// disks are the records of each group, by group ID, written as a client would: only
// what changed.
type disks map[string]*disk

type disk struct {
	records map[string][]byte
	last    *group.State
}

// write stores a state in place of the one before.
func (d disks) write(st *group.State) {
	id := string(st.GroupID())
	if d[id] == nil {
		d[id] = &disk{records: map[string][]byte{}}
	}
	g := d[id]
	for _, r := range st.Records(g.last) {
		if r.Value == nil {
			delete(g.records, r.Key)
		} else {
			g.records[r.Key] = r.Value
		}
	}
	g.last = st
}

func (d disks) read(id []byte) (out []group.Record) {
	for k, v := range d[string(id)].records {
		out = append(out, group.Record{Key: k, Value: v})
	}
	return out
}
