// Package mailbox holds an organization's queues: an inbox for each device, an
// outbox for each partner, a log of handshakes for each room. It knows the three
// classes of envelope, deadlines, quotas, acknowledgement, and notices.
//
// Its promise is conservation (P2): whatever was accepted for a recipient leaves
// exactly once, as acknowledged, unreadable, expired, refused or dropped, and what
// is to be told of it is written in the same batch as its removal. Nothing old is
// ever dropped to make room for something new.
//
// It leaves to others: durability, sealing and the destruction of keys (store); who
// is in a room, who may send, and what to do with an event (node); the way to a
// partner (federation).
//
// # Life of a reference
//
//  1. Stage checks the envelope and the quotas of every recipient, reserves their
//     room and adds one body with its references to the caller's batch. Crash:
//     nothing was promised, reservations were in memory.
//  2. The caller commits: accepted. Crash: the references are there at the next
//     open, and the quotas are counted from them.
//  3. Fetch hands it out, as often as it is asked to.
//  4. Ack or Settle, or the sweeper after its deadline, or Drop or Erase, remove the
//     reference, in one batch with what Notify makes of the event. Crash: both or
//     neither. With the last reference the store destroys the body's key. Only on a
//     full disk, which takes nothing but acknowledgements, the reference goes first
//     and the event waits in memory until there is room.
//
// # Rows in the store
//
// Prefix "mb/"; integers big-endian.
//
//	"mb/q/" ‖ queue ID uint32   version 1 ‖ kind 'd', 'o' or 'l' ‖ closed 0 or 1 ‖ ID 32
//	                            device, partner or room; kept for ever (45 bytes), so
//	                            that no queue ID is ever given twice
//
// Metadata of a deposit, sealed under the store's lasting key, 189 bytes: version 1 ‖ class ‖
// kind ‖ item kind ‖ length of return handle (0 or 16) ‖ return handle 16 ‖ room 32 ‖
// origin 32 ‖ from 32 ‖ envelope ID 32 ‖ sender tag 16 ‖ size of the body uint32 ‖
// generation uint32 ‖ epoch uint64 ‖ room sequence uint64. The body is an
// entente.v1.Item with number 0. A version that changes either takes the next
// version byte and reads both.
package mailbox
