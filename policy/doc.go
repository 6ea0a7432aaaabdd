// Package policy holds what makes an MLS group a room: who may be in it, who may do what
// there, and what nobody may change (docs/protocol.md 1.6 and 1.8). The hub asks it
// about every Commit before it is ordered and every device asks it again before the
// Commit is applied: one implementation, so that the same question has one answer, and
// a hub that lets something through is found out by its members.
//
// It does no I/O and keeps nothing. Signatures and trees are package mls's; whether a
// credential's certificates stand is package identity's; both sit with the caller.
package policy
