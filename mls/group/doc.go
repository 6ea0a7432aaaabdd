// Package group is the private half of RFC 9420: key schedule, secret tree,
// TreeKEM, and State, a member's view of a group in one epoch.
//
// Its promise: a State is a value. Every operation returns a new one and leaves
// the old one as it was, so that an error, a refusal by the server or a crash
// loses nothing; what a message needed to be opened is not in the new state any
// more. Nothing is changed before everything is verified.
//
// It leaves to others: storing the new state before bytes leave the device
// (EncodeGroup, EncodeRatchets) and destroying the record of the old one, the
// keys that those records are sealed under, and which credentials are good.
package group
