//go:build linux

package natlab

import (
	"context"
	"fmt"
	"math"
	"net/netip"
)

// Network is what a cable leads to: the internet, or the LAN of a home behind
// its router.
type Network struct {
	lab     *Lab
	name    string
	sw      *Switch
	router  *Host        // of a LAN
	gateway netip.Addr   // the router's address on it
	given   map[pool]int // addresses that are taken, of each pool; guarded by lab.mu
}

// pool is where addresses come from. Those of the internet are of a block of
// amateur radio's, for nodes refuse those that are set apart for documentation:
// what is tested are nodes as they are. Each is in a /24 of its own, since nodes
// take machines of one as somebody's.
type pool int

const (
	servers pool = 128 // 44.128.1.1, 44.128.2.1 ...
	others  pool = 129 // 44.129.1.1 ..., routers and machines without one; on a LAN: all
)

// place is an address in a network, as a DHCP server gives it. On the internet
// everybody is reached without a gateway: one switch is all of it.
type place struct {
	prefix  netip.Prefix
	gateway netip.Addr
}

// Host is one more machine in the network.
func (n *Network) Host(name string) *Host {
	n.lab.t.Helper()
	return n.lab.host(name, n, n.lease(others))
}

// Router is the home's router, nil on the internet: for what runs on one, such as
// a server of UPnP. Its devices are wan and lan; Addr is its address outside.
func (n *Network) Router() *Host { return n.router }

// lease gives an address that nobody has.
func (n *Network) lease(from pool) place {
	n.lab.t.Helper()
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	if n.given == nil {
		n.given = make(map[pool]int)
	}
	n.given[from]++
	number := n.given[from]
	if number > 250 {
		n.lab.t.Fatal("natlab: " + n.name + " has no more addresses")
	}
	if n.gateway.IsValid() {
		a := n.gateway.As4()
		a[3] += byte(number)
		return place{netip.PrefixFrom(netip.AddrFrom4(a), 24), n.gateway}
	}
	return place{netip.PrefixFrom(netip.AddrFrom4([4]byte{44, byte(from), byte(number), 1}), 32), netip.Addr{}}
}

// lines are what ip has to do for a device to be there.
func (p place) lines(device string) []string {
	lines := []string{
		fmt.Sprintf("addr replace %s dev %s", p.prefix, device),
		fmt.Sprintf("link set %s up", device),
	}
	if p.gateway.IsValid() {
		return append(lines, fmt.Sprintf("route replace default via %s dev %s", p.gateway, device))
	}
	lines = append(lines, fmt.Sprintf("route replace default dev %s", device))
	// Nobody on the internet has these: what is sent there is lost, without a word.
	for _, private := range []string{"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"} {
		lines = append(lines, "route replace blackhole "+private)
	}
	return lines
}

// lan makes a network behind a router that is in another.
func (l *Lab) lan(name string, kind NAT, upstream *Network, block netip.Addr) *Network {
	l.t.Helper()
	l.mu.Lock()
	l.homes++
	a := block.As4()
	a[2], a[3] = byte(l.homes), 1
	l.mu.Unlock()
	n := &Network{lab: l, name: name, sw: newSwitch(), gateway: netip.AddrFrom4(a)}
	router := l.namespace(name + ".router")
	outside := upstream.lease(others)
	n.router = &Host{lab: l, name: name + ".router", ns: router, cable: l.cable(router, wan, upstream), network: upstream, place: outside}
	l.cable(router, lan, n)
	ctx := l.t.Context()
	l.must(router.exec(ctx, kind.rules(), "nft", "-f", "-"))
	l.must(router.ip(ctx, append(outside.lines(wan),
		fmt.Sprintf("addr add %s dev %s", netip.PrefixFrom(n.gateway, 24), lan), "link set lan up")...))
	l.must(router.set("net/ipv4/ip_forward", "1"))
	return n
}

// host makes a machine.
func (l *Lab) host(name string, in *Network, at place) *Host {
	l.t.Helper()
	h := &Host{lab: l, name: name, ns: l.namespace(name), network: in, place: at}
	h.cable = l.cable(h.ns, device, in)
	l.must(h.ns.set("net/ipv6/conf/all/disable_ipv6", "1"))
	l.must(h.ns.ip(l.t.Context(), at.lines(device)...))
	return h
}

// join plugs a cable into a network, and gives it what the network's cables are
// like: each of the internet has half of the delay of a way, and loses as many
// of what it carries that two together lose the share of one way.
func (c *Cable) join(n *Network) {
	if n == n.lab.Internet {
		c.Shape(n.lab.config.Delay/2, 1-math.Sqrt(1-n.lab.config.Loss))
	} else {
		c.Shape(0, 0)
	}
	c.plug(n.sw)
}

// move has a machine leave its network for another one and get an address there.
func (h *Host) move(ctx context.Context, to *Network, at place) error {
	h.cable.plug(nil)
	if err := h.ns.ip(ctx, "addr flush dev "+device, "route flush table main"); err != nil {
		return err
	}
	h.cable.join(to)
	return h.ns.ip(ctx, at.lines(device)...)
}
