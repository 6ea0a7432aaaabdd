package identity

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAGradeFollowsFromTheVerifiersWitnessesAlone(t *testing.T) {
	h := newHouse(t, "acme.example")
	signed, err := SignCheckpoint(h.Organization, 4, [32]byte{1}, h.keys.Directory)
	if err != nil {
		t.Fatal(err)
	}
	head, err := VerifyCheckpoint(signed, h.Organization)
	if err != nil {
		t.Fatal(err)
	}
	var all []Cosigner
	at := time.Unix(1_790_000_000, 0)
	for i := range 4 {
		name := fmt.Sprintf("w%d.example/cosigner", i)
		all = append(all, Cosigner{name, public(seeded(name))})
		if i == 3 {
			break // one that never cosigns
		}
		add, err := Cosign(head, name, seeded(name), at.Add(time.Duration(i)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if head.Note, err = MergeCosignatures(head, add, all); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		recognized []Cosigner
		after      time.Duration
		want       string
		have       int
	}{
		{nil, 0, "unwitnessed organization", 0},
		{all[:1], 0, "witnessed", 1},
		{all[3:], 0, "awaiting witnesses", 0},
		{all[2:], 0, "awaiting witnesses", 1},
		{all, 0, "witnessed", 3},
		{all[:2], StaleAfter, "witnessed", 2}, // the newest is a minute younger
		{all[:2], StaleAfter + 2*time.Minute, "stale", 2},
		{[]Cosigner{{all[0].Owner, public(seeded("sock puppet"))}}, 0, "awaiting witnesses", 0},
	} {
		w := Witness(head.Note, x.recognized)
		if g := w.Grade(at.Add(x.after)); g != x.want || w.Have != x.have || w.Needed() != min(2, len(x.recognized)) {
			t.Errorf("%d recognized after %s: %s, %+v", len(x.recognized), x.after, g, w)
		}
	}
}

func TestAPublicWitnessIsTakenByItsVerifierKeyAlone(t *testing.T) {
	key := public(seeded("public"))
	hash := fmt.Sprintf("%08x", cosignerKey{Cosigner: Cosigner{"witness.example/w1", key}}.KeyHash())
	b64 := func(kind byte, k ed25519.PublicKey) string {
		return base64.StdEncoding.EncodeToString(append([]byte{kind}, k...))
	}
	good := "witness.example/w1+" + hash + "+" + b64(4, key)
	c, err := ParseWitness(good)
	if err != nil || c.Owner != "witness.example/w1" || !c.Public.Equal(key) {
		t.Fatalf("%+v %v", c, err)
	}
	for name, bad := range map[string]string{
		"another kind":  "witness.example/w1+" + hash + "+" + b64(1, key),
		"another hash":  "witness.example/w1+00000000+" + b64(4, key),
		"another name":  "witness.example/w2+" + hash + "+" + b64(4, key),
		"upper case":    "witness.example/w1+" + strings.ToUpper(hash) + "x+" + b64(4, key),
		"a short key":   "witness.example/w1+" + hash + "+" + b64(4, key[:31]),
		"no name":       "+" + hash + "+" + b64(4, key),
		"a line break":  good + "\n",
		"nothing":       "",
		"two parts":     "witness.example/w1+" + hash,
		"a spaced name": "witness example+" + hash + "+" + b64(4, key),
	} {
		if _, err := ParseWitness(bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
