package group

import (
	"time"

	"github.com/entente-im/entente/mls"
)

// Sealed is what was sealed to the init key of a KeyPackage.
type Sealed struct {
	Ref []byte // of the KeyPackage
	mls.HPKECiphertext
}

// SealTo seals to the device that has made a KeyPackage, by EncryptWithLabel (RFC 9420
// §5.1.3) with its init key. The label is to be none of the RFC's; it is part of what the
// key is derived from, as "MLS 1.0 " ‖ label.
func SealTo(keyPackage []byte, label string, context, plaintext []byte, now time.Time, v mls.CredentialValidator) (s Sealed, err error) {
	kp, err := mls.ParseKeyPackage(keyPackage)
	if err != nil {
		return s, err
	}
	if err := kp.Verify(now, v); err != nil {
		return s, err
	}
	suite, err := mls.LookupSuite(kp.Suite)
	if err != nil {
		return s, err
	}
	s.Ref = kp.Ref()
	s.HPKECiphertext, err = suite.EncryptWithLabel(kp.InitKey, label, context, plaintext)
	return s, err
}

// Open opens what SealTo has sealed to this KeyPackage.
func (k *KeyPackageSecrets) Open(label string, context []byte, s Sealed) ([]byte, error) {
	kp, err := mls.ParseKeyPackage(k.KeyPackage)
	if err != nil {
		return nil, err
	}
	suite, err := mls.LookupSuite(kp.Suite)
	if err != nil {
		return nil, err
	}
	return suite.DecryptWithLabel(k.init, label, context, s.HPKECiphertext)
}

// LastResort says whether the KeyPackage may be used more than once.
func (k *KeyPackageSecrets) LastResort() bool {
	kp, err := mls.ParseKeyPackage(k.KeyPackage)
	return err == nil && kp.LastResort()
}
