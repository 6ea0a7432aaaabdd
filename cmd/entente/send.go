package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/spf13/cobra"
)

// maxTextRead bounds what is read as a text; what is over the device's own limit is
// refused there.
const maxTextRead = 1 << 20

// textOf is the text of an argument: itself, or standard input for "-".
func textOf(c *cobra.Command, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	b, err := io.ReadAll(io.LimitReader(c.InOrStdin(), maxTextRead))
	if err != nil {
		return "", fmt.Errorf("reading the text: %w", err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

func sendCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "send ADDRESS|ROOM [TEXT]",
		Short: "Send a text or a file to a member, here or at a partner organization, or to a room; - reads the text from standard input",
		Long: `Send a text or a file to a member, here or at a partner organization, or to a room; - reads the text from standard input.
@NAME@ORGANIZATION in a text mentions somebody who is in the room: they see that it mentions them.`,
		Example: "  entente send bob@globex.example --file plan.pdf 'The plan' --device alice\n  entente send bob@globex.example 'Good morning' --device alice\n  entente send bob@globex.example 'Gone by noon' --expires 4h\n  entente send Harbour 'All hands' --device alice",
		Args:    rangeArgs(1, 2),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	expires := spanFlag(c, "expires", "how long it is kept undelivered (default 7d, at most 30d)")
	burn := spanFlag(c, "burn", "destroy the text on every device so long after it was read there")
	until := spanFlag(c, "until", "destroy the text everywhere after so long, read or not; with --burn: at the latest")
	plain := c.Flags().Bool("plain", false, "send the text as it is, not as Markdown: nobody is mentioned")
	file := c.Flags().String("file", "", "send this file, with TEXT as its caption; repeating an interrupted command goes on where it was")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 && *file == "" {
			return exactArgs("ADDRESS|ROOM", "TEXT")(c, args)
		}
		text, err := "", error(nil)
		if len(args) > 1 {
			text, err = textOf(c, args[1])
		}
		if err == nil && *file == "" {
			err = typedText(text, false)
		}
		if err == nil {
			err = typedLengths(*expires, *burn, *until)
		}
		if err != nil {
			return err
		}
		say, changed := sayProgress(c, *asJSON), sayIdentities(c, *asJSON)
		o := device.SendOptions{Expires: *expires, Burn: *burn, Plain: *plain}
		if !strings.Contains(args[0], "@") {
			return inSession(c, *dir, *pass, func(ctx context.Context, d *device.Device, s *device.Sender) error {
				id, err := d.FindRoom(args[0])
				if err != nil {
					return err
				}
				o.Until = endOf(time.Now(), *until)
				if *file != "" {
					err = sendFile(c, *file, text, o, *asJSON)(ctx, s, wire.Address{}, id)
				} else {
					err = s.SendRoom(ctx, id, text, o, say)
				}
				return changed(d, err, func(x device.Shown) bool { return x.Room == id.String() })
			})
		}
		to, err := wire.ParseAddress(args[0])
		if err != nil {
			return &usageError{fmt.Errorf("%q is no address, such as bob@globex.example", args[0])}
		}
		about := func(x device.Shown) bool { return x.From == to.String() || x.From == to.Organization }
		if *file != "" {
			return inSession(c, *dir, *pass, func(ctx context.Context, d *device.Device, s *device.Sender) error {
				o.Until = endOf(time.Now(), *until)
				return changed(d, sendFile(c, *file, text, o, *asJSON)(ctx, s, to, wire.RoomID{}), about)
			})
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			o.Until = endOf(time.Now(), *until)
			return changed(d, d.Send(c.Context(), to, text, o, say), about)
		})
	}
	return c
}

// endOf is when a message ends that ends after so long, counted from when the device is open;
// zero: it has no end of its own. Deadlines are in whole seconds, so a short one is rounded up:
// of one second nothing would be left.
func endOf(now time.Time, after time.Duration) time.Time {
	switch {
	case after == 0:
		return time.Time{}
	case after < time.Minute:
		return now.Add(after + time.Second - 1).Truncate(time.Second)
	}
	return now.Add(after)
}

// sayIdentities tells who has sent something that the keys of who gets it are others than
// before. It is told once: what stands here no receive repeats. Where it was not sent the error
// says why, and a program that takes JSON reads its events from receive.
func sayIdentities(c *cobra.Command, asJSON bool) func(*device.Device, error, func(device.Shown) bool) error {
	return func(d *device.Device, err error, about func(device.Shown) bool) error {
		if err != nil || asJSON {
			return err
		}
		said := make(map[string]bool) // once where two rooms have no name
		return d.ShowIdentities(about, func(s device.Shown) error {
			text := identityText(s)
			if said[text] {
				return nil
			}
			said[text] = true
			_, err := fmt.Fprintf(c.ErrOrStderr(), "entente: %s\n", text)
			return err
		})
	}
}

func progressText(p device.Progress) string {
	at := p.At.Format("15:04:05")
	switch p.Event {
	case "accepted":
		return fmt.Sprintf("%s  accepted by your node, for %s until %s", at, p.To, when(p.Deadline.Unix()))
	case "asked":
		return fmt.Sprintf("%s  %s is asked whether you may write; the text %s", at, p.To, p.Reason)
	case "hub away":
		return fmt.Sprintf("%s  %s", at, p.Reason)
	case "sequenced":
		return fmt.Sprintf("%s  sequenced as number %d of the room", at, p.Seq)
	case "withheld":
		return at + "  " + withheldText(p)
	}
	return fmt.Sprintf("%s  %s %s", at, p.Event, p.Reason)
}
