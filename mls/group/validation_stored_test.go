package group

import (
	"errors"
	"testing"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/internal/tls"
)

// storedGroup is a PublicGroup's encoding, field by field.
type storedGroup struct {
	version            uint8
	context, tree, tag []byte
	committer          uint32
	pending            [][]byte
}

func (s storedGroup) encode() []byte {
	var w tls.Writer
	w.U8(s.version)
	w.Vec(s.context)
	w.Vec(s.tree)
	w.Vec(s.tag)
	w.U32(s.committer)
	w.Vector(func(w *tls.Writer) {
		for _, p := range s.pending {
			w.Vec(p)
		}
	})
	return w.B
}

func TestAStoredPublicGroupIsReadStrictly(t *testing.T) {
	w := theWorld(t)
	hub, _, err := w.hub.Process(w.forge(t, plan{proposal: remove(5)}).msg)
	must(t, err)
	r := tls.NewReader(hub.Marshal())
	good := storedGroup{version: r.U8(), context: r.Vec(), tree: r.Vec(), tag: r.Vec(), committer: r.U32()}
	r.Each(func(r *tls.Reader) { good.pending = append(good.pending, r.Vec()) })
	must(t, r.Done())
	if string(good.encode()) != string(hub.Marshal()) || len(good.pending) != 1 {
		t.Fatal("taken apart wrongly")
	}
	opts := mls.PublicOptions{Validator: ruleValidator{}}
	read := func(b []byte, o mls.PublicOptions) error {
		g, err := mls.UnmarshalPublicGroup(b, o)
		if err != nil && g != nil {
			t.Fatal("an error came with a group")
		}
		return err
	}
	must(t, read(good.encode(), opts))
	ctx, err := mls.ParseGroupContext(good.context)
	must(t, err)
	with := func(f func(*mls.GroupContext)) []byte { c := *ctx; f(&c); return c.Encode() }
	for name, c := range map[string]struct {
		edit func(*storedGroup)
		want error
	}{
		"version":              {func(s *storedGroup) { s.version = 9 }, mls.ErrDecode},
		"context":              {func(s *storedGroup) { s.context = s.context[1:] }, mls.ErrDecode},
		"unknown suite":        {func(s *storedGroup) { s.context = with(func(c *mls.GroupContext) { c.Suite = 0x0A0A }) }, mls.ErrSuite},
		"another tree hash":    {func(s *storedGroup) { s.context = with(func(c *mls.GroupContext) { c.TreeHash = nil }) }, mls.ErrTree},
		"another tree":         {func(s *storedGroup) { l := rawTree(s.tree); l[4] = &rawNode{}; s.tree = encodeRaw(l) }, mls.ErrTree},
		"no tree":              {func(s *storedGroup) { s.tree = []byte{0} }, mls.ErrTree},
		"a proposal cut short": {func(s *storedGroup) { s.pending[0] = s.pending[0][:9] }, mls.ErrDecode},
		"a commit as proposal": {func(s *storedGroup) { s.pending = [][]byte{w.forge(t, plan{}).content.Encode()} }, mls.ErrDecode},
		"too many proposals": {func(s *storedGroup) {
			for len(s.pending) <= mls.MaxPending {
				s.pending = append(s.pending, s.pending[0])
			}
		}, mls.ErrDecode},
	} {
		s := good
		s.pending = [][]byte{good.pending[0]}
		c.edit(&s)
		if err := read(s.encode(), opts); !errors.Is(err, c.want) {
			t.Fatalf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := read(append(good.encode(), 0), opts); !errors.Is(err, mls.ErrDecode) {
		t.Fatalf("a byte too many: %v", err)
	}
	if err := read(good.encode(), mls.PublicOptions{}); !errors.Is(err, mls.ErrCredential) {
		t.Fatalf("no validator: %v", err)
	}
	if err := read(nil, opts); !errors.Is(err, mls.ErrDecode) {
		t.Fatalf("nothing: %v", err)
	}
}
