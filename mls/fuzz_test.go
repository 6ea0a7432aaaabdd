package mls

import (
	"testing"
	"time"

	"github.com/entente-im/entente/mls/internal/budget"
)

// What a decoder accepts encodes to the same bytes, and no input costs more than
// budget allows.

func bounded(f *testing.F, body func(*testing.T, []byte)) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := budget.Check(func() { body(t, b) }); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	bounded(f, func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		if string(m.Encode()) != string(b) {
			t.Fatalf("%x", b)
		}
		if m.KeyPackage != nil {
			m.KeyPackage.Ref()
			m.KeyPackage.LastResort()
			m.KeyPackage.Verify(time.Unix(1, 0), acceptAll{})
		}
	})
}

func FuzzParseTree(f *testing.F) {
	gi, tree := ownTree(f)
	f.Add(tree.Encode())
	bounded(f, func(t *testing.T, b []byte) {
		got, err := ParseTree(tree.suite, b)
		if err != nil {
			return
		}
		if string(got.Encode()) != string(b) {
			t.Fatalf("%x", b)
		}
		got.Verify(gi.Context.GroupID, gi.Context.Extensions, acceptAll{})
		got.Hash()
	})
}

func FuzzParseParts(f *testing.F) {
	f.Add(EncodeExtensions([]Extension{{Type: 7, Data: []byte("x")}}))
	f.Add(EncodeProposal(&Proposal{Type: ProposalRemove, Remove: 3}))
	f.Add((&GroupSecrets{JoinerSecret: make([]byte, 32)}).Encode())
	bounded(f, func(t *testing.T, b []byte) {
		same := func(got []byte, err error) {
			if err == nil && string(got) != string(b) {
				t.Fatalf("%x", b)
			}
		}
		if v, err := ParseExtensions(b); err == nil {
			same(EncodeExtensions(v), nil)
			requiredCapabilities(v)
			externalSenders(v)
		}
		if v, err := ParseProposal(b); err == nil {
			same(EncodeProposal(v), nil)
		}
		if v, err := ParseCommit(b); err == nil {
			same(EncodeCommit(v), nil)
		}
		if v, err := ParseUpdatePath(b); err == nil {
			same(EncodeUpdatePath(v), nil)
		}
		if v, err := ParseGroupSecrets(b); err == nil {
			same(v.Encode(), nil)
		}
		if v, err := ParseGroupContext(b); err == nil {
			same(v.Encode(), nil)
		}
		if v, err := ParseGroupInfo(b); err == nil {
			same(v.EncodeBare(), nil)
		}
		if v, err := ParseContent(b); err == nil {
			same(v.Encode(), nil)
		}
	})
}

func FuzzUnmarshalPublicGroup(f *testing.F) {
	gi, _ := ownTree(f)
	g, err := OpenGroupInfo(gi, nil, PublicOptions{Validator: acceptAll{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(g.Marshal())
	bounded(f, func(t *testing.T, b []byte) {
		if got, err := UnmarshalPublicGroup(b, PublicOptions{Validator: acceptAll{}}); err == nil && string(got.Marshal()) != string(b) {
			t.Fatalf("%x", b)
		}
	})
}

func FuzzPublicProcess(f *testing.F) {
	gi, _ := ownTree(f)
	g, err := OpenGroupInfo(gi, nil, PublicOptions{Validator: acceptAll{}})
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range seeds(f) {
		f.Add(b)
	}
	bounded(f, func(t *testing.T, b []byte) {
		before := string(g.Marshal())
		g.Process(b)
		g.CheckGroupInfo(b, nil)
		NewPublicGroup(b, nil, PublicOptions{Validator: acceptAll{}})
		WelcomeRefs(b)
		if string(g.Marshal()) != before {
			t.Fatal("Process changed the group that it was called on")
		}
	})
}
