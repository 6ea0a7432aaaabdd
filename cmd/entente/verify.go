package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/identity"
	"github.com/entente-im/entente/wire"
	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"
)

// verifyFlags of one command line.
type verifyFlags struct {
	code, qr         string
	unverify, accept bool
	list, asJSON     bool
}

func verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [ADDRESS]",
		Short: "Compare safety numbers with a member, and say that you have",
		Long: `Compare safety numbers. Without flags it shows 60 digits and a QR code: call each other, or meet. Both of you see the
same digits when each has the other's own key; --code with the digits that the other reads out, or --qr with the text of
the code on the other's screen, marks the member as verified. A verified member whose key changes otherwise than by its own
word is written to no more, until you verify it again or say --accept-new-key.`,
		Example: "  entente verify bob@globex.example --device alice\n  entente verify bob@globex.example --code \"02241 84217 …\" --device alice\n" +
			"  entente verify bob@globex.example --accept-new-key --device alice\n  entente verify --list --device alice",
		Args: optionalArg("ADDRESS"),
	}
	dir, pass := deviceFlag(c), passphraseFlag(c)
	f := verifyFlags{}
	c.Flags().StringVar(&f.code, "code", "", "the 60 digits that the other reads out")
	c.Flags().StringVar(&f.qr, "qr", "", "the text of the QR code that the other shows")
	c.Flags().BoolVar(&f.unverify, "unverify", false, "forget that the member was verified")
	c.Flags().BoolVar(&f.accept, "accept-new-key", false, "write to whoever has the address now, not verified")
	c.Flags().BoolVar(&f.list, "list", false, "list whom you have verified")
	asJSON := jsonFlag(c)
	c.MarkFlagsMutuallyExclusive("code", "qr", "unverify", "accept-new-key", "list")
	c.RunE = func(c *cobra.Command, args []string) error {
		f.asJSON = *asJSON
		if f.list != (len(args) == 0) {
			return &usageError{fmt.Errorf("%s takes an ADDRESS or --list\nSee `%s --help`", c.CommandPath(), c.CommandPath())}
		}
		if f.list {
			return withDevice(c, *dir, *pass, func(d *device.Device) error { return listVerified(c, d, f.asJSON) })
		}
		to, err := parseAddresses(args)
		if err != nil {
			return err
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error { return verifyOne(c, d, to[0], f) })
	}
	return c
}

func verifyOne(c *cobra.Command, d *device.Device, to wire.Address, f verifyFlags) error {
	state, text := "verified", "verified: you have compared keys with %s\n"
	var err error
	switch {
	case c.Flags().Changed("code"):
		err = d.VerifyDigits(c.Context(), to, f.code)
	case c.Flags().Changed("qr"):
		err = d.VerifyQR(c.Context(), to, f.qr)
	case f.unverify, f.accept:
		state, text = "unverified", "%s is not verified; whoever has the address is written to\n"
		err = d.Unverify(to)
	default:
		return showSafety(c.Context(), c, d, to, f.asJSON)
	}
	if err != nil {
		return verifyError(to, err)
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), map[string]string{"event": state, "address": to.String()})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), text, to)
	return err
}

// verifyError says what to try.
func verifyError(to wire.Address, err error) error {
	switch {
	case errors.Is(err, identity.ErrSafetyOwn):
		return &usageError{fmt.Errorf("that is your own code: nothing was changed\nTake the text of the code on the screen of %s; there: entente verify, with your address", to)}
	case errors.Is(err, identity.ErrSafetyDiffers):
		return &hintError{fmt.Errorf("the safety numbers of you and %s differ: nothing was changed", to),
			"read the digits again, both after `entente receive`; if they still differ, somebody stands between you: do not write", exitUnverified}
	case errors.Is(err, identity.ErrSafetyForm):
		return &usageError{fmt.Errorf("that is no safety number: 60 digits, or the whole text of the other's QR code")}
	case errors.Is(err, device.ErrNotVerified):
		return &hintError{fmt.Errorf("%s is not among those whom you have verified", to), "entente verify --list", exitRefused}
	}
	return err
}

func showSafety(ctx context.Context, c *cobra.Command, d *device.Device, to wire.Address, asJSON bool) error {
	n, err := d.SafetyNumber(ctx, to)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if asJSON {
		return printJSON(out, map[string]string{"address": to.String(), "digits": n.Digits(), "qr": n.QR()})
	}
	digits := n.Digits() // 12 groups: three lines of four
	fmt.Fprintf(out, "%s and %s:\n\n  %s\n  %s\n  %s\n\n", d.Address(), to, digits[:23], digits[24:47], digits[48:])
	fmt.Fprintf(out, "%s\n", n.QR())
	qrterminal.GenerateHalfBlock(n.QR(), qrterminal.L, out)
	fmt.Fprintf(out, "the other sees the same with: entente verify %s\nthen: entente verify %s --code \"DIGITS\"\n", d.Address(), to)
	return nil
}

func listVerified(c *cobra.Command, d *device.Device, asJSON bool) error {
	list, err := d.VerifiedMembers()
	if err != nil {
		return err
	}
	return printList(c, list, asJSON, "ADDRESS STATE SINCE BY", func(v device.Verified) []string {
		state := v.State
		if v.Renewed {
			state += ", key renewed"
		}
		return []string{v.Address, state, v.At.Local().Format(time.DateTime), v.How}
	})
}

func roomCode() *cobra.Command {
	c := &cobra.Command{
		Use:   "code ROOM",
		Short: "Show 30 digits that all in a room see alike while they are in the same state of it",
		Long: `Show the room's code: everybody in the room who has the same keys sees the same digits. It changes with each change of the
room, so compare it with the epoch beside it. Whoever sees other digits in the same epoch is in another room.`,
		Example: "  entente room code Harbour --device alice",
		Args:    exactArgs("ROOM"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			id, err := d.FindRoom(args[0])
			if err != nil {
				return err
			}
			code, err := d.RoomCode(id)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(c.OutOrStdout(), code)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\nepoch %d\n", code.Digits, code.Epoch)
			return err
		})
	}
	return c
}

// identityText says what has changed in the keys of somebody in a room.
func identityText(s device.Shown) string {
	room := "your room"
	if s.RoomName != "" {
		room = oneLine(s.RoomName, 40)
	}
	return oneLine(s.From, 320) + ", in " + room + ": " + safe(s.Reason)
}
