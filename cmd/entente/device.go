package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/device/home"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

// deviceFlag adds --device, the device's folder.
func deviceFlag(c *cobra.Command) *string {
	d := c.Flags().String("device", defaultDir("device"), "the device's folder ($ENTENTE_DEVICE)")
	_ = c.MarkFlagDirname("device")
	return d
}

// saySession tells how the device reaches its node, when that is not as usual: as an
// event where events are printed as JSON, else beside the result.
func saySession(c *cobra.Command) func(state, reason string) {
	asJSON, _ := c.Flags().GetBool("json")
	lines := map[string]string{
		"calls":     "no WebSocket gets through to the node (%s): using calls instead\n",
		"websocket": "the session goes by WebSocket again\n",
		"offline":   "no connection to the node (%s): trying again\n",
		"online":    "connected again\n",
	}
	return func(state, reason string) {
		if asJSON {
			_ = printJSON(c.OutOrStdout(), device.Shown{Event: "session", State: state, Reason: reason, At: time.Now()})
			return
		}
		line := lines[state]
		if reason != "" {
			line = fmt.Sprintf(line, reason)
		}
		_, _ = fmt.Fprint(c.ErrOrStderr(), line)
	}
}

// withDevice opens the device, runs f, and closes it.
func withDevice(c *cobra.Command, dir, passFile string, f func(*device.Device) error) error {
	p, err := passphrase(c, passFile, false)
	if err != nil {
		return err
	}
	d, err := device.Open(dir, p)
	if err != nil {
		return deviceError(dir, err)
	}
	defer d.Close()
	d.OnSession(saySession(c))
	err = f(d)
	sayAlarms(c, d)
	return deviceError(dir, err)
}

// sayAlarms tells, once, what the directory says of this member that the person should know.
func sayAlarms(c *cobra.Command, d *device.Device) {
	list, err := d.NewAlarms()
	if err != nil {
		return // the store's own trouble is told by whoever needs it
	}
	for _, a := range list {
		fmt.Fprintf(c.ErrOrStderr(), "entente: about you: %s\n", oneLine(a.Text, 500))
	}
}

func deviceError(dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, identity.ErrPassphrase):
		return &hintError{err, "check --passphrase-file or " + PassphraseVariable, exitPassphrase}
	case errors.Is(err, device.ErrNotEnroled):
		return &hintError{err, "entente device enroll --device " + dir, exitFailed}
	case errors.Is(err, device.ErrLocked):
		return &hintError{err, "end the other command, or name another folder with --device", exitTemporary}
	case errors.Is(err, home.ErrPin):
		return &hintError{err, "do not go on: this is not the node that you enrolled with; ask its operator", exitRefused}
	case errors.Is(err, device.ErrNotTheVerified):
		return &hintError{err, "compare numbers again (entente verify ADDRESS), or write to the new key unverified: entente verify ADDRESS --accept-new-key", exitUnverified}
	case errors.Is(err, device.ErrMustVerify):
		return &hintError{err, "entente verify ADDRESS shows your digits and theirs: call them, or meet", exitUnverified}
	case errors.Is(err, device.ErrIdentityChanged):
		return &hintError{err, "ask both administrators before you write there", exitRefused}
	}
	return err
}

func deviceCommand() *cobra.Command {
	c := group("device", "This member's devices: enrol one, link another, look at them, revoke one")
	c.AddCommand(deviceEnroll(), deviceShow(), deviceLink(), deviceList(), deviceRevoke(), deviceHistory(), deviceWipe())
	return c
}

func deviceEnroll() *cobra.Command {
	c := &cobra.Command{
		Use:     "enroll [LINK]",
		Short:   "Make this folder a device of a member, with a link from the operator or another device",
		Long:    "Enrol a device, with a link from the operator or from another device of yours (entente device link). The link is read from --link-file, the argument, or standard input, so that its secret need not stand in the shell's history.",
		Example: "  entente device enroll --device alice\n  entente member add alice --data acme --link-only | entente device enroll --device alice",
		Args:    optionalArg("LINK"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	file := c.Flags().String("link-file", "", "file with the link")
	c.RunE = func(c *cobra.Command, args []string) error {
		link, err := readSecretArgument(c, args, *file, "Link: ")
		if err != nil {
			return err
		}
		p, err := passphrase(c, *pass, true)
		if err != nil {
			return err
		}
		d, err := device.Enroll(c.Context(), *dir, p, link, device.OnCode(func(code string) {
			fmt.Fprintf(c.ErrOrStderr(), "the code is %s: type it on the other device\n", code)
		}))
		if err != nil {
			return linkError(deviceError(*dir, err))
		}
		defer d.Close()
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]string{"address": d.Address().String(), "device_id": d.ID().String()})
		}
		fmt.Fprintf(c.OutOrStdout(), "%s, device %s\n", d.Address(), d.ID())
		return nil
	}
	return c
}

