package node

import (
	"testing"

	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestPartnersAreListedByName(t *testing.T) {
	list := byName([]*pb.PartnerStatus{{Name: "initech.example"}, {Name: "acme.example"}, {Name: "globex.example"}})
	for i, want := range []string{"acme.example", "globex.example", "initech.example"} {
		if list[i].Name != want {
			t.Errorf("%s stands at %d, not %s", list[i].Name, i, want)
		}
	}
}
