// Package notice is the signed statement of an organization about what became of
// envelopes at its members: nodes make it, the sender's device reads it.
//
// Its promise: a Notice that Parse has returned was signed by the organization that
// it names and re-encodes to the same text. Who is told, and when, is the node's.
//
// # Notices (docs/protocol.md 2.7)
//
// A note of type entente.im/notice/v1, signed by "<organization>/node":
//
//	organization  ID of the organization that states it
//	origin        ID of the organization whose node resolves the return handles
//	room          room ID
//	issued        time
//	range         1 to 256 times: six words with a space between:
//	              state: stored delivered acknowledged unreadable expired refused dropped
//	              first and last room sequence, 1 or more, first not above last
//	              member ID
//	              stored: kept until (time); refused: name of a status that is no
//	              success; else "-"
//	              return handles in hex with commas between, or "-"; no more than the
//	              range has sequences, 4,096 in one notice
//
// A range speaks only of the envelopes whose handles it lists; without handles, of
// all envelopes in it that Origin's members sent. Of several statements about one
// envelope and member, acknowledged outranks all others.
package notice