// linkError adds what to try with a link that cannot be read.
func linkError(err error) error {
	var status *wire.StatusError
	if errors.As(err, &status) && status.Status.Code == pb.Code_CODE_MALFORMED {
		return &hintError{err, hints[pb.Code_CODE_LINK_UNKNOWN], exitRefused}
	}
	return err
}

func deviceShow() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "Who this device is, and how its home node sees it", Example: "  entente device show --device alice", Args: exactArgs()}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			a, err := d.Account(c.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"address": d.Address().String(), "device_id": d.ID().String(),
					"key_packages": a.KeyPackages, "mailbox_count": a.MailboxCount, "mailbox_bytes": a.MailboxBytes, "directory": d.OwnDirectory()})
			}
			fmt.Fprintf(c.OutOrStdout(), "address      %s\ndevice       %s\nKeyPackages  %d\nmailbox      %d envelopes, %s\n",
				d.Address(), d.ID(), a.KeyPackages, a.MailboxCount, bytesText(a.MailboxBytes))
			g := d.OwnDirectory()
			fmt.Fprintf(c.OutOrStdout(), "directory    version %d of your record, %s\n", g.Version, g.Text())
			alarms, err := d.Alarms()
			for _, x := range alarms {
				fmt.Fprintf(c.OutOrStdout(), "about you    %s  %s\n", x.At.Format(time.DateTime), oneLine(x.Text, 500))
			}
			return err
		})
	}
	return c
}

func deviceRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke DEVICE",
		Short: "End a device: it gets nothing more, and leaves every room",
		Long: `End a device. With --data it is the organization's decision (operator); otherwise the
member's, signed by this device.`,
		Example: "  entente device revoke 12D3KooW… --data acme\n  entente device revoke 12D3KooW… --device alice",
		Args:    exactArgs("DEVICE"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	data := c.Flags().String("data", "", "the node's data folder: revoke as its operator")
	yes := c.Flags().Bool("yes", false, "also this device itself, or your only one")
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := wire.ParseDeviceID(args[0])
		if err != nil {
			where := "entente device list"
			if *data != "" {
				where = "entente member devices NAME"
			}
			return &usageError{fmt.Errorf("%q is no device ID, such as 12D3KooW…: see %s", args[0], where)}
		}
		if *data != "" {
			a, err := operate(c.Context(), *data, operatorClient.DisableDevice, &pb.DisableDeviceRequest{DeviceId: args[0]})
			if err != nil {
				return err
			}
			return revoked(c, id, &a.Rooms, *asJSON)
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			if !*yes {
				if err := mayRevoke(c.Context(), d, id); err != nil {
					return err
				}
			}
			if err := d.Revoke(c.Context(), id); err != nil {
				return err
			}
			return revoked(c, id, nil, *asJSON)
		})
	}
	return c
}

// mayRevoke refuses to end this device, or the member's only one, without --yes.
func mayRevoke(ctx context.Context, d *device.Device, id wire.DeviceID) error {
	if id != d.ID() {
		return nil
	}
	list, err := d.Devices(ctx)
	if err != nil {
		return err
	}
	active := 0
	for _, x := range list {
		if x.State != "revoked" {
			active++
		}
	}
	lost := "this is the device that you are using: it gets nothing more and leaves every room; your other devices go on"
	if active <= 1 {
		lost = "this is your only device: with it you lose every room, what was said, and your key. You come back only by your administrator's `entente member reset`, with a new key, and everybody is told"
	}
	return &hintError{errors.New(lost), "entente device revoke " + id.String() + " --yes", exitUsage}
}

