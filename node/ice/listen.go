package ice

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// portTries is how many relay ports are tried for an allocation.
const portTries = 64

var (
	errNoFamily = errors.New("the node has no address of this family")
	errNoPort   = errors.New("no relay port is free")
)

// listen opens the socket of an allocation.
func (f *front) listen(network string, from netip.AddrPort, l *lease, peer client) (*relay, error) {
	told, err := f.toldAddress(network, from)
	if err != nil {
		return nil, err
	}
	low, n := int(f.s.cfg.MinPort), int(f.s.cfg.MaxPort)-int(f.s.cfg.MinPort)+1
	first := rand.IntN(n) // #nosec -- a port is no secret
	for try := range min(n, portTries) {
		// All of a small range, and some from everywhere in a large one.
		port := uint16(low + (first+try*(n/portTries+1))%n)
		c, err := new(net.ListenConfig).ListenPacket(context.Background(), network, net.JoinHostPort(f.bindHost(told), strconv.Itoa(int(port))))
		if err != nil {
			continue
		}
		r := &relay{
			s: f.s, front: f, lease: l, conn: c.(*net.UDPConn), client: from, peer: peer,
			told: netip.AddrPortFrom(told, port), local: addrPort(c.LocalAddr()), made: time.Now(), remotes: make(map[netip.Addr]*remote),
		}
		if f.s.addresses.add(r) {
			return r, nil
		}
		c.Close()
	}
	return nil, errNoPort
}

// toldAddress is the relayed address that a client is told.
func (f *front) toldAddress(network string, client netip.AddrPort) (netip.Addr, error) {
	fits := func(a netip.Addr) bool { return a.IsValid() && a.Is4() == (network == "udp4") }
	known := f.s.addresses.known()
	for _, a := range known {
		if a = a.Unmap(); fits(a) {
			return a, nil
		}
	}
	if len(known) > 0 {
		return netip.Addr{}, errNoFamily
	}
	if at := addrPort(f.LocalAddr()).Addr(); fits(at) && !at.IsUnspecified() {
		return at, nil
	}
	// Nothing is sent by this: the system says from which address it would be.
	to := client
	if !fits(client.Addr()) {
		to = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 9)
		if network == "udp6" {
			to = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 9)
		}
	}
	c, err := new(net.Dialer).DialContext(context.Background(), network, to.String())
	if err != nil {
		return netip.Addr{}, errNoFamily
	}
	defer c.Close()
	return addrPort(c.LocalAddr()).Addr(), nil
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
