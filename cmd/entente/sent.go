package main

import (
	"fmt"
	"strings"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func sentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "sent [MESSAGE]",
		Short: "List what you sent, and what became of it; with a message, at each member",
		Long: `List what you sent. A state is what the recipient's organization has signed: stored (until when),
delivered, acknowledged (a device has it), unreadable, expired unread, refused, dropped. A text for somebody who has not
accepted yet waits for acceptance: entente contact withdraw takes it back.`,
		Example: "  entente sent --device alice\n  entente sent 01f3ab92c4 --device alice",
		Args:    optionalArg("MESSAGE"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			if err := typedMessage(args[0]); err != nil {
				return err
			}
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			sent, err := d.Sent()
			if err != nil {
				return err
			}
			asked, err := d.Asked()
			if err != nil {
				return err
			}
			if sent = append(sent, asked...); len(args) > 0 {
				return sentOne(c, sent, args[0], *asJSON)
			}
			return printList(c, sent, *asJSON, "ID AT TO STATE UNTIL TEXT", func(s device.Sent) []string {
				return []string{short(s.ID), when(s.At.Unix()), oneLine(s.To, 40), sentState(s), when(s.Deadline.Unix()), sentText(s)}
			})
		})
	}
	return c
}

// sentOne prints what became of one message at each member.
func sentOne(c *cobra.Command, sent []device.Sent, id string, asJSON bool) error {
	for _, s := range sent {
		if strings.HasPrefix(s.ID, id) {
			return printList(c, s.Members, asJSON, "MEMBER STATE SINCE UNTIL REASON", func(m device.MemberState) []string {
				until := ""
				if !m.Until.IsZero() {
					until = when(m.Until.Unix())
				}
				return []string{m.Address, m.State, when(m.At.Unix()), until, m.Reason}
			})
		}
	}
	return wire.Refuse(pb.Code_CODE_MALFORMED, "you sent no message that begins with %q", id)
}

// sentState is a message's state; in a room with how many of the others have it.
func sentState(s device.Sent) string {
	if s.Of > 1 && s.State == "sequenced" {
		return fmt.Sprintf("acknowledged by %d of %d", s.Acknowledged(), s.Of)
	}
	if s.State == device.StateAsked {
		return "waits for acceptance until " + when(s.Deadline.Unix())
	}
	return s.State
}

func sentText(s device.Sent) string {
	switch {
	case s.Reaction && s.Deleted:
		return "(a reaction, taken back)"
	case s.Reaction:
		return oneLine(s.Text, 16) + " to " + short(s.ReplyTo)
	case s.Deleted:
		return "(deleted)"
	case s.Gone:
		return "(gone)"
	case s.Edited:
		return oneLine(s.Text, 40) + " (edited)"
	case s.File != nil:
		return strings.TrimSpace(oneLine(s.Text, 40) + " [file " + oneLine(s.File.Name, 40) + "]")
	}
	return oneLine(s.Text, 40)
}
