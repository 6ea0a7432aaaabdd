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
// # What is in it
//
// RFC 9420 whole, but for ReInit and branching (ErrReInit) and new_member_proposal
// senders (ErrPolicy). External senders may propose Removes only, a
// GroupContextExtensions proposal needs an ExtensionsValidator, pre-shared keys
// need PublicOptions.PSKs. Of draft-ietf-mls-extensions: SelfRemove, SafeAAD and the
// last-resort component. Code points stand in codepoints.go.
//
// # What the application has to do
//
// The Authentication Service (RFC 9750 §4) is the CredentialValidator: it says
// which credentials are good, whether a key belongs to them, and, for a leaf that
// replaces another one, whether both are the same client. It is asked at every
// entry; credentials that are revoked afterwards are the application's to remove.
//
// The Delivery Service (RFC 9750 §5) orders: one Commit ends an epoch, accepted
// together with its Welcome and GroupInfo (CheckBundle) or not at all. It delivers
// a Commit before the messages of the epoch that it opens, hands a KeyPackage out
// once (LastResort ones excepted), gives external joiners the present GroupInfo with
// the pending SelfRemoves, and keeps PublicGroup (Marshal, Delta). A member that it
// leads aside notices by comparing the epoch authenticator with others.
//
// Who may add or remove whom is the application's policy: Effects say what a
// message does, and dropping the new value refuses it.
//
// # What a PublicGroup cannot check
//
// What needs secrets: the membership tag of a member's message, the confirmation
// tag of a Commit, that a path's ciphertexts open, for everybody, to the keys of
// the path, that a Welcome opens and holds the right secrets, that the external key
// of a GroupInfo is the group's, that a pre-shared key is known to the members, and
// anything inside a PrivateMessage. A Commit that it accepts may so be refused by
// members (RFC 9420 §16.12): they need a way to complain and to start anew.
package mls
