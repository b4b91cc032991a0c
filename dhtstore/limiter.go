package dhtstore

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// What others get of us. One second's worth can be had at once.
const (
	repliesPerSource = 20       // a second
	bytesPerSource   = 16 << 10 // a second
	bytesInAll       = 1 << 20  // a second
	limitedSources   = 4096     // remembered
)

// replyLimiter bounds what our answers cost us, and what somebody can have us
// send to a third party by forging its address. Owned by the responder.
type replyLimiter struct {
	private bool // all addresses are as loopback is
	sources *lru[netip.AddrPort, sourceBudget]
	all     bucket
}

type sourceBudget struct{ replies, bytes bucket }

func newReplyLimiter(private bool, now time.Time) *replyLimiter {
	return &replyLimiter{
		private: private, sources: newLRU[netip.AddrPort, sourceBudget](limitedSources, 0),
		all: newBucket(bytesInAll, now),
	}
}

// admit says whether a query of a source is worked on.
func (l *replyLimiter) admit(from netip.AddrPort, now time.Time) bool {
	return l.source(from, now).replies.take(1, now)
}

// spend says whether a reply of n bytes may be sent.
func (l *replyLimiter) spend(from netip.AddrPort, n int, now time.Time) bool {
	return l.source(from, now).bytes.take(n, now) && l.all.take(n, now)
}

func (l *replyLimiter) source(from netip.AddrPort, now time.Time) *sourceBudget {
	key := sourceOf(from, l.private)
	if b := l.sources.get(key, now); b != nil {
		return b
	}
	return l.sources.put(key, sourceBudget{newBucket(repliesPerSource, now), newBucket(bytesPerSource, now)}, netip.Addr{}, now)
}

// sourceOf is what counts as one source: an address, or the network that its
// owner has, since ports cost nothing; but ip and port where nodes share
// addresses.
func sourceOf(a netip.AddrPort, private bool) netip.AddrPort {
	if private || a.Addr().IsLoopback() {
		return a
	}
	return netip.AddrPortFrom(network(a.Addr()), 0)
}

// What one node is asked at most. libtorrent blocks who sends 50 packets in 10
// seconds; our own nodes answer 20 a second.
const (
	paceEvery       = 250 * time.Millisecond
	paceAhead       = 8 // queries at once
	paceSharedEvery = time.Second / 15
	paceSharedAhead = 15
	paceLongest     = 5 * time.Second
	pacedNodes      = 4096 // remembered
)

// errBusy is that a node was to be asked too much already.
var errBusy = errors.New("too many queries wait for one node")

// pacer keeps us from asking one node more than it will answer.
type pacer struct {
	private bool

	mu   sync.Mutex
	next *lru[netip.AddrPort, time.Time] // when a node's queries would have been evenly spaced to
}

func newPacer(private bool) *pacer {
	return &pacer{private: private, next: newLRU[netip.AddrPort, time.Time](pacedNodes, time.Minute)}
}

// wait returns when a query may be sent.
func (p *pacer) wait(ctx context.Context, to netip.AddrPort) error {
	delay := p.delay(to, time.Now())
	if delay > paceLongest {
		return errBusy
	}
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pacer) delay(to netip.AddrPort, now time.Time) time.Duration {
	every, ahead := paceEvery, paceAhead
	if p.private || private(to.Addr()) {
		every, ahead = paceSharedEvery, paceSharedAhead
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key, next := sourceOf(to, p.private), now
	if n := p.next.get(key, now); n != nil && n.After(now) {
		next = *n
	}
	delay := next.Sub(now) - time.Duration(ahead-1)*every
	if delay <= paceLongest {
		p.next.put(key, next.Add(every), netip.Addr{}, now)
	}
	return delay
}

// bucket holds at most one second's worth of tokens.
type bucket struct {
	rate, left float64
	at         time.Time
}

func newBucket(rate float64, now time.Time) bucket { return bucket{rate, rate, now} }

func (b *bucket) take(n int, now time.Time) bool {
	if passed := now.Sub(b.at); passed > 0 {
		b.left = min(b.rate, b.left+b.rate*passed.Seconds())
		b.at = now
	}
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}
