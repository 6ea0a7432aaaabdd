// Package session is the hot path between a device and its home node: the frames
// of docs/protocol.md section 6 over any connection that carries whole messages.
//
// Serve is the node's end and Client the device's. Both gather what is ready into
// one Batch, keep to the windows of 6.4 and end with a Close frame that says why.
// Its promise: nothing that a peer sends makes an end hold more than one window of
// submissions, one of deliveries and one message; a peer that falls silent or stops
// reading is noticed within the limits of Timing; a submission without a result is
// sent again with its counter after a reconnect, in order; a delivery is handed
// over at least once and acknowledged only after the handler has stored it.
//
// Who the device is, and what submissions and deliveries mean, it leaves to the
// Backend (node) and to the Handler (device). It does no cryptography: the carrier
// is WebSocket over TLS (websocket.go), native or in a browser.
package session
