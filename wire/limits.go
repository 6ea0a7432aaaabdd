package wire

import "time"

// Limits of docs/protocol.md section 9. Each has a status that a client can act on.
const (
	MaxMessageBody   = 256 << 10 // inline body of a message
	MaxHandshakeBody = 2 << 20
	MaxTree          = 8 << 20
	MaxWelcome       = 1 << 20
	MaxControlBody   = MaxWelcome + 4<<10
	MaxNote          = 256 << 10 // a signed note; manifests and member records included
	MaxEnvelopeExtra = 4 << 10   // what an envelope may add to its body

	MaxBlockList        = 1 << 20 // a signed block list
	MaxBlockListEntries = 10_000
	BlockLists          = 16 // of other organizations that a node keeps

	MaxDeliverFrame = 16 << 20
	MaxDeliverItems = 256
	MaxQueryFrame   = 12 << 20
	MaxLobbyFrame   = 16 << 10
	MaxSessionBatch = 512 << 10
	MaxBatchFrames  = 64

	MailboxEnvelopes     = 10_000
	MailboxBytes         = 64 << 20
	MailboxPerSender     = 500 // undelivered envelopes of one return path
	MailboxPartnerShare  = 10  // percent of a mailbox that one partner may fill
	ControlPerMailbox    = 1_000
	MaxRoomDevices       = 1_000
	AgreementStates      = 1_000 // of agreements that a device asks for at once
	MaxProposalsByRef    = 64
	RoomLogCommits       = 2_000
	SubmitResultsKept    = 1_024
	KeyPackagePool       = 100
	KeyPackageMax        = 16 << 10
	MaxDevicesPerMember  = 16
	MaxLinkMessage       = 16 << 10 // between two devices of which one is being linked
	SubmitWindow         = 64
	SubmitWindowBytes    = 1 << 20
	DeliverWindow        = 256
	DeliverWindowBytes   = 1 << 20
	DeviceRate           = 5 // submissions per second
	DeviceBurst          = 50
	PartnerRate          = 200     // items per second
	MaxAgreementRate     = 100_000 // items per second that an agreement may raise a partner to
	PartnerBurst         = 2_000
	PartnerBytesRate     = 2 << 20
	ClaimsPerRequester   = 10 // KeyPackage claims per hour, requester and target
	ClaimsPerPartner     = 60 // per hour, organization and target
	LastResortPerHour    = 1
	RequestsPerSender    = 10  // requests for contact per hour and sender
	RequestsPerPartner   = 100 // per hour and organization
	PendingRequests      = 200 // of one member; further ones are not kept
	MaxDetail            = 256
	MaxReport            = 1 << 20 // a report of abuse, in bytes
	ReportsPerMember     = 16      // that wait for the administrator
	ReportsPerNode       = 256
	MaxUnHelloedPerAddr  = 64  // silent for longer than an honest device
	MaxFreshPerAddr      = 512 // silent ones at all
	DefaultLinkSecretLen = 32

	MaxComplaint        = 1 << 10 // a signed note
	ComplaintsPerDevice = 10      // an hour
	ComplaintsKept      = 16      // about one Commit, one of each member
	ComplaintCommits    = 8       // how many Commits back a hub takes complaints
	ResetsPerRoom       = 6       // an hour
	ResetComplaints     = 3       // that come with a reset

	MaxFile       = 2 << 30  // of its ciphertext; agreement and organization may lower it
	FileChunk     = 1 << 20  // of ciphertext; the last one is what is left
	FileQuota     = 10 << 30 // bytes of a member's files, unfinished ones included
	MemberUploads = 64       // unfinished at once
	PartnerFiles  = 64 << 20 // bytes of files a second that a partner may fetch
)

// Durations of docs/protocol.md section 9.
const (
	DefaultRetention    = 7 * 24 * time.Hour
	RetentionCeiling    = 30 * 24 * time.Hour
	WelcomeDeadline     = 30 * 24 * time.Hour
	RequestDeadline     = 30 * 24 * time.Hour
	NoticeDeadline      = 30 * 24 * time.Hour
	NoticeGather        = time.Second // how long notices of larger rooms are gathered
	NoticeRoom          = 50          // members; above, only expired and refused are told of
	HandshakeRetention  = 30 * 24 * time.Hour
	DefaultBucket       = time.Hour
	KeyPackageLifetime  = 30 * 24 * time.Hour
	LastResortLifetime  = 90 * 24 * time.Hour
	LinkLifetime        = 72 * time.Hour
	ReportLife          = 30 * 24 * time.Hour
	DeviceLinkLife      = 10 * time.Minute // of a link from one device to the next
	TokenLifetime       = 10 * time.Minute
	TicketLifetime      = time.Minute
	HelloTimeout        = 5 * time.Second
	DeliverAgain        = 30 * time.Second // what a device could not take yet is tried again
	DeliverPatience     = 72 * time.Hour   // and is given up: a partner's weekend
	Heartbeat           = 15 * time.Second
	SilenceLimit        = 40 * time.Second
	WriteTimeout        = 10 * time.Second
	ClockTolerance      = 5 * time.Minute
	DeviceIdle          = 30 * 24 * time.Hour // a device that was not here for so long is proposed for removal
	RemovalDelay        = 24 * time.Hour      // from suspending a partner to taking its devices out of our rooms
	NotBeforeSlack      = 24 * time.Hour
	DeviceCertLifetime  = 365 * 24 * time.Hour
	AgreementLifetime   = 365 * 24 * time.Hour
	ResyncPerRoom       = time.Hour
	ResyncBurst         = 2                // a device in a room within ResyncPerRoom, at its hub: the second is for one that was restored
	ResetPatience       = 10 * time.Minute // of a room in which nobody commits after a complaint
	ResetConfirm        = 10 * time.Second // after another member's complaint, so that others can vouch
	ResetTurn           = 30 * time.Second // of each device that may reset a room, before the next
	UploadPatience      = 24 * time.Hour   // an unfinished upload without a chunk
	NodeCertLifetime    = 365 * 24 * time.Hour
	ReconnectFloor      = 200 * time.Millisecond
	ReconnectCeiling    = 30 * time.Second
	PartnerBackoffFloor = 500 * time.Millisecond
	PartnerBackoffCeil  = 5 * time.Minute
)

// ProtocolVersion is the version that this build speaks; it also understands the
// one before (there is none yet).
const ProtocolVersion = 1

// Protocol IDs of libp2p streams.
const (
	DeliverProtocol = "/entente/deliver/1"
	QueryProtocol   = "/entente/query/1"
	LobbyProtocol   = "/entente/lobby/1"
)
