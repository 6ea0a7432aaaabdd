package group

import (
	"fmt"
	"math"
	"testing"

	"github.com/entente-im/entente/mls"
)

// inEpoch is the world in another epoch, of which everybody has the secrets.
func (w *world) inEpoch(t *testing.T, epoch uint64) *world {
	t.Helper()
	msg, err := w.at(t, forger).st.GroupInfo(true)
	must(t, err)
	m, err := mls.ParseMessage(msg)
	must(t, err)
	m.GroupInfo.Context.Epoch = epoch
	must(t, m.GroupInfo.Sign(w.hub.Suite(), w.members[forger].cfg.Signer))
	n := *w
	n.hub, err = mls.OpenGroupInfo(m.GroupInfo, nil, mls.PublicOptions{Validator: ruleValidator{}})
	must(t, err)
	n.members = map[mls.LeafIndex]*client{}
	for l, c := range w.members {
		d, st := *c, *c.st
		st.pub = n.hub
		d.st = &st
		n.members[l] = &d
	}
	return &n
}

func init() {
	for _, way := range routes {
		negative("limit-last-epoch", way.prefix+"commit", func(t *testing.T) {
			w := theWorld(t)
			must(t, w.inEpoch(t, math.MaxUint64-1).deliver(t, way.route, nil, plan{}))
			fault{mls.ErrLimit, "last epoch"}.check(t, w.inEpoch(t, math.MaxUint64).deliver(t, way.route, nil, plan{}))
		})
		if way.route == rPrivate {
			continue // as the public ones, and slow
		}
		negative("limit-pending-proposals", way.prefix+"proposal", func(t *testing.T) {
			w := theWorld(t)
			c, g := w.at(t, victim), w.hub
			for i := range mls.MaxPending {
				msg := w.forge(t, plan{by: third, proposal: remove(5), content: func(c *mls.Content) { c.AAD = fmt.Append(nil, i) }}).msg
				var err error
				if way.route == rHub {
					g, _, err = g.Process(msg)
				} else {
					c.st, _, err = c.st.Process(msg)
				}
				must(t, err)
			}
			msg, full := w.forge(t, plan{proposal: remove(5)}).msg, fault{mls.ErrLimit, "pending proposals"}
			if way.route == rHub {
				full.check(t, tellHub(t, g, msg))
			} else {
				full.check(t, c.tell(msg))
			}
		})
	}
}
