package node

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// A recovery on its way is a file: the organization's manifests and behind them the one that
// custodians bring in (docs/protocol.md 2.15). It goes from hand to hand; each adds a line.

// RecoveryFile is one that was read and may still stand.
type RecoveryFile struct {
	Organization *identity.Organization // as it is without the recovery
	Recovery     *identity.Recovery
	note         string
}

// ParseRecovery reads a recovery's file.
func ParseRecovery(b []byte) (*RecoveryFile, error) {
	text, ok := strings.CutSuffix(string(b), noteEnd)
	if !ok || len(b) > 64*wire.MaxNote {
		return nil, fmt.Errorf("node: this is no recovery, or it is cut off")
	}
	notes := strings.Split(text, noteEnd)
	if len(notes) < 2 {
		return nil, fmt.Errorf("node: this is no recovery, or it is cut off")
	}
	last := len(notes) - 1
	o, err := identity.VerifyManifests(notes[:last], wire.OrganizationID{})
	if err != nil {
		return nil, fmt.Errorf("node: the manifests of the recovery: %w", err)
	}
	r, err := identity.OpenRecovery(o, notes[last])
	if err != nil {
		return nil, err
	}
	return &RecoveryFile{o, r, notes[last]}, nil
}

// ReadRecovery is ParseRecovery of a file.
func ReadRecovery(path string) (*RecoveryFile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return ParseRecovery(b)
}

// Bytes is the file.
func (r *RecoveryFile) Bytes() []byte {
	return []byte(joinNotes(append(slices.Clone(r.Organization.Notes), r.note)))
}

// Write replaces a file by it.
func (r *RecoveryFile) Write(path string) error { return replaceFile(path, r.Bytes()) }

// Sign adds a custodian's signature.
func (r *RecoveryFile) Sign(custodian ed25519.PrivateKey) (*RecoveryFile, error) {
	note, err := identity.SignRecovery(r.Organization, r.note, custodian)
	if err != nil {
		return nil, err
	}
	return r.with(note)
}

// Merge adds what was signed on another copy.
func (r *RecoveryFile) Merge(other *RecoveryFile) (*RecoveryFile, error) {
	note, err := identity.MergeRecovery(r.Organization, r.note, other.note)
	if err != nil {
		return nil, err
	}
	return r.with(note)
}

func (r *RecoveryFile) with(note string) (*RecoveryFile, error) {
	next, err := identity.OpenRecovery(r.Organization, note)
	return &RecoveryFile{r.Organization, next, note}, err
}

// Stands returns the organization as it is after the recovery, or what is missing.
func (r *RecoveryFile) Stands() (*identity.Organization, error) {
	return identity.VerifyManifests(append(slices.Clone(r.Organization.Notes), r.note), r.Organization.ID)
}

// Entrust names custodians and witnesses in a new manifest of a folder's organization. A node
// that runs shows it after its next start.
func Entrust(dir, rootFile string, passphrase []byte, custodians []ed25519.PublicKey, threshold uint64, witnesses []identity.Cosigner, now time.Time) (*identity.Organization, error) {
	return remanifest(dir, rootFile, passphrase, func(o *identity.Organization, root ed25519.PrivateKey) (*identity.Organization, error) {
		return o.Entrust(root, custodians, threshold, witnesses, now)
	})
}

// BeginRecovery makes new root keys, sealed into a new file, and the recovery that brings them
// in. The organization is that of a folder, or of a copy of its manifest file.
func BeginRecovery(manifests, keysFile string, passphrase []byte, now time.Time) (*RecoveryFile, error) {
	notes, err := readNotes(manifests)
	if err != nil {
		return nil, err
	}
	o, err := identity.VerifyManifests(notes, wire.OrganizationID{})
	if err != nil {
		return nil, fmt.Errorf("node: %s: %w", manifests, err)
	}
	if o.Manifest.Threshold == 0 || len(o.Manifest.Witnesses) == 0 {
		return nil, fmt.Errorf("node: the last manifest of %s names no custodians, or no witnesses: nobody can recover it", o.Manifest.Name)
	}
	keys, _, err := identity.NewKeys()
	if err != nil {
		return nil, err
	}
	defer clear(keys.Root)
	defer clear(keys.Next)
	note, err := o.BeginRecovery(keys, now)
	if err != nil {
		return nil, err
	}
	if err := identity.SaveRootKeys(keysFile, passphrase, keys); err != nil {
		return nil, err
	}
	r := &RecoveryFile{Organization: o, note: note}
	return r.with(note)
}

