package device

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/entente-im/entente/wire"
)

func TestAnOutgoingMessageComesBackAsItWasStoredByThisVersionAndByEarlierOnes(t *testing.T) {
	o := outgoing{ID: MessageID{1, 2}, Room: wire.RoomID{3}, Content: []byte("content"), Deadline: 1 << 40, Counter: 1 << 60, Epoch: 7,
		Core: []byte{0, 255}, Accepted: true, Silent: true, Queued: time.Unix(1_800_000_000, 123_456_789).UTC()}
	now, err := o.marshal()
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(now) >= len(before) {
		t.Errorf("%d bytes, %d before", len(now), len(before))
	}
	for what, row := range map[string][]byte{"this version": now, "an earlier one": before} {
		var got outgoing
		if err := got.unmarshal(row); err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	for _, bad := range [][]byte{nil, {'{'}, now[:len(now)-1], append(now[:len(now):len(now)], 0)} {
		if new(outgoing).unmarshal(bad) == nil {
			t.Errorf("%x was read", bad)
		}
	}
}
