package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/spf13/cobra"
)

func roomCommand() *cobra.Command {
	c := group("room", "Rooms for more than two: make them, invite, leave, end")
	c.AddCommand(roomCreate(), roomInvite(), roomRemove(), roomRole(), roomRename(), roomLeave(), roomEnd(), roomList(), roomMembers(), roomShow(), roomCode())
	return c
}

// inSession opens the device and a session with its node for one change.
func inSession(c *cobra.Command, dir, pass string, f func(context.Context, *device.Device, *device.Sender) error) error {
	return withDevice(c, dir, pass, func(d *device.Device) error {
		s, err := d.Sender(c.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		return f(c.Context(), d, s)
	})
}

// inRoom is inSession with a room that the command line names.
func inRoom(c *cobra.Command, dir, pass, room string, f func(context.Context, *device.Sender, wire.RoomID) error) error {
	return inSession(c, dir, pass, func(ctx context.Context, d *device.Device, s *device.Sender) error {
		id, err := d.FindRoom(room)
		if err != nil {
			return err
		}
		return f(ctx, s, id)
	})
}

func parseAddresses(list []string) ([]wire.Address, error) {
	var out []wire.Address
	for _, text := range list {
		a, err := wire.ParseAddress(text)
		if err != nil {
			return nil, &usageError{fmt.Errorf("%q is no address, such as bob@globex.example", text)}
		}
		out = append(out, a)
	}
	return out, nil
}

func parseRole(text string) (wire.Role, error) {
	role, ok := wire.ParseRole(text)
	if !ok {
		return 0, &usageError{fmt.Errorf("%q is no role: admin, member or guest", text)}
	}
	return role, nil
}

// done says in one line what was done, or its JSON.
func done(c *cobra.Command, asJSON bool, room wire.RoomID, event, text string, args ...any) error {
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]string{"event": event, "room": room.String()})
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), text+"\n", args...)
	return err
}

func roomCreate() *cobra.Command {
	c := &cobra.Command{
		Use:   "create NAME [ADDRESS…]",
		Short: "Make a room and invite people to it",
		Long: `Make a room. You are its administrator and your organization's node orders it. The name is
said inside the room: no node learns it. Members may invite others unless --admins-invite is given.`,
		Example: "  entente room create Harbour bob@globex.example claire@hooli.example --device alice\n  entente room create Board bob@globex.example --suite post-quantum --device alice",
		Args:    rangeArgs(1, -1),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	admins := c.Flags().Bool("admins-invite", false, "only administrators invite")
	force := c.Flags().Bool("force", false, "also when a room of yours has this name already")
	suite := c.Flags().String("suite", "standard", "cipher suite, for the room's whole life, by name or number: "+strings.Join(device.SuiteNames(), ", "))
	_ = c.RegisterFlagCompletionFunc("suite", cobra.FixedCompletions(device.SuiteNames(), cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(c *cobra.Command, args []string) error {
		if strings.TrimSpace(args[0]) == "" {
			return &usageError{errors.New("a room needs a name")}
		}
		if err := typedRoomName(args[0]); err != nil {
			return err
		}
		members, err := parseAddresses(args[1:])
		if err != nil {
			return err
		}
		id, err := device.SuiteNamed(*suite)
		if err != nil {
			return &usageError{fmt.Errorf("%q is no cipher suite: %s", *suite, strings.Join(device.SuiteNames(), ", "))}
		}
		options := device.RoomOptions{Members: members, AdminInvite: *admins, Suite: id}
		return inSession(c, *dir, *pass, func(ctx context.Context, d *device.Device, s *device.Sender) error {
			if err := freeName(d, args[0]); err != nil && !*force {
				return err
			}
			id, err := s.CreateRoom(ctx, args[0], options)
			if err != nil {
				return err
			}
			if len(members) > 1 {
				warnApart(ctx, c, s, id)
			}
			return done(c, *asJSON, id, "created", "room %s made, with %d invited\n%s", args[0], len(members), id)
		})
	}
	return c
}

// freeName refuses a name that a room of this device has: every command that names it
// would have two to choose from.
func freeName(d *device.Device, name string) error {
	for _, r := range d.Rooms() {
		if r.Name == name && !r.Ended {
			return &hintError{fmt.Errorf("you are in a room called %s already: %s", oneLine(name, 80), r.ID[:12]), "choose another name, or use --force and name the rooms by their IDs", exitUsage}
		}
	}
	return nil
}

// goesOn takes what a room's hub has not answered yet for done, and says so.
func goesOn(c *cobra.Command, asJSON bool, room wire.RoomID, event string, err error) error {
	var pending *device.PendingError
	if !errors.As(err, &pending) {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), map[string]string{"event": event, "room": room.String(), "state": "pending", "reason": pending.Error()})
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), pending.Error())
	return err
}

