package main

import (
	"context"
	"fmt"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/spf13/cobra"
)

func messageCommand() *cobra.Command {
	c := group("message", "Answer, edit, delete or react to a message")
	c.AddCommand(
		messageAction("reply MESSAGE TEXT", "Answer a message, in its room", "  entente message reply 01f3ab92c4 'On my way' --device bob", device.ActionReply),
		messageAction("react MESSAGE EMOJI", "React to a message, or take a reaction back", "  entente message react 01f3ab92c4 👍 --device bob\n  entente message react 01f3ab92c4 👍 --remove --device bob", device.ActionReact),
		messageAction("edit MESSAGE TEXT", "Change the text of a message of your own", "  entente message edit 01f3ab92c4 'Meet at one' --device alice", device.ActionEdit),
		messageAction("delete MESSAGE", "Delete a message of your own from every device that shows it", "  entente message delete 01f3ab92c4 --device alice", device.ActionDelete),
	)
	return c
}

// messageAction is a command about a message, which is named by the beginning of its ID.
func messageAction(use, short, example string, action device.Action) *cobra.Command {
	names := []string{"MESSAGE", "TEXT"}
	if action == device.ActionDelete {
		names = names[:1]
	}
	c := &cobra.Command{
		Use: use, Short: short, Example: example, Args: exactArgs(names...),
		Long: short + ". A message is named by the beginning of its ID, at least 6 characters: `entente device history` and `entente sent` show them.",
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	plain, remove := new(bool), new(bool)
	switch action {
	case device.ActionReply, device.ActionEdit:
		plain = c.Flags().Bool("plain", false, "send the text as it is, not as Markdown: nobody is mentioned")
	case device.ActionReact:
		remove = c.Flags().Bool("remove", false, "take this reaction of yours back")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := typedMessage(args[0]); err != nil {
			return err
		}
		if len(args) > 1 && !*remove {
			if err := typedText(args[1], action == device.ActionEdit); err != nil {
				return err
			}
		}
		o := device.SendOptions{Action: action, Plain: *plain}
		if *remove {
			o.Action = device.ActionUnreact
		}
		return inSession(c, *dir, *pass, func(ctx context.Context, d *device.Device, s *device.Sender) error {
			id, room, err := d.FindMessage(args[0])
			if err != nil {
				return err
			}
			text := ""
			if len(args) > 1 {
				text = args[1]
			}
			o.About = id
			return s.SendRoom(ctx, room, text, o, sayProgress(c, *asJSON))
		})
	}
	return c
}

// sayProgress prints the steps of a message on its way.
func sayProgress(c *cobra.Command, asJSON bool) func(device.Progress) {
	return func(p device.Progress) {
		if asJSON {
			_ = printJSON(c.OutOrStdout(), p)
			return
		}
		_, _ = fmt.Fprintln(c.OutOrStdout(), progressText(p))
	}
}

// endText says when a message ends, for a person.
func endText(s device.Shown) string {
	switch {
	case s.Gone:
		return " (gone)"
	case s.Burns != "" && !s.Ends.IsZero():
		return " (burns " + s.Burns + " after reading, until " + s.Ends.Local().Format(time.DateTime) + ")"
	case s.Burns != "":
		return " (burns " + s.Burns + " after reading)"
	case !s.Ends.IsZero():
		return " (until " + s.Ends.Local().Format(time.DateTime) + ")"
	}
	return ""
}

// short is the beginning of an ID that is enough to name it by.
func short(id string) string { return id[:min(len(id), 10)] }
