package node

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// DefaultAdmin is where a node that is run by hand has its admin pages: beside
// the node's own port, and reached from the same machine alone.
const DefaultAdmin = "127.0.0.1:8788"

// Config says what a node is. The zero value is a node of the open internet on
// the default port, with a key that lives as long as it does.
type Config struct {
	// Key is the node's identity; nil takes the one in Data, or a fresh one.
	Key ed25519.PrivateKey
	// Data is the folder in which the node keeps what must outlive it, its key
	// first of all. Empty keeps nothing. One node at a time has a folder.
	Data string
	// Listen is the address of the node's port; empty is ":8787".
	Listen string
	// Listener, if not nil, is used instead of Listen.
	Listener net.Listener
	// Admin is the address of the pages for the operator; empty is none. They
	// ask for no password, so it should be one on loopback.
	Admin string
	// URLs are where other nodes reach this one: wss://host[:port] or
	// ws://ip:port. Without any, a node that listens on one address names that
	// when AllowPrivate is set, and otherwise is not dialled by others.
	URLs []string
	// Peers are base URLs of nodes to know from the start, such as
	// https://node.example.
	Peers []string
	// NoDHT leaves the mainline DHT out: only Peers are known, and who dials.
	NoDHT bool
	// Packets, if not nil, is the DHT's UDP socket instead of one on the node's
	// port.
	Packets net.PacketConn
	// Bootstrap is where to meet the DHT, host:port; nil is mainline's
	// well-known nodes.
	Bootstrap []string
	// NoAnnounce lets the node find others without being found.
	NoAnnounce bool
	// PeerDelay is how long Serve waits before it looks for other nodes.
	PeerDelay time.Duration
	// AllowPrivate lets the node meet nodes on private and loopback addresses,
	// and lifts the quotas of clients on loopback.
	AllowPrivate bool
	// LAN has the node announce itself on the local network, and meet the nodes
	// that it hears there at their private addresses.
	LAN bool
	// LANNetwork, if not nil, is where it does that instead of on this machine's
	// interfaces: tests have one in memory.
	LANNetwork lan.Network
	// Quota bounds clients.
	Quota door.Quota
	// AddressConns is how many connections one address may have; the other
	// quotas of an address grow and shrink with it. Zero leaves them as Quota
	// says; negative is no bound.
	AddressConns int
	// RelayData is how many bytes a second of relayed data a peer of the native
	// door may send, and twice as many at once: data between peers that have no
	// direct path. Zero is protocol.RelayData; negative is none, and then such
	// peers do not reach each other over this node.
	RelayData int
	// STUN is the UDP address of STUN and, with TURN, of TURN over UDP and TCP.
	// Empty is port 3478 on the address of Listen, or any where that one is not
	// free, and none at all with a Listener; "none" is none.
	STUN string
	// TURN relays between the node's peers and others that they have no direct
	// path to. It costs traffic; Quota of node/ice bounds it.
	TURN bool
	// TURNTLS is the address of TURN over TLS besides the node's own port. Empty is
	// port 5349 beside STUN, where the node has certificates; "none" is none.
	TURNTLS string
	// TURNPorts are the UDP ports of relayed addresses, MIN-MAX; empty is
	// 50000-50999.
	TURNPorts string
	// TURNAllowPrivate has TURN relay to private and loopback addresses too, which
	// gives whoever may use it a way into the node's own network.
	TURNAllowPrivate bool
	// TURNRate is how many bytes a second TURN relays for a peer, TURNDay how many
	// a day it relays in all; zero is ice.Quota's default, negative no bound.
	TURNRate, TURNDay int64
	// Portmap has the router of a home let in the node's ports, by PCP, NAT-PMP or
	// UPnP: its own, the DHT's, those of STUN and TURN, and TURNPorts if they are at
	// most 16.
	Portmap bool
	// ICEHost is where peers reach STUN and TURN; empty is the host at which they
	// reach the node.
	ICEHost string
	// TLSDomains are host names of the node, for which it gets certificates from a
	// CA, and renews them; it needs Data. The node's port speaks TLS then, and the
	// first of them are its URLs if there are no others.
	TLSDomains []string
	// TLSCert and TLSKey are files in PEM, with which the node's port speaks TLS;
	// they are read again when they change.
	TLSCert, TLSKey string
	// ACMEHTTP is an address at which the CA may ask over HTTP, as it does on port
	// 80; browsers that come there are sent to the node's port. Empty is none: then
	// the CA asks on the node's port, which has to be 443 from outside.
	ACMEHTTP string
	// ACMEDirectory is the URL of the CA's directory; empty is that of Let's
	// Encrypt, whose terms are agreed to.
	ACMEDirectory string
	// ACMEEmail is where the CA can tell of trouble; empty is nowhere.
	ACMEEmail string
	// TrustedProxies are addresses whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Origins are the web origins that may connect; none: all.
	Origins []string
	// Tokens are what a client has to give one of, in its URL: /t/TOKEN/ before
	// the path or ?token=TOKEN behind it. None: nothing. Each has 16 to 128
	// letters, digits, - _ . and ~.
	Tokens []string
	// Apps are the only ones that are served, as DOOR:NAME; none: all. NAME is a
	// topic, a room or a key; for the tracker it is an infohash, as 40 hex digits
	// or 20 characters; for the native door it may also be 40 hex digits of an
	// AppID.
	Apps []string
	// Without are the doors, by name, that the node does not have. See Doors.
	Without []string
	// Clients is how many clients a door may have at a time, by the door's name;
	// none, or zero: no bound but that of the addresses.
	Clients map[string]int
	// PeerJSDiscovery are the keys of which anybody may list all ids, by the
	// peerjs door; none: no key.
	PeerJSDiscovery []string
	// Version is what the node says of its program.
	Version string
	// Log is where the node says what happens; nil is nowhere.
	Log *slog.Logger
	// Dialer, if not nil, dials other nodes instead of relay.NewDialer: tests
	// put their faults there.
	Dialer relay.Dialer
	// Seed makes random choices repeatable, for tests. Zero is random.
	Seed uint64
}

