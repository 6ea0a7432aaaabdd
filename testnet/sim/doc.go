// Package sim runs four organizations, twelve people and fifteen devices in simulated time
// and holds them to the promises of docs/design.md.
//
// What runs is real: nodes with store, mailboxes and federation; devices with MLS, their
// sealed files, TLS, sign-in and sessions. All of it runs in a testing/synctest bubble,
// whose clock goes on only while everybody waits. What is replaced: the network
// (pipe.go, network.go; host.go for libp2p, without its encryption, so that the search
// for plaintext sees what nodes see), the clock since boot, and Argon2id's costs. Files
// lie in memory where the machine can; a kill goes on from a copy of them taken while
// everything waits, so it falls between two steps and never into a write. What a kill
// or power cut does within a write is the business of the tests of store and device.
//
// The seed decides what happens and when: who writes, visits, changes the room, joins,
// leaves and is removed; when two linked devices are revoked, one after the other; which links are slow, lossy, cut; who is partitioned off or
// killed; and who is hostile: nobody, a member, or a partner's node (seed mod 3). Keys
// and IDs are random, and goroutines run in the order that the machine chooses, so a
// seed repeats the schedule of a run and not each of its steps.
//
// When all faults have ended and everybody has visited until nothing is under way:
//
//   - P2: what a device has on record as sent was shown exactly once at everybody who
//     was in the room all the time, on one of their devices, or its sender was told that
//     it was not. Where nobody is hostile no device is told of a gap.
//   - P3: no number of a room is one message to one and another to another, and all who
//     are in the room name one code, or were told why not.
//   - P4: nobody is shown what was written after the removal; no text stands in what
//     crossed a link, in a node's files or in its log.
//   - P5, in a test of its own, because trying every key takes long: no key is left for
//     what everybody has acknowledged.
//
// Of a hostile side nothing is demanded, and nothing is promised to it.
package sim
