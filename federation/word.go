package federation

import (
	"context"

	pb "github.com/entente-im/entente/wire/ententev1"

	"github.com/entente-im/entente/wire"
)

// wordRecord is what a partner's node has answered last of the agreement: devices are told
// that after a restart too, whether or not the partner can be reached then.
type wordRecord struct {
	Version int     `json:"version"`
	Refused pb.Code `json:"refused,omitempty"` // links, by policy
	Holds   bool    `json:"holds,omitempty"`   // our messages: we are in quarantine there

	// How its operator had stopped us at the latest time that it has told, in ms: a word of
	// before is that of a node that was set back, and changes nothing.
	Stopped   string `json:"stopped,omitempty"` // wire.AgreementSuspended or wire.AgreementQuarantined
	StoppedMs int64  `json:"stoppedMs,omitempty"`
}

const wordPrefix = "fd/word/"

func wordKey(id wire.OrganizationID) []byte { return append([]byte(wordPrefix), id[:]...) }

// answered keeps a partner's word where it is another one than before, and tells who asked to
// be told. One that is not written is heard again with the next link.
func (f *Federation) answered(ctx context.Context, p *partner) {
	if err := f.keepWord(ctx, p); err != nil && ctx.Err() == nil {
		f.log.Error("what a partner has answered is not kept", "partner", p.id.String(), "error", err.Error())
	}
	f.opts.Answered(p.id)
}

func (f *Federation) keepWord(ctx context.Context, p *partner) error {
	p.wording.Lock()
	defer p.wording.Unlock()
	p.mu.Lock()
	word := wordRecord{recordVersion, p.link.refused, p.link.holds, p.link.stopped, p.link.stoppedMs}
	p.mu.Unlock()
	if word == p.word {
		return nil
	}
	if err := f.put(context.WithoutCancel(ctx), wordKey(p.id), word); err != nil {
		return err
	}
	p.word = word
	return nil
}

// loadWord reads what was kept, before anything else runs.
func (f *Federation) loadWord(p *partner) error {
	p.word = wordRecord{Version: recordVersion}
	_, err := f.get(wordKey(p.id), &p.word)
	p.link.refused, p.link.holds = p.word.Refused, p.word.Holds
	p.link.stopped, p.link.stoppedMs = p.word.Stopped, p.word.StoppedMs
	return err
}
