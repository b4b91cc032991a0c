package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/protocol"
)

// neighbours are the nodes that were heard on the LAN. What may be dialled of
// them is the address that a beacon came from, if the record in it names that:
// else anybody on the LAN could have the node knock at others' doors.
type neighbours struct {
	// Static.
	n       *Node
	beacons *lan.Beacons

	mu  sync.Mutex
	all map[neighbour]*protocol.Record // with the URLs that may be dialled alone; the beacons are bounded
}

// neighbour is a node at one of its addresses.
type neighbour struct {
	node protocol.NodeID
	from netip.Addr
}

// openLAN opens the sockets of the beacons.
func (n *Node) openLAN() (err error) {
	if !n.cfg.LAN {
		return nil
	}
	l := &neighbours{n: n, all: make(map[neighbour]*protocol.Record)}
	l.beacons, err = lan.Listen(lan.Config{
		Key: n.cfg.Key, Say: l.say, Heard: l.heard, Gone: l.gone, Network: n.cfg.LANNetwork, Log: n.log,
	})
	if err == nil {
		n.lan = l
	}
	return err
}

// serveLAN announces the node and hears others, after the delay that tests ask
// for.
func (n *Node) serveLAN(ctx context.Context) error {
	sleep(ctx, n.cfg.PeerDelay)
	return n.lan.beacons.Serve(ctx)
}

// say is a record with the node's URLs on the LAN, and then its others. A node
// that cannot be reached from there says nothing.
func (l *neighbours) say(on lan.Interface) lan.Said {
	urls := lanURLs(l.n.listener.Addr(), on)
	if len(urls) == 0 {
		return lan.Said{}
	}
	urls = append(urls, l.n.cfg.URLs...)
	r := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL, URLs: urls[:min(len(urls), protocol.MaxRecordURLs)]}
	r.STUNPort, r.TURNPort, r.TURNTLS = l.n.icePorts()
	if err := protocol.SignRecord(l.n.cfg.Key, r); err != nil {
		l.n.log.Error("the record for the LAN cannot be signed", "err", err)
		return lan.Said{}
	}
	return lan.Said{Record: r.Signed}
}

// lanURLs are the link URLs of a listener on an interface. A link-local IPv6
// address is none: it means something only with a zone, which is each
// machine's own.
func lanURLs(listener net.Addr, on lan.Interface) (urls []string) {
	tcp, ok := listener.(*net.TCPAddr)
	if !ok {
		return nil
	}
	bound := tcp.AddrPort().Addr().Unmap()
	for _, s := range on.Subnets {
		a := s.Addr().Unmap()
		reached := a == bound || (bound == netip.IPv6Unspecified()) || (bound == netip.IPv4Unspecified() && a.Is4())
		if !reached || (a.Is6() && a.IsLinkLocalUnicast()) {
			continue
		}
		u := "ws://" + net.JoinHostPort(a.String(), strconv.Itoa(tcp.Port))
		if _, err := protocol.ParseLinkURL(u); err == nil && !slices.Contains(urls, u) {
			urls = append(urls, u)
		}
	}
	return urls
}

// heard hands a node to those who look for nodes.
func (l *neighbours) heard(h lan.Heard) {
	if h.Record == nil {
		return
	}
	rec := *h.Record
	rec.URLs = slices.DeleteFunc(slices.Clone(rec.URLs), func(s string) bool {
		at, ok := addrPort(s)
		return !ok || at.Addr() != h.From.WithZone("")
	})
	if len(rec.URLs) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	here := rec
	l.all[neighbour{rec.Node, h.From}] = &here
	for at, other := range l.all { // its other addresses
		if at.node == rec.Node && at.from != h.From {
			rec.URLs = slices.Concat(rec.URLs, other.URLs)
		}
	}
	l.n.finder.fixed.near(&rec)
}

func (l *neighbours) gone(h lan.Heard) {
	if h.Record == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, neighbour{h.Record.Node, h.From})
	for at := range l.all {
		if at.node == h.Record.Node {
			return
		}
	}
	l.n.finder.fixed.far(h.Record.Node)
}

// allows is relay.DialPolicy.Allow: an address that a node on the LAN has named
// in a beacon from there.
func (l *neighbours) allows(to netip.AddrPort) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, rec := range l.all {
		if at.from.WithZone("") != to.Addr() {
			continue
		}
		for _, s := range rec.URLs {
			if named, ok := addrPort(s); ok && named == to {
				return true
			}
		}
	}
	return false
}

// addrPort is the place of a link URL that has an address.
func addrPort(link string) (netip.AddrPort, bool) {
	u, err := protocol.ParseLinkURL(link)
	if err != nil {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddr(u.Host)
	return netip.AddrPortFrom(a, u.Port), err == nil
}
