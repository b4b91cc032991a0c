package dhtstore

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Bounds of the cache.
const (
	maxKnown     = 4096               // nodes
	maxKnownApps = 20_000             // apps of which a node is known
	maxAppNodes  = 16                 // of one app; whom we meet there knows the others
	maxKnownAge  = 7 * 24 * time.Hour // since a node has answered; older ones are not loaded
	maxAddrs     = 4096               // addresses of which we know who answers, or that nobody does
	freshFor     = 10 * time.Minute   // a node that has answered is not asked again
	failedFirst  = 15 * time.Second   // an address that did not answer is left alone, and twice as long the next time
	failedMost   = time.Hour          // at most
	failedMemory = 2 * failedMost     // after that it starts anew
)

// cache is what is known of other nodes: those whose record was verified, where
// they answered, for which apps they were found, and which addresses do not
// answer. What belongs on the disk is noted for it.
type cache struct {
	keeps bool // there is a disk

	// Guarded by mu.
	mu     sync.Mutex
	nodes  *lru[protocol.NodeID, knownNode]
	apps   *lru[protocol.AppID, []protocol.NodeID]
	at     *lru[netip.AddrPort, protocol.NodeID] // who answered there within freshFor
	failed *lru[netip.AddrPort, failure]
	dirty  dirt
}

// knownNode is another node, once verified.
type knownNode struct {
	seq      int64            // the highest seen
	record   *protocol.Record // of that sequence; may have expired; nil when loaded after it has
	addr     netip.AddrPort   // where it answered last; not valid if it never did
	answered time.Time        // then
}

type failure struct {
	times int
	until time.Time
}

// dirt is what has changed since the disk has seen it.
type dirt struct {
	nodes map[protocol.NodeID]struct{}
	apps  map[protocol.AppID]struct{}
}

func newDirt() dirt {
	return dirt{make(map[protocol.NodeID]struct{}), make(map[protocol.AppID]struct{})}
}

func newCache(keeps bool) *cache {
	return &cache{
		keeps: keeps, dirty: newDirt(),
		nodes:  newLRU[protocol.NodeID, knownNode](maxKnown, 0),
		apps:   newLRU[protocol.AppID, []protocol.NodeID](maxKnownApps, 0),
		at:     newLRU[netip.AddrPort, protocol.NodeID](maxAddrs, freshFor),
		failed: newLRU[netip.AddrPort, failure](maxAddrs, failedMemory),
	}
}

// see takes a verified record, and says whether it is not older than one seen
// before: the last check on a record.
func (c *cache) see(r *protocol.Record, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seeLocked(r, now)
}

func (c *cache) seeLocked(r *protocol.Record, now time.Time) bool {
	known := c.nodes.get(r.Node, now)
	switch {
	case known == nil:
		c.insert(r.Node, knownNode{seq: r.Seq, record: r}, now)
	case r.Seq < known.seq:
		return false
	case r.Seq > known.seq || known.record == nil:
		known.seq, known.record = r.Seq, r
		c.touch(r.Node)
	}
	return true
}

// answer takes a verified record that a node itself has answered with, at an
// address. It says what see says.
func (c *cache) answer(r *protocol.Record, from netip.AddrPort, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seeLocked(r, now) {
		return false
	}
	known := c.nodes.get(r.Node, now)
	known.addr, known.answered = from, now
	c.touch(r.Node)
	c.at.put(from, r.Node, netip.Addr{}, now)
	c.failed.delete(from)
	return true
}

// fresh is the record of the node that has answered at an address lately, nil
// if none has.
func (c *cache) fresh(at netip.AddrPort, now time.Time) *protocol.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := c.at.get(at, now); id != nil {
		return c.valid(*id, now)
	}
	return nil
}

// valid is a node's record unless it has expired. Called with mu held.
func (c *cache) valid(id protocol.NodeID, now time.Time) *protocol.Record {
	known := c.nodes.get(id, now)
	if known == nil || known.record == nil || !now.Before(known.record.Expires()) {
		return nil
	}
	return known.record
}

// lookUp is what is known of a node, if anything: its record unless expired,
// where it answered, and whether that was lately.
func (c *cache) lookUp(id protocol.NodeID, now time.Time) (r *protocol.Record, addr netip.AddrPort, lately bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.nodes.get(id, now)
	if known == nil {
		return nil, addr, false
	}
	return c.valid(id, now), known.addr, known.addr.IsValid() && now.Sub(known.answered) < freshFor
}

// serves notes that a node was found for an app.
func (c *cache) serves(id protocol.NodeID, app protocol.AppID, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := c.apps.get(app, now)
	if ids == nil {
		c.evictApp()
		ids = c.apps.put(app, nil, netip.Addr{}, now)
	}
	i := slices.Index(*ids, id)
	if i == 0 {
		return
	}
	if i > 0 {
		*ids = slices.Delete(*ids, i, i+1)
	}
	*ids = slices.Insert(*ids, 0, id) // the latest first
	*ids = (*ids)[:min(len(*ids), maxAppNodes)]
	if c.keeps {
		c.dirty.apps[app] = struct{}{}
	}
}

// of are the nodes that were found for an app, the latest first.
func (c *cache) of(app protocol.AppID, now time.Time) []protocol.NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ids := c.apps.get(app, now); ids != nil {
		return slices.Clone(*ids)
	}
	return nil
}

// fail notes that an address did not answer with a record.
func (c *cache) fail(addr netip.AddrPort, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := failure{times: 1}
	if old := c.failed.get(addr, now); old != nil {
		f.times = min(old.times+1, 10)
	}
	f.until = now.Add(min(failedFirst<<(f.times-1), failedMost))
	c.failed.put(addr, f, netip.Addr{}, now)
	c.at.delete(addr)
}

// ours notes that it is we who answer at an address.
func (c *cache) ours(addr netip.AddrPort, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed.put(addr, failure{until: now.Add(freshFor)}, netip.Addr{}, now)
}

// avoid says whether an address failed lately, or is ours.
func (c *cache) avoid(addr netip.AddrPort, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.failed.get(addr, now)
	return f != nil && now.Before(f.until)
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes.len()
}

// insert adds a node; the least recently used one goes. Called with mu held.
func (c *cache) insert(id protocol.NodeID, n knownNode, now time.Time) {
	if c.nodes.len() == c.nodes.max {
		gone := c.nodes.order.Back().Value.(*lruEntry[protocol.NodeID, knownNode]).key
		c.nodes.delete(gone)
		c.touch(gone)
	}
	c.nodes.put(id, n, netip.Addr{}, now)
	c.touch(id)
}

// evictApp makes room for one. Called with mu held.
func (c *cache) evictApp() {
	if c.apps.len() == c.apps.max {
		gone := c.apps.order.Back().Value.(*lruEntry[protocol.AppID, []protocol.NodeID]).key
		c.apps.delete(gone)
		if c.keeps {
			c.dirty.apps[gone] = struct{}{}
		}
	}
}

func (c *cache) touch(id protocol.NodeID) {
	if c.keeps {
		c.dirty.nodes[id] = struct{}{}
	}
}
