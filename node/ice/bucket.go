package ice

import (
	"net/netip"
	"sync"
	"time"
)

// bucket is a token bucket in one word: the time at which it will be full again
// (the generic cell rate algorithm).
type bucket int64

// take takes n of a bucket, which is filled at a rate per second and holds what
// comes in burst, and reports whether they were there. Without a rate they always
// are.
func (b *bucket) take(now time.Time, n, rate int64, burst time.Duration) bool {
	if rate <= 0 {
		return true
	}
	at := now.UnixNano()
	full := max(int64(*b), at) + n*int64(time.Second)/rate
	if full-at > int64(burst) {
		return false
	}
	*b = bucket(full)
	return true
}

const packet = 1500 // bytes that one has at most on most networks

// meter bounds bytes, by the second and by the day.
type meter struct {
	rate, perDay int64 // none: no bound

	mu     sync.Mutex
	bucket bucket
	day    uint32
	used   int64 // on that day
}

// take spends n bytes, and says what is in the way of it.
func (m *meter) take(now time.Time, n int) reason {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	if m.perDay > 0 && m.used+int64(n) > m.perDay {
		return overDay
	}
	if !m.bucket.take(now, int64(n), m.rate, time.Second) {
		return overRate
	}
	m.used += int64(n)
	return fine
}

// spent says whether the bytes of the day are used up, but for less than a packet.
func (m *meter) spent(now time.Time) bool {
	return m.perDay > 0 && m.today(now)+packet > m.perDay
}

// today is what was used since midnight.
func (m *meter) today(now time.Time) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	return m.used
}

func (m *meter) turn(now time.Time) {
	if day := dayOf(now); day != m.day {
		m.day, m.used = day, 0
	}
}

const (
	sources   = 4096            // are remembered, and twice as many at most
	paceBurst = 5 * time.Second // worth of requests can be had at once: a page that makes many connections asks so
)

// pacer bounds how often a source is answered before it has shown that it has
// credentials. It forgets the sources of longest ago.
type pacer struct {
	rate int64 // a second

	mu       sync.Mutex
	now, old map[netip.AddrPort]*bucket
}

func (p *pacer) admit(from netip.AddrPort, at time.Time) bool {
	key := sourceOf(from)
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.now[key]
	if b == nil {
		if b = p.old[key]; b == nil {
			b = new(bucket)
		}
		if p.now == nil || len(p.now) >= sources {
			p.old, p.now = p.now, make(map[netip.AddrPort]*bucket)
		}
		p.now[key] = b
	}
	return b.take(at, 1, p.rate, paceBurst)
}

// sourceOf is what counts as one source: an address, or the network that its
// owner has, since ports cost nothing; but ip and port on loopback, where all
// share the address.
func sourceOf(a netip.AddrPort) netip.AddrPort {
	if a.Addr().IsLoopback() {
		return a
	}
	return netip.AddrPortFrom(network(a.Addr()), 0)
}

// network is an address, of IPv6 its /64.
func network(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
