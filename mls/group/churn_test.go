package group

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/entente-im/entente/mls"
)

// TestThirtyMembersStayTogetherWhileTheyComeAndGo lets random members commit
// random changes. Everybody stores and reloads after each message, so that what
// is missing in a record shows, and late messages of the epoch before are read.
// ENTENTE_CHURN_EPOCHS is the number of epochs, for each suite.
func TestThirtyMembersStayTogetherWhileTheyComeAndGo(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	room := newRoom(t, 30)
	next, epochs := len(room), 12
	if v := os.Getenv("ENTENTE_CHURN_EPOCHS"); v != "" {
		var err error
		epochs, err = strconv.Atoi(v)
		must(t, err)
	} else if testSuite != testSuites[0] {
		epochs = 3
	}
	for range epochs {
		by := room[r.IntN(len(room))]
		late := churnTalk(t, r, room, by)
		room = churnStep(t, r, room, by, &next)
		for _, c := range room {
			if c.st.Epoch() > 1 && late.heardBy[c] {
				if got := c.recv(late.msg); got != "late" {
					t.Fatalf("%s got %q", c.name, got)
				}
			}
		}
		agree(t, room)
	}
	everybodyTalks(t, room)
}

type lateMessage struct {
	msg     []byte
	heardBy map[*client]bool
}

// churnTalk sends one message that is read now and one to be read an epoch later.
func churnTalk(t *testing.T, r *rand.Rand, room []*client, by *client) lateMessage {
	late := lateMessage{heardBy: map[*client]bool{}}
	late.msg = by.send("late")
	msg := by.send("now")
	for _, c := range room {
		if c != by && r.IntN(2) == 0 {
			if got := c.recv(msg); got != "now" {
				t.Fatalf("%s got %q", c.name, got)
			}
			late.heardBy[c] = true
		}
	}
	return late
}

// churnStep is a Commit of by with proposals of others, Adds and Removes; the room
// stays between 24 and 36 members.
func churnStep(t *testing.T, r *rand.Rand, room []*client, by *client, next *int) []*client {
	p := CommitParams{ByReference: true}
	var added []*client
	var removed *client
	if len(room) < 36 {
		for range r.IntN(3) {
			c := newClient(t, fmt.Sprintf("c%d", *next))
			*next++
			added, p.Adds = append(added, c), append(p.Adds, c.kp)
		}
	}
	if len(room) > 24 && r.IntN(2) == 0 {
		if removed = room[r.IntN(len(room))]; removed == by {
			removed = nil
		} else {
			p.Removes = []mls.LeafIndex{removed.st.OwnLeaf()}
		}
	}
	if healing := room[r.IntN(len(room))]; healing != by {
		n, msg, err := healing.st.ProposeUpdate(nil, nil)
		must(t, err)
		healing.st = n
		healing.reload()
		for _, c := range room {
			if c != healing {
				c.process(msg)
			}
		}
	}
	st := by.commit(p)
	by.reload()
	var out []*client
	for _, c := range room {
		if c != by {
			if e := c.process(st.Commit); e.SelfRemoved != (c == removed) {
				t.Fatalf("%s: SelfRemoved %v", c.name, e.SelfRemoved)
			}
		}
		if c != removed {
			out = append(out, c)
		}
	}
	for _, c := range added {
		c.join(st)
		c.reload()
	}
	return append(out, added...)
}
