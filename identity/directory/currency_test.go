package directory

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func (w *world) record(p *person) string {
	w.t.Helper()
	e, err := w.entry(p.id)
	w.must(err)
	return e.row.Record
}

func (w *world) currency(id wire.MemberID) *pb.Currency {
	w.t.Helper()
	c, err := w.Currency(id)
	w.must(err)
	return c
}

func TestCurrencyShowsTheLatestRecordAndNobodyElse(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	old, oldProof := w.record(bob), w.currency(bob.id)
	w.must(w.RevokeDevice(ctx, w.revocation(bob, "member", bob.key)))
	w.restart()
	nobody := wire.MemberID{7}
	check := func(c *pb.Currency, id wire.MemberID, record string) error {
		_, err := identity.VerifyCurrency(c, w.org, id, record)
		return err
	}
	w.must(check(w.currency(alice.id), alice.id, w.record(alice)))
	w.must(check(w.currency(bob.id), bob.id, w.record(bob)))
	w.must(check(w.currency(nobody), nobody, ""))
	w.must(check(oldProof, bob.id, old)) // true of the checkpoint that it names
	head, err := identity.VerifyCurrency(w.currency(bob.id), w.org, bob.id, w.record(bob))
	w.must(err)
	if size, root, err := w.Head(); err != nil || head.Size != size || head.Root != root {
		t.Errorf("a checkpoint of %d", head.Size)
	}
	for name, err := range map[string]error{
		"an old record under the new head": check(w.currency(bob.id), bob.id, old),
		"a new record under the old head":  check(oldProof, bob.id, w.record(bob)),
		"a member that is there, denied":   check(w.currency(bob.id), bob.id, ""),
		"nobody, with another's record":    check(w.currency(nobody), nobody, w.record(bob)),
		"another's proof":                  check(w.currency(alice.id), bob.id, w.record(bob)),
		"another's record":                 check(w.currency(bob.id), bob.id, w.record(alice)),
		"no proof":                         check(nil, bob.id, w.record(bob)),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestNoPartOfACurrencyProofCanBeChanged flips bits in every field, and swaps every
// field with that of an older proof, of another member, and of another organization.
func TestNoPartOfACurrencyProofCanBeChanged(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	alice, bob := w.enrolled("alice"), w.enrolled("bob")
	for _, name := range []string{"carol", "dave", "erin"} {
		w.enrolled(name)
	}
	stranger := other.enrolled("bob")
	older := w.currency(bob.id)
	w.must(w.RevokeDevice(ctx, w.revocation(bob, "member", bob.key)))
	good, record := w.currency(bob.id), w.record(bob)
	refused := func(what string, c *pb.Currency) {
		t.Helper()
		if proto.Equal(c, good) {
			return
		}
		if _, err := identity.VerifyCurrency(c, w.org, bob.id, record); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	fields := good.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		for from, c := range map[string]*pb.Currency{"older": older, "alice's": w.currency(alice.id), "another organization's": other.currency(stranger.id), "empty": {}} {
			swapped := proto.CloneOf(good)
			if c.ProtoReflect().Has(f) {
				swapped.ProtoReflect().Set(f, c.ProtoReflect().Get(f))
			} else {
				swapped.ProtoReflect().Clear(f)
			}
			refused(from+" "+string(f.Name()), swapped)
		}
		if f.Kind() == protoreflect.BytesKind && !f.IsList() {
			for at := range good.ProtoReflect().Get(f).Bytes() {
				changed := proto.CloneOf(good)
				b := bytes.Clone(changed.ProtoReflect().Get(f).Bytes())
				b[at] ^= 1
				changed.ProtoReflect().Set(f, protoreflect.ValueOfBytes(b))
				refused(string(f.Name()), changed)
			}
		}
	}
	for i := range good.Inclusion {
		c := proto.CloneOf(good)
		c.Inclusion = append(c.Inclusion[:i], c.Inclusion[i+1:]...)
		refused("without a hash of the inclusion", c)
	}
	long := proto.CloneOf(good)
	long.Inclusion = make([][]byte, 100)
	refused("an endless inclusion", long)
}

func TestARootLeafThatIsNotTheMapsIsNamedAtTheStart(t *testing.T) {
	w := newWorld(t)
	w.enrolled("alice")
	leaf, err := w.Leaf(1)
	w.must(err)
	leaf[LeafLen-1] ^= 1
	var b store.Batch
	b.Put(numbered(leafPrefix, 1), leaf)
	_, err = w.store.Commit(ctx, &b)
	w.must(err)
	if _, err := w.openDirectory(); err == nil {
		t.Error("a directory whose map has another root opens")
	}
}

func TestALogWithoutAMapGetsOneWithItsNextRecord(t *testing.T) {
	w := newWorld(t)
	alice := w.enrolled("alice")
	var b store.Batch // as version 0.1.0 left it
	b.Delete(numbered(leafPrefix, 1))
	b.Put([]byte(sizeKey), binary.BigEndian.AppendUint64(nil, 1))
	_, err := w.store.Commit(ctx, &b)
	w.must(err)
	w.restart()
	if _, err := w.Currency(alice.id); wire.StatusOf(err).Code != pb.Code_CODE_UNSUPPORTED {
		t.Errorf("a proof without a map: %v", err)
	}
	bob := w.enrolled("bob")
	for _, p := range []*person{alice, bob} {
		_, err := identity.VerifyCurrency(w.currency(p.id), w.org, p.id, w.record(p))
		w.must(err)
	}
}
