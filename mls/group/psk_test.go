package group

import (
	"bytes"
	"errors"
	"testing"

	"github.com/entente-im/entente/mls"
)

// vault is an application's store of pre-shared keys. It keeps the copies that it
// gave away, which must be erased by whom it gave them to.
type vault struct {
	keys  map[string][]byte
	given [][]byte
}

func (v *vault) source(id mls.PreSharedKeyID) []byte {
	name := string(id.ID)
	if id.Resumption {
		name = string(id.GroupID)
	}
	out := bytes.Clone(v.keys[name])
	v.given = append(v.given, out)
	return out
}

// withVaults gives each member a store of its own with the same key "coffee".
func withVaults(room []*client) []*vault {
	var out []*vault
	for _, c := range room {
		v := &vault{keys: map[string][]byte{"coffee": []byte("a shared pre-shared key")}}
		out, c.cfg.PSK = append(out, v), v.source
		if c.st != nil {
			c.reload()
		}
	}
	return out
}

func external(name string) mls.PreSharedKeyID { return mls.PreSharedKeyID{ID: []byte(name)} }

func TestAPreSharedKeyGoesIntoTheNextEpochOfWhoeverHasIt(t *testing.T) {
	room := newRoom(t, 3)
	joiner := newClient(t, "joiner")
	vaults := withVaults(append(room, joiner))
	old, _ := room[0].st.ResumptionPSK()
	for range DefaultPastEpochs { // the oldest that is kept
		st := room[0].commit(CommitParams{})
		room[1].process(st.Commit)
		room[2].process(st.Commit)
	}
	room[0].reload()
	params := CommitParams{Adds: [][]byte{joiner.kp}, PSKs: []mls.PreSharedKeyID{external("coffee")}}
	st := room[0].commit(params)

	vaults[1].keys["coffee"] = nil
	room[1].refuses(st.Commit, ErrNoPSK)
	vaults[1].keys["coffee"] = []byte("another pre-shared key")
	room[1].refuses(st.Commit, mls.ErrCrypto)
	vaults[1].keys["coffee"] = vaults[2].keys["coffee"]
	room[1].process(st.Commit)
	room[2].process(st.Commit)

	vaults[3].keys["coffee"] = nil
	if _, _, err := Join(joiner.cfg, st.Welcome, st.Tree, joiner.kps); !errors.Is(err, ErrNoPSK) {
		t.Fatal(err)
	}
	vaults[3].keys["coffee"] = vaults[2].keys["coffee"]
	if i, err := PeekWelcome(joiner.cfg, st.Welcome, joiner.kps); err != nil || i.Epoch != st.Epoch() {
		t.Fatal(err)
	}
	joiner.join(st)
	room = append(room, joiner)
	everybodyTalks(t, room)
	for i, v := range vaults {
		for _, k := range v.given {
			if !bytes.Equal(k, make([]byte, len(k))) {
				t.Fatalf("a key that store %d gave was not erased", i)
			}
		}
	}

	// A resumption key of a past epoch: members hold it, who came later does not.
	old.Epoch = st.Epoch() - 1
	st = room[0].commit(CommitParams{PSKs: []mls.PreSharedKeyID{old, external("coffee")}})
	room[1].process(st.Commit)
	room[2].process(st.Commit)
	joiner.refuses(st.Commit, ErrNoPSK)
	agree(t, room[:3])
	old.Epoch = 1
	if _, _, err := room[0].st.Stage(CommitParams{PSKs: []mls.PreSharedKeyID{old}}); !errors.Is(err, ErrNoPSK) {
		t.Fatalf("the key of an epoch long past: %v", err)
	}
	now, secret := room[0].st.ResumptionPSK()
	vaults[1].keys[string(now.GroupID)] = secret
	other := newClient(t, "other") // a group bound to another one: its key is the application's to keep
	other.cfg.PSK = vaults[1].source
	var err error
	other.st, err = Create(other.cfg, CreateParams{Suite: testSuite, GroupID: []byte("other"), Credential: credential("other")})
	must(t, err)
	if _, _, err := other.st.Stage(CommitParams{PSKs: []mls.PreSharedKeyID{now}}); err != nil {
		t.Fatal(err)
	}
}

func TestAPreSharedKeyProposalIsCommittedByWhoHasTheKey(t *testing.T) {
	room := newRoom(t, 3)
	vaults := withVaults(room)
	n, msg, err := room[1].st.ProposePSK(external("coffee"), nil)
	must(t, err)
	room[1].st = n
	again, twice, err := n.ProposePSK(external("coffee"), nil) // same key, other nonce
	must(t, err)
	room[1].st = again
	for _, m := range [][]byte{msg, twice} {
		room[0].process(m)
		room[2].process(m)
	}
	vaults[0].keys["coffee"] = nil
	_, st, err := room[0].st.Stage(CommitParams{ByReference: true})
	must(t, err)
	if len(st.Effects.Committed) != 0 {
		t.Fatal("committed a key that it has not")
	}
	st = room[2].commit(CommitParams{ByReference: true})
	if len(st.Effects.Committed) != 1 {
		t.Fatalf("%d proposals committed, want one of the two for the same key", len(st.Effects.Committed))
	}
	room[1].process(st.Commit)
	room[0].refuses(st.Commit, ErrNoPSK)
	agree(t, room[1:])
}

