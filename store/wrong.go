//go:build !answer_before_sync && !answer_before_write

package store

// Wrong says how a build breaks its promises on purpose, so that the checks of kills
// and power cuts of whole nodes (testnet) are seen to catch it. It is empty in every
// build but those with one of the two build tags; nobody may use those.
const Wrong = ""

func (*hooks) spoil() {}
