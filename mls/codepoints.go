package mls

// Every number that names something on the wire stands in this file: those of
// the IANA registries (RFC 9420 §17) and our own of the private-use ranges.

// ProtocolVersion is mls10, the only one there is (§6).
const ProtocolVersion uint16 = 1

// Cipher suites (§17.1). The table of what is implemented is in suite.go.
const (
	SuiteX25519AES128   SuiteID = 1
	SuiteX25519ChaCha20 SuiteID = 3
	// SuiteXWingChaCha20 is hybrid and post-quantum: HPKE with MLKEM768-X25519
	// (draft-ietf-hpke-pq, also known as X-Wing). Private use until the registry
	// has a number for it.
	SuiteXWingChaCha20 SuiteID = 0xF0E1
)

// Wire formats of MLSMessage (§6, §17.2).
const (
	WirePublicMessage  WireFormat = 1
	WirePrivateMessage WireFormat = 2
	WireWelcome        WireFormat = 3
	WireGroupInfo      WireFormat = 4
	WireKeyPackage     WireFormat = 5
)

// Extension types (§17.3).
const (
	ExtensionApplicationID        ExtensionType = 1
	ExtensionRatchetTree          ExtensionType = 2
	ExtensionRequiredCapabilities ExtensionType = 3
	ExtensionExternalPub          ExtensionType = 4
	ExtensionExternalSenders      ExtensionType = 5
	// ExtensionAppDataDictionary is app_data_dictionary of
	// draft-ietf-mls-extensions: application components' data.
	ExtensionAppDataDictionary ExtensionType = 0x0006
	// ExtensionLastResort marks a KeyPackage that may be used more than once
	// (last_resort of the IANA registry, from earlier drafts of
	// draft-ietf-mls-extensions); ComponentLastResort says the same.
	ExtensionLastResort ExtensionType = 0x000A
	// ExtensionRoom is entente_room: a room's description in the GroupContext,
	// opaque to this package. Private use.
	ExtensionRoom ExtensionType = 0xF0E1
	// ExtensionRoles is entente_roles: who may do what in a room, opaque to this
	// package. Private use.
	ExtensionRoles ExtensionType = 0xF0E2
)

// Proposal types (§17.4).
const (
	ProposalAdd                    ProposalType = 1
	ProposalUpdate                 ProposalType = 2
	ProposalRemove                 ProposalType = 3
	ProposalPSK                    ProposalType = 4
	ProposalReInit                 ProposalType = 5
	ProposalExternalInit           ProposalType = 6
	ProposalGroupContextExtensions ProposalType = 7
	// ProposalSelfRemove is self_remove of draft-ietf-mls-extensions: its sender
	// leaves. Unlike the others it counts only where every member lists it.
	ProposalSelfRemove ProposalType = 0x000A
)

// Component IDs (draft-ietf-mls-extensions, MLS Component Types).
const (
	ComponentSafeAAD    ComponentID = 2 // safe_aad: in GroupContext and LeafNode
	ComponentLastResort ComponentID = 4 // last_resort_key_package: in KeyPackage
	ComponentAppAck     ComponentID = 5 // app_ack: in authenticated data
)

// Credential types (§17.5).
const (
	CredentialBasic CredentialType = 1
	CredentialX509  CredentialType = 2
	// CredentialEntente is one opaque vector, kept verbatim and understood by
	// the validator alone. Private use.
	CredentialEntente CredentialType = 0xF0E1
)

func isPrivateUse(v uint16) bool { return v >= 0xF000 }