func TestInvalidPreSharedKeysAreRefusedByValueAndByReference(t *testing.T) {
	room := newRoom(t, 3)
	withVaults(room)
	nonce := mls.Random(32)
	resumption := func(usage uint8) *mls.Proposal {
		return &mls.Proposal{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{Resumption: true, Usage: usage, GroupID: []byte("room"), Epoch: 1, Nonce: nonce}}
	}
	psk := func(name string, nonce []byte) *mls.Proposal {
		return &mls.Proposal{Type: mls.ProposalPSK, PSK: &mls.PreSharedKeyID{ID: []byte(name), Nonce: nonce}}
	}
	for name, p := range map[string]*mls.Proposal{
		"usage reinit": resumption(mls.UsageReInit), "usage branch": resumption(mls.UsageBranch),
		"no nonce": psk("coffee", nil), "short nonce": psk("coffee", nonce[:31]), "long nonce": psk("coffee", append(nonce[:32:32], 0)),
	} {
		t.Run(name, func(t *testing.T) {
			room[1].refuses(room[0].forge(byValue(p)), mls.ErrProposal)
			room[1].refuses(room[0].forgeProposal(p), mls.ErrProposal)
		})
	}
	other := mls.Random(32)
	room[1].refuses(room[0].forge(byValue(psk("coffee", nonce), psk("coffee", other))), mls.ErrCommit)
	var many []*mls.Proposal
	for i := range mls.MaxPSKs + 1 {
		many = append(many, psk(string(rune('a'+i)), nonce))
	}
	room[1].refuses(room[0].forge(byValue(many...)), mls.ErrLimit)
	room[1].refuses(room[0].forge(byValue(psk("tea", nonce))), ErrNoPSK)

	plain := newRoom(t, 2) // no Config.PSK
	plain[1].refuses(plain[0].forge(byValue(psk("coffee", nonce))), mls.ErrPolicy)
	plain[1].refuses(plain[0].forgeProposal(psk("coffee", nonce)), mls.ErrPolicy)
}

func TestAWelcomeWithInvalidPreSharedKeysIsRefused(t *testing.T) {
	joiner := newClient(t, "joiner")
	v := withVaults([]*client{joiner})[0]
	s, err := mls.LookupSuite(testSuite)
	must(t, err)
	kp, err := mls.ParseKeyPackage(joiner.kp)
	must(t, err)
	good := &mls.PreSharedKeyID{ID: []byte("coffee"), Nonce: mls.Random(32)}
	for name, c := range map[string]struct {
		ids  []*mls.PreSharedKeyID
		want error
	}{
		"twice":        {[]*mls.PreSharedKeyID{good, {ID: good.ID, Nonce: mls.Random(32)}}, mls.ErrCommit},
		"reinit":       {[]*mls.PreSharedKeyID{{Resumption: true, Usage: mls.UsageReInit, Nonce: good.Nonce}}, mls.ErrProposal},
		"branch":       {[]*mls.PreSharedKeyID{{Resumption: true, Usage: mls.UsageBranch, Nonce: good.Nonce}}, mls.ErrProposal},
		"nonce length": {[]*mls.PreSharedKeyID{{ID: good.ID, Nonce: []byte{1}}}, mls.ErrProposal},
		"too many":     {make([]*mls.PreSharedKeyID, mls.MaxPSKs+1), mls.ErrLimit},
		"not here":     {[]*mls.PreSharedKeyID{{ID: []byte("tea"), Nonce: good.Nonce}}, ErrNoPSK},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range c.ids {
				if c.ids[i] == nil {
					c.ids[i] = &mls.PreSharedKeyID{ID: []byte{byte(i)}, Nonce: good.Nonce}
				}
			}
			w := &mls.Welcome{Suite: s.ID, GroupInfo: mls.Random(64)}
			secrets := mls.GroupSecrets{JoinerSecret: mls.Random(32), PathSecret: mls.Random(32), PSKs: c.ids}
			sealed, err := s.EncryptWithLabel(kp.InitKey, "Welcome", w.GroupInfo, secrets.Encode())
			must(t, err)
			w.Secrets = []mls.EncryptedGroupSecrets{{NewMember: kp.Ref(), Secrets: sealed}}
			v.given = nil
			if _, _, err := Join(joiner.cfg, w.Encode(), nil, joiner.kps); !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if c.want != ErrNoPSK && len(v.given) > 0 {
				t.Fatal("the store was asked before the list was checked")
			}
			if _, err := PeekWelcome(Config{}, w.Encode(), joiner.kps); !errors.Is(err, mls.ErrPolicy) {
				t.Fatalf("without a store: %v", err)
			}
		})
	}
}

func TestAnExternalCommitMayBringAPreSharedKey(t *testing.T) {
	room := newRoom(t, 2)
	joiner := newClient(t, "joiner")
	vaults := withVaults(append(room, joiner))
	info, err := room[0].st.GroupInfo(true)
	must(t, err)
	p := ExternalParams{Credential: credential("joiner"), PSKs: []mls.PreSharedKeyID{external("coffee")}}
	st, err := ExternalJoin(joiner.cfg, info, nil, p)
	must(t, err)
	vaults[0].keys["coffee"] = nil
	room[0].refuses(st.Commit, ErrNoPSK)
	vaults[0].keys["coffee"] = vaults[1].keys["coffee"]
	room[0].process(st.Commit)
	room[1].process(st.Commit)
	joiner.st, err = st.Apply(nil)
	must(t, err)
	everybodyTalks(t, append(room, joiner))
	p.PSKs = []mls.PreSharedKeyID{external("tea")}
	if _, err := ExternalJoin(joiner.cfg, info, nil, p); !errors.Is(err, ErrNoPSK) {
		t.Fatal(err)
	}
}
