package node

import (
	"strings"

	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// named finds a member as operators name one: by name, or by the whole address. Another
// organization's member is not looked for here.
func (n *Node) named(who string) (*identity.Member, error) {
	name, organization, whole := strings.Cut(who, "@")
	if whole && !n.org.Answers(organization, n.clock.Now()) {
		return nil, wire.Refuse(pb.Code_CODE_UNKNOWN_MEMBER, "%.80q is no member of %s", who, n.org.Manifest.Name)
	}
	return n.dir.Lookup(name)
}
