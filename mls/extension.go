package mls

import (
	"bytes"
	"slices"

	"github.com/entente-im/entente/mls/internal/tls"
)

// ExtensionType is a number of RFC 9420 §17.3.
type ExtensionType uint16

// Extension is a type and its data, which are kept verbatim (§13.4).
type Extension struct {
	Type ExtensionType
	Data []byte
}

// FindExtension returns the data of the extension of type t.
func FindExtension(list []Extension, t ExtensionType) ([]byte, bool) {
	for _, e := range list {
		if e.Type == t {
			return e.Data, true
		}
	}
	return nil, false
}

func writeExtensions(w *tls.Writer, list []Extension) {
	w.Vector(func(w *tls.Writer) {
		for _, e := range list {
			w.U16(uint16(e.Type))
			w.Vec(e.Data)
		}
	})
}

// readExtensions refuses a type that appears twice (§13.4).
func readExtensions(r *tls.Reader) []Extension {
	var list []Extension
	seen := map[ExtensionType]bool{}
	r.Each(func(r *tls.Reader) {
		e := Extension{Type: ExtensionType(r.U16()), Data: r.Vec()}
		if seen[e.Type] {
			r.Fail(refuse(ErrDecode, "extension %d twice", e.Type))
		}
		seen[e.Type] = true
		list = append(list, e)
	})
	return list
}

// EncodeExtensions is the encoding of extensions<V>.
func EncodeExtensions(list []Extension) []byte {
	var w tls.Writer
	writeExtensions(&w, list)
	return w.B
}

// ParseExtensions is the inverse of EncodeExtensions.
func ParseExtensions(b []byte) ([]Extension, error) {
	r := tls.NewReader(b)
	list := readExtensions(r)
	return list, r.Done()
}

func sameExtensions(a, b []Extension) bool {
	return slices.EqualFunc(a, b, func(x, y Extension) bool {
		return x.Type == y.Type && bytes.Equal(x.Data, y.Data)
	})
}

// RequiredCapabilities is the extension of §11.1: what every member's leaf has
// to list.
type RequiredCapabilities struct {
	Extensions  []ExtensionType
	Proposals   []ProposalType
	Credentials []CredentialType
}

// Extension encodes rc as a GroupContext extension.
func (rc RequiredCapabilities) Extension() Extension {
	var w tls.Writer
	writeU16s(&w, rc.Extensions)
	writeU16s(&w, rc.Proposals)
	writeU16s(&w, rc.Credentials)
	return Extension{Type: ExtensionRequiredCapabilities, Data: w.B}
}

func requiredCapabilities(list []Extension) (rc RequiredCapabilities, err error) {
	data, ok := FindExtension(list, ExtensionRequiredCapabilities)
	if !ok {
		return rc, nil
	}
	r := tls.NewReader(data)
	rc.Extensions = readU16s[ExtensionType](r)
	rc.Proposals = readU16s[ProposalType](r)
	rc.Credentials = readU16s[CredentialType](r)
	return rc, r.Done()
}

// ExternalSender may send proposals without being a member (§12.1.8.1): in a
// room, the hub.
type ExternalSender struct {
	SignatureKey []byte
	Credential   Credential
}

// ExternalSendersExtension encodes the list as a GroupContext extension.
func ExternalSendersExtension(list []ExternalSender) Extension {
	var w tls.Writer
	w.Vector(func(w *tls.Writer) {
		for _, s := range list {
			w.Vec(s.SignatureKey)
			s.Credential.write(w)
		}
	})
	return Extension{Type: ExtensionExternalSenders, Data: w.B}
}

func externalSenders(list []Extension) (out []ExternalSender, err error) {
	data, ok := FindExtension(list, ExtensionExternalSenders)
	if !ok {
		return nil, nil
	}
	r := tls.NewReader(data)
	r.Each(func(r *tls.Reader) {
		var s ExternalSender
		s.SignatureKey = r.Vec()
		s.Credential.read(r)
		out = append(out, s)
	})
	return out, r.Done()
}

// ExternalPubExtension encodes the group's external public key for a GroupInfo
// (§12.4.3.2): HPKEPublicKey with its length prefix.
func ExternalPubExtension(pub []byte) Extension {
	var w tls.Writer
	w.Vec(pub)
	return Extension{Type: ExtensionExternalPub, Data: w.B}
}

// ExternalPub reads the external public key from the extensions of a GroupInfo.
func ExternalPub(list []Extension) ([]byte, error) {
	data, ok := FindExtension(list, ExtensionExternalPub)
	if !ok {
		return nil, refuse(ErrGroupInfo, "no external_pub extension")
	}
	r := tls.NewReader(data)
	pub := r.Vec()
	if err := r.Done(); err != nil {
		return nil, err
	}
	return pub, nil
}

// checkKnown checks that the extensions of a GroupContext that are known here can
// be read.
func checkKnown(list []Extension) error {
	if _, err := externalSenders(list); err != nil {
		return err
	}
	if _, err := requiredCapabilities(list); err != nil {
		return err
	}
	return checkAppData(list)
}

func writeU16s[T ~uint16](w *tls.Writer, list []T) {
	w.Vector(func(w *tls.Writer) {
		for _, v := range list {
			w.U16(uint16(v))
		}
	})
}

func readU16s[T ~uint16](r *tls.Reader) []T {
	var list []T
	r.Each(func(r *tls.Reader) { list = append(list, T(r.U16())) })
	return list
}
