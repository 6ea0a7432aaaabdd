package group

import (
	"slices"
	"testing"

	"github.com/entente-im/entente/mls"
)

// believer is a set of those who are given a GroupInfo.
type believer uint

const (
	bJoin     believer = 1 << iota // Join: the GroupInfo of a Welcome
	bExternal                      // ExternalJoin
	bObserve                       // NewPublicGroup
	bCheck                         // PublicGroup.CheckGroupInfo, of the present epoch
	bBundle                        // PublicGroup.CheckBundle
	bNew      = bJoin | bExternal | bObserve
	bChecks   = bCheck | bBundle
	bEvery    = bNew | bChecks
)

var believers = []struct {
	entry string
	who   believer
}{{"join", bJoin}, {"external-join", bExternal}, {"observe", bObserve}, {"check-info", bCheck}, {"check-bundle", bBundle}}

// infoRule is a rule about a GroupInfo or its tree (RFC 9420 §12.4.3), broken
// before or after it is signed, or in its bytes.
type infoRule struct {
	name  string
	who   believer
	edit  func(w *world, gi *mls.GroupInfo)
	spoil func(w *world, gi *mls.GroupInfo)
	bytes func(bare []byte) []byte
	want  fault
	other map[believer]fault
}

// give makes the GroupInfo and gives it to a believer.
func (r infoRule) give(t *testing.T, w *world, who believer) error {
	t.Helper()
	x := newcomer(t, "x")
	edit, spoil := func(gi *mls.GroupInfo) {}, func(gi *mls.GroupInfo) {}
	if r.edit != nil {
		edit = func(gi *mls.GroupInfo) { r.edit(w, gi) }
	}
	if r.spoil != nil {
		spoil = func(gi *mls.GroupInfo) { r.spoil(w, gi) }
	}
	if who&bChecks != 0 {
		return r.check(t, w, who, edit, spoil)
	}
	f := w.forge(t, plan{list: []mls.Sent{byForger(add(x.keyPackageOf()))}})
	if who == bJoin {
		return tryJoin(t, x, f.welcome(t, x, welcomePlan{info: edit, spoil: spoil, reseal: r.bytes}), nil)
	}
	msg := f.groupInfo(t, edit, spoil).Encode()
	if r.bytes != nil {
		msg = append(msg[:4:4], r.bytes(msg[4:])...)
	}
	if who == bExternal {
		return fromOutside(t, msg, nil)
	}
	return observe(t, msg, nil)
}

// check gives a GroupInfo of the present epoch to the hub.
func (r infoRule) check(t *testing.T, w *world, who believer, edit, spoil func(*mls.GroupInfo)) error {
	t.Helper()
	msg, err := w.at(t, forger).st.GroupInfo(true)
	must(t, err)
	m, err := mls.ParseMessage(msg)
	must(t, err)
	edit(m.GroupInfo)
	must(t, m.GroupInfo.Sign(w.hub.Suite(), w.members[forger].cfg.Signer))
	spoil(m.GroupInfo)
	msg = m.GroupInfo.Encode()
	if r.bytes != nil {
		msg = append(msg[:4:4], r.bytes(msg[4:])...)
	}
	before := string(w.hub.Marshal())
	err = w.hub.CheckGroupInfo(msg, nil)
	if who == bBundle {
		err = w.hub.CheckBundle(msg, nil)
	}
	if string(w.hub.Marshal()) != before {
		t.Fatal("the group changed in place")
	}
	return err
}

func registerInfos(rules []infoRule) {
	for _, r := range rules {
		for _, b := range believers {
			if r.who&b.who == 0 {
				continue
			}
			want := r.want
			for k, f := range r.other {
				if k&b.who != 0 {
					want = f
				}
			}
			negative(r.name, b.entry, func(t *testing.T) { want.check(t, r.give(t, theWorld(t), b.who)) })
		}
	}
}

var (
	infoSignature = fault{mls.ErrGroupInfo, "signature"}
	infoSigner    = fault{mls.ErrGroupInfo, "signer is a blank leaf"}
	infoTagLength = fault{mls.ErrGroupInfo, "confirmation tag length"}
	notTheTag     = fault{mls.ErrGroupInfo, "confirmation tag is not"}
	notTheGroup   = fault{mls.ErrGroupInfo, "context is not the group's"}
	infoMalformed = fault{mls.ErrDecode, ""}
)

func contextExtension(e mls.Extension) func(*world, *mls.GroupInfo) {
	return func(w *world, gi *mls.GroupInfo) { gi.Context.Extensions = w.more(e) }
}

// replace puts an extension of a GroupInfo in the place of its like, or takes
// it out when it has no data.
func replace(e mls.Extension) func(*world, *mls.GroupInfo) {
	return func(_ *world, gi *mls.GroupInfo) {
		gi.Extensions = slices.DeleteFunc(slices.Clone(gi.Extensions), func(x mls.Extension) bool { return x.Type == e.Type })
		if e.Data != nil {
			gi.Extensions = append(gi.Extensions, e)
		}
	}
}

