package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/node/ice"
	"github.com/peerservers/peerserver/protocol"
)

const (
	turnWithin = 10 * time.Second // for two allocations and packets between them
	stunWithin = 5 * time.Second
	passWithin = 4 * time.Second
	passEvery  = 300 * time.Millisecond
)

// checkTURN makes allocations over each transport, and has packets relayed.
func (s *subject) checkTURN(ctx context.Context) (found []Finding) {
	servers, err := s.servers(ctx)
	if err != nil {
		return s.unknown(err)
	}
	if _, err := s.login(); err != nil {
		return one(bad(NotTried, "TURN is not tried: only who logs in is given credentials."))
	}
	servers = slices.DeleteFunc(servers, func(u server) bool { return u.scheme == "stun" || u.user == "" })
	if !slices.ContainsFunc(servers, func(u server) bool { return u.own }) {
		found = one(bad(TURNOff, "The node has no TURN of its own for peers."))
	}
	if s.isBlocked() {
		servers = slices.DeleteFunc(servers, func(u server) bool { return u.transport == "udp" })
	}
	results := make([]Finding, len(servers))
	var all sync.WaitGroup
	for i := range servers {
		all.Go(func() { results[i] = s.tryTURN(ctx, &servers[i]) })
	}
	all.Wait()
	return append(found, results...)
}

// tryTURN tries one server over one transport.
func (s *subject) tryTURN(ctx context.Context, u *server) Finding {
	ctx, cancel := context.WithTimeout(ctx, turnWithin)
	defer cancel()
	at, err := s.lookup(ctx, u)
	if err != nil {
		return s.failed(u, err)
	}
	a, err := s.allocate(ctx, u, at)
	if err != nil {
		return s.failed(u, err)
	}
	defer a.close()
	b, err := s.allocate(ctx, u, at)
	if err != nil {
		return s.failed(u, err)
	}
	defer b.close()
	if !s.near && !protocol.Public(a.at()) {
		return s.scoped(u, bad(TURNAddress, "TURN over %s at port %s relays from a private address.", u.over(), u.port))
	}
	if err := between(ctx, a, b); err != nil {
		return s.scoped(u, s.notPassed(ctx, u, err))
	}
	asked, known := s.stunAt(ctx, u.host)
	if known && s.fromOutside(ctx, a, asked) {
		return ok("TURN over %s at %s relays between two peers, and from here.", u.over(), place(u))
	}
	if u.own && known {
		return bad(TURNPorts, "TURN over %s at port %s relays between two peers of its own, but a packet from here does not reach its relay port.", u.over(), u.port)
	}
	return ok("TURN over %s at %s relays between two peers.", u.over(), place(u))
}

// notPassed says why nothing passes between two allocations: the node counts the
// packets that are too much.
func (s *subject) notPassed(ctx context.Context, u *server, err error) Finding {
	var now node.Stats
	if u.own && s.stats != nil && s.stats.ICE != nil {
		if _, err := s.get(ctx, "/stats.json", &now); err == nil && now.ICE != nil && tooMuch(now.ICE) > tooMuch(s.stats.ICE) {
			return bad(TURNFull, "TURN over %s at port %s makes allocations, and relays no more bytes for now.", u.over(), u.port)
		}
	}
	return bad(TURNPorts, "TURN over %s at port %s makes allocations, and nothing passes between two of them: %s.", u.over(), u.port, why(err))
}

// tooMuch is how many packets a node has not relayed since they were too much.
func tooMuch(s *ice.Stats) int64 { return s.Refused["bytes_per_day"] + s.Refused["bytes_per_second"] }

func place(u *server) string {
	if u.own {
		return "port " + u.port
	}
	return u.String() + ", of another node,"
}

// stunAt is a STUN server at a host that answers this machine: the node's own.
func (s *subject) stunAt(ctx context.Context, host string) (netip.AddrPort, bool) {
	h, err := s.stun()
	if err != nil {
		return netip.AddrPort{}, false
	}
	for _, r := range h.replies {
		if r.ok && r.host == host {
			at, err := s.lookup(ctx, &r.server)
			return at, err == nil
		}
	}
	return netip.AddrPort{}, false
}

