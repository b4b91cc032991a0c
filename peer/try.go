package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/transport/v4"
	"github.com/pion/turn/v5"
)

// trySTUN asks all servers of one family from one socket.
func trySTUN(ctx context.Context, on transport.Net, list []Tried) {
	var all sync.WaitGroup
	for _, network := range []string{"udp4", "udp6"} {
		var of []*Tried
		for i := range list {
			if t := &list[i]; t.resolve(on, network) {
				of = append(of, t)
			}
		}
		if len(of) > 0 {
			all.Go(func() { askAll(ctx, on, network, of) })
		}
	}
	all.Wait()
}

// resolve finds the server in the family of a network, unless it was found.
func (t *Tried) resolve(on transport.Net, network string) bool {
	uri, err := stun.ParseURI(t.URL)
	if err != nil || uri.Scheme != stun.SchemeTypeSTUN || t.at.IsValid() {
		return false
	}
	a, err := on.ResolveUDPAddr(network, net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)))
	if err != nil || (network == "udp4") != (a.IP.To4() != nil) {
		return false
	}
	t.at, t.Why = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port)), WhyNoReply
	return true
}

func askAll(ctx context.Context, on transport.Net, network string, list []*Tried) {
	conn, err := on.ListenUDP(network, nil)
	if err != nil {
		return
	}
	client, err := turn.NewClient(&turn.ClientConfig{Conn: conn, Net: on})
	if err != nil {
		conn.Close()
		return
	}
	defer asking{client, conn}.closeAfter(ctx)()
	if client.Listen() != nil {
		return
	}
	var all sync.WaitGroup
	for _, t := range list {
		all.Go(func() {
			began := time.Now()
			mapped, err := client.SendBindingRequestTo(net.UDPAddrFromAddrPort(t.at))
			t.Took = milliseconds(began)
			if a, ok := mapped.(*net.UDPAddr); ok && err == nil {
				t.OK, t.Why = true, ""
				t.Mapped = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port))
			}
		})
	}
	all.Wait()
}

// asking is a client and its connection.
type asking struct {
	client *turn.Client
	conn   net.PacketConn
}

func (a asking) Close() error {
	a.client.Close()
	return a.conn.Close()
}

// closeAfter closes when end is called, or ctx ends.
func (a asking) closeAfter(ctx context.Context) (end func()) {
	stop := closeWith(ctx, a)
	return func() {
		if stop() {
			a.Close()
		}
	}
}

func turnTransport(u *stun.URI) string {
	switch {
	case u.IsSecure():
		return "tls"
	case u.Proto == stun.ProtoTypeTCP:
		return "tcp"
	}
	return "udp"
}

// turnTry is an allocation that is made, and given back.
type turnTry struct {
	uri            *stun.URI
	user, password string
}

func (y turnTry) run(ctx context.Context, on transport.Net, t *Tried) {
	began := time.Now()
	relayed, err := y.allocate(ctx, on, t)
	t.Took = milliseconds(began)
	if err == nil {
		t.OK, t.Why, t.Relayed = true, "", relayed
		return
	}
	if e, ok := errors.AsType[*stun.TurnError](err); ok {
		switch e.ErrorCodeAttr.Code {
		case stun.CodeAllocQuotaReached, stun.CodeInsufficientCapacity:
			t.Why = WhyFull
		default:
			t.Why = WhyDenied
		}
	}
}

func (y turnTry) allocate(ctx context.Context, on transport.Net, t *Tried) (netip.AddrPort, error) {
	if t.Transport == "tls" && y.uri.Proto == stun.ProtoTypeUDP {
		return netip.AddrPort{}, stun.ErrProtoType
	}
	address := net.JoinHostPort(y.uri.Host, strconv.Itoa(y.uri.Port))
	conn, err := y.connect(ctx, on, address, t)
	if err != nil {
		return netip.AddrPort{}, err
	}
	client, err := turn.NewClient(&turn.ClientConfig{Conn: conn, TURNServerAddr: address, Username: y.user, Password: y.password, Net: on})
	if err != nil {
		conn.Close()
		return netip.AddrPort{}, err
	}
	defer asking{client, conn}.closeAfter(ctx)()
	if err := client.Listen(); err != nil {
		return netip.AddrPort{}, err
	}
	relay, err := client.AllocateWithContext(ctx)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer relay.Close()
	a, ok := relay.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}, net.InvalidAddrError("a relayed address that is none")
	}
	return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port)), nil
}

// connect has a way to the server, and knows then whether its name is found.
func (y turnTry) connect(ctx context.Context, on transport.Net, address string, t *Tried) (net.PacketConn, error) {
	if t.Transport == "udp" {
		a, err := on.ResolveUDPAddr("udp4", address)
		if err != nil {
			return nil, err
		}
		t.Why = WhyNoReply
		conn, err := on.ListenPacket("udp4", "0.0.0.0:0")
		t.at = a.AddrPort()
		return conn, err
	}
	a, err := on.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	t.Why = WhyNoReply
	conn, err := on.DialTCP("tcp4", nil, a)
	if err != nil {
		return nil, err
	}
	if t.Transport == "tcp" {
		return turn.NewSTUNConn(conn), nil
	}
	secure := tls.Client(conn, &tls.Config{ServerName: y.uri.Host, MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return turn.NewSTUNConn(secure), nil
}
