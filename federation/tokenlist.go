package federation

import (
	"context"
	"errors"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// TokenInfo is a token of ours without its secret.
type TokenInfo struct {
	ID      [16]byte
	Partner string // whom it was made for, by name; empty: anybody
	Expires time.Time
	Used    bool
}

// Tokens lists the tokens whose time is not over, used or not, in the order of their IDs.
func (f *Federation) Tokens() (out []TokenInfo, err error) {
	now := f.clock.Now()
	err = f.scan(tokenPrefix, func(key, value []byte) error {
		var rec tokenRecord
		if err := decode(value, &rec); err != nil {
			return err
		}
		if len(key) == 16 && !now.After(rec.Expires) {
			out = append(out, TokenInfo{[16]byte(key), rec.Partner, rec.Expires, rec.UsedBy != ""})
		}
		return nil
	})
	return out, err
}

// RevokeToken makes a token unknown that nobody has used: LINK_UNKNOWN when there is none,
// LINK_USED when it has made an agreement.
func (f *Federation) RevokeToken(ctx context.Context, id [16]byte) error {
	f.making.Lock()
	defer f.making.Unlock()
	value, err := f.opts.Store.Get(tokenKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return wire.Refuse(pb.Code_CODE_LINK_UNKNOWN, "no such token: it was revoked, or its time is over")
	}
	if err != nil {
		return err
	}
	var rec tokenRecord
	if err := decode(value, &rec); err != nil {
		return err
	}
	if rec.UsedBy != "" {
		return wire.Refuse(pb.Code_CODE_LINK_USED, "the token was used: the agreement that it made ends by entente partner end")
	}
	var b store.Batch
	b.Delete(tokenKey(id))
	return f.write(ctx, &b)
}
