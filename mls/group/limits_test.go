package group

import (
	"errors"
	"testing"

	"github.com/entente-im/entente/mls"
)

func TestWhatIsSentHasALimit(t *testing.T) {
	room := newRoom(t, 2)
	before := string(room[0].st.EncodeRatchets())
	long := make([]byte, MaxPlaintext+1)
	for name, send := range map[string]func() (*State, []byte, error){
		"data":               func() (*State, []byte, error) { return room[0].st.Encrypt(nil, long, 0) },
		"authenticated data": func() (*State, []byte, error) { return room[0].st.Encrypt(long, nil, 0) },
		"padding":            func() (*State, []byte, error) { return room[0].st.Encrypt(nil, nil, MaxPlaintext+1) },
	} {
		if n, msg, err := send(); !errors.Is(err, ErrTooLarge) || n != nil || msg != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if string(room[0].st.EncodeRatchets()) != before {
		t.Fatal("a refused message used a key")
	}
	n, msg, err := room[0].st.Encrypt(nil, long[1:], 0)
	must(t, err)
	room[0].st = n
	if got := room[1].recv(msg); len(got) != MaxPlaintext {
		t.Fatalf("%d bytes arrived", len(got))
	}
}

func TestAnExportedSecretHasALimit(t *testing.T) {
	room := newRoom(t, 1)
	for n, want := range map[int]error{-1: mls.ErrLimit, 0: nil, MaxExport: nil, MaxExport + 1: mls.ErrLimit} {
		secret, err := room[0].st.Export("limit", nil, n)
		if !errors.Is(err, want) || err == nil && len(secret) != n {
			t.Errorf("%d bytes: %d, %v", n, len(secret), err)
		}
	}
}

func TestAReserveHasALimit(t *testing.T) {
	room := newRoom(t, 1)
	for n, want := range map[int]error{-1: mls.ErrLimit, 0: nil, MaxReserve: nil, MaxReserve + 1: mls.ErrLimit} {
		st, err := room[0].st.Reserve(n)
		if !errors.Is(err, want) || err == nil && st.Reserved() != n {
			t.Errorf("%d generations: %v", n, err)
		}
	}
}

// One member uses up half of what everybody may skip, another cannot go over the
// rest: the keys of all senders are counted together.
func TestSkippedKeysOfAllSendersHaveOneLimit(t *testing.T) {
	room := newRoom(t, 3)
	jump := func(by *client, n int) []byte {
		for range n {
			var err error
			by.st, _, err = by.st.Encrypt(nil, nil, 0)
			must(t, err)
		}
		return by.send("after the jump")
	}
	half := MaxSkipped / 2
	if room[2].recv(jump(room[0], half)) != "after the jump" {
		t.Fatal()
	}
	last := jump(room[1], MaxSkipped-half)
	beyond := jump(room[1], 0)
	room[2].cannotOpen(beyond, ErrTooFar) // one more than there is room for
	if room[2].recv(last) != "after the jump" || room[2].recv(beyond) != "after the jump" {
		t.Fatal()
	}
	room[2].cannotOpen(jump(room[1], 1), ErrTooFar)
}
