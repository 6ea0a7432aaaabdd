// Command entente is the one binary: an organization's node, its operator's
// commands, and a member's device.
//
// It leaves every rule to the packages; here are flags, what a person reads, and
// exit codes (exit.go).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Version is what `entente version` prints; releases set it when linking.
var Version = "v0.1.0-dev"

func main() { os.Exit(run(os.Args[1:])) }

// run executes one command line and returns its exit code.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err := commandLine(err); err != nil {
		return report(root.ErrOrStderr(), forMember(c, err))
	}
	return exitOK
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "entente",
		Short: "Messaging between organizations, under agreements that both have signed",
		Long: `Each organization runs its own node. People's devices hold the keys; nodes hold
ciphertext, for as long as the organization allows and no longer.

Operators: node, config, doctor, organization, custodian, member, partner, directory, block, blocklist, abuse.
Members: device, contact, verify, send, receive, sent, message, room, file, report.
Try it all on one machine: entente testnet walk`,
		Version:       Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%s\nSee `%s --help`", flagText(err), c.CommandPath())}
	})
	root.AddCommand(nodeCommand(), memberCommand(), deviceCommand(), roomCommand(), contactCommand(), partnerCommand(), blockCommand(), blockListCommand(),
		sendCommand(), receiveCommand(), sentCommand(), messageCommand(), verifyCommand(), reportCommand(), abuseCommand(), fileCommand(), testnetCommand(), benchCommand(), doctorCommand(), configCommand(), directoryCommand(), organizationCommand(), custodianCommand())
	offerFromDevice(root)
	offerNoFiles(root)
	return root
}
