package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/peerservers/peerserver/node/ice"
	"github.com/peerservers/peerserver/protocol"
)

// none is the value of an address flag that switches off what it is of.
const none = "none"

// The relay ports of a node that is told of none: enough for its allocations,
// and few enough to be opened in a firewall.
const (
	turnPortMin = 50000
	turnPortMax = 50999
)

// iceSockets are what STUN and TURN listen on.
type iceSockets struct {
	packets net.PacketConn // nil: there is no STUN
	tcp     net.Listener   // TURN over TCP, nil: none
	tls     net.Listener   // TURN over TLS, nil: none
}

// openICE opens the sockets of STUN and TURN, and makes their server.
func (n *Node) openICE() (err error) {
	cfg := &n.cfg
	if cfg.STUN == none || (cfg.STUN == "" && cfg.Listener != nil) {
		return nil
	}
	if err = errors.Join(n.listenSTUN(), n.listenTURNTLS()); err != nil {
		return err
	}
	low, high, err := parsePorts(cfg.TURNPorts)
	if err != nil {
		return err
	}
	var listeners []net.Listener
	for _, l := range []net.Listener{n.iceSockets.tcp, n.iceSockets.tls} {
		if l != nil {
			listeners = append(listeners, l)
		}
	}
	secret := hmac.New(sha256.New, cfg.Key.Seed())
	secret.Write([]byte("peerserver/1/turn-secret"))
	n.ice, err = ice.New(ice.Config{
		Secret: secret.Sum(nil), Node: protocol.NodeID(cfg.Key[len(cfg.Key)-len(protocol.NodeID{}):]),
		Packets: []net.PacketConn{n.iceSockets.packets}, Listeners: listeners, TURN: cfg.TURN, AllowPrivate: cfg.TURNAllowPrivate,
		Public: n.publicAddresses, MinPort: low, MaxPort: high, Log: cfg.Log,
		Quota: ice.Quota{PeerRate: cfg.TURNRate, NodeDay: cfg.TURNDay},
	})
	if err == nil && cfg.TURN {
		n.onSTUN = n.ice.ServeConn
	}
	return err
}

// listenSTUN opens the UDP port of STUN, and where TURN is allowed the same
// number over TCP. The default port may be another node's: then any will do,
// since the record says which it is.
func (n *Node) listenSTUN() error {
	at, auto := n.cfg.STUN, n.cfg.STUN == ""
	if auto {
		host, _, err := net.SplitHostPort(n.listener.Addr().String())
		if err != nil {
			return fmt.Errorf("the node's address %s: %w", n.listener.Addr(), err)
		}
		port := strconv.Itoa(protocol.DefaultSTUN)
		if _, asked, _ := net.SplitHostPort(n.cfg.Listen); asked == "0" {
			port = asked
		}
		at = net.JoinHostPort(host, port)
	}
	err := n.listenPair(at)
	if err != nil && auto {
		host, _, _ := net.SplitHostPort(at)
		if n.listenPair(net.JoinHostPort(host, "0")) == nil {
			n.log.Warn("the usual port of STUN is not free, another one is used; a firewall has to let it in", "port", portOf(n.iceSockets.packets.LocalAddr()))
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("--stun %s: %w; choose another address, or do without with --stun none", at, err)
	}
	return nil
}

// listenPair opens UDP and, for TURN, TCP of the same number.
func (n *Node) listenPair(at string) error {
	for try := 0; ; try++ {
		p, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", at)
		if err != nil || !n.cfg.TURN {
			n.iceSockets.packets = p
			return err
		}
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", p.LocalAddr().String())
		if err == nil {
			n.iceSockets.packets, n.iceSockets.tcp = p, l
			return nil
		}
		p.Close()
		if _, port, _ := net.SplitHostPort(at); port != "0" || try > 20 {
			return err
		}
	}
}

// listenTURNTLS opens the port of TURN over TLS, besides the node's own, if the node
// has certificates. Somebody else may have the default one: the node's own does.
func (n *Node) listenTURNTLS() error {
	at := n.cfg.TURNTLS
	if !n.cfg.TURN || n.tlsConfig() == nil || at == none || n.iceSockets.packets == nil {
		return nil
	}
	if at == "" {
		host, port, err := net.SplitHostPort(n.iceSockets.packets.LocalAddr().String())
		if err != nil || port != strconv.Itoa(protocol.DefaultSTUN) {
			return err // it is not at home on the usual ports
		}
		at = net.JoinHostPort(host, strconv.Itoa(protocol.DefaultTURNTLS))
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", at)
	switch {
	case err == nil:
		n.iceSockets.tls = n.secure(l)
	case n.cfg.TURNTLS == "":
		n.log.Warn("the usual port of TURN over TLS is not free; it is on the node's own port alone", "port", protocol.DefaultTURNTLS)
	default:
		return listenError(at, "turn-tls", err)
	}
	return nil
}

// parsePorts reads the range of relay ports, MIN-MAX.
func parsePorts(s string) (low, high uint16, err error) {
	if s == "" {
		return turnPortMin, turnPortMax, nil
	}
	a, b, ok := strings.Cut(s, "-")
	l, errL := strconv.ParseUint(a, 10, 16)
	h, errH := strconv.ParseUint(b, 10, 16)
	if !ok || errL != nil || errH != nil || l < 1024 || h < l {
		return 0, 0, fmt.Errorf("--turn-ports %q is not a range of ports from 1024 up, such as %d-%d", s, turnPortMin, turnPortMax)
	}
	return uint16(l), uint16(h), nil
}

func portOf(a net.Addr) uint16 {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return 0
	}
	return ap.Port()
}

// icePorts are what the node's record says of STUN and TURN.
func (n *Node) icePorts() (stun, turn uint16, tls []uint16) {
	s := &n.iceSockets
	if n.ice == nil {
		return 0, 0, nil
	}
	stun = portOf(s.packets.LocalAddr())
	if s.tcp != nil {
		turn = portOf(s.tcp.Addr())
	}
	if n.cfg.TURN && n.tlsConfig() != nil { // first: it is 443 where others are closed
		tls = append(tls, portOf(n.listener.Addr()))
	}
	if s.tls != nil {
		tls = append(tls, portOf(s.tls.Addr()))
	}
	return stun, turn, tls
}

// turnKeys are for relay.Config: what another node needs to issue credentials
// for this one's TURN.
func (n *Node) turnKeys(node protocol.NodeID) []*protocol.TurnKeys_Key {
	if n.ice == nil || !n.cfg.TURN {
		return nil
	}
	var keys []*protocol.TurnKeys_Key
	for _, k := range n.ice.Keys(node) {
		keys = append(keys, &protocol.TurnKeys_Key{Day: k.Day, Key: k.Key})
	}
	return keys
}

// publicAddresses are those that the node is known by from outside, as far as it
// has found out.
func (n *Node) publicAddresses() []netip.Addr {
	if p := n.public.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *iceSockets) close() {
	if s.packets != nil {
		s.packets.Close()
	}
	for _, l := range []net.Listener{s.tcp, s.tls} {
		if l != nil {
			l.Close()
		}
	}
}
