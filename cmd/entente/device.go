package main

import (
	"context"
	"errors"
	"fmt"
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
		// Which of the two is wrong the person sees.
		"clock":       "this device's clock is %s. Set it right; if it is, tell your operator\n",
		"clock right": "this device's clock is its node's again\n",
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
			shown, show := 0, &showing{}
			for until := time.Now().Add(*wait); ; time.Sleep(200 * time.Millisecond) {
				err := d.Receive(c.Context(), *follow, func(s device.Shown) error {
					if s.Event == "message" {
						shown++
					}
					return show.print(c, s, *asJSON)
				})
				if err != nil || shown > 0 || *follow || !time.Now().Before(until) {
					return err
				}
			}
		})
	}
	return c
}