var infoRules = []infoRule{
	// the signature (§12.4.3)
	{name: "info-signature", who: bEvery, want: infoSignature, spoil: func(_ *world, gi *mls.GroupInfo) { gi.Signature[2] ^= 1 }},
	{name: "info-signature-empty", who: bEvery, want: infoSignature, spoil: func(_ *world, gi *mls.GroupInfo) { gi.Signature = nil }},
	{name: "info-signature-of-another", who: bEvery, want: infoSignature, spoil: func(w *world, gi *mls.GroupInfo) {
		_ = gi.Sign(w.hub.Suite(), w.members[memberKey].cfg.Signer)
	}},
	{name: "info-signer-is-another", who: bEvery, want: infoSignature, edit: func(_ *world, gi *mls.GroupInfo) { gi.Signer = memberKey }},
	{name: "info-signed-before-change", who: bEvery, want: infoSignature, spoil: func(_ *world, gi *mls.GroupInfo) {
		gi.Extensions = append(gi.Extensions, mls.Extension{Type: 0xF123})
	}},
	{name: "info-signer-blank", who: bEvery, want: infoSigner, edit: func(_ *world, gi *mls.GroupInfo) { gi.Signer = 7 }},
	{name: "info-signer-outside-the-tree", who: bEvery, want: infoSigner, edit: func(_ *world, gi *mls.GroupInfo) { gi.Signer = 1 << 20 }},
	{name: "info-signer-at-the-last-index", who: bEvery, want: infoSigner, edit: func(_ *world, gi *mls.GroupInfo) { gi.Signer = 1<<32 - 1 }},
	// the confirmation tag (§12.4.3.1)
	{name: "info-tag", who: bJoin | bChecks, want: notTheTag, other: map[believer]fault{bJoin: badTag},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.ConfirmationTag = mls.Random(32) }},
	{name: "info-tag-empty", who: bEvery, want: infoTagLength, other: map[believer]fault{bChecks: notTheTag},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.ConfirmationTag = nil }},
	{name: "info-tag-short", who: bEvery, want: infoTagLength, other: map[believer]fault{bChecks: notTheTag},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.ConfirmationTag = gi.ConfirmationTag[:31] }},
	// the context (§12.4.3): only secrets show a joiner that it is another
	{name: "info-of-another-epoch", who: bJoin | bChecks, want: notTheGroup, other: map[believer]fault{bJoin: badTag},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.Context.Epoch++ }},
	{name: "info-of-another-group", who: bEvery, want: fault{mls.ErrLeaf, "signature"}, other: map[believer]fault{bChecks: notTheGroup},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.Context.GroupID = []byte("other") }},
	{name: "info-of-another-transcript", who: bJoin | bChecks, want: notTheGroup, other: map[believer]fault{bJoin: badTag},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.Context.ConfirmedTranscriptHash = mls.Random(32) }},
	{name: "info-without-the-group-extensions", who: bJoin | bChecks, want: notTheGroup, other: map[believer]fault{bJoin: badTag},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.Context.Extensions = nil }},
	{name: "info-suite-unknown", who: bEvery, want: fault{mls.ErrSuite, ""}, other: map[believer]fault{bChecks: notTheGroup},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.Context.Suite = 0x0A0A }},
	{name: "info-suite-of-another-group", who: bJoin | bChecks, want: fault{mls.ErrSuite, ""}, other: map[believer]fault{bChecks: notTheGroup},
		edit: func(_ *world, gi *mls.GroupInfo) { gi.Context.Suite = otherSuite() }},
	{name: "info-version", who: bEvery, want: fault{mls.ErrDecode, "protocol version 2"}, bytes: func(b []byte) []byte { b[1] = 2; return b }},
	{name: "info-truncated", who: bEvery, want: infoMalformed, bytes: func(b []byte) []byte { return b[:len(b)-1] }},
	{name: "info-too-long", who: bEvery, want: infoMalformed, bytes: func(b []byte) []byte { return append(b, 0) }},
	{name: "info-empty", who: bEvery, want: infoMalformed, bytes: func([]byte) []byte { return nil }},
	// §13.4
	{name: "info-extension-twice", who: bEvery, want: fault{mls.ErrDecode, "twice"}, edit: func(_ *world, gi *mls.GroupInfo) {
		gi.Extensions = append(gi.Extensions, mls.Extension{Type: 0xF123}, mls.Extension{Type: 0xF123})
	}},
	{name: "info-group-extension-twice", who: bEvery, want: fault{mls.ErrDecode, "twice"}, edit: func(w *world, gi *mls.GroupInfo) {
		gi.Context.Extensions = append(w.ext[:1:1], w.ext...)
	}},
	{name: "info-group-extension-not-supported", who: bEvery, want: fault{mls.ErrLeaf, "no capability for the group's extension"},
		other: map[believer]fault{bChecks: notTheGroup}, edit: contextExtension(mls.Extension{Type: 0xF123})},
	{name: "info-requirements-not-met", who: bEvery, want: fault{mls.ErrLeaf, "lacks required proposal"}, other: map[believer]fault{bChecks: notTheGroup},
		edit: contextExtension(mls.RequiredCapabilities{Proposals: []mls.ProposalType{0xF123}}.Extension())},
	{name: "info-requirements-malformed", who: bEvery, want: infoMalformed, other: map[believer]fault{bChecks: notTheGroup},
		edit: contextExtension(mls.Extension{Type: mls.ExtensionRequiredCapabilities, Data: []byte{1, 2, 3}})},
	{name: "info-senders-malformed", who: bEvery, want: infoMalformed, other: map[believer]fault{bChecks: notTheGroup},
		edit: contextExtension(mls.Extension{Type: mls.ExtensionExternalSenders, Data: []byte{9}})},
	// external_pub (§12.4.3.2)
	{name: "info-external-key-missing", who: bExternal | bChecks, want: fault{mls.ErrGroupInfo, "no external_pub"},
		edit: replace(mls.Extension{Type: mls.ExtensionExternalPub})},
	{name: "info-external-key-empty", who: bExternal | bChecks, want: fault{mls.ErrGroupInfo, "external public key"},
		other: map[believer]fault{bExternal: {mls.ErrCrypto, ""}}, edit: replace(mls.ExternalPubExtension(nil))},
	{name: "info-external-key-short", who: bExternal | bChecks, want: fault{mls.ErrGroupInfo, "external public key"},
		other: map[believer]fault{bExternal: {mls.ErrCrypto, ""}}, edit: replace(mls.ExternalPubExtension(make([]byte, 31)))},
	{name: "info-external-key-without-length", who: bExternal | bChecks, want: infoMalformed,
		edit: replace(mls.Extension{Type: mls.ExtensionExternalPub, Data: lowOrderPoint})},
	{name: "info-external-key-too-long", who: bExternal | bChecks, want: infoMalformed,
		edit: replace(mls.Extension{Type: mls.ExtensionExternalPub, Data: []byte{1, 2, 3}})},
	{name: "info-external-key-zero", who: bExternal | bChecks, want: fault{mls.ErrGroupInfo, "external public key"},
		other: map[believer]fault{bExternal: {mls.ErrCrypto, ""}}, edit: externalKeyEnding(make([]byte, 32))},
	{name: "info-external-key-low-order", who: bExternal | bChecks, want: fault{mls.ErrGroupInfo, "external public key"},
		other: map[believer]fault{bExternal: {mls.ErrCrypto, ""}}, edit: externalKeyEnding(lowOrderPoint)},
}

