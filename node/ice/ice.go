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
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/pion/turn/v5"
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
	cfg       Config
	log       *slog.Logger
	accounts  *accounts
	addresses *addresses
	conns     *conns
	pacer     pacer
	asked     asked
	count     counters

	running sync.WaitGroup // of all goroutines, pion/turn's as well
	stop    atomic.Bool
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
	if cfg.MinPort < lowestPort || cfg.MaxPort < cfg.MinPort {
		return nil, fmt.Errorf("the ports of TURN, %d to %d, are not a range from %d up", cfg.MinPort, cfg.MaxPort, lowestPort)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.Quota = cfg.Quota.withDefaults()
	return &Server{
		cfg: cfg, log: cfg.Log, accounts: newAccounts(cfg.Quota, cfg.Node), addresses: newAddresses(&cfg),
		conns: newConns(cfg.Quota), pacer: pacer{rate: int64(cfg.Quota.Requests)},
	}, nil
}

// Serve answers until ctx is done, and returns when all its goroutines have
// ended. It closes the sockets. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	s.addresses.lookUp()
	for _, p := range s.cfg.Packets {
		s.running.Go(func() { s.serveFront(newFront(s, p, true)) })
	}
	for _, l := range s.cfg.Listeners {
		s.running.Go(func() { s.accept(l) })
	}
	<-ctx.Done()
	s.stop.Store(true)
	for _, p := range s.cfg.Packets {
		p.Close()
	}
	for _, l := range s.cfg.Listeners {
		l.Close()
	}
	s.conns.stop()
	s.running.Wait()
	return nil
}

func (s *Server) stopped() bool { return s.stop.Load() }

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			s.ServeConn(c)
		case errors.Is(err, net.ErrClosed) || s.stopped():
			return
		default: // too many files are open, or the like
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// serveFront returns when the front's socket is closed.
func (s *Server) serveFront(f *front) {
	ended := make(chan struct{})
	f.ended = func() { close(ended) }
	if !s.cfg.TURN {
		buf := make([]byte, maxDatagram)
		for {
			if _, _, err := f.ReadFrom(buf); err != nil {
				return
			}
		}
	}
	_, err := turn.NewServer(turn.ServerConfig{
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: f, RelayAddressGenerator: generator{f}, PermissionHandler: f.permit}},
		LoggerFactory:     silence{}, Realm: Realm, AuthHandler: f.auth, QuotaHandler: f.quota, EventHandler: f.events(), InboundMTU: maxDatagram,
	})
	if err != nil { // of a wrong configuration only, which this is not
		s.log.Error("start TURN", "err", err)
		f.Close()
		return
	}
	<-ended
}
