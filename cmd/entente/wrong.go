package main

import "github.com/entente-im/entente/node"

// A build that breaks its promises on purpose, for tests, says so wherever it says
// its version.
func init() {
	if node.Wrong != "" {
		Version += " (NOT FOR USE: this build " + node.Wrong + ")"
	}
}