func externalKeyEnding(end []byte) func(*world, *mls.GroupInfo) {
	return func(w *world, gi *mls.GroupInfo) {
		pub, err := mls.ExternalPub(gi.Extensions)
		if err != nil {
			panic(err)
		}
		replace(mls.ExternalPubExtension(endingIn(end)(slices.Clone(pub))))(w, gi)
	}
}

func init() {
	registerInfos(infoRules)
	negative("info-signer-is-not-the-committer", "check-bundle", func(t *testing.T) {
		w := theWorld(t)
		msg, err := w.at(t, third).st.GroupInfo(true)
		must(t, err)
		must(t, w.hub.CheckGroupInfo(msg, nil))
		fault{mls.ErrGroupInfo, "signer is not the committer"}.check(t, w.hub.CheckBundle(msg, nil))
	})
	for name, edit := range map[string]func(*world, []byte) []byte{
		"info-wire-format":       func(_ *world, b []byte) []byte { b[3] = 9; return b },
		"info-wire-format-other": func(w *world, _ []byte) []byte { return w.members[memberKey].kp },
	} {
		for entry, give := range map[string]func(*testing.T, *world, []byte) error{
			"external-join": func(t *testing.T, _ *world, b []byte) error { return fromOutside(t, b, nil) },
			"observe":       func(t *testing.T, _ *world, b []byte) error { return observe(t, b, nil) },
			"check-info":    func(_ *testing.T, w *world, b []byte) error { return w.hub.CheckGroupInfo(b, nil) },
			"check-bundle":  func(_ *testing.T, w *world, b []byte) error { return w.hub.CheckBundle(b, nil) },
		} {
			negative(name, entry, func(t *testing.T) {
				w := theWorld(t)
				msg, err := w.at(t, forger).st.GroupInfo(true)
				must(t, err)
				fault{mls.ErrWireFormat, ""}.check(t, give(t, w, edit(w, msg)))
			})
		}
	}
}

func TestEveryBelieverTakesAGroupInfoThatIsRight(t *testing.T) {
	for _, b := range believers {
		t.Run(b.entry, func(t *testing.T) { must(t, infoRule{}.give(t, theWorld(t), b.who)) })
	}
}
