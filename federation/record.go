package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/store"
	"github.com/entente-im/entente/wire"
)

// recordVersion is the version of every JSON value of this package on disk.
const recordVersion = 1

// scanPage is how many records are read at once.
const scanPage = 256

const (
	partnerPrefix = "fd/partner/"
	marksPrefix   = "fd/marks/"
	attemptPrefix = "fd/attempt/"
	tokenPrefix   = "fd/token/"
	requestPrefix = "fd/request/"
	blockedPrefix = "fd/blocked/"
)

func partnerKey(id wire.OrganizationID) []byte { return append([]byte(partnerPrefix), id[:]...) }
func marksKey(id wire.OrganizationID) []byte   { return append([]byte(marksPrefix), id[:]...) }
func attemptKey(id wire.OrganizationID) []byte { return append([]byte(attemptPrefix), id[:]...) }
func tokenKey(id [16]byte) []byte              { return append([]byte(tokenPrefix), id[:]...) }

// partnerRecord is what is kept of a partner. Its notes are verified again at every
// start: the disk is not believed more than the network.
type partnerRecord struct {
	Version     int       `json:"version"`
	Agreement   string    `json:"agreement"`   // note with both signatures
	Manifests   []string  `json:"manifests"`   // notes, oldest first
	Certificate string    `json:"certificate"` // note: Peer speaks for the organization
	Peer        string    `json:"peer"`
	Checked     time.Time `json:"checked"` // when the certificate was last seen valid
	Since       time.Time `json:"since"`
	Token       string    `json:"token,omitempty"` // hex: the ID of the token that made the agreement

	// How many manifests each side had when the agreement was signed.
	OurManifests   int `json:"ourManifests"`
	TheirManifests int `json:"theirManifests"`

	Suspended bool `json:"suspended,omitempty"`
	Ended     bool `json:"ended,omitempty"`

	SuspendedAt time.Time `json:"suspendedAt,omitzero"` // when it was; zero in records of 0.1.0: Changed
	Remove      bool      `json:"remove,omitempty"`     // suspended, and its devices are to leave our rooms at once

	Quarantined bool `json:"quarantined,omitempty"` // messages wait, both ways: quarantine.go

	// Amendments that wait for the other signature: ours at the partner, the partner's here.
	Proposed *amendment `json:"proposed,omitempty"`
	Offered  *amendment `json:"offered,omitempty"`
	Declined string     `json:"declined,omitempty"` // the text's hash of the last one that was declined here
	Rejected time.Time  `json:"rejected,omitzero"`  // when the partner declined our last one
	// Proposals of ours on the text in force that were withdrawn, or declined: hashes.
	Withdrawn []string `json:"withdrawn,omitempty"`
	Confirm   bool     `json:"confirm,omitempty"` // the partner has not said yet that it knows of our signature

	// A new name that the partner has given itself and that is not followed yet, and the one
	// that the operator has confirmed.
	Renaming  string `json:"renaming,omitempty"`
	Confirmed string `json:"confirmed,omitempty"`

	// The last of suspend, resume, quarantine, release and end: the operator's own words, and when.
	Why     string    `json:"why,omitempty"`
	Changed time.Time `json:"changed,omitzero"`
}

// attemptRecord says when a link was last tried and the partner last heard from.
type attemptRecord struct {
	Version  int       `json:"version"`
	Attempts int       `json:"attempts"`
	Last     time.Time `json:"last"`
	Contact  time.Time `json:"contact"`
}

// add puts a JSON value into a batch.
func add(b *store.Batch, key []byte, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("federation: encoding a record: %w", err)
	}
	b.Put(key, text)
	return nil
}

// put writes a JSON value; when it returns nil the value is on stable storage.
func (f *Federation) put(ctx context.Context, key []byte, value any) error {
	var b store.Batch
	if err := add(&b, key, value); err != nil {
		return err
	}
	return f.write(ctx, &b)
}

func (f *Federation) write(ctx context.Context, b *store.Batch) error {
	if _, err := f.opts.Store.Commit(ctx, b); err != nil {
		return fmt.Errorf("federation: writing to the store: %w", err)
	}
	return nil
}

// get reads a JSON value; false means that there is none.
func (f *Federation) get(key []byte, value any) (bool, error) {
	text, err := f.opts.Store.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("federation: reading from the store: %w", err)
	}
	return true, decode(text, value)
}

// decode reads a JSON value of our version.
func decode(text []byte, value any) error {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return fmt.Errorf("federation: a record on disk is not JSON: %w", err)
	}
	if v.Version != recordVersion {
		return fmt.Errorf("federation: a record of version %d: this binary knows %d", v.Version, recordVersion)
	}
	return json.Unmarshal(text, value)
}

// scan calls read for every record under a prefix.
func (f *Federation) scan(prefix string, read func(key, value []byte) error) error {
	var after []byte
	for {
		page, err := f.opts.Store.Scan([]byte(prefix), after, scanPage)
		if err != nil {
			return fmt.Errorf("federation: reading from the store: %w", err)
		}
		for _, kv := range page {
			if err := read(kv.Key[len(prefix):], kv.Value); err != nil {
				return err
			}
			after = kv.Key
		}
		if len(page) < scanPage {
			return nil
		}
	}
}

// load reads and verifies all partners.
func (f *Federation) load() error {
	return f.scan(partnerPrefix, func(key, value []byte) error {
		id, err := wire.Bytes32(key)
		if err != nil {
			return fmt.Errorf("federation: a partner's key on disk: %w", err)
		}
		var rec partnerRecord
		if err := decode(value, &rec); err != nil {
			return err
		}
		return f.loadPartner(id, rec)
	})
}

func (f *Federation) loadPartner(id wire.OrganizationID, rec partnerRecord) error {
	// Fewer than when it was signed: a recovery has taken the place of what came after.
	rec.OurManifests = min(rec.OurManifests, len(f.opts.Organization.Notes))
	st, err := f.verify(id, rec)
	if err != nil {
		return fmt.Errorf("federation: partner %s on disk: %w", id, err)
	}
	f.keepProposals(&rec, st)
	p, err := f.install(id, rec, st)
	if err != nil {
		return err
	}
	var a attemptRecord
	if _, err := f.get(attemptKey(id), &a); err != nil {
		return err
	}
	p.link.attempts, p.link.last, p.link.contact = a.Attempts, a.Last, a.Contact
	if err := f.loadWord(p); err != nil {
		return err
	}
	p.confirmed = false // the disk may be older than what was signed last
	text, err := f.opts.Store.Get(marksKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("federation: reading the marks of %s: %w", id, err)
	}
	p.marks, err = parseMarks(text)
	return err
}
