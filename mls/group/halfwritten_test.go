package group

import (
	"errors"
	"slices"
	"testing"
)

// chatty is a member of a room in which all others have sent, in this epoch and the one
// before, with its records before and after two more messages.
func chatty(t *testing.T) (c *client, before, after []Record) {
	t.Helper()
	room := newRoom(t, 5)
	everybodyTalks(t, room)
	st := room[1].commit(CommitParams{})
	for _, o := range room {
		if o != room[1] {
			o.process(st.Commit)
		}
	}
	everybodyTalks(t, room)
	before = room[0].st.Records(nil)
	room[0].recv(room[2].send("one more"))
	room[0].recv(room[3].send("and another"))
	return room[0], before, room[0].st.Records(nil)
}

// put is a set with another value of a record, or without it when the value is nil.
func put(set []Record, key string, value []byte) []Record {
	out := slices.DeleteFunc(slices.Clone(set), func(r Record) bool { return r.Key == key })
	if value != nil {
		out = append(out, Record{key, value})
	}
	return out
}

func valueOf(t *testing.T, set []Record, key string) []byte {
	t.Helper()
	i := slices.IndexFunc(set, func(r Record) bool { return r.Key == key })
	if i < 0 {
		t.Fatalf("no record %q", key)
	}
	return set[i].Value
}

func refused(t *testing.T, c *client, what string, set []Record) {
	t.Helper()
	if n, err := Restore(c.cfg, set); !errors.Is(err, ErrRecord) {
		t.Errorf("%s: %v, and a state: %v; want an ErrRecord", what, err, n != nil)
	}
}

func TestASetOfRecordsWithOneMissingIsRefused(t *testing.T) {
	c, _, after := chatty(t)
	if _, err := Restore(c.cfg, after); err != nil {
		t.Fatal(err)
	}
	for _, r := range after {
		if r.Key == groupKey || r.Key == headKey {
			if _, err := Restore(c.cfg, put(after, r.Key, nil)); err == nil {
				t.Errorf("%q missing: taken", r.Key)
			}
			continue
		}
		refused(t, c, "one missing", put(after, r.Key, nil))
	}
	refused(t, c, "only the two", slices.DeleteFunc(slices.Clone(after), func(r Record) bool { return r.Key != groupKey && r.Key != headKey }))
}

func TestARecordOfAnOlderStateIsRefusedAmongNewOnes(t *testing.T) {
	c, before, after := chatty(t)
	changed := 0
	var old []Record
	for _, r := range before {
		if string(valueOf(t, after, r.Key)) == string(r.Value) {
			continue
		}
		changed++
		if r.Key != headKey {
			old = append(old, r)
		}
		refused(t, c, "one of an older state", put(after, r.Key, r.Value))
		refused(t, c, "one of a newer state", put(before, r.Key, valueOf(t, after, r.Key)))
	}
	if changed != 3 || len(old) != 2 { // the head and two senders
		t.Fatalf("%d records changed", changed)
	}
	both := put(put(after, old[0].Key, old[0].Value), old[1].Key, old[1].Value)
	refused(t, c, "both senders of an older state", both)
}

func TestRecordsOfAnotherPlaceAreRefused(t *testing.T) {
	c, _, after := chatty(t)
	now, past := c.st.Epoch(), c.st.past[0].epoch
	a, b := partKey(partSender, now, 2), partKey(partSender, now, 3)
	va, vb := valueOf(t, after, a), valueOf(t, after, b)
	refused(t, c, "swapped between senders", put(put(after, a, vb), b, va))
	p := partKey(partSender, past, 2)
	vp := valueOf(t, after, p)
	refused(t, c, "swapped between epochs", put(put(after, a, vp), p, va))
	refused(t, c, "of an epoch that is over", put(after, partKey(partSender, past-1, 2), va))
	refused(t, c, "of one that is to come", put(after, partKey(partSender, now+1, 2), va))
	refused(t, c, "of a leaf that is not there", put(after, partKey(partSender, now, 1<<20), va))
	refused(t, c, "of ourselves", put(after, partKey(partSender, now, uint32(c.st.priv.leaf)), va))
	refused(t, c, "of a node that is not there", put(after, partKey(partNode, now, 1<<20), va[:32]))
	refused(t, c, "twice", append(slices.Clone(after), Record{a, va}))
	refused(t, c, "three times", append(slices.Clone(after), Record{a, va}, Record{a, va}))
	refused(t, c, "the head twice", append(slices.Clone(after), Record{headKey, valueOf(t, after, headKey)}))
	for _, key := range []string{"", "x", a[:5], a + "x", "x" + a[1:]} {
		refused(t, c, "of another kind", put(after, key, va))
	}
}

func TestTheGroupsRecordOfAnOlderStateIsRefused(t *testing.T) {
	room := newRoom(t, 3)
	before := room[1].st.Records(nil)
	room[1].process(room[0].proposeUpdate())
	after := room[1].st.Records(nil)
	refused(t, room[1], "without the proposal", put(after, groupKey, valueOf(t, before, groupKey)))
	refused(t, room[1], "with a proposal that is not counted", put(before, groupKey, valueOf(t, after, groupKey)))
}

func TestRecordsOfTwoStatesAreNotCombined(t *testing.T) {
	room := newRoom(t, 4)
	a, b := room[2].send("a"), room[3].send("b")
	first, _, err := room[0].st.Decrypt(a)
	must(t, err)
	second, _, err := room[0].st.Decrypt(b)
	must(t, err)
	// As after a crash of a store that keeps half of each.
	mixed := map[string][]byte{}
	for _, s := range []*State{first, second} {
		for _, r := range s.Records(nil) {
			mixed[r.Key] = r.Value
		}
	}
	d := disk{records: mixed}
	refused(t, room[0], "of two branches", d.all())
}

func TestAMessageWritesTwoSmallRecordsHoweverManyHaveSent(t *testing.T) {
	for _, n := range []int{3, 200} {
		first, second := benchRoom(t, n)
		everybodyHasSent(t, second, n)
		next, msg, err := first.st.Encrypt(nil, []byte("x"), 0)
		must(t, err)
		size := func(list []Record, most int) {
			t.Helper()
			bytes := 0
			for _, r := range list {
				bytes += len(r.Key) + len(r.Value)
			}
			if len(list) > most || bytes > 600 {
				t.Fatalf("%d members: %d records, %d bytes", n, len(list), bytes)
			}
		}
		size(next.Records(first.st), 1)
		got, _, err := second.st.Decrypt(msg)
		must(t, err)
		size(got.Records(second.st), 2)
		if len(got.Records(got)) != 0 {
			t.Fatal("what is stored is to be written again")
		}
	}
}

func TestRecordsOfAnEpochGoWithIt(t *testing.T) {
	room := newRoom(t, 3)
	for i := range 4 {
		everybodyTalks(t, room)
		st := room[i%3].commit(CommitParams{})
		for _, c := range room {
			if c != room[i%3] {
				c.process(st.Commit)
			}
		}
		for _, c := range room {
			c.reload()
			for key := range c.disk.records {
				_, epoch, _, ok := parsePartKey(key)
				if ok && epoch+DefaultPastEpochs < c.st.Epoch() {
					t.Fatalf("a record of epoch %d in epoch %d", epoch, c.st.Epoch())
				}
			}
		}
	}
}
