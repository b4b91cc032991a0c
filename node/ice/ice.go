// Package ice is the STUN and TURN server of a node.
//
// [New] and [Server.Serve] run it on sockets that the node has opened. Peers
// get their credentials by [Server.Credentials]; those of a linked node get
// them there, by [Issue], with what [Server.Keys] gave that node. [Discover]
// asks another STUN server for an address, as does [Server.Discover] from the
// server's own socket.
//
// A TURN server is an open door into its own network, so what it relays to, and
// how much, is decided here and not in pion/turn, which parses, authenticates
// and keeps the allocations: a front stands before each of its sockets, and a
// relay is each of its relayed addresses.
package ice

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/peerservers/peerserver/protocol"
)

// Realm is the realm of the TURN server.
const Realm = "peerserver"

// Config is what a Server is made of. The zero value is a server that nobody
// can reach but by ServeConn.
type Config struct {
	// Secret is what the keys of TURN are derived from, 32 bytes. Nil is a
	// random one: credentials are then good until the process ends.
	Secret []byte
	// Node is this node, the issuer of its own peers' credentials.
	Node protocol.NodeID

	// Packets are UDP sockets, for STUN and, with TURN, for TURN. Listeners are
	// of TCP or of TLS, for the same. Serve closes them.
	Packets   []net.PacketConn
	Listeners []net.Listener

	// TURN allows relaying. Without it Binding requests are answered and nothing
	// else.
	TURN bool
	// AllowPrivate lets TURN relay to loopback and private addresses, as
	// testnets need. Ports under 1024 and addresses that never reply stay closed.
	AllowPrivate bool

	// Public are the addresses that the node is known by at the moment. Relayed
	// addresses are of these; nil or an empty list: of the sockets, or of the
	// interface that the client is reached over.
	Public func() []netip.Addr
	// MinPort and MaxPort are the ports of relayed addresses. Zero: 49152 and
	// 65535.
	MinPort, MaxPort uint16

	Quota Quota
	Log   *slog.Logger // nil: slog.Default
}

// Server answers STUN and TURN.
type Server struct {
	cfg   Config
	quota Quota
	log   *slog.Logger
}

// New checks the configuration. The sockets stay the caller's until Serve.
func New(cfg Config) (*Server, error) {
	if cfg.Secret == nil {
		cfg.Secret = make([]byte, 32)
		_, _ = rand.Read(cfg.Secret) // never fails
	}
	if len(cfg.Secret) != 32 {
		return nil, fmt.Errorf("the secret of TURN has %d bytes, not 32", len(cfg.Secret))
	}
	if cfg.MinPort == 0 {
		cfg.MinPort = 49152
	}
	if cfg.MaxPort == 0 {
		cfg.MaxPort = 65535
	}
	if cfg.MinPort < 1024 || cfg.MaxPort < cfg.MinPort {
		return nil, fmt.Errorf("the ports of TURN, %d to %d, are not a range from 1024 up", cfg.MinPort, cfg.MaxPort)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Server{cfg: cfg, quota: cfg.Quota.withDefaults(), log: cfg.Log}, nil
}

// Serve answers until ctx is done, and returns when all its goroutines have
// ended. It closes the sockets. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// ServeConn takes over a connection that somebody else has accepted and whose
// first byte is under 4. It does not block. The connection is closed when there
// are too many, and when Serve is not running.
func (s *Server) ServeConn(c net.Conn) { c.Close() }

// Stats are the counts at the moment.
func (s *Server) Stats() Stats { return Stats{} }

// Discover asks a STUN server which address it sees conn at. Nobody else may
// read conn meanwhile.
func Discover(ctx context.Context, conn net.PacketConn, server netip.AddrPort) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.ErrUnsupported
}

// Discover asks another STUN server which address it sees this one's socket at,
// while that serves.
func (s *Server) Discover(ctx context.Context, server netip.AddrPort) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.ErrUnsupported
}
