package dhtstore

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"

	k_nearest_nodes "github.com/anacrolix/dht/v2/k-nearest-nodes"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/dht/v2/traversal"
	"github.com/anacrolix/dht/v2/types"
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
// and returns them, closest first. All do calls have returned by then.
func (s *server) traverse(ctx context.Context, w walk) (closest []step, stats walkStats) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	depth := map[netip.AddrPort]int{}
	op := traversal.Start(traversal.OperationInput{
		Target: w.target,
		Alpha:  8,
		K:      8,
		DoQuery: func(_ context.Context, a krpc.NodeAddr) (res traversal.QueryResult) {
			addr := a.ToNodeAddrPort().AddrPort
			mu.Lock()
			stats.Queries++
			d := depth[addr] + 1
			mu.Unlock()
			if ctx.Err() != nil {
				return res
			}
			r, err := w.do(ctx, addr)
			if err != nil || r == nil {
				return res
			}
			mu.Lock()
			defer mu.Unlock()
			stats.Replies++
			stats.Rounds = max(stats.Rounds, d)
			for _, n := range r.Nodes {
				if _, ok := depth[n.Addr]; !ok {
					depth[n.Addr] = d
				}
				res.Nodes = append(res.Nodes, libNode(n))
			}
			res.ResponseFrom = &krpc.NodeInfo{ID: r.ID, Addr: a}
			res.ClosestData = r.Token
			return res
		},
	})
	op.AddNodes(s.starts(ctx, w))
	select {
	case <-op.Stalled():
	case <-ctx.Done():
	}
	op.Stop()
	<-op.Stopped() // Closest before that is a data race
	op.Closest().Range(func(e k_nearest_nodes.Elem) {
		closest = append(closest, step{node{e.ID, e.Addr.AddrPort}, e.Data.(string)})
	})
	return closest, stats
}

// starts are the nodes that a walk starts with.
func (s *server) starts(ctx context.Context, w walk) (all []types.AddrMaybeId) {
	for _, a := range w.seeds {
		all = append(all, types.AddrMaybeId{Addr: krpc.NodeAddrPort{AddrPort: a}})
	}
	if len(all) > 0 {
		return all
	}
	var known []krpc.NodeInfo
	for _, n := range s.closest(w.target, w.v6, 16) {
		known = append(known, libNode(n))
	}
	if len(known) > 0 {
		return types.AddrMaybeIdSliceFromNodeInfoSlice(known)
	}
	addrs, _ := s.resolve(ctx, w.v6)
	for _, a := range addrs {
		all = append(all, types.AddrMaybeId{Addr: krpc.NodeAddrPort{AddrPort: a}})
	}
	return all
}

// resolve looks the bootstrap nodes up.
func (s *server) resolve(_ context.Context, v6 bool) (addrs []netip.AddrPort, err error) {
	for _, b := range s.cfg.Bootstrap {
		a, e := netip.ParseAddrPort(b)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		if a.Addr().Is6() == v6 {
			addrs = append(addrs, a)
		}
	}
	return addrs, err
}

func libNode(n node) krpc.NodeInfo {
	return krpc.NodeInfo{ID: n.ID, Addr: krpc.NodeAddr{IP: n.Addr.Addr().AsSlice(), Port: int(n.Addr.Port())}}
}

// sortByDistance sorts by XOR distance, closest first.
func sortByDistance(nodes []node, target [20]byte) {
	slices.SortFunc(nodes, func(a, b node) int {
		da, db := distance(a.ID, target), distance(b.ID, target)
		return bytes.Compare(da[:], db[:])
	})
}

func distance(a, b [20]byte) (d [20]byte) {
	for i := range d {
		d[i] = a[i] ^ b[i]
	}
	return d
}
