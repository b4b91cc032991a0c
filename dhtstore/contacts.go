package dhtstore

import (
	"net/netip"
	"sync"
	"time"
)

const (
	goodFor     = 15 * time.Minute // BEP 5
	maxContacts = 4096             // more than what is asked between two snapshots
	maxDead     = 4096
	snapshotAge = 2 * time.Second
	settling    = 200 * time.Millisecond // the library's table lags behind by less
	snapshotMin = 20 * time.Millisecond  // between two snapshots
)

// deadFor is how long a node that did not answer is left alone, by how often
// in a row that was.
var deadFor = [...]time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, goodFor}

// contacts is what we know about nodes beyond the library's table: whether
// they answer. The table alone lists also nodes that never did, and has no
// memory for timeouts.
type contacts struct {
	mu       sync.Mutex
	seen     *lru[netip.AddrPort, contact]
	dead     *lru[netip.AddrPort, silence]
	asking   map[netip.AddrPort]int // our own queries on their way
	snapshot []node                 // of the table: those that are good
	built    time.Time
	changed  time.Time // when the table may last have become another
}

type contact struct {
	id       [20]byte
	answered time.Time
	asked    time.Time
}

type silence struct {
	times int
	until time.Time
}

func newContacts() *contacts {
	return &contacts{
		seen: newLRU[netip.AddrPort, contact](maxContacts, 0),
		dead: newLRU[netip.AddrPort, silence](maxDead, 2*goodFor), asking: make(map[netip.AddrPort]int),
	}
}

// answered is called for each answer.
func (c *contacts) answered(n node, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead.delete(n.Addr)
	known := c.seen.get(n.Addr, now)
	if known == nil || known.id != n.ID {
		known = c.seen.put(n.Addr, contact{id: n.ID}, netip.Addr{}, now)
		c.changed = now
	}
	if now.Sub(known.answered) >= goodFor {
		c.changed = now
	}
	known.answered = now
}

// alive is called for an error that a node answers with.
func (c *contacts) alive(addr netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead.delete(addr)
}

// asked is called for each query of others, and says whether the node is one
// that we know to answer.
func (c *contacts) asked(n node, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.seen.get(n.Addr, now)
	if known == nil || known.id != n.ID {
		return false
	}
	known.asked = now
	return known.good(now)
}

// silent is called for each query that was not answered.
func (c *contacts) silent(addr netip.AddrPort, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	times := 1
	if s := c.dead.get(addr, now); s != nil {
		times = min(s.times+1, len(deadFor))
	}
	c.dead.put(addr, silence{times, now.Add(deadFor[times-1])}, netip.Addr{}, now)
	if c.seen.get(addr, now) != nil {
		c.changed = now
	}
}

// isDead says whether a node is better left alone.
func (c *contacts) isDead(addr netip.AddrPort, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadLocked(addr, now)
}

// ask lets a query of our own pass spare, until done.
func (c *contacts) ask(addr netip.AddrPort) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking[addr]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.asking[addr]--; c.asking[addr] == 0 {
			delete(c.asking, addr)
		}
	}
}

// spare says whether the library would ask a dead node for no reason of ours:
// to keep its table it asks all nodes that it is told of, each minute.
func (c *contacts) spare(addr netip.AddrPort, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asking[addr] == 0 && c.deadLocked(addr, now)
}

func (c *contacts) deadLocked(addr netip.AddrPort, now time.Time) bool {
	s := c.dead.get(addr, now)
	return s != nil && now.Before(s.until)
}

// good are the nodes of a table that answer. The result is shared: it must not
// be changed.
func (c *contacts) good(table func() []node, now time.Time) []node {
	c.mu.Lock()
	age := now.Sub(c.built)
	old := c.built.Before(c.changed.Add(settling))
	snapshot := c.snapshot
	c.mu.Unlock()
	if !(age >= snapshotAge || age >= snapshotMin && old) {
		return snapshot
	}
	all := table() // takes the library's lock
	c.mu.Lock()
	defer c.mu.Unlock()
	snapshot = make([]node, 0, len(all))
	for _, n := range all {
		known := c.seen.get(n.Addr, now)
		if known != nil && known.id == n.ID && known.good(now) && !c.deadLocked(n.Addr, now) {
			snapshot = append(snapshot, n)
		}
	}
	c.snapshot, c.built = snapshot, now
	return snapshot
}

// good is BEP 5's rule: it has answered within 15 minutes, or ever, and asked
// within them.
func (c *contact) good(now time.Time) bool {
	return !c.answered.IsZero() && (now.Sub(c.answered) < goodFor || now.Sub(c.asked) < goodFor)
}

func (c *contacts) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead.sweep(now)
}
