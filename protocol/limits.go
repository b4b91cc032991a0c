package protocol

import "time"

// Sizes. The Noise message of 65,535 bytes is what all others follow from.
const (
	MaxPayload      = 56 << 10 // one offer, answer or message, so that it fits a Noise message with its envelope
	MaxMessage      = 64 << 10 // one message of a client
	MaxNoise        = 65535    // one Noise message, by its specification
	MaxPacket       = MaxNoise - 16
	MaxMemberID     = 64 // what a door may use as member id
	MaxRef          = 64 // offer ids and references
	MaxBlob         = 2 << 10
	MaxRecord       = 900  // in one UDP packet with its KRPC envelope, and within BEP 44's 1,000
	MaxRecordURLs   = 4    // names and addresses of one node
	MaxURL          = 256  // one of them
	MaxNodesRecords = 16   // in one NODES
	MaxInterestTags = 2000 // in one INTEREST: 2,000 x 24 bytes stay under a Noise message
	NodesPerHour    = 100  // new records taken from one node
	MaxOffers       = 82   // of one announce, as bittorrent-tracker caps it
	TagSize         = 16
	MemberHashSize  = 8
	MaxHello        = 2 << 10 // one message of the handshake: record, URL, key and signature are 1,400
)

// Offers wait for late comers.
const (
	SmallSwarm      = 50                      // below it offers are held and members listed
	OfferHold       = 45 * time.Second        // clients give an offer 50 s
	IntervalSmall   = 40 * time.Second        // announce interval where offers are held: under OfferHold
	IntervalLarge   = 120 * time.Second       // and elsewhere, as public trackers ask
	OfferTurn       = 1250 * time.Millisecond // of two members with offers for each other the second waits this long for an answer
	HeldPerMember   = 3                       // the newest offers of a member
	HeldBytes       = 16 << 20                // of all members of a node
	HeldPerReceiver = 10                      // held offers delivered to one member in HeldWindow
	HeldWindow      = 50 * time.Second
	FirstPublish    = time.Second      // after its join a member's first publish may be taken for one with it
	PublishHold     = 30 * time.Second // publishes and joins wait for nodes not yet known
)

// Links.
const (
	PingQuiet      = 5 * time.Second  // silence after which a ping is sent
	LinkSilence    = 12 * time.Second // two pings and their answers lost
	AckDelay       = 20 * time.Millisecond
	AckBytes       = 64 << 10
	DataInFlight   = 128 << 10        // relayed data, per link, written and not acknowledged: what a signal may wait behind
	DataWaiting    = 256 << 10        // and not yet written, because signals go first
	ResendBytes    = 1 << 20          // not yet acknowledged, per link
	ResendFor      = 30 * time.Second // and its age
	GiveUpOffers   = 3 * time.Second  // a link down this long: offers go elsewhere, sends fail
	GiveUpPresence = 5 * time.Second  // and the members behind it leave
	LinkLinger     = 60 * time.Second // after the last shared app
	SwarmEvery     = 500 * time.Millisecond
	Handshake      = 10 * time.Second
	MaxLinks       = 512
	MaxAppLinks    = 64 // above it a node links to 64 random ones
	MaxPerSubnet   = 2  // of an app's links, per /24 or /48
	MeshLinks      = 4  // under the mesh-wide name, apps or not
	DialsPerMinute = 60
	DialsTrusted   = 600              // a minute, where private addresses are allowed: a testnet has to mesh in seconds
	DialBook       = 4096             // addresses whose dials are remembered
	DialUnproven   = 10 * time.Minute // between dials to an address where no handshake succeeded
	DialBackoffMax = 60 * time.Second
	MaxTempApps    = 64 // apps a client publishes to or scrapes without being a member
)

// Quotas of what one other node may send; over LinkFrames and LinkBytes the
// node is read more slowly, over the others it is told so.
const (
	LinkFrames     = 200_000   // a second: a third of a core
	LinkBytes      = 128 << 20 // a second: a line of 1 Gbit/s
	AppOffers      = 100       // a second in one app, and the same again for each member believed in
	AppOffersBurst = 10        // seconds of that saved up
)