// revoked says that a device is out; rooms is how many the organization has told, which
// only its operator learns at once.
func revoked(c *cobra.Command, id wire.DeviceID, rooms *uint32, asJSON bool) error {
	out := c.OutOrStdout()
	if asJSON {
		v := map[string]any{"event": "revoked", "device_id": id.String()}
		if rooms != nil {
			v["rooms"] = *rooms
		}
		return printJSON(out, v)
	}
	text := "revoked"
	if rooms != nil {
		text += fmt.Sprintf("; %d rooms are told", *rooms)
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

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
		if len(id) >= 6 && strings.HasPrefix(s.ID, id) {
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

func deviceWipe() *cobra.Command {
	c := &cobra.Command{
		Use:   "wipe",
		Short: "Destroy this device: its keys, rooms and history",
		Long: `Overwrite the device's keys in place and delete its files. There is no way back. With --revoke the
organization is told first, so that nothing more is delivered to it; that needs the passphrase and the node.`,
		Example: "  entente device wipe --yes --device bob\n  entente device wipe --yes --revoke --device bob",
		Args:    exactArgs(),
	}
	dir, pass := deviceFlag(c), passphraseFlag(c)
	yes := c.Flags().Bool("yes", false, "really destroy it")
	revoke := c.Flags().Bool("revoke", false, "revoke the device at its organization first")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !*yes {
			return &usageError{fmt.Errorf("this destroys the device in %s for good: repeat it with --yes", *dir)}
		}
		if *revoke {
			err := withDevice(c, *dir, *pass, func(d *device.Device) error { return d.Revoke(c.Context(), d.ID()) })
			if err != nil {
				return err
			}
		}
		if err := device.Wipe(*dir); err != nil {
			return deviceError(*dir, err)
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "destroyed")
		return err
	}
	return c
}

// printList prints a listing as a table, or as JSON lines.
func printList[T any](c *cobra.Command, list []T, asJSON bool, header string, row func(T) []string) error {
	var rows [][]string
	for _, x := range list {
		if asJSON {
			if err := printJSON(c.OutOrStdout(), x); err != nil {
				return err
			}
		}
		rows = append(rows, row(x))
	}
	if asJSON {
		return nil
	}
	return table(c.OutOrStdout(), header, rows)
}

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
		Args:    cobra.RangeArgs(1, 2),
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
		if err != nil {
			return err
		}
		say, changed := sayProgress(c, *asJSON), sayIdentities(c, *asJSON)
		o := device.SendOptions{Expires: *expires, Burn: *burn, Plain: *plain}
		if *until > 0 {
			o.Until = time.Now().Add(*until)
		}
		if !strings.Contains(args[0], "@") {
			return inSession(c, *dir, *pass, func(ctx context.Context, d *device.Device, s *device.Sender) error {
				id, err := d.FindRoom(args[0])
				if err != nil {
					return err
				}
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
				return changed(d, sendFile(c, *file, text, o, *asJSON)(ctx, s, to, wire.RoomID{}), about)
			})
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error { return changed(d, d.Send(c.Context(), to, text, o, say), about) })
	}
	return c
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

func receiveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "receive",
		Short:   "Fetch and show what has come, once; with --follow, stay",
		Example: "  entente receive --device bob\n  entente receive --wait 1m --device bob\n  entente receive --follow --device bob",
		Args:    exactArgs(),
	}
	wait := c.Flags().Duration("wait", 0, "when nothing is there, look again for so long")
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	follow := c.Flags().Bool("follow", false, "stay and show what comes, until interrupted")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			shown := 0
			for until := time.Now().Add(*wait); ; time.Sleep(200 * time.Millisecond) {
				err := d.Receive(c.Context(), *follow, func(s device.Shown) error {
					if s.Event == "message" {
						shown++
					}
					return printShown(c, s, *asJSON)
				})
				if err != nil || shown > 0 || *follow || !time.Now().Before(until) {
					return err
				}
			}
		})
	}
	return c
}

