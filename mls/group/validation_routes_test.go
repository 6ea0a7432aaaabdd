package group

import (
	"testing"

	"github.com/entente-im/entente/mls"
)

// route is how a forged message reaches who has to refuse it.
type route uint

const (
	rPublic  route = 1 << iota // a PublicMessage to a member
	rPrivate                   // a PrivateMessage to a member
	rHub                       // a PublicMessage to a hub
	rAll     = rPublic | rPrivate | rHub
	rOpen    = rPublic | rHub
)

var routes = []struct {
	prefix string
	route  route
}{{"", rPublic}, {"private-", rPrivate}, {"hub-", rHub}}

// deliver gives the message of a plan to a member or to a hub, after messages
// that are right by themselves and are taken.
func (w *world) deliver(t *testing.T, r route, before [][]byte, p plan) error {
	t.Helper()
	p.private = r == rPrivate
	if r == rHub {
		g := w.hub
		for _, msg := range before {
			var err error
			g, _, err = g.Process(msg)
			must(t, err)
		}
		return tellHub(t, g, w.forge(t, p).msg)
	}
	c := w.at(t, victim)
	for _, msg := range before {
		c.process(msg)
	}
	return c.tell(w.forge(t, p).msg)
}

// attack is a message to refuse, and what was received before it.
type attack struct {
	plan   plan
	before [][]byte
}

// messageRule is a rule about messages, broken by each attack of make.
type messageRule struct {
	name   string
	entry  string // "proposal", "commit" or "external-commit"
	routes route
	make   func(t *testing.T, w *world) attack
	want   fault
	other  map[route]fault
}

func registerMessages(rules []messageRule) {
	for _, r := range rules {
		for _, way := range routes {
			if r.routes&way.route == 0 {
				continue
			}
			want := r.want
			for k, f := range r.other {
				if k&way.route != 0 {
					want = f
				}
			}
			negative(r.name, way.prefix+r.entry, func(t *testing.T) {
				w := theWorld(t)
				a := r.make(t, w)
				want.check(t, w.deliver(t, way.route, a.before, a.plan))
			})
		}
	}
}

// proposes is the attack of a proposal alone; commits, that of a Commit of
// proposals by value.
func proposes(make func(t *testing.T, w *world) *mls.Proposal) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack { return attack{plan: plan{proposal: make(t, w)}} }
}

func commits(make func(t *testing.T, w *world) []*mls.Proposal) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack {
		var p plan
		for _, q := range make(t, w) {
			p.list = append(p.list, byForger(q))
		}
		return attack{plan: p}
	}
}

// comes is the attack of an external Commit with further proposals.
func comes(make func(t *testing.T, w *world) []*mls.Proposal) func(*testing.T, *world) attack {
	return func(t *testing.T, w *world) attack {
		p := plan{joiner: newcomer(t, "x")}
		for _, q := range make(t, w) {
			p.list = append(p.list, mls.Sent{Proposal: q, Sender: mls.Sender{Type: mls.SenderNewMemberCommit}})
		}
		return attack{plan: p}
	}
}

// received is a proposal of a member that comes before a Commit, and its mention
// there.
func (w *world) received(t *testing.T, by mls.LeafIndex, p *mls.Proposal) ([]byte, mls.Sent) {
	t.Helper()
	msg, ref := w.proposed(t, by, p, false)
	return msg, mls.Sent{Proposal: p, Sender: mls.Sender{Type: mls.SenderMember, Index: uint32(by)}, Ref: ref}
}

func TestEveryForgeryIsTakenWhenNothingIsWrong(t *testing.T) {
	for name, make := range map[string]func(*testing.T, *world) attack{
		"proposal":     proposes(func(*testing.T, *world) *mls.Proposal { return remove(5) }),
		"empty commit": commits(func(*testing.T, *world) []*mls.Proposal { return nil }),
		"commit": commits(func(t *testing.T, w *world) []*mls.Proposal {
			return []*mls.Proposal{remove(5), add(newcomer(t, "x").keyPackageOf()), {Type: mls.ProposalGroupContextExtensions, Extensions: w.ext}}
		}),
		"without path": func(t *testing.T, w *world) attack {
			return attack{plan: plan{noPath: true, list: []mls.Sent{byForger(add(newcomer(t, "x").keyPackageOf()))}}}
		},
		"by reference": func(t *testing.T, w *world) attack {
			msg, sent := w.received(t, third, remove(5))
			up, list := w.pendingUpdate(t, func(*world, *draft) {})
			return attack{plan: plan{list: append(list, sent)}, before: [][]byte{msg, up}}
		},
	} {
		for _, way := range routes {
			t.Run(way.prefix+name, func(t *testing.T) {
				w := theWorld(t)
				a := make(t, w)
				must(t, w.deliver(t, way.route, a.before, a.plan))
			})
		}
	}
	for name, make := range map[string]func(*testing.T, *world) attack{
		"external commit": comes(func(*testing.T, *world) []*mls.Proposal { return nil }),
		"resync":          func(t *testing.T, w *world) attack { return attack{plan: w.resync(t, third, nil)} },
		"external proposal": func(t *testing.T, w *world) attack {
			return attack{plan: w.fromHub(remove(5))}
		},
	} {
		for _, way := range []route{rPublic, rHub} {
			t.Run(name, func(t *testing.T) {
				w := theWorld(t)
				a := make(t, w)
				must(t, w.deliver(t, way, a.before, a.plan))
			})
		}
	}
}

// fromHub is a proposal of the external sender.
func (w *world) fromHub(p *mls.Proposal) plan {
	return plan{proposal: p, signer: w.hubKey, content: func(c *mls.Content) { c.Sender = mls.Sender{Type: mls.SenderExternal} }}
}
