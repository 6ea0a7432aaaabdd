package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

// framingRule is a rule about what is around a proposal or a Commit (RFC 9420
// §6.1, §6.2, §12.1, §12.4.2): it is broken in a proposal of the third and in a
// Commit of the forger.
type framingRule struct {
	name   string
	edit   func(w *world, p *plan)
	routes route
	want   fault
	other  map[route]fault
}

var framingRules = []framingRule{
	{name: "frame-earlier-epoch", routes: rAll, edit: content(func(c *mls.Content) { c.Epoch-- }), want: fault{errAnEpoch, ""}},
	{name: "frame-later-epoch", routes: rAll, edit: content(func(c *mls.Content) { c.Epoch++ }), want: fault{errAnEpoch, ""}},
	{name: "frame-epoch-zero", routes: rAll, edit: content(func(c *mls.Content) { c.Epoch = 0 }), want: fault{errAnEpoch, ""}},
	{name: "frame-another-group", routes: rAll, edit: content(func(c *mls.Content) { c.GroupID = []byte("worlds") }), want: fault{mls.ErrWrongGroup, ""}},
	{name: "frame-empty-group", routes: rAll, edit: content(func(c *mls.Content) { c.GroupID = nil }), want: fault{mls.ErrWrongGroup, ""}},
	{name: "frame-signature", routes: rAll, edit: signed(func(c *mls.Content) { c.Signature[3] ^= 1 }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-signature-empty", routes: rAll, edit: signed(func(c *mls.Content) { c.Signature = nil }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-signature-short", routes: rAll, edit: signed(func(c *mls.Content) { c.Signature = c.Signature[:63] }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-signed-by-another-member", routes: rAll, edit: func(w *world, p *plan) { p.signer = w.members[memberKey].cfg.Signer }, want: fault{mls.ErrCrypto, ""}},
	{name: "frame-changed-after-signing", routes: rAll, edit: signed(func(c *mls.Content) { c.AAD = []byte("more") }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-other-wire-format-signed", routes: rAll, edit: func(_ *world, p *plan) {
		var was mls.WireFormat
		content(func(c *mls.Content) {
			was = c.WireFormat
			c.WireFormat = mls.WirePublicMessage + mls.WirePrivateMessage - was
		})(nil, p)
		signed(func(c *mls.Content) { c.WireFormat = was })(nil, p)
	}, want: fault{mls.ErrCrypto, ""}},
	{name: "frame-sender-is-another", routes: rAll, edit: content(func(c *mls.Content) { c.Sender.Index = memberKey }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-sender-is-blank", routes: rOpen, edit: content(func(c *mls.Content) { c.Sender.Index = uint32(vacant) }), want: fault{mls.ErrSender, "blank leaf"}},
	{name: "frame-sender-outside-the-tree", routes: rOpen, edit: content(func(c *mls.Content) { c.Sender.Index = 1 << 24 }), want: fault{mls.ErrSender, "blank leaf"}},
	{name: "frame-membership-tag", routes: rPublic, edit: public(func(m *mls.PublicMessage) { m.MembershipTag[0] ^= 1 }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-membership-tag-of-zeros", routes: rPublic, edit: public(func(m *mls.PublicMessage) { clear(m.MembershipTag) }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-membership-tag-empty", routes: rOpen, edit: public(func(m *mls.PublicMessage) { m.MembershipTag = nil }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-membership-tag-short", routes: rOpen, edit: public(func(m *mls.PublicMessage) { m.MembershipTag = m.MembershipTag[:16] }), want: fault{mls.ErrCrypto, ""}},
	{name: "frame-sender-type-unknown", routes: rOpen, edit: content(func(c *mls.Content) { c.Sender.Type = 5 }), want: fault{mls.ErrDecode, "sender type 5"}},
	{name: "frame-sender-type-zero", routes: rOpen, edit: content(func(c *mls.Content) { c.Sender.Type = 0 }), want: fault{mls.ErrDecode, "sender type 0"}},
}

func content(f func(*mls.Content)) func(*world, *plan) {
	return func(_ *world, p *plan) { p.content = f }
}

func signed(f func(*mls.Content)) func(*world, *plan) {
	return func(_ *world, p *plan) { p.signed = f }
}

func public(f func(*mls.PublicMessage)) func(*world, *plan) {
	return func(_ *world, p *plan) { p.public = f }
}

func init() {
	var list []messageRule
	for _, r := range framingRules {
		list = append(list,
			messageRule{name: r.name, entry: "proposal", routes: r.routes, want: r.want, other: r.other, make: func(_ *testing.T, w *world) attack {
				p := plan{by: third, proposal: remove(5)}
				r.edit(w, &p)
				return attack{plan: p}
			}},
			messageRule{name: r.name, entry: "commit", routes: r.routes, want: r.want, other: r.other, make: func(_ *testing.T, w *world) attack {
				var p plan
				r.edit(w, &p)
				return attack{plan: p}
			}})
	}
	registerMessages(list)
}

// Who may send what (§6, §12.1.8).
func init() {
	as := func(kind mls.SenderType, edit func(*mls.Content)) func(*testing.T, *world) attack {
		return func(_ *testing.T, w *world) attack {
			return attack{plan: plan{proposal: remove(5), signer: w.hubKey, content: func(c *mls.Content) {
				c.Sender = mls.Sender{Type: kind}
				edit(c)
			}}}
		}
	}
	same := func(*mls.Content) {}
	commit := func(c *mls.Content) {
		c.Type, c.Proposal, c.Commit, c.ConfirmationTag = mls.ContentCommit, nil, &mls.Commit{}, make([]byte, 32)
	}
	data := func(c *mls.Content) { c.Type, c.Proposal, c.Application = mls.ContentApplication, nil, []byte("x") }
	list := []messageRule{
		{name: "sender-external-not-listed", make: as(mls.SenderExternal, func(c *mls.Content) { c.Sender.Index = 1 }), want: fault{mls.ErrSender, "external sender 1"}},
		{name: "sender-external-last-index", make: as(mls.SenderExternal, func(c *mls.Content) { c.Sender.Index = 1<<32 - 1 }), want: fault{mls.ErrSender, "external sender"}},
		{name: "sender-external-commits", make: as(mls.SenderExternal, commit), want: fault{mls.ErrSender, "external sender 0"}},
		{name: "sender-external-application-data", make: as(mls.SenderExternal, data), want: fault{mls.ErrSender, ""}},
		{name: "sender-external-signed-by-a-member", make: func(t *testing.T, w *world) attack {
			p := w.fromHub(remove(5))
			p.signer = w.members[third].cfg.Signer
			return attack{plan: p}
		}, want: fault{mls.ErrCrypto, ""}},
		{name: "sender-external-signature", make: func(t *testing.T, w *world) attack {
			p := w.fromHub(remove(5))
			p.signed = func(c *mls.Content) { c.Signature[0] ^= 1 }
			return attack{plan: p}
		}, want: fault{mls.ErrCrypto, ""}},
		{name: "sender-external-other-epoch", make: as(mls.SenderExternal, func(c *mls.Content) { c.Epoch-- }), want: fault{errAnEpoch, ""}},
		{name: "sender-external-other-group", make: as(mls.SenderExternal, func(c *mls.Content) { c.GroupID = []byte("w") }), want: fault{mls.ErrWrongGroup, ""}},
		{name: "sender-new-member-removes", make: as(mls.SenderNewMemberProposal, same), want: fault{mls.ErrPolicy, "proposal of a new member"}},
		{name: "sender-new-member-commits", make: as(mls.SenderNewMemberProposal, commit), want: fault{mls.ErrPolicy, "proposal of a new member"}},
		{name: "sender-new-member-adds-itself", make: func(t *testing.T, _ *world) attack {
			x := newcomer(t, "x")
			return attack{plan: plan{proposal: add(x.keyPackageOf()), signer: x.cfg.Signer, content: func(c *mls.Content) {
				c.Sender = mls.Sender{Type: mls.SenderNewMemberProposal}
			}}}
		}, want: fault{mls.ErrPolicy, "proposal of a new member"}},
		{name: "sender-joiner-proposes", make: as(mls.SenderNewMemberCommit, same), want: fault{mls.ErrSender, "new member may only send a public commit"}},
		{name: "sender-joiner-application-data", make: as(mls.SenderNewMemberCommit, data), want: fault{mls.ErrSender, ""}},
		{name: "sender-joiner-without-path", make: as(mls.SenderNewMemberCommit, commit), want: fault{mls.ErrPathRequired, ""}},
		{name: "sender-member-public-application-data", make: as(mls.SenderMember, data), want: fault{mls.ErrSender, ""}},
	}
	for i := range list {
		list[i].entry, list[i].routes = "message", rOpen
	}
	registerMessages(list)
	negative("sender-external-without-the-extension", "message", func(t *testing.T) {
		room, w := newRoom(t, 2), theWorld(t)
		m := &mls.Content{WireFormat: mls.WirePublicMessage, GroupID: room[0].st.GroupID(), Epoch: room[0].st.Epoch(),
			Sender: mls.Sender{Type: mls.SenderExternal}, Type: mls.ContentProposal, Proposal: remove(1)}
		must(t, m.Sign(room[0].st.pub.Suite(), w.hubKey, nil))
		fault{mls.ErrSender, "external sender 0"}.check(t, room[1].tell((&mls.PublicMessage{Content: m}).Encode()))
	})
}

// What is no proposal or Commit at all (§6): other messages, and handshakes
// where application data is wanted.
func init() {
	others := map[string]func(t *testing.T, w *world) []byte{
		"frame-key-package": func(t *testing.T, w *world) []byte { return w.members[memberKey].kp },
		"frame-group-info": func(t *testing.T, w *world) []byte {
			msg, err := w.at(t, forger).st.GroupInfo(true)
			must(t, err)
			return msg
		},
		"frame-welcome": func(t *testing.T, w *world) []byte {
			msg, _ := welcomeRule{}.message(t, w)
			return msg
		},
		"frame-application-data": func(t *testing.T, w *world) []byte {
			_, msg, err := w.at(t, third).st.Encrypt(nil, []byte("x"), 0)
			must(t, err)
			return msg
		},
	}
	for name, make := range others {
		negative(name, "message", func(t *testing.T) {
			w := theWorld(t)
			fault{mls.ErrWireFormat, ""}.check(t, w.at(t, victim).tell(make(t, w)))
		})
		negative(name, "hub-message", func(t *testing.T) {
			w := theWorld(t)
			fault{mls.ErrWireFormat, ""}.check(t, tellHub(t, w.hub, make(t, w)))
		})
	}
	others["frame-private-commit"] = func(t *testing.T, w *world) []byte { return w.forge(t, plan{private: true}).msg }
	others["frame-private-proposal"] = func(t *testing.T, w *world) []byte {
		return w.forge(t, plan{proposal: remove(5), private: true}).msg
	}
	delete(others, "frame-application-data")
	for name, make := range others {
		negative(name, "decrypt", func(t *testing.T) {
			w := theWorld(t)
			msg := make(t, w)
			fault{mls.ErrWireFormat, ""}.check(t, w.at(t, victim).attempt(func(s *State) (*State, error) {
				n, _, err := s.Decrypt(msg)
				return n, err
			}))
		})
	}
	for _, name := range []string{"frame-private-commit", "frame-private-proposal"} {
		negative(name, "hub-message", func(t *testing.T) {
			w := theWorld(t)
			fault{mls.ErrWireFormat, ""}.check(t, tellHub(t, w.hub, others[name](t, w)))
		})
	}
}
