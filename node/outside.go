package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/peerservers/peerserver/node/ice"
)

// openReach makes the part that finds out how the node is reached. A node on
// loopback has no outside.
func (n *Node) openReach() {
	at, err := netip.ParseAddrPort(n.listener.Addr().String())
	if err != nil || at.Addr().IsLoopback() {
		return
	}
	r := &reach{
		log: n.log, private: n.cfg.AllowPrivate, urls: n.finder.fixed.urls, blind: n.certs != nil, tcp: at.Port(),
		neighbours: n.relay.Neighbours, known: n.relay.Known, probe: n.relay.Probe,
		lookup: lookupIP, interfaces: func() []netip.Addr { return ownAddresses(at.Addr()) }, changed: n.onOutside,
		state: Reach{TCP: reachUnknown, STUN: reachUnknown},
	}
	if n.ice != nil {
		r.stun, r.discover = portOf(n.iceSockets.packets.LocalAddr()), n.ice.Discover
	}
	n.reach = r
}

// onOutside takes what a round has found.
func (n *Node) onOutside(o *outside) {
	before := n.outside.Swap(o)
	if !slices.Equal(o.public, n.publicAddresses()) {
		n.public.Store(&o.public)
	}
	urls := n.reach.urls
	if len(urls) == 0 && !n.cfg.NoAnnounce {
		urls = o.urls
	}
	if before != nil && slices.Equal(before.urls, o.urls) && before.stun == o.stun && before.ports == o.ports {
		return
	}
	if err := n.setRecord(urls); err != nil {
		n.log.Error("own record cannot be changed", "err", err)
		return
	}
	n.relay.RecordChanged()
}

// recordPorts are what the node's record says of STUN and TURN: as they are from
// outside, none that other nodes do not reach.
func (n *Node) recordPorts() (stun, turn uint16, tls []uint16) {
	stun, turn, tls = n.icePorts()
	o := n.outside.Load()
	if o == nil || stun == 0 {
		return stun, turn, tls
	}
	if o.stun == reachNo {
		return 0, 0, tls
	}
	stun, turn = o.ports.replace(stun, turn)
	return stun, turn, tls
}

// replace puts the router's port in place of the node's own.
func (m *mapped) replace(stun, turn uint16) (uint16, uint16) {
	if m.stun == 0 || stun == 0 {
		return stun, turn
	}
	if turn != 0 {
		turn = m.stun // over TCP it is the same, or not reached: a record has one
	}
	return m.stun, turn
}

// portsAt are those for a peer that has reached the node at a host: from outside
// they may be the router's.
func (n *Node) portsAt(host string) (stun, turn uint16, tls []uint16) {
	stun, turn, tls = n.icePorts()
	if a, err := netip.ParseAddr(host); err == nil && slices.Contains(n.publicAddresses(), a) {
		if o := n.outside.Load(); o != nil {
			stun, turn = o.ports.replace(stun, turn)
		}
	}
	return stun, turn, tls
}

// reachStats is what Stats says of it, nil for a node without an outside.
func (n *Node) reachStats() *Reach {
	if n.reach == nil {
		return nil
	}
	now := n.reach.now()
	if n.reach.mapped != nil {
		now.PortMap = n.reach.mapped().mapper
	}
	return &now
}

// trySTUN asks a STUN server from a socket that has never sent anything else, so
// that no NAT lets its answer in for the sake of that. It is for relay.Config.
func trySTUN(ctx context.Context, to netip.AddrPort) bool {
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, network, ":0")
	if err != nil {
		return false
	}
	defer conn.Close()
	_, err = ice.Discover(ctx, conn, to)
	return err == nil
}

func lookupIP(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// ownAddresses are those of the machine at which a listener on at is reached, the
// ones that it would use itself first: there may be many.
func ownAddresses(at netip.Addr) []netip.Addr {
	if at = at.Unmap(); !at.IsUnspecified() {
		return []netip.Addr{at}
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, i := range all {
		p, err := netip.ParsePrefix(i.String())
		a := p.Addr().Unmap()
		if err == nil && !a.IsLoopback() && !a.IsLinkLocalUnicast() && a.Zone() == "" {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	for _, to := range []string{"[2001:db8::1]:9", "192.0.2.1:9"} {
		used := usedAddress(to)
		if i := slices.Index(list, used); i > 0 {
			list = slices.Insert(slices.Delete(list, i, i+1), 0, used)
		}
	}
	return list
}

// usedAddress is the one from which the machine would send. Nothing is sent.
func usedAddress(to string) netip.Addr {
	c, err := (&net.Dialer{Timeout: time.Second}).Dial("udp", to)
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	ap, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

// serveReach waits for the node's own start.
func (n *Node) serveReach(ctx context.Context) error {
	if !sleep(ctx, n.finder.delay) {
		return nil
	}
	return n.reach.serve(ctx)
}
