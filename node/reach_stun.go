package node

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"github.com/peerservers/peerserver/protocol"
)

// stunServer is one of another node. Those of one group have one word together:
// a network may be of one owner.
type stunServer struct {
	group string
	at    netip.AddrPort
}

// addresses are those that other nodes see this one at, then what the router
// says of itself, and the public ones of the machine's own.
func (r *reach) addresses(ctx context.Context, m mapped) []netip.Addr {
	var list []netip.Addr
	add := func(a netip.Addr) {
		if r.good(a) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if r.discover != nil {
		four, six := r.servers(ctx)
		at4 := r.see(ctx, four)
		at6 := r.see(ctx, six)
		add(at4.Addr())
		add(at6.Addr())
		r.natPort = at4.Port()
	}
	add(m.address)
	for _, a := range r.interfaces() {
		if protocol.Public(a) {
			add(a)
		}
	}
	return list
}

// servers are the STUN servers of linked nodes, and if they are few of others.
func (r *reach) servers(ctx context.Context) (four, six []stunServer) {
	var records []*protocol.Record
	seen := make(map[protocol.NodeID]bool)
	add := func(rec *protocol.Record) {
		if rec != nil && rec.STUNPort != 0 && !seen[rec.Node] {
			seen[rec.Node] = true
			records = append(records, rec)
		}
	}
	for _, n := range r.neighbours() {
		add(n.Record)
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	for _, rec := range r.known(mostKnown) {
		add(rec)
	}
	families := map[bool]map[string]stunServer{true: {}, false: {}}
	for _, rec := range records[:min(len(records), 2*mostServers)] {
		for _, a := range r.hosts(ctx, rec) {
			s := stunServer{r.group(a, rec.Node), netip.AddrPortFrom(a, rec.STUNPort)}
			if f := families[a.Is4()]; len(f) < mostServers && f[s.group] == (stunServer{}) {
				f[s.group] = s
			}
		}
	}
	return slices.Collect(maps.Values(families[true])), slices.Collect(maps.Values(families[false]))
}

// hosts are the addresses of a node that may be sent to.
func (r *reach) hosts(ctx context.Context, rec *protocol.Record) (list []netip.Addr) {
	if p := rec.STUNPort; p < 1024 && p != 80 && p != 443 {
		return nil
	}
	own := r.interfaces()
	for _, s := range rec.URLs {
		u, err := protocol.ParseLinkURL(s)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, seenTime)
		addrs, err := r.lookup(ctx, u.Host)
		cancel()
		if err != nil {
			continue
		}
		for _, a := range addrs[:min(len(addrs), 4)] {
			if a = a.Unmap(); r.good(a) && !slices.Contains(own, a) && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}

// group is a network, or under --allow-private a node.
func (r *reach) group(a netip.Addr, node protocol.NodeID) string {
	if r.private {
		return node.String()
	}
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits) // never an error
	return p.String()
}

// see asks the servers, and is the address that more than half of those who
// answer see, and two at least; its port is 0 where they see several.
func (r *reach) see(ctx context.Context, servers []stunServer) netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, seenTime)
	defer cancel()
	var mu sync.Mutex
	var answers []netip.AddrPort
	var asking sync.WaitGroup
	for _, s := range servers {
		asking.Go(func() {
			if at, err := r.discover(ctx, s.at); err == nil {
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
			}
		})
	}
	asking.Wait()
	return agreed(answers)
}

// agreed is what more than half of the answers say, and two at least. The port is
// theirs if all of these have one.
func agreed(answers []netip.AddrPort) netip.AddrPort {
	votes := make(map[netip.Addr][]uint16)
	for _, a := range answers {
		votes[a.Addr()] = append(votes[a.Addr()], a.Port())
	}
	for a, ports := range votes {
		if len(ports) < 2 || 2*len(ports) <= len(answers) {
			continue
		}
		if slices.Min(ports) != slices.Max(ports) {
			ports[0] = 0
		}
		return netip.AddrPortFrom(a, ports[0])
	}
	return netip.AddrPort{}
}
