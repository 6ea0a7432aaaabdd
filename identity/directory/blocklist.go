package directory

import "github.com/entente-im/entente/identity"

// SignBlockList signs a block list of the organization. That its sequence is above every one
// that was signed before is the caller's.
func (d *Directory) SignBlockList(l identity.BlockList) (string, error) {
	l.Organization = d.opts.Organization.ID
	return l.Sign(d.opts.Organization.KeyName(), d.opts.Directory)
}
