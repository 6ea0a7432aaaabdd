package wire

// CredentialLen is the length of an encoded Credential.
const CredentialLen = 1 + 4*32

const credentialVersion = 1

// Credential is what a leaf says about its device: who, and which certificate
// proves it. It is the content of the private-use MLS credential type
// (docs/protocol.md 1.5). The leaf's signature key is the device key itself.
type Credential struct {
	Organization OrganizationID
	Member       MemberID
	Device       DeviceID
	Certificate  [32]byte // SHA-256 of the device certificate's text
}

// Encode returns the credential's 129 bytes.
func (c Credential) Encode() []byte {
	b := make([]byte, 0, CredentialLen)
	b = append(b, credentialVersion)
	b = append(b, c.Organization[:]...)
	b = append(b, c.Member[:]...)
	b = append(b, c.Device[:]...)
	return append(b, c.Certificate[:]...)
}

// ParseCredential is the inverse of Encode.
func ParseCredential(b []byte) (c Credential, err error) {
	if len(b) != CredentialLen || b[0] != credentialVersion {
		return c, malformed("a credential of %d bytes", len(b))
	}
	copy(c.Organization[:], b[1:])
	copy(c.Member[:], b[33:])
	copy(c.Device[:], b[65:])
	copy(c.Certificate[:], b[97:])
	return c, nil
}