// failed says why there is no allocation.
func (s *subject) failed(u *server, err error) Finding {
	var refused *stun.TurnError
	if !errors.As(err, &refused) {
		return s.scoped(u, bad(TURNSilent, "TURN over %s at port %s gives nothing: %s.", u.over(), u.port, why(err)))
	}
	switch code := refused.ErrorCodeAttr.Code; code {
	case stun.CodeAllocQuotaReached, stun.CodeInsufficientCapacity:
		return s.scoped(u, bad(TURNFull, "TURN over %s at port %s has no room (%d).", u.over(), u.port, code))
	default:
		return s.scoped(u, bad(TURNDenied, "TURN over %s at port %s refuses the credentials that a peer is given (%d).", u.over(), u.port, code))
	}
}

// scoped makes of what is wrong at another node a warning here.
func (s *subject) scoped(u *server, f Finding) Finding {
	if u.own {
		return f
	}
	other := bad(TURNOther, "Of another node, %s: %s", u, f.Found)
	return other
}

// allocation is one, and what it is made over.
type allocation struct {
	client *turn.Client
	relay  net.PacketConn
	under  net.PacketConn
}

func (a *allocation) at() netip.Addr {
	at, _ := netip.ParseAddrPort(a.relay.LocalAddr().String())
	return at.Addr().Unmap()
}

func (a *allocation) close() {
	if a.relay != nil {
		_ = a.relay.Close() // tells the server, or it finds out
	}
	if a.client != nil {
		a.client.Close()
	}
	a.under.Close()
}

func (s *subject) allocate(ctx context.Context, u *server, at netip.AddrPort) (*allocation, error) {
	under, err := s.connect(ctx, u, at)
	if err != nil {
		return nil, err
	}
	a := &allocation{under: under}
	// A client that waits for an answer does not see that ctx ends.
	ended := context.AfterFunc(ctx, func() { under.Close() })
	defer ended()
	a.client, err = turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at.String(), Username: u.user, Password: u.password, Conn: under,
		RTO: 300 * time.Millisecond, LoggerFactory: &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err == nil {
		err = a.client.Listen()
	}
	if err == nil {
		a.relay, err = a.client.AllocateWithContext(ctx)
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// connect is what the allocation is made over.
func (s *subject) connect(ctx context.Context, u *server, at netip.AddrPort) (net.PacketConn, error) {
	if u.transport == "udp" {
		return listenUDP(ctx, at.Addr())
	}
	var conn net.Conn
	var err error
	if u.scheme == "turns" {
		d := tls.Dialer{Config: &tls.Config{ServerName: u.host, InsecureSkipVerify: true}} //nolint:gosec // credentials do not go over it, but a hash
		conn, err = d.DialContext(ctx, "tcp", at.String())
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", at.String())
	}
	if err != nil {
		return nil, err
	}
	return turn.NewSTUNConn(conn), nil
}

var errNotPassed = errors.New("there was no packet in time")

// between has a say something to b, over the relay.
func between(ctx context.Context, a, b *allocation) error {
	if err := b.client.CreatePermission(a.relay.LocalAddr()); err != nil {
		return err
	}
	return passes(ctx, b.relay, func(p []byte) error {
		_, err := a.relay.WriteTo(p, b.relay.LocalAddr())
		return err
	})
}

// passes sends something again and again until it comes out of conn.
func passes(ctx context.Context, conn net.PacketConn, send func([]byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, passWithin)
	defer cancel()
	said, came := []byte("doctor "+rand.Text()), make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) == string(said) {
				close(came)
				return
			}
		}
	})
	defer func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // ends the reading
		reading.Wait()
	}()
	again := time.NewTicker(passEvery)
	defer again.Stop()
	for {
		if err := send(said); err != nil {
			return err
		}
		select {
		case <-came:
			return nil
		case <-ctx.Done():
			return errNotPassed
		case <-again.C:
		}
	}
}

// fromOutside sends a packet from this machine to an allocation: its port has to
// be open, not only that of the server.
func (s *subject) fromOutside(ctx context.Context, a *allocation, server netip.AddrPort) bool {
	conn, err := listenUDP(ctx, a.at())
	if err != nil {
		return false
	}
	defer conn.Close()
	asking, cancel := context.WithTimeout(ctx, stunWithin)
	defer cancel()
	seen, err := ice.Discover(asking, conn, server)
	if err != nil || a.client.CreatePermission(net.UDPAddrFromAddrPort(seen)) != nil {
		return false
	}
	if err := a.relay.SetReadDeadline(time.Time{}); err != nil {
		return false
	}
	return passes(ctx, a.relay, func(p []byte) error {
		_, err := conn.WriteTo(p, a.relay.LocalAddr())
		return err
	}) == nil
}
