// Package gate is the door through which devices reach their node: TLS with the
// node's peer ID, guarded sign-in, bearer tokens, tickets and live sessions
// (docs/protocol.md 6.1, 6.2, 7).
//
// Its promise: only POST /auth does the libp2p handshake, and only with an empty
// body, so no call ever runs twice; every call and every ticket consults the
// Directory, so a revocation bites at once; a ticket opens one session, once, within
// a minute, for the device and origin it was made for; a device has one session.
// What a session carries it leaves to the node's session.Backend, and who is a
// member to the Directory. It keeps nothing on disk: the HMAC key comes in.
package gate
