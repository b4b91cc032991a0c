package dhtstore

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Against liars: what one lookup takes of those who say that they serve an app.
const (
	maxCandidates = 64  // asked for their record
	maxWaiting    = 512 // known of, asked or not
	maxPrivate    = 512 // asked, on private addresses
	maxFromOne    = 3   // of one responder, on public addresses
	maxPerNet     = 2   // of a /24 or /48, on public addresses
	probesAtOnce  = 16
)

// candidates are the addresses that one lookup has come upon, and asks. They
// are picked at random among those that wait. Half of the places are kept until
// all have been heard: whoever answers first cannot take them all.
type candidates struct {
	store *Store
	found func(r *protocol.Record, at netip.AddrPort, asked bool) // called from several goroutines

	wg sync.WaitGroup

	mu      sync.Mutex
	seen    map[netip.AddrPort]bool
	from    map[netip.Addr]int // responders
	nets    map[netip.Prefix]int
	waiting []netip.AddrPort
	asked   int // on public addresses
	private int // asked on others
	asking  int // goroutines
	last    bool
}

func (s *Store) newCandidates(found func(*protocol.Record, netip.AddrPort, bool)) *candidates {
	return &candidates{
		store: s, found: found,
		seen: make(map[netip.AddrPort]bool), from: make(map[netip.Addr]int), nets: make(map[netip.Prefix]int),
	}
}

// offer takes what a responder has said, and asks.
func (c *candidates) offer(ctx context.Context, responder netip.AddrPort, peers []netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, i := range rand.Perm(len(peers)) {
		p := peers[i]
		free := c.free(p)
		if c.seen[p] || len(c.seen) >= maxWaiting || !free && c.from[responder.Addr()] >= maxFromOne || !c.store.mayAsk(p, now) {
			continue
		}
		if !free {
			c.from[responder.Addr()]++
		}
		c.seen[p] = true
		c.waiting = append(c.waiting, p)
	}
	c.hire(ctx)
}

// free says whether an address is one that many nodes may share, and that no
// stranger can have: a testnet's.
func (c *candidates) free(p netip.AddrPort) bool { return c.store.cfg.Private && private(p.Addr()) }

// finish asks those that are left, and waits for all answers.
func (c *candidates) finish(ctx context.Context) {
	c.mu.Lock()
	c.last = true
	c.hire(ctx)
	c.mu.Unlock()
	c.wg.Wait()
}

// hire has as many goroutines ask as there is work for. Called with mu held.
func (c *candidates) hire(ctx context.Context) {
	for n := min(len(c.waiting), probesAtOnce) - c.asking; n > 0; n-- {
		c.asking++
		c.wg.Go(func() { c.work(ctx) })
	}
}

func (c *candidates) work(ctx context.Context) {
	for {
		addr, ok := c.take(ctx)
		if !ok {
			return
		}
		known := c.store.cache.fresh(addr, time.Now()) != nil
		if r, err := c.store.ask(ctx, addr); err == nil {
			c.found(r, addr, !known)
		}
	}
}

// take picks one that waits, at random. If there is none, its caller has to
// end.
func (c *candidates) take(ctx context.Context) (netip.AddrPort, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ctx.Err() == nil && len(c.waiting) > 0 {
		most := maxCandidates
		if !c.last {
			most /= 2
		}
		i := rand.IntN(len(c.waiting))
		p := c.waiting[i]
		free := c.free(p)
		if !free && c.asked >= most && !c.last {
			break // until finish
		}
		c.waiting[i] = c.waiting[len(c.waiting)-1]
		c.waiting = c.waiting[:len(c.waiting)-1]
		switch {
		case free && c.private < maxPrivate:
			c.private++
			return p, true
		case !free && c.asked < most && c.nets[subnet(p.Addr())] < maxPerNet:
			c.nets[subnet(p.Addr())]++
			c.asked++
			return p, true
		}
	}
	c.asking--
	return netip.AddrPort{}, false
}

// count is how many were heard of, and how many of them asked.
func (c *candidates) count() (heard, asked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen), c.asked + c.private
}

// subnet is the /24 or /48 that an address is in.
func subnet(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}
