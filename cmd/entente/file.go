package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func fileCommand() *cobra.Command {
	c := group("file", "Files that came with messages: list and fetch them")
	c.AddCommand(fileList(), fileGet())
	return c
}

func fileList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the files of messages, as long as they can be fetched", Args: exactArgs(),
		Example: "  entente file list --device bob",
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			files, err := d.Files()
			if err != nil {
				return err
			}
			return printList(c, files, *asJSON, "ID AT FROM SIZE UNTIL TYPE NAME", func(f device.FileEntry) []string {
				return []string{short(f.ID), when(f.At.Unix()), oneLine(f.From, 40), bytesText(f.Size), when(f.Expires.Unix()), oneLine(f.Type, 30), oneLine(f.Name, 60)}
			})
		})
	}
	return c
}

func fileGet() *cobra.Command {
	c := &cobra.Command{
		Use:   "get MESSAGE",
		Short: "Fetch the file of a message, through your own node",
		Long: `Fetch the file of a message, which is named by the beginning of its ID (entente file list). Every part is verified before
it is written, beside the file in one that ends in .part; when the transfer was interrupted, the same command goes on from there.
The file keeps the name that its sender gave it, without what could harm, unless -o names a file or a folder.`,
		Example: "  entente file get 01f3ab92c4 --device bob\n  entente file get 01f3ab92c4 -o ~/plan.pdf --device bob",
		Args:    exactArgs("MESSAGE"),
	}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	out := c.Flags().StringP("output", "o", "", "the file or folder to save it at (default: the current folder)")
	force := c.Flags().Bool("force", false, "replace a file that is there")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := typedMessage(args[0]); err != nil {
			return err
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			id, _, err := d.FindMessage(args[0])
			if err != nil {
				return err
			}
			path, err := d.GetFile(c.Context(), id, *out, *force, sayFile(c, *asJSON))
			if err != nil || *asJSON {
				return fileError(err)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), path)
			return err
		})
	}
	return c
}

// sendFile is `entente send --file`: to a room when the address is zero.
func sendFile(c *cobra.Command, path, text string, o device.SendOptions, asJSON bool) func(context.Context, *device.Sender, wire.Address, wire.RoomID) error {
	return func(ctx context.Context, s *device.Sender, to wire.Address, room wire.RoomID) error {
		return fileError(s.SendFile(ctx, to, room, path, text, o, sayFile(c, asJSON), sayProgress(c, asJSON)))
	}
}

// fileError says what to try.
func fileError(err error) error {
	switch {
	case errors.Is(err, device.ErrFileExists):
		return &hintError{err, "name another place with -o, or replace it with --force", exitRefused}
	case errors.Is(err, device.ErrFileAltered):
		return &hintError{err, "try again; if it stays so, ask for the file once more: somebody changed it", exitRefused}
	case errors.Is(err, device.ErrFileChanged):
		return &hintError{err, "repeat the command when nothing writes to the file", exitRefused}
	}
	var refused *wire.StatusError
	if errors.As(err, &refused) && refused.Status.Code == pb.Code_CODE_TOO_LARGE {
		return &hintError{err, "send it in smaller parts, or ask who sets the limit for more", exitRefused}
	}
	return err
}
