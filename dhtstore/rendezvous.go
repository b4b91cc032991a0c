package dhtstore

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	refreshEvery  = 15 * time.Minute // stock nodes forget an announce after 30
	heldFor       = 30 * time.Minute
	retryAnnounce = time.Minute
	lookAgainMost = 5 * time.Minute // every minute, after the last of lookAgain
	turnMost      = time.Minute
	midnight      = time.Hour // around it both days' keys are used: clocks differ
	maxApps       = 200_000   // as many as relay has
	maxRestored   = 10_000
	restoreSpread = time.Minute
	restoreKept   = 10 * time.Minute // after that an app without peers is forgotten
	// settled is how long a table grows. What was announced before went to
	// nodes that are not the closest of all, and is announced once more.
	settled = time.Minute
)

// lookAgain is when to look for other nodes while none is known, after the
// first time.
var lookAgain = [...]time.Duration{1 * time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 30 * time.Second}

// wanted is an app that has peers here, or had before we were started anew.
// Guarded by Store.mu.
type wanted struct {
	id        protocol.AppID
	found     func(*protocol.Record) // nil: restored, no peers yet
	task      task
	begun     time.Time // the first turn since it was wanted
	announced time.Time // the last time that all went well
	others    bool      // another node was found
	gone      bool      // not wanted any more, but its turn may not be over
	holders   []holder  // to whom it was announced, while we look for others
}

type holder struct {
	day  uint32
	addr netip.AddrPort
}

// Want announces that this node serves an app and looks for others that do,
// until Drop. It is part of relay.Finder.
func (s *Store) Want(app protocol.AppID, found func(*protocol.Record)) {
	now := time.Now()
	s.mu.Lock()
	a := s.apps[app]
	if a == nil {
		if len(s.apps) >= maxApps {
			s.mu.Unlock()
			s.log.Debug("too many apps, this one is not announced", "most", maxApps)
			return
		}
		a = s.newWanted(app)
	}
	first := a.found == nil
	a.found = found
	if first {
		a.begun = time.Time{}
		a.task.class = classNew
		if s.held(a, now) {
			a.task.class = classLive
		}
		s.changed[app] = true
		s.schedule.set(&a.task, now)
		s.signal()
	}
	s.mu.Unlock()
	for _, id := range s.cache.of(app, now) {
		s.send(errand{node: id, found: func(r *protocol.Record, answered bool) { s.deliver(a, r, answered) }})
	}
}

// newWanted is called with s.mu held.
func (s *Store) newWanted(app protocol.AppID) *wanted {
	a := &wanted{id: app}
	a.task.run = func(ctx context.Context) int { return s.turn(ctx, a) }
	s.apps[app] = a
	return a
}

// Drop ends Want. What is announced is forgotten by the DHT within the hour. It
// is part of relay.Finder.
func (s *Store) Drop(app protocol.AppID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.apps[app]; a != nil {
		s.forget(a)
	}
}

// forget is called with s.mu held.
func (s *Store) forget(a *wanted) {
	a.gone = true
	s.schedule.remove(&a.task)
	delete(s.apps, a.id)
	s.changed[a.id] = false
}

// restore takes an app from the disk: its peers may come back to us.
func (s *Store) restore(app protocol.AppID, now time.Time) {
	a := s.newWanted(app)
	a.task.class = classRestored
	s.schedule.set(&a.task, now.Add(rand.N(restoreSpread)))
}

// announceAll gives each app a turn, as the node can be dialled only now.
// Called with s.mu held.
func (s *Store) announceAll(now time.Time) {
	for _, a := range s.apps {
		due := now
		if a.found == nil {
			due = now.Add(rand.N(restoreSpread))
		}
		s.schedule.set(&a.task, due)
	}
}

// deliver tells of a node that serves an app. One that has not answered since we
// were started may be gone: it does not keep us from looking for others.
func (s *Store) deliver(a *wanted, r *protocol.Record, answered bool) {
	s.mu.Lock()
	if r.Node == s.self || a.gone {
		s.mu.Unlock()
		return
	}
	a.others = a.others || answered
	found := a.found
	s.mu.Unlock()
	if found != nil {
		found(r)
	}
}

