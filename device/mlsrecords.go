package device

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"github.com/entente-im/entente/mls/group"
	"github.com/entente-im/entente/wire"
)

// State records of a room's MLS state: the group's, the head of its ratchets, and one for
// each sender or node of a secret tree (mls/group, Records; docs/protocol.md 7.5).
const (
	groupPrefix = "mlsg/"
	headPrefix  = "mlsr/"
	partPrefix  = "mlsp/"
	usesPrefix  = "mls-uses/" // meta: how often the state had changed when it was stored last
)

// mlsKey is where a record of a room's MLS state lies.
func mlsKey(id wire.RoomID, key string) []byte {
	switch key {
	case "g":
		return roomKey(groupPrefix, id)
	case "r":
		return roomKey(headPrefix, id)
	}
	return append(roomKey(partPrefix, id), key...)
}

// putMLS stores what is different in a room's MLS state since it was stored last.
func (t *txn) putMLS(id wire.RoomID, s *group.State) error {
	since, ok := t.mls[id]
	if !ok {
		since = t.v.mls[id]
	}
	records := s.Records(since)
	if len(records) == 0 {
		return nil
	}
	if since == nil {
		if err := t.deleteStates(string(roomKey(partPrefix, id))); err != nil {
			return err
		}
	}
	for _, r := range records {
		key := mlsKey(id, r.Key)
		var err error
		if r.Value == nil {
			err = t.deleteState(key)
		} else {
			err = t.putState(key, r.Value)
			clear(r.Value)
		}
		if err != nil {
			return err
		}
	}
	t.noteMLS(id, s)
	return t.putNumber(string(roomKey(usesPrefix, id)), s.Uses())
}

// noteMLS is what this transaction makes the stored state, once it has ended well.
func (t *txn) noteMLS(id wire.RoomID, s *group.State) {
	if t.mls == nil {
		t.mls = make(map[wire.RoomID]*group.State)
	}
	t.mls[id] = s
}

// deleteMLS deletes all of a room's MLS state.
func (t *txn) deleteMLS(id wire.RoomID) error {
	t.noteMLS(id, nil)
	return errors.Join(t.deleteState(roomKey(groupPrefix, id)), t.deleteState(roomKey(headPrefix, id)),
		t.deleteStates(string(roomKey(partPrefix, id))), t.deleteMeta(roomKey(usesPrefix, id)))
}

// readMLS takes a room's MLS state up again; nil when there is none. old says that the room
// has had a later one: a copy of its records was put in their place.
func (t *txn) readMLS(id wire.RoomID, cfg group.Config) (s *group.State, old bool, err error) {
	var records []group.Record
	for _, key := range []string{"g", "r"} {
		v, err := t.state(mlsKey(id, key))
		if errors.Is(err, errNoRecord) && key == "g" {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		records = append(records, group.Record{Key: key, Value: v})
	}
	prefix := roomKey(partPrefix, id)
	err = t.eachState(string(prefix), func(k, v []byte) error {
		records = append(records, group.Record{Key: string(bytes.TrimPrefix(k, prefix)), Value: v})
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	s, err = group.Restore(cfg, records)
	for _, r := range records {
		clear(r.Value)
	}
	if err != nil {
		return nil, false, fmt.Errorf("device: the state of room %s: %w", id, err)
	}
	uses, err := t.number(string(roomKey(usesPrefix, id)))
	return s, s.Uses() < uses, err
}

// expireMLS drops the past epochs and skipped keys that are older than a day, where nothing
// arrives that would, and reports whether there were any: then the state key has to be
// replaced, or the file would still open them.
func (d *Device) expireMLS() (bool, error) {
	changed := make(map[wire.RoomID]*room)
	for id, r := range d.rooms {
		if r.state == nil {
			continue
		}
		if next, gone := r.state.Expire(); gone {
			c := *r
			c.state = next
			changed[id] = &c
		}
	}
	if len(changed) == 0 {
		return false, nil
	}
	err := d.vault.update(func(t *txn) error {
		for _, r := range changed {
			if err := r.save(t); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		maps.Copy(d.rooms, changed)
	}
	return err == nil, err
}
