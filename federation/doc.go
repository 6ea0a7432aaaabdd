// Package federation is how an organization's node meets the nodes of its
// partners: it makes agreements, carries envelopes both ways and asks questions.
//
// Its promises. An item leaves the outbox only after the partner has answered for
// it, and the partner answers only after its own commit; an item that arrives twice
// is committed once and gets its first answer again. Nobody but a peer that speaks
// for a partner under an agreement in force gets an item in or a question answered,
// and nobody else costs more than a place in the lobby. What a partner sends is
// bounded before it is read, by size, by rate and by memory.
//
// It leaves to others: what an item means (the node behind Handler), where items
// wait (the mailbox behind Outbox), who members are (identity/directory), and
// who may go without an agreement (nobody).
//
// # Streams (docs/protocol.md 5)
//
//	/entente/deliver/1  long-lived; one direction of items each; batches, one status per item
//	/entente/query/1    one request, one answer
//	/entente/lobby/1    one request, one answer; for peers with a partner token
//
// # Lobby transcript (docs/protocol.md 5.5)
//
// The acceptor asks twice, on a stream each: first without an agreement, to learn
// and check who the inviter is, then with its manifests, its node certificate and
// the agreement it has signed. Both proofs are HMAC-SHA256 under the token's secret of
//
//	"entente.im/lobby/v1\n"
//	1 byte       direction: 1 from the acceptor, 2 from the inviter
//	32 bytes     acceptor's peer, as the raw Ed25519 key that the connection proved
//	32 bytes     inviter's peer, likewise
//	16 bytes     token ID
//	32 bytes     proof of the request; zeros in direction 1
//	4 x 32 bytes SHA-256 of manifest, of genesis, of node certificate, of agreement,
//	             each as sent, the empty string where there is none
//
// The field genesis holds every manifest before the current one, oldest first,
// joined by a newline; manifest holds the current one.
//
// # On disk
//
// Keys begin with "fd/". Values are versioned; an unknown version is an error, so
// an older binary never rewrites what a newer one has written.
//
//	fd/partner/<organization ID, 32 bytes>  JSON partnerRecord: agreement, manifests, certificate, state
//	fd/marks/<organization ID, 32 bytes>    which items of that partner are decided (marks.go)
//	fd/attempt/<organization ID, 32 bytes>  JSON: attempts since the last contact, and when
//	fd/word/<organization ID, 32 bytes>     JSON: whether it refuses links or holds our messages, by its last word
//	fd/token/<token ID, 16 bytes>           JSON tokenRecord: a token of ours and what became of it
package federation
