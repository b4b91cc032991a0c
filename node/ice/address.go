package ice

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	lowestPort = 1024             // under it are services, and no peers
	ownEvery   = 10 * time.Second // between two looks at the interfaces
)

// usual is an address without the spelling that a dual-stack socket gives it.
func usual(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// addrPort is the address of UDP and TCP, invalid for what is neither.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return usual(a.AddrPort())
	case *net.TCPAddr:
		return usual(a.AddrPort())
	}
	return netip.AddrPort{}
}

// addresses decides where TURN may send to. It knows the node's own addresses,
// and the relayed ones that are live.
type addresses struct {
	allowPrivate bool
	public       func() []netip.Addr
	sockets      []netip.Addr // that the node listens on, and not all of them

	mu     sync.RWMutex
	own    map[netip.Addr]bool
	at     time.Time                 // when own was looked up
	told   map[netip.AddrPort]*relay // by relayed address
	bound  map[netip.AddrPort]*relay // by the socket's own
	toldBy map[netip.Addr]int        // how many there are at an address
}

func newAddresses(cfg *Config) *addresses {
	a := &addresses{
		allowPrivate: cfg.AllowPrivate, public: cfg.Public,
		told: make(map[netip.AddrPort]*relay), bound: make(map[netip.AddrPort]*relay), toldBy: make(map[netip.Addr]int),
	}
	for _, p := range cfg.Packets {
		a.sockets = append(a.sockets, addrPort(p.LocalAddr()).Addr())
	}
	for _, l := range cfg.Listeners {
		a.sockets = append(a.sockets, addrPort(l.Addr()).Addr())
	}
	return a
}

// known are the addresses that the node is known by.
func (a *addresses) known() []netip.Addr {
	if a.public == nil {
		return nil
	}
	return a.public()
}

// isOwn says whether an address is the node's, or stands for one.
func (a *addresses) isOwn(ip netip.Addr) bool {
	a.mu.RLock()
	fresh := time.Since(a.at) < ownEvery
	own := a.own
	a.mu.RUnlock()
	if !fresh {
		own = a.lookUp()
	}
	if own[ip] {
		return true
	}
	for _, v4 := range protocol.EmbeddedIPv4(ip) {
		if own[v4] {
			return true
		}
	}
	return false
}

// lookUp finds the node's addresses. Those of interfaces that cannot be listed
// stay what they were.
func (a *addresses) lookUp() map[netip.Addr]bool {
	own := make(map[netip.Addr]bool)
	list, err := net.InterfaceAddrs()
	for _, n := range list {
		if n, ok := n.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				own[ip.Unmap()] = true
			}
		}
	}
	for _, ip := range append(a.known(), a.sockets...) {
		own[ip.Unmap()] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		for ip := range a.own {
			own[ip] = true
		}
	}
	a.own, a.at = own, time.Now()
	return own
}

// permit says whether a peer's address may be relayed to, for its port is known
// only when something is sent. One of the node's own is as long as a relayed
// address there is live.
func (a *addresses) permit(ip netip.Addr) bool {
	a.mu.RLock()
	relays := a.toldBy[ip] > 0
	a.mu.RUnlock()
	return relays || a.open(ip)
}

// open says whether an address may be sent to, the ports aside.
func (a *addresses) open(ip netip.Addr) bool {
	if ip.Zone() != "" {
		return false
	}
	if a.allowPrivate && protocol.Lab(ip) {
		return true
	}
	return protocol.Public(ip) && !a.isOwn(ip)
}

// route says where to send what is for a peer: to its address, or, if that is a
// relayed address of this node, to the socket of it, which also works where a
// NAT does not send back what comes from inside.
func (a *addresses) route(to netip.AddrPort) (netip.AddrPort, reason) {
	if to.Port() < lowestPort {
		return to, badPort
	}
	a.mu.RLock()
	r := a.told[to]
	a.mu.RUnlock()
	if r != nil {
		return r.reach(), fine
	}
	if !a.open(to.Addr()) {
		return to, badAddress
	}
	return to, fine
}

// origin is the address that something came from: the relayed one, if it came
// from the socket of one. No other machine can send from an address of this one.
func (a *addresses) origin(from netip.AddrPort) netip.AddrPort {
	a.mu.RLock()
	defer a.mu.RUnlock()
	r := a.bound[from]
	if r == nil && (from.Addr().IsLoopback() || a.own[from.Addr()]) {
		r = a.bound[netip.AddrPortFrom(unspecified(from.Addr()), from.Port())]
	}
	if r == nil {
		return from
	}
	return r.told
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// add reports false if the relayed address is another's already, whose socket is
// of another interface.
func (a *addresses) add(r *relay) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told[r.told] != nil {
		return false
	}
	a.told[r.told], a.bound[r.local] = r, r
	a.toldBy[r.told.Addr()]++
	return true
}

func (a *addresses) remove(r *relay) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.told, r.told)
	delete(a.bound, r.local)
	if a.toldBy[r.told.Addr()]--; a.toldBy[r.told.Addr()] == 0 {
		delete(a.toldBy, r.told.Addr())
	}
}

// relayOf is the relay that has a relayed address.
func (a *addresses) relayOf(told netip.AddrPort) *relay {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.told[told]
}

// onInterface says whether an interface has the address.
func (a *addresses) onInterface(ip netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(n net.Addr) bool {
		in, ok := n.(*net.IPNet)
		if !ok {
			return false
		}
		at, _ := netip.AddrFromSlice(in.IP)
		return at.Unmap() == ip || (ip.IsLoopback() && at.IsLoopback() && in.Contains(ip.AsSlice()))
	})
}
