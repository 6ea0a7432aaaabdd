package main

import (
	"errors"
	"fmt"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
)

// inGroup carries out an operation on a group and returns the state afterwards.
func (d *driver) inGroup(st *group.State, q *request) (*group.State, answer, error) {
	switch q.Op {
	case "add", "commit", "update", "remove", "stage":
		return d.commit(st, q)
	case "apply", "discard":
		return d.settle(st, q)
	case "propose":
		return propose(st, q)
	case "proposeupdate":
		n, msg, err := st.ProposeUpdate(nil, q.AAD)
		return n, answer{"msg": hexBytes(msg)}, err
	case "proposepsk":
		n, msg, err := st.ProposePSK(mls.PreSharedKeyID{ID: []byte(q.Label)}, q.AAD)
		return n, answer{"msg": hexBytes(msg)}, err
	case "proposeextensions":
		list, err := mls.ParseExtensions(q.Data)
		if err != nil {
			return nil, nil, err
		}
		n, msg, err := st.ProposeExtensions(list, q.AAD)
		return n, answer{"msg": hexBytes(msg)}, err
	case "process":
		n, e, err := st.Process(q.Msg)
		if err == nil && e.SelfRemoved {
			delete(d.staged, string(st.GroupID()))
		}
		return n, answer{}, err
	case "send":
		n, msg, err := st.Encrypt(q.AAD, q.Data, 0)
		return n, answer{"msg": hexBytes(msg)}, err
	case "recv":
		n, r, err := st.Decrypt(q.Msg)
		if err != nil {
			return nil, nil, err
		}
		return n, answer{"data": hexBytes(r.Data), "aad": hexBytes(r.AAD), "leaf": r.Leaf}, nil
	case "export":
		secret, err := st.Export(q.Label, q.Context, q.Length)
		return st, answer{"secret": hexBytes(secret)}, err
	case "info":
		names := []string{}
		for _, m := range st.Members() {
			names = append(names, string(m.Node.Credential.Identity))
		}
		return st, answer{"epoch": st.Epoch(), "auth": hexBytes(st.EpochAuthenticator()), "members": names}, nil
	case "groupinfo":
		msg, err := st.GroupInfo(true)
		return st, answer{"msg": hexBytes(msg)}, err
	}
	return nil, nil, fmt.Errorf("driver: unknown operation %q", q.Op)
}

// commit makes a Commit and applies it at once, unless it is to be staged.
func (d *driver) commit(st *group.State, q *request) (*group.State, answer, error) {
	p := group.CommitParams{WelcomeTree: true, ByReference: q.Op == "commit" || q.Op == "stage"}
	if q.Op == "add" || q.Op == "stage" {
		for _, kp := range q.KPs {
			p.Adds = append(p.Adds, kp)
		}
	}
	if q.Op == "remove" || q.Op == "stage" && q.Name != "" {
		l, err := findMember(st, q.Name)
		if err != nil {
			return nil, nil, err
		}
		p.Removes = append(p.Removes, l)
	}
	n, staged, err := st.Stage(p)
	if err != nil {
		return nil, nil, err
	}
	a := answer{"commit": hexBytes(staged.Commit)}
	if q.Op != "update" && q.Op != "remove" {
		a["welcome"] = hexBytes(staged.Welcome)
	}
	if q.Op == "stage" {
		d.staged[string(st.GroupID())] = staged
		return n, a, nil
	}
	n, err = staged.Apply(n)
	return n, a, err
}

func (d *driver) settle(st *group.State, q *request) (*group.State, answer, error) {
	id := string(st.GroupID())
	staged := d.staged[id]
	if staged == nil {
		return nil, nil, errors.New("driver: nothing staged")
	}
	delete(d.staged, id)
	if q.Op == "discard" {
		return st, answer{}, nil
	}
	n, err := staged.Apply(st)
	return n, answer{}, err
}

func propose(st *group.State, q *request) (*group.State, answer, error) {
	var n *group.State
	var msg []byte
	var err error
	if len(q.KPs) > 0 {
		n, msg, err = st.ProposeAdd(q.KPs[0], q.AAD)
	} else {
		var l mls.LeafIndex
		if l, err = findMember(st, q.Name); err == nil {
			n, msg, err = st.ProposeRemove(l, q.AAD)
		}
	}
	return n, answer{"msg": hexBytes(msg)}, err
}