// complete fills in what was left out and checks what no part of the node
// checks itself.
func (c *Config) complete() error {
	if c.AddressConns > maxAddressConns {
		return fmt.Errorf("%d connections an address are over %d; -1 is no bound", c.AddressConns, maxAddressConns)
	}
	if c.RelayData > maxRelayData {
		return fmt.Errorf("%d bytes a second of relayed data for each peer are over %d", c.RelayData, maxRelayData)
	}
	if c.RelayData == 0 {
		c.RelayData = protocol.RelayData
	}
	if err := errors.Join(c.checkDoors(), c.checkAccess(), c.checkTLS()); err != nil {
		return err
	}
	for _, b := range c.Bootstrap {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || !isPort(port) {
			return fmt.Errorf("bootstrap %q is not of the form host:port, such as router.bittorrent.com:6881", b)
		}
	}
	if c.Listen == "" {
		c.Listen = ":" + strconv.Itoa(protocol.DefaultPort)
	}
	if c.Version == "" {
		c.Version = "unknown"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Quota = perAddress(c.Quota, c.AddressConns)
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// What one connection of an address adds to the address's other quotas: the
// proportions of door.Quota's defaults.
const (
	messagesPerConn     = 4
	messageBurstPerConn = 40
	bytesPerConn        = 32 << 10
	byteBurstPerConn    = 256 << 10
	membersPerConn      = 20

	maxAddressConns = 20_000   // the sums of the bytes have to fit their counters
	maxRelayData    = 64 << 20 // likewise
)

// perAddress scales the quotas of an address to a number of connections.
func perAddress(q door.Quota, conns int) door.Quota {
	if conns == 0 {
		return q
	}
	q.AddressConns = conns
	q.AddressMessages, q.AddressMessageBurst = conns*messagesPerConn, conns*messageBurstPerConn
	q.AddressBytes, q.AddressByteBurst = conns*bytesPerConn, conns*byteBurstPerConn
	q.AddressMembers = conns * membersPerConn
	return q
}

// listenError says what can be done about an address that cannot be listened
// on; flag is where it comes from.
func listenError(address, flag string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use; stop the program that has it (\"ss -ltnp\" shows which), or choose another with --%s, such as --%s %s",
			address, flag, flag, freePort(address))
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s may not be used by this user; choose a port from 1024 up with --%s", address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is not an address of this machine; choose another with --%s, or only a port, such as :%d", address, flag, protocol.DefaultPort)
	}
	return fmt.Errorf("--%s %s: %w; it is of the form host:port, such as 127.0.0.1:%d, or :%d for all addresses", flag, address, err, protocol.DefaultPort, protocol.DefaultPort)
}

// freePort is the address with the port that means any free one.
func freePort(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ":0"
	}
	return net.JoinHostPort(host, "0")
}