func roomInvite() *cobra.Command {
	c := &cobra.Command{
		Use:     "invite ROOM ADDRESS…",
		Short:   "Bring people into a room; they read what is said from then on",
		Long:    "Bring people into a room, all of them or, when one cannot come, none; they read what is said from then on.",
		Example: "  entente room invite Harbour claire@hooli.example --as guest --device alice\n  entente room invite Harbour bob@globex.example carl@globex.example --device alice",
		Args:    rangeArgs(2, -1),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	as := c.Flags().String("as", "member", "role: admin, member or guest")
	c.RunE = func(c *cobra.Command, args []string) error {
		role, err := parseRole(*as)
		if err != nil {
			return err
		}
		to, err := parseAddresses(args[1:])
		if err != nil {
			return err
		}
		return inRoom(c, *dir, *pass, args[0], func(ctx context.Context, s *device.Sender, id wire.RoomID) error {
			if err := s.InviteAll(ctx, id, to, role); err != nil {
				return goesOn(c, *asJSON, id, "invited", err)
			}
			warnApart(ctx, c, s, id)
			if len(to) > 1 {
				return done(c, *asJSON, id, "invited", "%s are in the room, as %s", strings.Join(args[1:], ", "), role)
			}
			return done(c, *asJSON, id, "invited", "%s is in the room, as %s", to[0], role)
		})
	}
	return c
}

func roomRemove() *cobra.Command {
	c := &cobra.Command{
		Use:     "remove ROOM ADDRESS",
		Short:   "Take somebody out of a room (administrators)",
		Example: "  entente room remove Harbour bob@globex.example --device alice",
		Args:    exactArgs("ROOM", "ADDRESS"),
	}
	dir, pass, asJSON, yes := deviceFlag(c), passphraseFlag(c), jsonFlag(c), yesFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		who, err := parseAddresses(args[1:])
		if err != nil {
			return err
		}
		if err := agreed(c, *yes, who[0].String()+" is taken out of "+oneLine(args[0], 80)+" with all devices, and everybody in it is told by whom."); err != nil {
			return err
		}
		return inRoom(c, *dir, *pass, args[0], func(ctx context.Context, s *device.Sender, id wire.RoomID) error {
			if err := s.RemoveMember(ctx, id, who[0]); err != nil {
				return goesOn(c, *asJSON, id, "removed", err)
			}
			return done(c, *asJSON, id, "removed", "%s is out of the room and reads nothing that follows", who[0])
		})
	}
	return c
}

func roomRole() *cobra.Command {
	c := &cobra.Command{
		Use:     "role ROOM ADDRESS ROLE",
		Short:   "Make somebody admin, member or guest (administrators)",
		Example: "  entente room role Harbour bob@globex.example admin --device alice",
		Args:    exactArgs("ROOM", "ADDRESS", "ROLE"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		role, err := parseRole(args[2])
		if err != nil {
			return err
		}
		who, err := parseAddresses(args[1:2])
		if err != nil {
			return err
		}
		return inRoom(c, *dir, *pass, args[0], func(ctx context.Context, s *device.Sender, id wire.RoomID) error {
			if err := s.SetRole(ctx, id, who[0], role); err != nil {
				return goesOn(c, *asJSON, id, "role", err)
			}
			return done(c, *asJSON, id, "role", "%s is now %s", who[0], role)
		})
	}
	return c
}

func roomRename() *cobra.Command {
	c := &cobra.Command{
		Use: "rename ROOM NAME", Short: "Call a room otherwise (administrators)", Long: "Call a room otherwise. The new name is said inside the room; no node learns it.",
		Example: "  entente room rename Harbour Docks --device alice", Args: exactArgs("ROOM", "NAME"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	force := c.Flags().Bool("force", false, "also when a room of yours has this name already")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := typedRoomName(args[1]); err != nil {
			return err
		}
		return inSession(c, *dir, *pass, func(ctx context.Context, d *device.Device, s *device.Sender) error {
			id, err := d.FindRoom(args[0])
			if err != nil {
				return err
			}
			if err := freeName(d, args[1]); err != nil && !*force {
				return err
			}
			if err := s.RenameRoom(ctx, id, args[1]); err != nil {
				return err
			}
			return done(c, *asJSON, id, "renamed", "the room is called %s now", oneLine(args[1], 128))
		})
	}
	return c
}

func roomLeave() *cobra.Command {
	return roomAction("leave ROOM", "Leave a room; another member's device takes yours out", "  entente room leave Harbour --device bob", "You say nothing more in it, and come back only when somebody invites you: you leave ",
		"leaving", "you say nothing more in it; you are out as soon as another member's device is there",
		func(ctx context.Context, s *device.Sender, id wire.RoomID) error { return s.Leave(ctx, id) })
}

func roomEnd() *cobra.Command {
	return roomAction("end ROOM", "End a room for everybody (administrators)", "  entente room end Harbour --device alice", "It ends for everybody in it, for good: nothing more is taken in ",
		"ended", "the room has ended: nothing more is taken in it",
		func(ctx context.Context, s *device.Sender, id wire.RoomID) error { return s.EndRoom(ctx, id) })
}

// roomAction is a command that does one thing to one room, and says event and text then.
//
// ask is what a person has to agree to, before the room's name.
func roomAction(use, short, example, ask, event, text string, do func(context.Context, *device.Sender, wire.RoomID) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: exactArgs("ROOM")}
	dir, pass, asJSON, yes := deviceFlag(c), passphraseFlag(c), jsonFlag(c), yesFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := agreed(c, *yes, ask+oneLine(args[0], 80)+"."); err != nil {
			return err
		}
		return inRoom(c, *dir, *pass, args[0], func(ctx context.Context, s *device.Sender, id wire.RoomID) error {
			if err := do(ctx, s, id); err != nil {
				return goesOn(c, *asJSON, id, event, err)
			}
			return done(c, *asJSON, id, event, "%s", text)
		})
	}
	return c
}

