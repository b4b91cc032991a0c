package dhtstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	k_nearest_nodes "github.com/anacrolix/dht/v2/k-nearest-nodes"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/dht/v2/traversal"
	"github.com/anacrolix/dht/v2/types"
)

const (
	walkWidth  = 8   // queries at a time
	walkLength = 128 // queries in all; one among 10,000 nodes needs 20
)

// walk is one lookup: which nodes are closest to target, and what do they say?
type walk struct {
	target [20]byte
	v6     bool             // in the IPv6 DHT
	seeds  []netip.AddrPort // where to start; none: the table's closest, and the bootstrap nodes if it has none
	// do asks one node, with findNode, getPeers or get. It is called by up to 8
	// goroutines at once, at most 128 times. A caller that has seen enough
	// cancels the context that it gave to traverse.
	do func(ctx context.Context, addr netip.AddrPort) (*reply, error)
}

// step is a node that answered, with the token it gave.
type step struct {
	node
	Token string
}

// walkStats tells what a walk cost.
type walkStats struct {
	Queries int // asked
	Replies int // of them answered
	Rounds  int // the longest chain of nodes of which each named the next
}

// traverse walks until the 8 closest nodes that answer are known or ctx ends,
// and returns them, closest first. All do calls have returned by then. Without
// a node to start with it returns nothing.
func (s *server) traverse(ctx context.Context, w walk) ([]step, walkStats) {
	f := s.family(w.v6)
	if f == nil {
		return nil, walkStats{}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &progress{f: f, w: w, ctx: ctx, depth: map[netip.AddrPort]int{}, taken: map[netip.Addr]netip.AddrPort{}}
	starts := f.starts(ctx, w)
	p.trust(starts)
	op := traversal.Start(traversal.OperationInput{
		Target: w.target, Alpha: walkWidth, K: bucketSize, DoQuery: p.ask, NodeFilter: p.filter,
	})
	op.AddNodes(starts)
	select {
	case <-op.Stalled():
	case <-ctx.Done():
	}
	cancel()
	op.Stop()
	<-op.Stopped() // Closest before that is a data race
	var closest []step
	op.Closest().Range(func(e k_nearest_nodes.Elem) {
		token, _ := e.Data.(string)
		closest = append(closest, step{node{e.ID, e.Addr.AddrPort}, token})
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return closest, p.stats
}

// progress is the state of one walk.
type progress struct {
	f   *family
	w   walk
	ctx context.Context //nolint:containedctx // the walk's; the library hands its own to each query

	mu      sync.Mutex
	stats   walkStats
	depth   map[netip.AddrPort]int        // of the chain that led to a node
	taken   map[netip.Addr]netip.AddrPort // the node of each network
	trusted map[netip.AddrPort]bool       // where we start, dead or not
}

// trust has the walk start at nodes also if they did not answer last time.
func (p *progress) trust(starts []types.AddrMaybeId) {
	p.trusted = make(map[netip.AddrPort]bool, len(starts))
	for _, n := range starts {
		p.trusted[n.Addr.AddrPort] = true
	}
}

// ask asks one node.
func (p *progress) ask(_ context.Context, a krpc.NodeAddr) (res traversal.QueryResult) {
	addr := addrPort(a)
	p.mu.Lock()
	if p.ctx.Err() != nil || p.stats.Queries == walkLength {
		p.mu.Unlock()
		return res
	}
	p.stats.Queries++
	depth := p.depth[addr] + 1
	p.mu.Unlock()
	r, err := p.w.do(p.ctx, addr) //nolint:contextcheck // the walk's, not the library's
	if err != nil || r == nil {
		return res
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Replies++
	p.stats.Rounds = max(p.stats.Rounds, depth)
	for _, n := range r.Nodes {
		if _, ok := p.depth[n.Addr]; !ok && len(p.depth) < walkLength*maxReplyNodes {
			p.depth[n.Addr] = depth
		}
		res.Nodes = append(res.Nodes, libNode(n))
	}
	res.ResponseFrom = &krpc.NodeInfo{ID: r.ID, Addr: a}
	res.ClosestData = r.Token
	return res
}

// filter says whether a node may be part of the walk: not a dead one, not one
// whose id BEP 42 forbids, not a second one of a network, which could make up
// the 8 closest all by itself.
func (p *progress) filter(n types.AddrMaybeId) bool {
	addr := netip.AddrPortFrom(n.Addr.Addr().Unmap(), n.Addr.Port())
	sharing := p.f.server.sharing(addr.Addr())
	if n.Id.Ok && !sharing && !secure(n.Id.Value.AsByteArray(), addr.Addr()) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.trusted[addr] && p.f.known.isDead(addr, time.Now()) {
		return false
	}
	if sharing {
		return true
	}
	first, ok := p.taken[network(addr.Addr())]
	if !ok {
		p.taken[network(addr.Addr())] = addr
	}
	return !ok || first == addr
}

// starts are the nodes that a walk starts with.
func (f *family) starts(ctx context.Context, w walk) []types.AddrMaybeId {
	if len(w.seeds) > 0 {
		return withoutIDs(w.seeds)
	}
	known := f.closest(w.target, 2*bucketSize, anywhere)
	bootstrap := []netip.AddrPort(nil)
	if len(known) == 0 {
		known = f.unproven(w.target, 2*bucketSize)
		bootstrap = f.resolve(ctx)
	}
	infos := make([]krpc.NodeInfo, len(known))
	for i, n := range known {
		infos[i] = libNode(n)
	}
	return append(types.AddrMaybeIdSliceFromNodeInfoSlice(infos), withoutIDs(bootstrap)...)
}

func withoutIDs(addrs []netip.AddrPort) (all []types.AddrMaybeId) {
	for _, a := range addrs {
		all = append(all, types.AddrMaybeId{Addr: krpc.NodeAddrPort{AddrPort: a}})
	}
	return all
}

// resolve looks the bootstrap nodes up. Those that have no address now may
// have one next time.
func (f *family) resolve(ctx context.Context) (addrs []netip.AddrPort) {
	for _, b := range f.server.cfg.Bootstrap {
		found, err := lookUp(ctx, b, f.v6)
		if err != nil && ctx.Err() == nil {
			f.server.cfg.Log.Warn("DHT bootstrap node not found", "node", b, "err", err)
		}
		for _, a := range found {
			if usable(a) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// lookUp finds the addresses of one family of host:port. That there are none
// is no error.
func lookUp(ctx context.Context, hostPort string, v6 bool) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(hostPort); err == nil {
		if a.Addr().Unmap().Is6() != v6 {
			return nil, nil
		}
		return []netip.AddrPort{netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}, nil
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number", port)
	}
	family := "ip4"
	if v6 {
		family = "ip6"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	var none *net.DNSError
	if errors.As(err, &none) && none.IsNotFound && v6 {
		return nil, nil // most have none
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), uint16(number))
	}
	return addrs, err
}
