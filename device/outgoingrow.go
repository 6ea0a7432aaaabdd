package device

import (
	"encoding/json"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Rows of outgoing messages are CBOR: they hold content and ciphertext, which JSON would
// carry as text three times for each message. Rows of earlier versions are JSON and begin
// with a brace, which no CBOR map does.

var (
	outgoingEncoder = mustMode(cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode())
	outgoingDecoder = mustMode(cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.DecMode())
)

func (o *outgoing) marshal() ([]byte, error) {
	b, err := outgoingEncoder.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("device: an outgoing message: %w", err)
	}
	return b, nil
}

func (o *outgoing) unmarshal(b []byte) error {
	decode := outgoingDecoder.Unmarshal
	if len(b) > 0 && b[0] == '{' {
		decode = json.Unmarshal
	}
	if err := decode(b, o); err != nil {
		return fmt.Errorf("device: an outgoing message: %w", err)
	}
	return nil
}
