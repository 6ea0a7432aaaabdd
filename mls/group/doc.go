// Package group is the private half of RFC 9420: key schedule, secret tree,
// TreeKEM, and State, a member's view of a group in one epoch.
//
// Its promise: a State is a value. Every operation returns a new one and leaves
// the old one as it was, so that an error, a refusal by the server or a crash
// loses nothing; what a message needed to be opened is not in the new state any
// more. Nothing is changed before everything is verified.
//
// # What the application has to do
//
// Store first. The state that Encrypt, Propose and Stage return is stored before
// their bytes leave the device (or a Reserve was), that of Decrypt and Process
// before the message is acknowledged; what was stored before is destroyed, since
// it opens what was opened. Records lists what a new state changes of what is stored,
// two small records after a message at any size of the group: each is sealed under an
// erasable key, all in one transaction. Restore takes a set up again, and refuses one
// that is not of one state.
//
// Never go back. A copy of the disk continues ratchets that were used: keep the
// highest Uses where the disk's thief cannot set it back, and come back into the
// group by ExternalJoin with new keys when a State is below it.
//
// Wait for the answer. A Commit is staged, submitted, and applied when the Delivery
// Service took it; another one that was first is processed instead. Members that
// have not committed for long are asked to, or removed: only a path heals.
//
// Erase. Expire is called now and then, Erase when the group is left, and
// KeyPackageSecrets.Erase when a package that is no last resort was joined with.
// Config.PSK hands out copies, which are erased here.
//
// Judge. The validator (Authentication Service, RFC 9750 §4) says which credentials
// are good. Process and Join do not know who may add whom: look at the Effects and
// the JoinInfo, and drop the new State to refuse.
package group
