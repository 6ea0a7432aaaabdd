//go:build deps

// Package deps holds pinned modules until the packages that use them are written.
package deps

import _ "github.com/rogpeppe/go-internal/testscript"
