package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
)

// hexBytes is bytes as lower-case hexadecimal text.
type hexBytes []byte

func (h hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(h)) }

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := hex.DecodeString(s)
	*h = v
	return err
}

type request struct {
	Op, Name string
	Group    hexBytes
	Msg      hexBytes
	Data     hexBytes
	AAD      hexBytes
	Label    string
	Context  hexBytes
	Suite    int
	Length   int
	KPs      []hexBytes
}

type answer map[string]any

// driver is one client with the groups it is in.
type driver struct {
	keep, private bool
	name          string
	suite         mls.SuiteID
	cfg           group.Config
	kps           *group.KeyPackageSecrets
	groups        map[string]*group.State
	staged        map[string]*group.Staged
	disks         disks
	psks          map[string][]byte // external pre-shared keys by identity
}

// psk answers for the pre-shared keys that the driver was told.
func (d *driver) psk(id mls.PreSharedKeyID) []byte {
	if id.Resumption {
		return nil
	}
	return slices.Clone(d.psks[string(id.ID)])
}

// sameIdentity accepts every credential and no change of one.
type sameIdentity struct{}

func (sameIdentity) ValidateLeaf(c mls.LeafCheck) error {
	if c.Old != nil && !c.Old.Credential.Equal(c.New.Credential) {
		return errors.New("driver: identity changed")
	}
	return nil
}

func (sameIdentity) ValidateExtensions([]byte, []mls.Extension, []mls.Extension) error { return nil }

func (d *driver) do(q *request) (answer, error) {
	if d.groups == nil && q.Op != "init" {
		return nil, errors.New("driver: no client: init first")
	}
	switch q.Op {
	case "init":
		return answer{}, d.init(q)
	case "keypackage":
		return d.keyPackage()
	case "psk":
		d.psks[q.Label] = q.Data
		return answer{}, nil
	case "create":
		return d.create(q)
	case "join":
		return d.join(q)
	case "extjoin":
		return d.externalJoin(q)
	}
	st := d.groups[string(q.Group)]
	if st == nil {
		return nil, errors.New("driver: unknown group")
	}
	n, a, err := d.inGroup(st, q)
	if err != nil {
		return nil, err
	}
	return a, d.store(n)
}

// store keeps a state the way a client would: through its records.
func (d *driver) store(st *group.State) error {
	if !d.keep {
		d.disks.write(st)
		n, err := group.Restore(d.cfg, d.disks.read(st.GroupID()))
		if err != nil {
			return fmt.Errorf("driver: reload: %w", err)
		}
		st = n
		d.disks[string(st.GroupID())].last = st
		if s := d.staged[string(st.GroupID())]; s != nil {
			if s, err = group.UnmarshalStaged(d.cfg, s.Marshal()); err != nil {
				return fmt.Errorf("driver: reload staged: %w", err)
			}
			d.staged[string(st.GroupID())] = s
		}
	}
	d.groups[string(st.GroupID())] = st
	return nil
}

func (d *driver) init(q *request) error {
	if q.Suite < 0 || q.Suite > 1<<16-1 {
		return mls.ErrSuite
	}
	if _, err := mls.LookupSuite(mls.SuiteID(q.Suite)); err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	d.name, d.suite, d.kps = q.Name, mls.SuiteID(q.Suite), nil
	d.cfg = group.Config{Validator: sameIdentity{}, Signer: key, Private: d.private}
	d.cfg.PSK, d.psks = d.psk, map[string][]byte{}
	d.disks = disks{}
	d.groups, d.staged = map[string]*group.State{}, map[string]*group.Staged{}
	return nil
}

func (d *driver) credential() mls.Credential {
	return mls.Credential{Type: mls.CredentialBasic, Identity: []byte(d.name)}
}

func (d *driver) keyPackage() (answer, error) {
	now := time.Now()
	msg, secrets, err := group.NewKeyPackage(group.KeyPackageParams{
		Suite: d.suite, Signer: d.cfg.Signer, Credential: d.credential(),
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
	})
	if err != nil {
		return nil, err
	}
	d.kps, err = group.UnmarshalKeyPackageSecrets(secrets.Marshal())
	return answer{"msg": hexBytes(msg)}, err
}

func (d *driver) create(q *request) (answer, error) {
	id := []byte(q.Group)
	if len(id) == 0 {
		id = mls.Random(32)
	}
	st, err := group.Create(d.cfg, group.CreateParams{Suite: d.suite, GroupID: id, Credential: d.credential()})
	if err != nil {
		return nil, err
	}
	return answer{"group": hexBytes(id)}, d.store(st)
}

func (d *driver) join(q *request) (answer, error) {
	if d.kps == nil {
		return nil, errors.New("driver: no key package")
	}
	st, _, err := group.Join(d.cfg, q.Msg, nil, d.kps)
	if err != nil {
		return nil, err
	}
	return answer{"group": hexBytes(st.GroupID())}, d.store(st)
}

func (d *driver) externalJoin(q *request) (answer, error) {
	g, err := mls.NewPublicGroup(q.Msg, nil, mls.PublicOptions{Validator: sameIdentity{}})
	if err != nil {
		return nil, err
	}
	p := group.ExternalParams{Credential: d.credential()}
	if l, ok := find(g.Members(), d.name); ok {
		p.Resync = &l
	}
	st, err := group.ExternalJoin(d.cfg, q.Msg, nil, p)
	if err != nil {
		return nil, err
	}
	n, err := st.Apply(nil)
	if err != nil {
		return nil, err
	}
	return answer{"group": hexBytes(n.GroupID()), "commit": hexBytes(st.Commit)}, d.store(n)
}

func find(members []mls.Member, name string) (mls.LeafIndex, bool) {
	i := slices.IndexFunc(members, func(m mls.Member) bool { return string(m.Node.Credential.Identity) == name })
	if i < 0 {
		return 0, false
	}
	return members[i].Leaf, true
}

func findMember(st *group.State, name string) (mls.LeafIndex, error) {
	l, ok := find(st.Members(), name)
	if !ok {
		return 0, fmt.Errorf("driver: no member %q", name)
	}
	return l, nil
}
