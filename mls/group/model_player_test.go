package group

import (
	"fmt"
	"time"

	"pgregory.net/rapid"
)

// player is a client of the model with what the model knows about it.
type player struct {
	name   string
	cfg    Config
	kp     []byte
	kps    *KeyPackageSecrets
	st     *State // of a client that was removed: as a thief would keep it
	disk   disk
	out    bool
	staged *modelCommit
	stays  []*stay // the present link first, then the past epochs it keeps
	opened map[int]bool
	have   map[string]bool       // references of proposals received in this epoch
	gone   map[*modelCommit]bool // those that it saw remove it
	lacks  bool                  // the key that the others share
}

// stay is a player's time on a link: which messages of it can still be opened.
type stay struct {
	on      *link
	ended   time.Time
	next    map[string]int    // generation by sender
	skipped map[int]time.Time // when a message was jumped over
}

func (p *player) on() *link { return p.stays[0].on }

// leave closes the present stay and drops those that the next epoch cannot keep:
// a past epoch has a lower number than the present one.
func (p *player) leave(now time.Time, next uint64) []*stay {
	if p.st == nil {
		return nil
	}
	p.stays[0].ended = now
	var out []*stay
	for _, s := range p.stays[:min(len(p.stays), DefaultPastEpochs)] { // the newest, whether they can stay or not
		if s.on.epoch < next && s.ended.Unix() >= now.Add(-DefaultKeepFor).Unix() {
			out = append(out, s)
		}
	}
	return out
}

// opens says whether the player has to be able to open a message now.
func (p *player) opens(x *modelMessage, now time.Time) *stay {
	if p.opened[x.number] || x.by == p {
		return nil
	}
	fresh := now.Add(-DefaultKeepFor).Unix()
	for i, s := range p.stays {
		if s.on != x.on || i > 0 && s.ended.Unix() < fresh {
			continue
		}
		if at, jumped := s.skipped[x.number]; x.generation >= s.next[x.by.name] || jumped && at.Unix() >= fresh {
			return s
		}
	}
	return nil
}

// read notes that a message was opened, and what was jumped over.
func (m *model) read(p *player, s *stay, x *modelMessage) {
	p.opened[x.number] = true
	for _, y := range m.messages {
		if y.on == x.on && y.by == x.by && y.generation >= s.next[x.by.name] && y.generation < x.generation {
			s.skipped[y.number] = m.clock
		}
	}
	s.next[x.by.name] = max(s.next[x.by.name], x.generation+1)
}

// records are the bytes that a client stores.
func (p *player) records() string { return string(p.st.EncodeGroup()) + string(p.st.EncodeRatchets()) }

// refuses tries a delivery that must fail and change nothing.
func (p *player) refuses(t *rapid.T, what string, try func(*State) (*State, error)) error {
	t.Helper()
	before := p.records()
	n, err := try(p.st)
	if err == nil {
		t.Fatalf("%s took %s", p.name, what)
	}
	if n != nil {
		t.Fatalf("%s: an error came with a state", p.name)
	}
	if p.records() != before {
		t.Fatalf("%s: %s was refused and changed the state", p.name, what)
	}
	return err
}

func processing(msg []byte) func(*State) (*State, error) {
	return func(s *State) (*State, error) { n, _, err := s.Process(msg); return n, err }
}

func decrypting(msg []byte) func(*State) (*State, error) {
	return func(s *State) (*State, error) { n, _, err := s.Decrypt(msg); return n, err }
}

// reload stores everything that the player has and takes it up again.
func (p *player) reload(t *rapid.T) {
	t.Helper()
	stored := p.disk.store(p.st)
	if !sameRecords(stored, p.st.Records(nil)) {
		t.Fatalf("%s: what was written little by little is not the state", p.name)
	}
	n, err := Restore(p.cfg, stored)
	if err != nil {
		t.Fatalf("%s cannot read its own records: %v", p.name, err)
	}
	if !sameRecords(stored, n.Records(nil)) {
		t.Fatalf("%s: a state that was read back encodes to something else", p.name)
	}
	p.st, p.disk.last = n, n
	if c := p.staged; c != nil {
		c.staged, err = UnmarshalStaged(p.cfg, c.staged.Marshal())
		ok(t, err)
	}
	p.kps, err = UnmarshalKeyPackageSecrets(p.kps.Marshal())
	ok(t, err)
}

// crashes says whether the client goes down before it has stored a new state:
// what was delivered comes again.
func crashes(t *rapid.T) bool { return die(t, "crash when 0", 8) == 0 }

// How rapid prints what it drew.
func (p *player) GoString() string       { return p.name }
func (c *modelCommit) GoString() string  { return fmt.Sprintf("commit %d by %s", c.number, c.by.name) }
func (x *modelMessage) GoString() string { return x.text }
func (x *modelProposal) GoString() string {
	if x.by == nil {
		return fmt.Sprintf("proposal by the hub after commit %d", x.base.number)
	}
	return fmt.Sprintf("proposal by %s after commit %d", x.by.name, x.base.number)
}
func (l *link) GoString() string { return fmt.Sprintf("epoch %d after commit %d", l.epoch, l.number) }
