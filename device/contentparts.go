package device

import (
	"bytes"
	"slices"
	"strings"
)

// Reading the body of a message, whoever has written it (draft-ietf-mimi-content-08 §4.4):
// this version writes one part or none, others may nest several. What cannot be shown is
// said to be there.

const (
	cardinalityMulti = 3
	chooseOne        = 0
	singleUnit       = 1
	processAll       = 2

	dispositionProfile = 3
	dispositionIcon    = 5
	dispositionPreview = 8
)

// How well a part can be shown: of several to choose from the first of the best is taken.
const (
	rankUnknown = iota
	rankFile
	rankPlain
	rankMarkdown
)

// part is a nested part as it is shown.
type part struct {
	disposition uint64
	rank        int
	null        bool
	text        string
	file        *attachment
	unknown     []string // media types of what this version cannot show, each once
}

// readPart reads a part and what it nests; the decoder bounds the depth.
func readPart(p []any) (x part, err error) {
	if len(p) < 3 {
		return x, errContent
	}
	disposition, ok := p[0].(uint64)
	_, ok2 := p[1].(string)
	cardinality, ok3 := p[2].(uint64)
	if !ok || !ok2 || !ok3 {
		return x, errContent
	}
	x.disposition = disposition
	switch {
	case cardinality == cardinalityNull && len(p) == 3:
		x.null = true
	case cardinality == cardinalitySingle && len(p) == 5:
		err = x.single(p[3], p[4])
	case cardinality == cardinalityExternal && len(p) == 15:
		err = x.external(p)
	case cardinality == cardinalityMulti && len(p) == 5:
		err = x.multi(p[3], p[4])
	default:
		err = errContent
	}
	return x, err
}

func (x *part) single(kind, body any) error {
	k, ok := kind.(string)
	b, ok2 := body.([]byte)
	if !ok || !ok2 {
		return errContent
	}
	switch {
	case strings.HasPrefix(k, "text/markdown") && isText(k):
		x.rank = rankMarkdown
	case isText(k):
		x.rank = rankPlain
	default:
		x.unknown = []string{shownType(k)}
		return nil
	}
	x.text = string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
	return nil
}

// external is a file: of ours, or kept in a way that this version does not know.
func (x *part) external(p []any) (err error) {
	k, ok := p[3].(string)
	if p[7] == uint64(aeadChunked) || !ok {
		x.rank = rankFile
		x.file, x.text, err = parseAttachment(p)
		return err
	}
	x.unknown = []string{shownType(k)}
	return nil
}

func (x *part) multi(semantics, parts any) error {
	how, ok := semantics.(uint64)
	list, ok2 := parts.([]any)
	if !ok || !ok2 || how > processAll || len(list) < 2 {
		return errContent
	}
	var all []part
	for _, raw := range list {
		p, ok := raw.([]any)
		if !ok {
			return errContent
		}
		one, err := readPart(p)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	disposition := x.disposition
	switch how {
	case chooseOne:
		*x = best(all)
	case singleUnit: // all of it or nothing
		for _, one := range all {
			if len(one.unknown) > 0 {
				*x = part{disposition: disposition, unknown: one.unknown}
				return nil
			}
		}
		*x = together(all, disposition)
	default:
		*x = together(all, disposition)
	}
	x.disposition = disposition
	return nil
}

func best(all []part) part {
	b := all[0]
	for _, one := range all[1:] {
		if one.rank > b.rank {
			b = one
		}
	}
	return b
}

// together is several parts one after the other. One file at most can be fetched.
func together(all []part, disposition uint64) (x part) {
	var texts []string
	for _, one := range all {
		side := one.disposition == dispositionPreview || one.disposition == dispositionIcon || one.disposition == dispositionProfile
		switch {
		case side && one.rank == rankUnknown: // beside the rest, and not needed to read it
			continue
		case one.file != nil && x.file != nil:
			one.unknown = append(one.unknown, one.file.Type)
		case one.file != nil:
			x.file = one.file
		}
		for _, kind := range one.unknown {
			if len(x.unknown) < maxUnknown && !slices.Contains(x.unknown, kind) {
				x.unknown = append(x.unknown, kind)
			}
		}
		if x.rank = max(x.rank, one.rank); one.text != "" {
			texts = append(texts, one.text)
		}
	}
	between := "\n"
	if disposition == dispositionReaction {
		between = ""
	}
	x.text = strings.Join(texts, between)
	return x
}

// maxUnknown bounds the types that are named of one message.
const maxUnknown = 5

// withUnknown is a text and what cannot be shown beside it.
func withUnknown(text string, kinds []string) string {
	for _, kind := range kinds {
		if text != "" {
			text += "\n"
		}
		text += "[a part of type " + kind + " that this version cannot show]"
	}
	return text
}

// shownType is a media type that may be printed.
func shownType(kind string) string {
	kind, _, _ = strings.Cut(kind, ";")
	if kind = safeType(strings.TrimSpace(kind)); len(kind) > maxFileType {
		kind = kind[:maxFileType]
	}
	return kind
}

// body takes the body of a message: a text, a file, a reaction, a room's name, or none in
// a deletion.
func (m *message) body(p []any) error {
	if len(p) == 5 && p[2] == uint64(cardinalitySingle) && p[3] == contentRoomName {
		b, ok := p[4].([]byte)
		if !ok || len(b) == 0 || len(b) > maxRoomName {
			return errContent
		}
		m.Name = string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
		return nil
	}
	x, err := readPart(p)
	if err != nil {
		return err
	}
	m.Text, m.File, m.markdown = withUnknown(x.text, x.unknown), x.file, x.rank == rankMarkdown
	switch {
	case x.null && m.Replaces == nil:
		return errContent
	case x.null:
		m.Deleted = true
	case x.disposition == dispositionReaction:
		if m.ReplyTo == nil || len(m.Text) == 0 || len(m.Text) > maxReaction || m.File != nil || len(x.unknown) > 0 {
			return errContent
		}
		m.Reaction = true
	}
	return nil
}