// Trust in counts.
const (
	BelievedMembers = 64  // without any evidence
	JudgedOffers    = 100 // before a node's answered share is judged
)

// Peers of the native door.
const (
	ChallengeNonce = 32
	LoginNonce     = 16
	MaxPeerName    = 64 // of a name, and of each service
	MaxServices    = 16
	MaxMetadata    = 1 << 10
	MaxPresenceTTL = 24 * time.Hour
	MaxAddress     = 512 // of a peer's Address as text: its host has up to 253, the ids 104
	PeerSample     = 50  // members that one who joins is shown; it connects to no more by itself
)

// Members of the native door whose socket has ended without a goodbye.
const (
	ResumeWithin = 5 * time.Second // for a peer to notice and dial again; then they are lost
	KeptMessages = 64              // meanwhile for one member: more than the offers and candidates of those it just met
	KeptBytes    = 128 << 10
	KeptAll      = 64 << 20 // and for all members of a node
	KeptMembers  = 50_000   // of a node
)

// RelayData is how many bytes of relayed data a peer may send in a second, and
// twice as many at once: enough for talk and small files, and no reason to do
// without a direct path.
const RelayData = 64 << 10

// Ids that clients choose, and what waits for them.
const (
	ClaimWait      = 300 * time.Millisecond // that a claim waits for the linked nodes
	SignalWait     = 5 * time.Second        // that a message waits for who it is for, as PeerJS's server has it
	MaxWaiting     = 256                    // messages of one member that wait
	MaxWaitingFor  = 64                     // whom one member's messages wait for: each is asked for on all links
	WaitingBytes   = 256 << 10              // of one member; they count among HeldBytes too
	FoundFor       = time.Minute            // that the node of an id is remembered, and once more
	MaxFound       = 4096                   // of these, in an app
	MaxSought      = 1024                   // ids that another node seeks in an app, remembered until they come
	NameFrames     = 200                    // a second, of claims and finds of one node in one app; more are not answered
	NameFrameBurst = 10                     // seconds of that saved up; and the names it has when it is linked
)

// Records.
const (
	RecordTTL     = 2 * time.Hour
	RecordAhead   = 10 * time.Minute // a clock may be wrong by this much
	ClientDrain   = 4 * time.Second  // over which a stopping node closes its clients
	DefaultPort   = 8787
	RecordSalt    = "peerserver1"
	NoisePrologue = "peerserver/link/1"
	Version       = 1
)

// STUN and TURN.
const (
	DefaultSTUN    = 3478 // UDP, and TCP where TURN is allowed
	DefaultTURNTLS = 5349
	MaxTURNTLS     = 2               // ports for TURN over TLS in a record: one of its own, and the one of HTTPS
	ICETTL         = time.Hour       // of a peer's credentials
	ICEAhead       = 5 * time.Minute // that the clock of the node which issued them may be ahead
	ICENodes       = 3               // a peer is told of: its own node and two others
	TURNKeyEvery   = time.Hour       // between two TurnKeys on a link
	ProbeTime      = 5 * time.Second // that a try from outside may take
	ProbesPerLink  = 6               // in a minute
)

// On a LAN.
const (
	BeaconPort    = 6771 // UDP
	MaxBeacon     = 1200 // one datagram, within the smallest MTU of IPv6
	MaxBeaconTags = 16
	BeaconNonce   = 8
	BeaconEvery   = 30 * time.Second
	BeaconReply   = time.Second                   // between two beacons at least
	BeaconLost    = 3*BeaconEvery + BeaconEvery/2 // three were missed
	MaxBeacons    = 256                           // that are remembered
	LANNonce      = 16
	MaxLANHello   = 256
	MaxLANMessage = 65535
	LANHelloTime  = 5 * time.Second
	MaxLANConns   = 64 // of one member
)
