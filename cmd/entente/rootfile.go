package main

import (
	"errors"

	"github.com/entente-im/entente/node"
	"github.com/spf13/cobra"
)

// rootFlag adds --root to a command that signs a manifest. What it returns gives the file
// with the root key in office, and the passphrase, once no node runs on the folder.
func rootFlag(c *cobra.Command, data, pass *string) func() (string, []byte, error) {
	file := c.Flags().String("root", "", "file with the root keys (default: the one in the node's folder that holds the key in office)")
	_ = c.MarkFlagFilename("root", "sealed")
	return func() (string, []byte, error) {
		if err := node.Stopped(*data); err != nil {
			return "", nil, signError(err)
		}
		p, err := passphrase(c, *pass, false)
		if err != nil || *file != "" {
			return *file, p, err
		}
		found, err := node.FindRoot(*data, p)
		return found, p, rootError(err)
	}
}

// signError says what to do where a node runs on the folder whose manifest is to be signed.
func signError(err error) error {
	if errors.Is(err, node.ErrLocked) {
		return &hintError{err, "stop the node, sign, and start it again", exitNotRunning}
	}
	return err
}

// rootError says what to try where a root key is not the one in office.
func rootError(err error) error {
	if !errors.Is(err, node.ErrOtherRoot) {
		return err
	}
	return &hintError{err, "name the file with --root: organization rotate wrote it (root-N.sealed unless --out said otherwise), or organization recover begin --keys; organization show lists the keys", 0}
}