// roomText says what happened in a room.
func roomText(s device.Shown) string {
	room := "the room"
	switch {
	case s.RoomName != "":
		room = oneLine(s.RoomName, 40)
	case s.To != "":
		room = "the room with " + s.To
	}
	switch s.State {
	case "joined":
		if s.Own {
			return "your other device has brought this one into a room; what was said before is not on this device"
		}
		if s.Count > 2 {
			return fmt.Sprintf("%s has invited you into a room of %d people; you read what is said from now on", s.From, s.Count)
		}
		return "in a room with " + s.From + "; you read what is said from now on"
	case "named":
		return s.From + " calls the room " + oneLine(s.RoomName, 40)
	case "added":
		return s.From + " came into " + room + invitedText(s)
	case "device added":
		if s.Own {
			return "your other device is in " + room + " now: " + s.Reason
		}
		return s.From + " has another device in " + room + ": " + s.Reason
	case "came back":
		return s.From + " came back into " + room
	case "left":
		return s.From + " left " + room
	case "member removed":
		return s.By + " removed " + s.From + " from " + room
	case "device removed", "device revoked":
		return deviceOutText(s, room)
	case "organization removed":
		return fmt.Sprintf("%s is out of %s, with %d devices, by %s: the agreement %s", s.From, room, s.Count, s.By, stateText(s.Reason))
	case "removed":
		return "you are out of " + room + outCause(s)
	case "invited in vain":
		return "you were invited to a room and removed again before you came"
	case "ended":
		return s.From + " ended " + room
	case "rules changed":
		return s.From + " changed the rules of " + room + ": see entente room members"
	case "complaint":
		return s.From + " " + safe(s.Reason) + ", in " + room
	case "reset":
		if s.From == "" {
			return room + " was reset without this device: " + safe(s.Reason)
		}
		return s.From + " reset " + room + ": " + safe(s.Reason) + "; what was said meanwhile may be missing here"
	case "not reset":
		return room + " could not be reset from here: " + safe(s.Reason)
	case "terms":
		return safe(s.Reason) + ", in " + room
	case "agreement":
		return partnerText(s.From, s.Reason) + ": " + stateMeans(s.Reason) + ", in " + room
	case "blocked":
		return blockedHereText(s, room)
	case "stopped":
		return "stopped in " + room + ": " + safe(s.Reason)
	case "restored":
		return safe(s.Reason)
	case "resynced":
		return "this device came back into " + room + ": " + safe(s.Reason)
	case "not resynced":
		return "this device could not come back into " + room + ": " + safe(s.Reason)
	case "gap":
		return "in " + room + " something is missing: " + safe(s.Reason)
	}
	return fmt.Sprintf("%s: %s %s %s", room, s.State, s.From, safe(s.Reason))
}

// invitedText says who has invited somebody, and as what.
func invitedText(s device.Shown) string {
	out := ""
	if s.By != "" {
		out = ", invited by " + s.By
	}
	if s.Role != "" {
		out += ", as " + s.Role
	}
	return out
}

// deviceOutText says that a device of somebody who stays, or a revoked one, is out.
func deviceOutText(s device.Shown, room string) string {
	whose := s.From + "'s device "
	if s.Own {
		whose = "a device of yours, "
	}
	if s.State == "device removed" {
		return whose + s.Reason + " is out of " + room
	}
	by := ""
	if s.By != "" {
		by = " by " + s.By
	}
	return whose + s.Reason + " was revoked" + by + " and is out of " + room
}

// outCause says why this device is out of a room.
func outCause(s device.Shown) string {
	switch {
	case s.Reason == "left":
		return ": you left it"
	case s.Reason == "device revoked":
		return ": this device was revoked"
	case s.Reason == "member removed" && s.By != "":
		return ": " + s.By + " removed you"
	case s.Reason != "" && s.By != "":
		return ", by " + s.By + ": the agreement " + stateText(s.Reason)
	}
	return ""
}

func noticeText(s device.Shown) string {
	switch s.State {
	case "expired":
		return "expired unread"
	case "refused":
		return "refused: " + reasonText(s.Reason)
	}
	return s.State
}

// reasonText adds to a status's name what it means.
func reasonText(name string) string {
	if name == "" {
		return "the other side gave no reason"
	}
	for code := range pb.Code_name {
		if c := pb.Code(code); wire.CodeName(c) == name {
			return name + ": " + wire.Status(c, "").Detail
		}
	}
	return safe(name)
}
