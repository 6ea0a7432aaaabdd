//go:build race

package identity

// Under the race detector a derivation of the real cost takes most of a second of both
// processors, and the tests make thousands. What such a build seals says so in its header;
// no program that people run is built so.
const (
	sealPasses = 1
	sealMemory = 1 << 10 // KiB
)
