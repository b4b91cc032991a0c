package ice

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"

	"github.com/peerservers/peerserver/protocol"
)

// portTries is how many relay ports are tried for an allocation.
const portTries = 64

var (
	errNoFamily = errors.New("the node has no address of this family")
	errNoPort   = errors.New("no relay port is free")
)

// listen opens the socket of the allocation that is asked for, at a port, or at
// any one for 0.
func (f *front) listen(network string, port int) (*relay, error) {
	req := &f.request
	told, err := f.toldAddress(network, req.from)
	if err != nil {
		return nil, err
	}
	for _, port := range f.s.ports(port) {
		at := net.JoinHostPort(f.bindHost(told), strconv.Itoa(int(port)))
		c, err := new(net.ListenConfig).ListenPacket(context.Background(), network, at)
		if err != nil {
			continue
		}
		r := &relay{
			s: f.s, front: f, lease: req.lease, conn: c.(*net.UDPConn), client: req.from, peer: req.user.peer, made: req.at,
			told: netip.AddrPortFrom(told, port), local: addrPort(c.LocalAddr()),
			remotes: make(map[netip.Addr]*remote), channels: make(map[netip.AddrPort]bool),
		}
		if f.s.addresses.add(r) {
			return r, nil
		}
		c.Close()
	}
	return nil, errNoPort
}

// ports are those to be tried: one that is asked for, if it is of the range, or
// all of a small range, and some from everywhere in a large one.
func (s *Server) ports(want int) (list []uint16) {
	low, high := int(s.cfg.MinPort), int(s.cfg.MaxPort)
	if want != 0 {
		if want < low || want > high {
			return nil
		}
		return []uint16{uint16(want)}
	}
	n, first := high-low+1, s.anyPort()-low
	for try := range min(n, portTries) {
		list = append(list, uint16(low+(first+try*(n/portTries+1))%n))
	}
	return list
}

// anyPort is one of the range.
func (s *Server) anyPort() int {
	return int(s.cfg.MinPort) + rand.IntN(int(s.cfg.MaxPort)-int(s.cfg.MinPort)+1)
}

// toldAddress is the relayed address that a client is told: one that the node is
// known by, or, if it is known by none of that family, its own.
func (f *front) toldAddress(network string, client netip.AddrPort) (netip.Addr, error) {
	fits := func(a netip.Addr) bool { return a.IsValid() && a.Is4() == (network == "udp4") }
	known := f.s.addresses.known()
	for _, a := range known {
		if a = a.Unmap(); fits(a) {
			return a, nil
		}
	}
	if at := addrPort(f.LocalAddr()).Addr(); len(known) == 0 && fits(at) && !at.IsUnspecified() {
		return at, nil
	}
	to := client
	if !fits(client.Addr()) {
		to = anywhere(network)
	}
	// Nothing is sent by this: the system says from which address it would be.
	c, err := new(net.Dialer).DialContext(context.Background(), network, to.String())
	if err != nil {
		return netip.Addr{}, errNoFamily
	}
	defer c.Close()
	own := addrPort(c.LocalAddr()).Addr()
	if len(known) > 0 && !protocol.Public(own) && !f.s.cfg.AllowPrivate {
		return netip.Addr{}, errNoFamily // behind a NAT, and what it has outside is not known
	}
	return own, nil
}

// anywhere is an address that is reached like most.
func anywhere(network string) netip.AddrPort {
	if network == "udp6" {
		return netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 9)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 9)
}

// bindHost is the address that the socket of a relayed address is bound to: the
// same if an interface has it, which it has not behind a NAT.
func (f *front) bindHost(told netip.Addr) string {
	if f.s.addresses.onInterface(told) {
		return told.String()
	}
	if at := addrPort(f.LocalAddr()).Addr(); at.Is4() == told.Is4() && !at.IsUnspecified() && !at.IsLoopback() {
		return at.String()
	}
	return unspecified(told).String()
}
