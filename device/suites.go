package device

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// suiteNames are what people call cipher suites.
var suiteNames = []struct {
	name  string
	suite mls.SuiteID
}{
	{"standard", mls.SuiteX25519AES128},
	{"chacha", mls.SuiteX25519ChaCha20},
	{"post-quantum", mls.SuiteXWingChaCha20},
}

// SuiteNames lists the names that SuiteNamed knows.
func SuiteNames() (out []string) {
	for _, s := range suiteNames {
		out = append(out, s.name)
	}
	return out
}

// SuiteNamed finds a cipher suite by the name that people call it, or by its number
// (docs/protocol.md 1.7), decimal or as 0x0003.
func SuiteNamed(name string) (mls.SuiteID, error) {
	for _, s := range suiteNames {
		if s.name == name || strconv.FormatUint(uint64(s.suite), 10) == name || strings.EqualFold(fmt.Sprintf("0x%04x", uint16(s.suite)), name) {
			return s.suite, nil
		}
	}
	return 0, wire.Refuse(pb.Code_CODE_UNSUPPORTED, "no cipher suite is called %.32q", name)
}

func suiteName(id mls.SuiteID) string {
	for _, s := range suiteNames {
		if s.suite == id {
			return s.name
		}
	}
	return ""
}
