//go:build !race

package identity

// Cost of Argon2id: RFC 9106 §4, second recommended option, 64 MiB and 3 passes.
const (
	sealPasses = 3
	sealMemory = 64 << 10 // KiB
)
