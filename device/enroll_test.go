package device

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

func TestAnEnrolmentThatIsCutOffIsFinishedWithTheSameLink(t *testing.T) {
	acme := newOrganization(t, "acme.example", defaultBucket)
	alice := acme.device("alice")
	for _, at := range []string{"enroll-prepared", "enroll-answered", "enroll-confirmed"} {
		t.Run(at, func(t *testing.T) {
			dir, name := filepath.Join(t.TempDir(), "device"), at[len("enroll-"):]
			link := acme.link(name)
			if !runKilled(t, dir, at, "", "", killLink+"="+link) {
				t.Fatalf("%s was not reached", at)
			}
			d, err := Open(dir, testPass)
			if at == "enroll-confirmed" {
				must(t, err) // it is enrolled; KeyPackages follow with the first visit
			} else {
				if err == nil {
					t.Fatal("an enrolment that is not finished opens")
				}
				d, err = Enroll(t.Context(), dir, testPass, link)
				must(t, err)
			}
			defer d.Close()
			receive(t, d)
			send(t, alice, d.Address(), "welcome", SendOptions{})
			if got := texts(receiveUntil(t, d, "the message", hasTexts(1))); !slices.Equal(got, []string{"welcome"}) {
				t.Errorf("shown: %q", got)
			}
			if _, err := Enroll(t.Context(), filepath.Join(t.TempDir(), "other"), testPass, link); wire.StatusOf(err).Code == pb.Code_CODE_OK || err == nil {
				t.Errorf("the link works for another device too: %v", err)
			}
		})
	}
}
