package dhtstore

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
)

// addrPort is an address of the library's, never a v4-mapped one.
func addrPort(a krpc.NodeAddr) netip.AddrPort {
	p := a.ToNodeAddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// libNode is a node as the library has it.
func libNode(n node) krpc.NodeInfo {
	return krpc.NodeInfo{ID: n.ID, Addr: krpc.NodeAddr{IP: n.Addr.Addr().AsSlice(), Port: int(n.Addr.Port())}}
}

// udpAddr is the address of a packet, never a v4-mapped one.
func udpAddr(a net.Addr) (netip.AddrPort, bool) {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	p := u.AddrPort()
	p = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	return p, usable(p)
}

// usable says whether there can be a node: whether we may send there at all.
func usable(p netip.AddrPort) bool {
	a := p.Addr()
	return p.Port() != 0 && a.IsValid() && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() &&
		(!a.Is4() || a.As4()[0] != 0 && a.As4()[0] < 240)
}

// private says whether an address means something in one network only. There
// nodes share addresses and choose their ids, and BEP 42 has no say.
func private(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

// secure says whether BEP 42 lets a node with this id have this address.
func secure(id [20]byte, a netip.Addr) bool {
	return private(a) || dht.NodeIdSecure(id, a.AsSlice())
}

// network is what one owner of addresses has: a v4 address, or a /64 of v6.
func network(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	p, _ := a.WithZone("").Prefix(64)
	return p.Addr()
}

// Compact forms (BEP 5, BEP 32): 4 or 16 bytes of address and 2 of port, for a
// node with its id in front.

func appendAddr(b []byte, p netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(append(b, p.Addr().AsSlice()...), p.Port())
}

func parseAddr(b []byte, v6 bool) (netip.AddrPort, bool) {
	n := addrLen(v6)
	if len(b) != n+2 {
		return netip.AddrPort{}, false
	}
	a, _ := netip.AddrFromSlice(b[:n])
	p := netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[n:]))
	return p, usable(p)
}

func addrLen(v6 bool) int {
	if v6 {
		return 16
	}
	return 4
}