// FinishRecovery brings a recovery that stands into a folder. Its manifest may be that before
// it, or a thief's after that: which of the two wins, partners decide by the same rule.
func FinishRecovery(dir string, r *RecoveryFile) (*identity.Organization, error) {
	known, err := OpenOrganization(dir)
	if err != nil {
		return nil, err
	}
	if known.ID != r.Organization.ID {
		return nil, fmt.Errorf("node: a recovery of another organization: %s", r.Organization.ID)
	}
	o, err := r.Stands()
	if err != nil {
		return nil, err
	}
	if o, err = identity.Prevailing(known, o); err != nil {
		return nil, err
	}
	if len(o.Notes) != len(r.Organization.Notes)+1 || o.Notes[len(o.Notes)-1] != r.note {
		return nil, fmt.Errorf("node: the folder has manifests that prevail over this recovery: the committed root was brought in, or it was finished before")
	}
	return o, replaceFile(filepath.Join(dir, ManifestFile), []byte(joinNotes(o.Notes)))
}

// WitnessRecovery adds this node's word, and time, to a partner's recovery.
func (a operatorAPI) WitnessRecovery(ctx context.Context, q *connect.Request[pb.WitnessRecoveryRequest]) (*connect.Response[pb.WitnessRecoveryResponse], error) {
	out, err := a.n.witnessRecovery(q.Msg.Recovery)
	return answer(out, err)
}

// witnessRecovery says when this node has seen the recovery: once when it learns of it, and
// once when the delay is over; in between the operator of a partner whose root was taken, not
// lost, brings in the committed one, and then nothing is witnessed any more.
func (n *Node) witnessRecovery(file []byte) (*pb.WitnessRecoveryResponse, error) {
	r, err := ParseRecovery(file)
	if err != nil {
		return nil, wire.Refuse(pb.Code_CODE_MALFORMED, "%v", err)
	}
	known, ok := n.partner(r.Organization.ID)
	own := identity.CosignerOf(n.org)
	switch {
	case !ok:
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_ORGANIZATION, "%s is no partner", r.Organization.ID)
	case !slices.ContainsFunc(r.Organization.Manifest.Witnesses, func(w identity.Cosigner) bool { return w.Owner == own.Owner && w.Public.Equal(own.Public) }):
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s does not name us as a witness", r.Organization.Manifest.Name)
	case known.Manifest.Sequence > r.Organization.Manifest.Sequence || !slices.Equal(known.Notes, r.Organization.Notes[:len(known.Notes)]):
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%s has shown other manifests than the recovery follows: its root is in use", r.Organization.Manifest.Name)
	case uint64(len(r.Recovery.Custodians)) < r.Recovery.Threshold:
		return nil, wire.Refuse(pb.Code_CODE_FORBIDDEN, "%d of %d custodians have signed: let them sign first", len(r.Recovery.Custodians), r.Recovery.Threshold)
	}
	note, err := identity.AddSeen(r.note, own.Owner, n.cosignerKey, n.clock.Now())
	if err != nil {
		return nil, err
	}
	next, err := r.with(note)
	if err != nil {
		return nil, err
	}
	if next, err = next.Merge(next); err != nil { // our first word and the last one
		return nil, err
	}
	n.log.Error("a partner's root is being recovered by its custodians: ask its people whether they mean it", "partner", r.Organization.Manifest.Name,
		"signed", len(r.Recovery.Custodians), "needed", r.Recovery.Threshold)
	return &pb.WitnessRecoveryResponse{Recovery: next.Bytes()}, nil
}
