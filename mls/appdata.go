package mls

import (
	"slices"

	"github.com/entente-im/entente/mls/internal/tls"
)

// ComponentID is a number of the component registry (draft-ietf-mls-extensions,
// Component IDs).
type ComponentID uint16

// ComponentData is what one application component has in an app_data_dictionary
// extension, or in the authenticated data of one message.
type ComponentData struct {
	Component ComponentID
	Data      []byte
}

// EncodeComponents is the encoding of an AppDataDictionary, and of a SafeAAD,
// which has the same layout: sorted by component, none twice.
func EncodeComponents(list []ComponentData) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(list), func(a, b ComponentData) int { return int(a.Component) - int(b.Component) })
	var w tls.Writer
	w.Vector(func(w *tls.Writer) {
		for _, c := range sorted {
			w.U16(uint16(c.Component))
			w.Vec(c.Data)
		}
	})
	_, err := ParseComponents(w.B)
	return w.B, err
}

// ParseComponents is the inverse of EncodeComponents. Components that are not in
// order, or twice, are an ErrDecode.
func ParseComponents(b []byte) ([]ComponentData, error) {
	r := tls.NewReader(b)
	var list []ComponentData
	r.Each(func(r *tls.Reader) {
		c := ComponentData{Component: ComponentID(r.U16()), Data: r.Vec()}
		if n := len(list); n > 0 && list[n-1].Component >= c.Component {
			r.Fail(refuse(ErrDecode, "component %d out of order", c.Component))
			return
		}
		list = append(list, c)
	})
	return list, r.Done()
}

// FindComponent returns what a component has in the app_data_dictionary among the
// extensions. An extension that cannot be read is an ErrDecode.
func FindComponent(list []Extension, id ComponentID) ([]byte, bool, error) {
	data, ok := FindExtension(list, ExtensionAppDataDictionary)
	if !ok {
		return nil, false, nil
	}
	dictionary, err := ParseComponents(data)
	for _, c := range dictionary {
		if c.Component == id && err == nil {
			return c.Data, true, nil
		}
	}
	return nil, false, err
}

// checkAppData checks the app_data_dictionary of a GroupContext: it can be read,
// and its safe_aad component is a list of components (ComponentsList).
func checkAppData(list []Extension) error {
	data, ok, err := FindComponent(list, ComponentSafeAAD)
	if err != nil || !ok {
		return err
	}
	r := tls.NewReader(data)
	readU16s[ComponentID](r)
	return r.Done()
}

// CheckAAD refuses authenticated data that is not a SafeAAD (EncodeComponents) in a
// group that asks for it by the safe_aad component of its GroupContext: there each
// component finds its own part, and none can pass for another's. In other groups
// authenticated data is whatever the application says.
func CheckAAD(context []Extension, aad []byte) error {
	_, safe, err := FindComponent(context, ComponentSafeAAD)
	if err != nil || !safe {
		return err
	}
	_, err = ParseComponents(aad)
	return err
}
