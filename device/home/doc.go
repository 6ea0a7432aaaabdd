// Package home is a device's client of its home node: pinned TLS, sign-in, the
// calls of docs/protocol.md section 7 and the session of section 6.
//
// Its promise: no body and no token leaves the device before the server has proved
// to hold the pinned peer ID, in its certificate or, behind a certificate of a web
// CA, in the sign-in; a call is sent once, and once more only when the node refused
// its token; errors carry the node's status (*wire.StatusError).
// What calls mean, and what is stored, it leaves to the device.
package home
