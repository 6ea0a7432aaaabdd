package identity

import (
	"crypto/ed25519"
	"time"

	"github.com/entente-im/entente/wire"
)

const nodeType = "entente.im/node/v1"

// NodeCertificate lets a peer speak for an organization for a time.
type NodeCertificate struct {
	Organization        wire.OrganizationID
	Peer                wire.DeviceID
	Role                string
	Incarnation         uint64
	NotBefore, NotAfter time.Time
}

// SignNodeCertificate certifies a node with the organization's node key.
func SignNodeCertificate(o *Organization, n NodeEntry, key ed25519.PrivateKey, now time.Time) (string, error) {
	r := wire.Record{Type: nodeType}
	r.Add("organization", "%s", o.ID)
	r.Add("peer", "%s", n.Peer)
	r.Add("role", "%s", n.Role)
	r.Add("incarnation", "%d", n.Incarnation)
	r.Add("not-before", "%s", wire.FormatTime(now.Add(-wire.NotBeforeSlack)))
	r.Add("not-after", "%s", wire.FormatTime(now.Add(wire.NodeCertLifetime)))
	return wire.SignNote(r, noteKey(o.KeyName()+"/node", key))
}

// VerifyNodeCertificate checks that a note lets a peer speak for an organization
// now: signed with the manifest's node key, for a peer that the manifest lists.
func VerifyNodeCertificate(note string, o *Organization, peer wire.DeviceID, now time.Time) (*NodeCertificate, error) {
	text, err := wire.OpenNote(note, o.NodeKey())
	if err != nil {
		return nil, refuse("node certificate: %v", err)
	}
	f := wire.Read(text, nodeType)
	c := &NodeCertificate{Organization: f.Hash("organization")}
	c.Peer = readDevice(f, "peer")
	c.Role = f.One("role")
	c.Incarnation = f.Uint("incarnation")
	c.NotBefore, c.NotAfter = f.Time("not-before"), f.Time("not-after")
	if err := f.Done(); err != nil {
		return nil, refuse("node certificate: %v", err)
	}
	switch {
	case c.Organization != o.ID:
		return nil, refuse("a node certificate of another organization")
	case c.Peer != peer:
		return nil, refuse("a node certificate of another peer")
	case now.Before(c.NotBefore) || !now.Before(c.NotAfter):
		return nil, refuse("a node certificate that is valid from %s to %s only, and here it is %s: is the clock right?", wire.FormatTime(c.NotBefore), wire.FormatTime(c.NotAfter), wire.FormatTime(now))
	}
	for _, n := range o.Manifest.Nodes {
		if n.Peer == peer && n.Role == c.Role && n.Incarnation <= c.Incarnation {
			return c, nil
		}
	}
	return nil, refuse("a node certificate for a peer that the manifest does not list")
}

func readDevice(f *wire.Fields, key string) wire.DeviceID {
	id, err := wire.ParseDeviceID(f.One(key))
	if err != nil {
		f.Fail("the field %s is no device ID", key)
	}
	return id
}
