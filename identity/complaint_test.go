package identity

import (
	"strings"
	"testing"

	"github.com/entente-im/entente/wire"
)

// complaints are the vectors of docs/protocol.md 7.10.
func (m maker) complaints(alice *person) {
	key := seeded("alice laptop complains")
	by := wire.DeviceID(public(key))
	good, err := SignComplaint(Complaint{Room: wire.RoomID{1}, Generation: 2, Epoch: 3, Commit: [32]byte{4},
		Accused: Author{wire.OrganizationID{5}, wire.MemberID{6}, deviceID("accused")}, Reason: ReasonCommit,
		Organization: alice.house.ID, Member: alice.id, Device: by, Issued: now}, key)
	must(m.t, err)
	signer := noteKey(DeviceKeyName(by), key)
	m.form(complaintType, good, signer)
	room := "room " + wire.RoomID{1}.String()
	m.edits(complaintType, good, []wire.NoteKey{signer}, [][4]string{
		{"of a reason that is none", "reason", "reason commit", "reason dislike"},
		{"of a generation of 33 bits", "32 bits", "generation 2", "generation 4294967298"},
		{"with an epoch with a leading zero", "not a number", "epoch 3", "epoch 03"},
		{"about the member's own device", "own device", "accused-organization " + wire.OrganizationID{5}.String() + "\naccused-member " + wire.MemberID{6}.String(),
			"accused-organization " + alice.house.ID.String() + "\naccused-member " + alice.id.String()},
		{"of another device than signs", "signature", "\ndevice " + by.String(), "\ndevice " + deviceID("another").String()},
		{"with a room in capitals", "room", room, "room " + strings.ToUpper(room[5:])},
	})
	m.refuse("of more than a kilobyte", "bytes", complaintType, good+strings.Repeat("— x "+strings.Repeat("A", 96)+"\n", 10))
}

// FuzzComplaint: what stands is what its device has signed, and re-encodes to the same text.
func FuzzComplaint(f *testing.F) {
	seeds(f, complaintType)
	f.Fuzz(func(t *testing.T, signed string) {
		text, err := wire.NoteText(signed)
		if err != nil {
			return
		}
		c, err := parseComplaint(text)
		if err != nil {
			return
		}
		again, err := SignComplaint(*c, seeded("anybody"))
		if err != nil || textOf(t, again) != text {
			t.Errorf("re-encodes to %q, %v", again, err)
		}
	})
}

func TestAComplaintOverItsLimitIsNotRead(t *testing.T) {
	if _, err := VerifyComplaint(strings.Repeat("x", wire.MaxComplaint+1)); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("%v", err)
	}
}
