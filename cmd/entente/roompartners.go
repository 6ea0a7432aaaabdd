package main

import (
	"fmt"
	"strings"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
)

// stateText says in words what state an agreement, or the partner, is in.
func stateText(state string) string {
	switch state {
	case wire.AgreementInForce:
		return "is in force"
	case wire.AgreementSuspended:
		return "is suspended"
	case wire.AgreementSuspendedThere:
		return "has suspended your organization"
	case wire.AgreementQuarantined:
		return "is in quarantine"
	case wire.AgreementQuarantinedThere:
		return "has your organization in quarantine"
	case wire.AgreementEnded:
		return "has ended"
	case wire.AgreementRefusedThere:
		return "refuses your organization"
	case wire.AgreementExpired:
		return "has expired"
	case wire.AgreementNotYet:
		return "is not in force yet"
	}
	return "is not known"
}

// partnerText says in what state a partner, or the agreement with it, is.
func partnerText(partner, state string) string {
	switch partner = oneLine(partner, 80); state {
	case wire.AgreementInForce, wire.AgreementEnded, wire.AgreementExpired, wire.AgreementNotYet:
		return "the agreement with " + partner + " " + stateText(state)
	}
	return partner + " " + stateText(state)
}

// stateMeans says what the state means for people.
func stateMeans(state string) string {
	switch {
	case state == wire.AgreementInForce:
		return "messages pass"
	case state == wire.AgreementRefusedThere:
		return "messages wait here until their deadlines"
	case wire.AgreementHolds(state):
		return "messages wait both ways until it is over, or their deadlines"
	}
	return "messages are refused both ways, and never sent later"
}

// withheldText says who does not get what was just sent.
func withheldText(p device.Progress) string {
	gets := " does not get this"
	if len(p.Members) > 1 {
		gets = " do not get this"
	}
	if wire.AgreementHolds(p.Reason) {
		gets += " before that is over"
	}
	return partnerText(p.To, p.Reason) + ": " + oneLine(strings.Join(p.Members, ", "), 400) + gets
}

// roomState is a room's state in a listing, with the partners whose agreements are not in
// force.
func roomState(r device.RoomInfo) string {
	var marks []string
	for _, p := range r.Partners {
		if p.State != "" && p.State != wire.AgreementInForce {
			marks = append(marks, partnerText(p.Organization, p.State))
		}
	}
	state := r.State
	if !r.Back.IsZero() {
		state += ", may come back at " + r.Back.Local().Format("15:04")
	}
	if r.Waits > 0 {
		state += fmt.Sprintf(", %d wait for %s", r.Waits, r.Hub)
	}
	if len(marks) == 0 {
		return state
	}
	return state + " (" + strings.Join(marks, ", ") + ")"
}

// partnersText has a line for each organization of a room: its state, and what that means.
func partnersText(r device.RoomInfo) string {
	var b strings.Builder
	for _, p := range r.Partners {
		said := "what is agreed is not known here"
		switch p.State {
		case "":
		case wire.AgreementInForce:
			said = "messages pass"
		default:
			said = stateText(p.State) + ": " + stateMeans(p.State)
		}
		b.WriteString("partner   " + oneLine(p.Organization, 80) + ": " + said + "\n")
	}
	return b.String()
}
