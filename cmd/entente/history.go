package main

import (
	"errors"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
	"github.com/spf13/cobra"
)

func deviceHistory() *cobra.Command {
	c := &cobra.Command{Use: "history", Short: "List what was received and shown before, and what you sent from here, by time",
		Example: "  entente device history --device bob\n  entente device history --room Harbour --limit 20 --device bob\n  entente device history --room alice@acme.example --device bob", Args: exactArgs()}
	dir, pass, asJSON := deviceFlag(c), passphraseFlag(c), jsonFlag(c)
	room := c.Flags().String("room", "", "only this room: its name, the beginning of its ID, or the address of who is at the other end")
	limit := c.Flags().Int("limit", 0, "only the last so many")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *limit < 0 {
			return &usageError{errors.New("--limit is 1 or more")}
		}
		return withDevice(c, *dir, *pass, func(d *device.Device) error {
			var id wire.RoomID
			if *room != "" {
				var err error
				if id, err = d.FindRoom(*room); err != nil {
					return err
				}
			}
			all, err := d.Timeline(id)
			if err != nil {
				return err
			}
			if *limit > 0 {
				all = all[max(0, len(all)-*limit):]
			}
			show := &showing{}
			for _, s := range all {
				if err := show.print(c, s, *asJSON); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return c
}
