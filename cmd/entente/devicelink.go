package main

import (
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// codeTries is how often a person may mistype the other screen's code.
const codeTries = 3

func deviceLink() *cobra.Command {
	c := &cobra.Command{
		Use:   "link",
		Short: "Link another device of yours: it gets your identity, not your messages",
		Long: `Link another device. This one shows a link; give it to the new one (entente device enroll), which then shows
a code of six digits. Type the code here: it proves that nobody else has taken the link. The new device becomes a member
of the rooms that you are in, and reads what is said from then on; older messages stay here.`,
		Example: "  entente device link --device alice\n  entente device link --device alice --link-only --yes >link & entente device enroll --device tablet --link-file link",
		Args:    exactArgs(),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	linkOnly := c.Flags().Bool("link-only", false, "print the link and no picture of it")
	yes := c.Flags().Bool("yes", false, "ask for no code: only where nobody else can have read the link")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			l, err := d.OpenLink(c.Context())
			if err != nil {
				return err
			}
			if err := showLink(c, l, *linkOnly, *asJSON); err != nil {
				return err
			}
			return linkOther(c, d, l, *yes, *asJSON)
		})
	}
	return c
}

func showLink(c *cobra.Command, l *device.Linking, linkOnly, asJSON bool) error {
	out := c.OutOrStdout()
	switch {
	case asJSON:
		return printJSON(out, map[string]any{"event": "link", "link": l.Link, "expires": l.Expires})
	case linkOnly:
		_, err := fmt.Fprintln(out, l.Link)
		return err
	}
	fmt.Fprintf(out, "On the new device, until %s: entente device enroll, and this link:\n\n%s\n\n", when(l.Expires.Unix()), l.Link)
	qrterminal.GenerateHalfBlock(l.Link, qrterminal.L, out)
	fmt.Fprintln(c.ErrOrStderr(), "waiting for the new device")
	return nil
}

// linkOther waits for the new device, has the codes compared, and takes it up.
func linkOther(c *cobra.Command, d *device.Device, l *device.Linking, yes, asJSON bool) error {
	code, name, err := l.Wait(c.Context())
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s has come\n", oneLine(name, 64))
	if !yes && !sameCode(c, code) {
		if err := l.Refuse(c.Context()); err != nil {
			return err
		}
		return wire.Refuse(pb.Code_CODE_FORBIDDEN, "the codes differ: that was not your device, or a slip of the hand. Nothing was given to it; make a new link")
	}
	id, err := l.Confirm(c.Context())
	if err != nil {
		return err
	}
	s, err := d.Sender(c.Context())
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.BringOwn(c.Context()); err != nil {
		fmt.Fprintln(c.ErrOrStderr(), "not yet in all your rooms; the next visit goes on:", err)
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]string{"event": "linked", "device_id": id.String(), "name": name})
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), "linked", id)
	return err
}

// sameCode asks for the code on the other screen.
func sameCode(c *cobra.Command, code string) bool {
	want := strings.ReplaceAll(code, " ", "")
	for left := codeTries - 1; left >= 0; left-- {
		line, err := readLine(c, "The code that the new device shows: ", 32)
		if err != nil || line == "" {
			return false
		}
		if subtle.ConstantTimeCompare([]byte(strings.ReplaceAll(line, " ", "")), []byte(want)) == 1 {
			return true
		}
		if left > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "that is not the code; it can be typed %s\n", timesText(left))
		}
	}
	return false
}

func timesText(n int) string {
	if n == 1 {
		return "once more"
	}
	return fmt.Sprintf("%d times more", n)
}

func deviceList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List your devices", Example: "  entente device list --device alice", Args: exactArgs()}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			list, err := d.Devices(c.Context())
			if err != nil {
				return err
			}
			if err := printList(c, list, *asJSON, "DEVICE STATE SEEN SINCE UNTIL", func(x device.OwnDevice) []string {
				state := x.State
				if x.This {
					state += " (this one)"
				}
				since, until := "", ""
				if !x.Since.IsZero() {
					since, until = when(x.Since.Unix()), when(x.Until.Unix())
				}
				return []string{x.ID, state, onDay(x.Seen), since, until}
			}); err != nil {
				return err
			}
			for _, x := range list {
				if x.Idle && !*asJSON {
					fmt.Fprintf(c.ErrOrStderr(), "%s was not here for 30 days: if it is lost or no longer used, revoke it: entente device revoke %s\n", x.ID, x.ID)
				}
			}
			return nil
		})
	}
	return c
}
