// Package identity says who is who: organizations, their nodes, members, devices,
// and the agreements between organizations, as signed notes and the keys behind
// them. It opens no store and does no network I/O, so that devices and nodes check
// with the same code; identity/directory keeps an organization's records.
//
// Its promise: a value of type *Organization, *Member, *Agreement or a certificate
// that was returned by a Verify function stands completely, from the pinned
// organization ID downwards; nothing of it may be believed before.
//
// It leaves to others where notes are kept, how they travel, and MLS.
//
// # Notes (docs/protocol.md 2)
//
// Field tables; every field stands once and in this order unless it says otherwise.
//
// entente.im/manifest/v1, signed by "<name>/root":
//
//	name          organization name
//	sequence      0 for genesis, then rising by one
//	previous      hash of the predecessor's text; 52 times "a" for genesis
//	issued        time
//	nonce         32 random bytes, base32
//	root          key
//	next-root     hash of the next root key: SHA-256("entente.im/next-root/v1\n" ‖ key)
//	directory, cosigner, vrf, hub, node   keys, one per use
//	peer          1 to 8 times: device ID, role (active or standby), incarnation
//	address       0 to 16 times: multiaddr
//	api           0 to 8 times: https URL
//	capability    0 to 32 times: name, lowest and highest version
//	threshold     how many custodians together may bring in a new root; 0 without any
//	custodian     0 to 16 times: key
//	witness       0 to 16 times: name of a cosigner's key, key; none without custodians
//	incident      0 to 16 times: time, what has happened (incident.go)
//
// In names of keys <name> is the organization's first one, for good (names.go).
//
// A manifest is signed by the root that it names. A successor's root is its
// predecessor's, or the one whose hash the predecessor committed to, or one that the
// predecessor's custodians bring in (recovery.go, docs/protocol.md 2.15). No key stands
// for two uses and no peer twice, and no root is committed to as its own successor.
//
// entente.im/node/v1, signed by "<name>/node": organization, peer (device ID), role,
// incarnation, not-before, not-after.
//
// entente.im/member-genesis/v1, signed by "<hash of the text>/member": organization,
// name, key, created, nonce. The member ID is the SHA-256 of the text.
//
// entente.im/member/v1, signed by "<name>/directory": organization, member, name,
// version (from 1), previous (hash of the record before, zeros for the first), key,
// disabled, issued, device (0 to 16 times: device ID and hash of its certificate),
// revoked (any number: device ID).
//
// entente.im/device/v1, signed by "<member ID>/member": organization, member, device,
// issued, expires.
//
// entente.im/member-key/v1, signed by "<member ID>/member" twice, with the old and the new
// key: organization, member, number (from 1), previous (key), key, issued, without (0 to 16
// times: device ID), device (0 to 16 times: device ID and hash of its certificate).
//
// entente.im/member-reset/v1, signed by "<name>/directory" and "<member ID>/member" with the
// new key: as entente.im/member-key/v1, without device.
//
// entente.im/revocation/v1, signed by "<member ID>/member" or "<name>/directory":
// organization, member, device, issued, by (member or organization).
//
// entente.im/partner-revocation/v1, signed by "<name>/node": organization, partner, agreement
// (hash of its text), room, generation, epoch, reason (suspended, ended, expired), issued.
//
// entente.im/complaint/v1, signed by "<device ID>/device": see complaint.go.
//
// entente.im/agreement/v1, signed by both organizations' "<name>/node": see agreement.go.
package identity