// turn announces an app and looks for others, and says when to do it again.
func (s *Store) turn(ctx context.Context, a *wanted) (packets int) {
	ctx, cancel := context.WithTimeout(ctx, turnMost)
	defer cancel()
	now := time.Now()
	s.mu.Lock()
	if !a.gone && a.found == nil && now.Sub(s.opened) > restoreKept {
		s.forget(a)
	}
	if a.gone {
		s.mu.Unlock()
		return 0
	}
	if a.begun.IsZero() {
		a.begun = now
	}
	t := &appTurn{s: s, app: a.id, announce: !s.cfg.NoAnnounce && s.own.current(now) != nil}
	if now.Sub(a.announced) < refreshEvery/2 {
		t.held = a.holders // only to look again
	}
	s.mu.Unlock()
	t.c = s.newCandidates(func(r *protocol.Record, _ netip.AddrPort, asked bool) {
		if asked {
			t.probes.Add(1)
		}
		s.cache.serves(r.Node, a.id, time.Now())
		s.deliver(a, r, true)
	})
	t.run(ctx, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done(a, t, now)
	return t.packets + int(t.probes.Load())
}

// done notes what came of a turn that began at start. Called with s.mu held.
func (s *Store) done(a *wanted, t *appTurn, start time.Time) {
	if a.gone {
		return
	}
	now := time.Now()
	if t.announce && t.complete() {
		if t.held == nil {
			a.announced = start
		}
		a.holders = t.holders
	}
	if a.task.class == classNew && s.held(a, now) {
		a.task.class = classLive
	}
	s.schedule.set(&a.task, s.nextTurn(a, t, start, now))
	if a.others {
		a.holders = nil
	}
}

// nextTurn is when an app is due again: called with s.mu held.
func (s *Store) nextTurn(a *wanted, t *appTurn, start, now time.Time) time.Time {
	due := start.Add(jitter(refreshEvery))
	if t.held != nil {
		due = a.announced.Add(jitter(refreshEvery))
	}
	sooner := func(d time.Time) {
		if d.Before(due) {
			due = d
		}
	}
	if a.found == nil {
		sooner(s.opened.Add(restoreKept + restoreSpread))
	}
	if t.announce && !t.complete() {
		sooner(now.Add(jitter(retryAnnounce)))
	}
	if s.young(start) {
		sooner(start.Add(later(settled)))
	}
	if a.found != nil && !a.others {
		if again := a.begun.Add(nextLook(now.Sub(a.begun))); again.After(now) {
			sooner(again)
		}
	}
	return due
}

// nextLook is when to look again, where this much has passed since the first
// time; in the past if not at all.
func nextLook(passed time.Duration) time.Duration {
	for _, d := range lookAgain {
		if d > passed {
			return d
		}
	}
	last := lookAgain[len(lookAgain)-1]
	for d := last + time.Minute; d <= last+lookAgainMost; d += time.Minute {
		if d > passed {
			return d
		}
	}
	return 0
}

// held says whether nodes of the DHT still have what we have announced. Called
// with s.mu held.
func (s *Store) held(a *wanted, now time.Time) bool {
	return !a.announced.IsZero() && now.Sub(a.announced) < heldFor
}

// appTurn is one turn of one app.
type appTurn struct {
	s        *Store
	app      protocol.AppID
	announce bool
	held     []holder // who has it already
	c        *candidates
	probes   atomic.Int64

	mu      sync.Mutex
	holders []holder
	nodes   int // that could hold it
	packets int
}

// run does it for the keys of the day, or of both around midnight, in all DHTs
// at once.
func (t *appTurn) run(ctx context.Context, now time.Time) {
	var wg sync.WaitGroup
	for _, d := range t.s.readySides() {
		for _, day := range days(now) {
			wg.Go(func() { t.meet(ctx, d, day) })
		}
	}
	wg.Wait()
	t.c.finish(ctx)
}

// meet looks who is announced, announces us, and looks again at the same
// nodes: of two that do so at the same time the later sees the earlier.
func (t *appTurn) meet(ctx context.Context, d side, day uint32) {
	key := t.app.Rendezvous(day)
	steps, stats := t.s.gather(ctx, d, key, t.c)
	t.mu.Lock()
	t.packets += stats.Queries
	t.nodes += len(steps)
	t.mu.Unlock()
	if !t.announce || ctx.Err() != nil {
		return
	}
	var fresh atomic.Bool
	each(steps, func(to step) {
		h := holder{day, to.Addr}
		if !slices.Contains(t.held, h) {
			t.sent(1)
			if to.Token == "" || d.srv.announcePeer(ctx, to.Addr, key, 0, to.Token) != nil {
				return
			}
			fresh.Store(true)
		}
		t.mu.Lock()
		t.holders = append(t.holders, h)
		t.mu.Unlock()
	})
	if !fresh.Load() {
		return
	}
	each(append(steps, step{node: node{Addr: d.self}}), func(to step) {
		t.sent(1)
		if a, err := d.srv.getPeers(ctx, to.Addr, key); err == nil {
			t.c.offer(ctx, to.Addr, a.Peers)
		}
	})
}

func (t *appTurn) sent(packets int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.packets += packets
}

// complete says whether enough nodes have the announcement.
func (t *appTurn) complete() bool {
	return len(t.holders) > 0 && len(t.holders) >= min(publishAcks, t.nodes)
}

// days are those whose keys are used at a time: one, or two around midnight.
func days(now time.Time) []uint32 {
	const day = 24 * time.Hour
	today := uint32(now.Unix() / int64(day/time.Second))
	switch passed := time.Duration(now.Unix()%int64(day/time.Second)) * time.Second; {
	case passed < midnight:
		return []uint32{today, today - 1}
	case passed >= day-midnight:
		return []uint32{today, today + 1}
	}
	return []uint32{today}
}
