package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/peerservers/peerserver/protocol"
)

// The groups, from BEP 14's example: scoped to a site, and a TTL of 1 keeps
// beacons on the link.
var (
	group4 = netip.AddrFrom4([4]byte{239, 192, 152, 143})
	group6 = netip.MustParseAddr("ff15::efc0:988f")
)

// maxInterfaces bounds those that beacons are sent on; Linux lets a socket join
// a group on 20.
const maxInterfaces = 16

// Machine is the network of this machine: its interfaces that are up, can
// multicast and have a private or link-local address.
type Machine struct{}

// Interfaces implements Network.
func (Machine) Interfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	list := make([]Interface, 0, len(all))
	for _, i := range all {
		const needed = net.FlagUp | net.FlagMulticast
		if i.Flags&needed != needed || i.Flags&net.FlagLoopback != 0 || len(list) == maxInterfaces {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		found := Interface{Index: i.Index, Name: i.Name}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && (p.Addr().IsPrivate() || p.Addr().IsLinkLocalUnicast()) {
				found.Subnets = append(found.Subnets, p)
			}
		}
		if len(found.Subnets) > 0 {
			list = append(list, found)
		}
	}
	return list, nil
}

// Listen implements Network. A machine without one of the families has the
// other. All programs of a machine share the port: Go lets the sockets of
// multicast groups do that.
func (Machine) Listen() ([]Conn, error) {
	var conns []Conn
	var errs []error
	for _, open := range []func() (Conn, error){listen4, listen6} {
		c, err := open()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		conns = append(conns, c)
	}
	if len(conns) == 0 {
		return nil, fmt.Errorf("beacons of the LAN, UDP %d: %w; does another program have the port for itself?", protocol.BeaconPort, errors.Join(errs...))
	}
	return conns, nil
}

func listen(network string, group netip.Addr) (net.PacketConn, error) {
	at := net.JoinHostPort(group.String(), strconv.Itoa(protocol.BeaconPort))
	return new(net.ListenConfig).ListenPacket(context.Background(), network, at)
}

func groupAddr(group netip.Addr) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(group, protocol.BeaconPort))
}

// sourceOf is the address that beacons on an interface come from.
func sourceOf(i Interface, is4 bool) (net.IP, bool) {
	for _, s := range i.Subnets {
		if s.Addr().Is4() == is4 {
			return s.Addr().AsSlice(), true
		}
	}
	return nil, false
}

// conn4 is the Conn of IPv4.
type conn4 struct{ c *ipv4.PacketConn }

func listen4() (Conn, error) {
	c, err := listen("udp4", group4)
	if err != nil {
		return nil, err
	}
	p := ipv4.NewPacketConn(c)
	// Without control messages, as on Windows, the source address says which
	// interface it was.
	_ = p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
	// Other programs of this machine are to hear it.
	if err := errors.Join(p.SetMulticastTTL(1), p.SetMulticastLoopback(true)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &conn4{p}, nil
}

func (c *conn4) Join(i Interface) error {
	if _, ok := sourceOf(i, true); !ok {
		return nil
	}
	return c.c.JoinGroup(&net.Interface{Index: i.Index}, groupAddr(group4))
}

func (c *conn4) Send(i Interface, b []byte) error {
	src, ok := sourceOf(i, true)
	if !ok {
		return nil
	}
	if err := c.c.SetMulticastInterface(&net.Interface{Index: i.Index}); err != nil {
		return err
	}
	_, err := c.c.WriteTo(b, &ipv4.ControlMessage{IfIndex: i.Index, Src: src}, groupAddr(group4))
	return err
}

func (c *conn4) Receive(b []byte) (int, netip.Addr, int, error) {
	for {
		n, cm, from, err := c.c.ReadFrom(b)
		if err != nil {
			return 0, netip.Addr{}, 0, err
		}
		if cm == nil {
			return n, addrOf(from), 0, nil
		}
		if cm.Dst == nil || cm.Dst.IsMulticast() {
			return n, addrOf(from), cm.IfIndex, nil
		}
	}
}

func (c *conn4) Close() error { return c.c.Close() }

// conn6 is the Conn of IPv6.
type conn6 struct{ c *ipv6.PacketConn }

func listen6() (Conn, error) {
	c, err := listen("udp6", group6)
	if err != nil {
		return nil, err
	}
	p := ipv6.NewPacketConn(c)
	_ = p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
	if err := errors.Join(p.SetMulticastHopLimit(1), p.SetMulticastLoopback(true)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &conn6{p}, nil
}

func (c *conn6) Join(i Interface) error {
	if _, ok := sourceOf(i, false); !ok {
		return nil
	}
	return c.c.JoinGroup(&net.Interface{Index: i.Index}, groupAddr(group6))
}

func (c *conn6) Send(i Interface, b []byte) error {
	src, ok := sourceOf(i, false)
	if !ok {
		return nil
	}
	if err := c.c.SetMulticastInterface(&net.Interface{Index: i.Index}); err != nil {
		return err
	}
	_, err := c.c.WriteTo(b, &ipv6.ControlMessage{IfIndex: i.Index, Src: src}, groupAddr(group6))
	return err
}

func (c *conn6) Receive(b []byte) (int, netip.Addr, int, error) {
	for {
		n, cm, from, err := c.c.ReadFrom(b)
		if err != nil {
			return 0, netip.Addr{}, 0, err
		}
		if cm == nil {
			return n, addrOf(from), 0, nil
		}
		if cm.Dst == nil || cm.Dst.IsMulticast() {
			return n, addrOf(from), cm.IfIndex, nil
		}
	}
}

func (c *conn6) Close() error { return c.c.Close() }

func addrOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
