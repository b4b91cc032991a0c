package relay

import (
	"context"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// lingerLocked queues a swarm without members to be dropped. Called with s.mu
// held.
func (s *swarm) lingerLocked() {
	if len(s.members) > 0 || s.queued {
		return
	}
	if s.emptyAt < 0 {
		s.emptyAt = s.r.now()
	}
	s.queued = true
	s.r.mu.Lock()
	s.r.empty = append(s.r.empty, s)
	s.r.mu.Unlock()
}

// holdUntil queues a member whose held offers are to be dropped when old.
func (r *Relay) holdUntil(m *Member, _ instant) {
	r.mu.Lock()
	r.holders = append(r.holders, m)
	r.mu.Unlock()
}

func (r *Relay) sweepSwarms() {
	r.sweepEmpty(protocol.LinkLinger)
	r.sweepHeld()
	r.dialMore()
}

// sweepEmpty drops swarms that have been without members for a while.
func (r *Relay) sweepEmpty(linger time.Duration) {
	r.mu.Lock()
	list := r.empty
	r.empty = nil
	r.mu.Unlock()
	now := r.now()
	var keep []*swarm
	for _, s := range list {
		s.mu.Lock()
		switch {
		case len(s.members) > 0:
			s.queued = false
		case now < s.tempTo || now-s.emptyAt < ns(s.linger(linger)):
			keep = append(keep, s)
		default:
			r.drop(s)
		}
		s.mu.Unlock()
	}
	r.mu.Lock()
	r.empty = append(keep, r.empty...)
	r.mu.Unlock()
}

// linger is how long the swarm stays without members: those that never had
// any, made for a publish or a scrape, go at once.
func (s *swarm) linger(d time.Duration) time.Duration {
	if !s.wanted {
		return 0
	}
	return d
}

// drop ends a swarm. Called with s.mu held.
func (r *Relay) drop(s *swarm) {
	s.gone = true
	for _, rem := range s.remotes {
		rem.l.notServed(rem.theirs)
		s.unbind(rem, KindLeft)
	}
	for i := range s.publishes {
		r.heldBytes.Add(-s.publishes[i].size())
	}
	s.publishes = nil
	for name := range s.seeks {
		s.takeSeek(name)
	}
	if s.wanted {
		r.cfg.Finder.Drop(s.app) // before the app can be wanted anew
	}
	r.mu.Lock()
	delete(r.swarms, s.app)
	delete(r.numbers, s.number)
	delete(r.dirty, s)
	delete(r.turns, s)
	delete(r.orphaned, s)
	delete(r.named, s)
	links := r.allLinks()
	r.mesh.forget(s.app)
	r.mu.Unlock()
	for _, l := range links {
		l.uninterest(s)
	}
}

// sweepHeld drops held offers that are too old.
func (r *Relay) sweepHeld() {
	r.mu.Lock()
	list := r.holders
	r.holders = nil
	r.mu.Unlock()
	now := r.now()
	var keep []*Member
	for i, m := range list {
		if i >= 20_000 {
			keep = append(keep, list[i:]...)
			break
		}
		m.s.mu.Lock()
		m.expire(now)
		if m.holding != nil {
			m.holding.queued = m.at >= 0 && len(m.holding.offers) > 0
			if m.holding.queued {
				keep = append(keep, m)
			}
		}
		m.s.mu.Unlock()
	}
	r.mu.Lock()
	r.holders = append(keep, r.holders...)
	r.mu.Unlock()
}

func (r *Relay) allSwarms() []*swarm {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*swarm, 0, len(r.swarms))
	for _, s := range r.swarms {
		all = append(all, s)
	}
	return all
}

// sweepLinks keeps the deadlines of all links.
func (r *Relay) sweepLinks() {
	r.mu.Lock()
	links := r.allLinks()
	r.mu.Unlock()
	now := r.now()
	for _, l := range links {
		l.sweep(now)
	}
}

func (l *link) sweep(now instant) {
	l.mu.Lock()
	w := l.w
	if w != nil {
		quiet := now - w.lastRead
		if w.pingDue(now) {
			w.ping(now)
		}
		due := now-w.renewed >= ns(protocol.TURNKeyEvery)
		l.mu.Unlock()
		if due {
			w.renew(now, false)
		}
		if quiet >= ns(protocol.LinkSilence) {
			w.end(1001)
		} else {
			l.sweepIdle(w, now)
		}
		return
	}
	down := now - l.downAt
	drained := l.drainUntil > 0 || l.idleUntil > 0
	giveUp := !l.gaveUp && (drained || down >= ns(protocol.GiveUpOffers))
	lose := !l.lost && down >= ns(protocol.GiveUpPresence)
	forget := down >= ns(protocol.ResendFor) || (l.lost && len(l.out) == 0 && !l.wanted())
	if giveUp {
		l.gaveUp = true
	}
	if lose {
		l.lost = true
	}
	l.mu.Unlock()
	if giveUp {
		for _, e := range l.takeOut(kindOffers, kindSignal, kindData) {
			l.r.giveUp(l, e, protocol.CodeNodeGone, nil)
		}
	}
	if lose {
		l.takeOut(kindControl, kindPresence)
		l.lose(KindLost)
	}
	if forget {
		l.r.forgetLink(l)
		return
	}
	l.r.redial(l, now)
}

// wanted says whether the link's state is worth keeping. Called with mu held.
func (l *link) wanted() bool { return l.r.now()-l.downAt < ns(protocol.ResendFor) }

func (r *Relay) forgetLink(l *link) {
	l.takeOut(kindControl, kindPresence, kindOffers, kindSignal, kindData, kindPublish)
	l.lose(KindLost)
	r.mu.Lock()
	defer r.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.links[l.node] == l && l.w == nil {
		delete(r.links, l.node)
	}
}

// sweepIdle closes a link over which nothing has been shared for a while,
// unless it is one of the few kept for the mesh.
func (l *link) sweepIdle(w *wire, now instant) {
	l.mu.Lock()
	if now-w.since < ns(time.Second) || (now/ns(100*time.Millisecond))%10 != instant(l.node[0])%10 {
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	shared := false
	for _, rem := range l.shared() {
		rem.s.mu.Lock()
		shared = len(rem.s.members) > 0 && rem.members+rem.subscribers > 0 || now < rem.s.tempTo
		rem.s.mu.Unlock()
		if shared {
			break
		}
	}
	l.mu.Lock()
	if shared {
		l.idleAt = -1
	} else if l.idleAt < 0 {
		l.idleAt = now
	}
	idle := !shared && now-l.idleAt >= ns(protocol.LinkLinger)
	l.mu.Unlock()
	if idle && l.r.upLinks() > protocol.MeshLinks {
		l.mu.Lock()
		l.idleUntil = now.add(protocol.LinkLinger)
		l.mu.Unlock()
		l.r.goWhileServing(func(context.Context) { l.shut(protocol.Bye_CODE_IDLE, 0) })
	}
}

func (r *Relay) upLinks() int {
	r.mu.Lock()
	links := r.allLinks()
	r.mu.Unlock()
	n := 0
	for _, l := range links {
		if l.isUp() {
			n++
		}
	}
	return n
}
