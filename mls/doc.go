// Package mls is the public half of RFC 9420: messages, ratchet tree,
// KeyPackages, and PublicGroup, which is all that a server needs to check a
// Commit without holding a secret. The private half is mls/group.
//
// Its promise: nothing is allocated on the word of a length that was not
// compared with the bytes at hand, nothing is changed before everything is
// verified (values are immutable, a change returns a new one), every leaf that
// gets into a tree was shown to the validator first, and no error holds a
// secret. It does no I/O.
//
// It leaves to others: which credentials are good (CredentialValidator, the
// Authentication Service of RFC 9750), the order of Commits and the delivery of
// messages (the Delivery Service), and storage.
//
// A PublicGroup cannot check what needs secrets: the membership tag, the
// confirmation tag, and that a path's ciphertexts open to the right keys.
package mls