func roomList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List this device's rooms", Example: "  entente room list --device alice", Args: exactArgs()}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			return printList(c, d.Rooms(), *asJSON, "ROOM STATE ROLE PEOPLE DEVICES HUB ID", func(r device.RoomInfo) []string {
				title := r.Name
				if title == "" {
					title = "with " + r.With
				}
				return []string{oneLine(title, 40), roomState(r), r.Role, strconv.Itoa(r.People), strconv.Itoa(r.Devices), r.Hub, r.ID[:min(len(r.ID), 12)]}
			})
		})
	}
	return c
}

func roomMembers() *cobra.Command {
	c := &cobra.Command{Use: "members ROOM", Short: "List who is in a room, and with which devices", Example: "  entente room members Harbour --device alice", Args: exactArgs("ROOM")}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			id, err := d.FindRoom(args[0])
			if err != nil {
				return err
			}
			list, err := d.RoomMembers(id)
			if err != nil {
				return err
			}
			return printList(c, list, *asJSON, "ADDRESS ROLE DIRECTORY DEVICES", func(m device.RoomMember) []string {
				role := m.Role
				if m.Blocked {
					role += " (blocked)"
				}
				if m.Verified != "" {
					role += " (" + m.Verified + ")"
				}
				return []string{m.Address, role, m.Directory.Text(), strings.Join(m.Devices, " ")}
			})
		})
	}
	return c
}

func roomShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show ROOM",
		Short:   "Show a room: its hub, its rules, and the code to compare with others",
		Example: "  entente room show Harbour --device alice",
		Args:    exactArgs("ROOM"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			id, err := d.FindRoom(args[0])
			if err != nil {
				return err
			}
			for _, r := range d.Rooms() {
				if r.ID == id.String() {
					holds, err := d.Effective(id)
					if err != nil {
						return err
					}
					r.Holds = &holds
					return showRoom(c, r, *asJSON)
				}
			}
			return nil
		})
	}
	return c
}

func showRoom(c *cobra.Command, r device.RoomInfo, asJSON bool) error {
	if asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	title, invite := r.Name, "whoever is "+r.Invite+" or more"
	if title == "" {
		title, invite = "with "+r.With, "nobody: it is a room of two"
	}
	state := r.State
	if r.Reason != "" {
		state += ": " + safe(r.Reason)
	}
	if r.Waits > 0 {
		state += fmt.Sprintf("; %d of this device's messages and changes wait: %s", r.Waits, device.HubAway(r.Hub))
	}
	reset := ""
	if r.Generation > 0 {
		reset = fmt.Sprintf("reset     %d times; last because %s\n", r.Generation, safe(cmp.Or(r.Reset, "of a Commit that others could not apply")))
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), `room      %s
state     %s
hub       %s
people    %d, with %d devices
your role %s
inviting  %s
suite     %s
epoch     %d
code      %s
%sholds     %s
%s%sID        %s
`, oneLine(title, 128), state, r.Hub, r.People, r.Devices, r.Role, invite, r.Suite, r.Epoch, r.Code, reset, holdsText(r.Holds), agreedText(r.Holds), partnersText(r), r.ID)
	return err
}
