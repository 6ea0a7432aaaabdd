package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

func contactCommand() *cobra.Command {
	c := group("contact", "Who may write to you: accept, block, list; what waits for others to accept: withdraw")
	c.AddCommand(contactList(),
		contactDecide("accept", "accepted", "Let a member of a partner write to you", "  entente contact accept alice@acme.example --device bob",
			"accepted; what they still want to write comes with their next visit"),
		contactDecide("block", "blocked", "Take nothing new from a member, or from anybody of an organization",
			"  entente contact block mallory@acme.example --device bob\n  entente contact block acme.example --device bob",
			"blocked; your node refuses their requests and invitations, your devices show nothing that they say; rooms that you are in with them go on: entente room leave"),
		contactDecide("unblock", "none", "Take a block back", "  entente contact unblock acme.example --device bob",
			"not blocked; the agreement's rule holds again"),
		contactWithdraw())
	return c
}

func contactWithdraw() *cobra.Command {
	c := &cobra.Command{
		Use: "withdraw ADDRESS", Short: "Take back what waits for somebody to accept: nothing of it is ever sent",
		Long:    "Take back the texts that wait on this device for somebody to accept. They have been asked, and it stays on their list; of the texts nothing has left this device.",
		Example: "  entente contact withdraw bob@globex.example --device alice", Args: exactArgs("ADDRESS"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		to, err := parseAddresses(args)
		if err != nil {
			return err
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			n, err := d.Withdraw(to[0])
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"event": "withdrawn", "contact": args[0], "texts": n})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d texts for %s are withdrawn\n", n, args[0])
			return err
		})
	}
	return c
}

func contactList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List who asks to write to you, and whom you have accepted or blocked",
		Example: "  entente contact list --device bob", Args: exactArgs(),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			list, err := d.Contacts(c.Context())
			if err != nil {
				return err
			}
			var rows [][]string
			for _, x := range list {
				if *asJSON {
					if err := printJSON(c.OutOrStdout(), x); err != nil {
						return err
					}
				}
				grade := "-"
				if x.Directory != nil {
					grade = x.Directory.Text()
				}
				state := x.State
				if x.By != "" {
					state += " by " + oneLine(x.By, 80)
				}
				rows = append(rows, []string{x.Address, state, strconv.Itoa(x.Hidden), x.Since.Format(time.DateTime), grade})
			}
			if *asJSON {
				return nil
			}
			return table(c.OutOrStdout(), "CONTACT STATE HIDDEN SINCE DIRECTORY", rows)
		})
	}
	return c
}

// contactDecide is a command that writes one decision to the home node; effect is what people
// are told then.
func contactDecide(verb, state, short, example, effect string) *cobra.Command {
	c := &cobra.Command{
		Use: verb + " ADDRESS", Short: short, Example: example, Args: exactArgs("ADDRESS"),
		Long: short + ". The decision is kept at your home node and holds for all your devices. Whoever is not accepted cannot tell a refusal from no answer.",
	}
	if verb != "accept" {
		c.Use = verb + " ADDRESS|ORGANIZATION"
	}
	if verb == "block" {
		c.Long = short + ". The decision is kept at your home node and holds for all your devices. They are told that you do not take messages from them."
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			if err := d.SetContact(c.Context(), args[0], state); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]string{"event": verb, "contact": args[0], "state": state})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", args[0], effect)
			return err
		})
	}
	return c
}

// blockedText says what somebody who is blocked has sent, and not what it was.
func blockedText(s device.Shown) string {
	if s.State == "invitation" {
		return "blocked: an invitation of " + s.From + " into a room was not followed"
	}
	out := fmt.Sprintf("blocked: %d messages of %s", s.Count, s.From)
	if s.Count == 1 {
		out = "blocked: 1 message of " + s.From
	}
	if s.RoomName != "" {
		out += " in " + oneLine(s.RoomName, 40)
	}
	return out
}

// blockedHereText says that somebody in a room of several is blocked by an organization.
func blockedHereText(s device.Shown, room string) string {
	out := s.From + ", in " + room + ", is blocked by " + oneLine(s.To, 80)
	if s.Reason != "" {
		out += ": " + safe(s.Reason)
	}
	return out
}

// requestText is a request for contact, or the end of one of ours, for a person.
func requestText(s device.Shown) string {
	if s.State == "asks" {
		return fmt.Sprintf("%s asks to write to you: entente contact accept %s | entente contact block %s", s.From, s.From, s.From)
	}
	return fmt.Sprintf("to %s: not sent (%s): %s", s.To, s.Reason, oneLine(s.Text, 40))
}
