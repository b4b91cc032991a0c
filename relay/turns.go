package relay

import (
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// Of two members that have offers for each other the one with the lower id
// goes first; the other's offer waits until the first one is answered, for
// protocol.OfferTurn at most. Two that cross would end both connections in
// webtorrent: each side keeps the one it answered and drops the one it offered.
// That it is the lower id is for Trystero, where the peer with the lower id
// ignores offers while its own are out. Who has an offer and then makes one
// waits too, with any id.

// maxWaiting bounds the offers that wait in one swarm; further ones do not.
const maxWaiting = 256

// asked is a member that was given an offer of ours, or who gave us one, and
// there was no answer yet.
type asked struct {
	hash protocol.MemberHash
	at   instant
}

// dealings are what a member of a small swarm has to do with the others, for a
// moment.
type dealings struct {
	received held10
	asked    []asked  // whom it made an offer,
	given    []asked  // and who made it one
	had      []uint64 // the last offers given to it
}

// deals are the member's dealings, to add to.
func (m *Member) deals() *dealings {
	if m.dealings == nil {
		m.dealings = new(dealings)
	}
	return m.dealings
}

// dealt are the member's dealings, to look at.
func (m *Member) dealt() *dealings {
	if m.dealings == nil {
		return &dealings{}
	}
	return m.dealings
}

// waiting is an offer whose turn has not come.
type waiting struct {
	to          *Member
	from        string
	fromHash    protocol.MemberHash
	id, payload []byte
	held        bool
	named       bool  // the giver knows whom it is for: the swarm is small
	after       bool  // who made it has one of the other, not answered yet
	l           *link // where its answer goes, nil: a member here
	due         instant
}

// hadBefore notes an offer that a member is given, and reports whether it was
// given to it before: a node that does not know our members yet cannot know
// which one had its first.
func (m *Member) hadBefore(key uint64) bool {
	d := m.deals()
	if slices.Contains(d.had, key) {
		return true
	}
	if len(d.had) >= 2*protocol.HeldPerReceiver {
		d.had = slices.Delete(d.had, 0, 1)
	}
	d.had = append(d.had, key)
	return false
}

// ask notes that an offer of m was given to h.
func (m *Member) ask(h protocol.MemberHash, now instant) {
	d := m.deals()
	d.asked = note(d.asked, h, now)
}

// note adds h to a list of those of the last moment.
func note(list []asked, h protocol.MemberHash, now instant) []asked {
	list = slices.DeleteFunc(list, func(a asked) bool { return a.hash == h || now-a.at >= ns(protocol.OfferTurn) })
	if len(list) < protocol.SmallSwarm {
		list = append(list, asked{h, now})
	}
	return list
}

func without(list []asked, h protocol.MemberHash) []asked {
	return slices.DeleteFunc(list, func(a asked) bool { return a.hash == h })
}

// turnOf is when the turn that h has in a list is over, 0 when it has none.
func turnOf(list []asked, h protocol.MemberHash, now instant) instant {
	for _, a := range list {
		if due := a.at.add(protocol.OfferTurn); a.hash == h && due > now {
			return due
		}
	}
	return 0
}

// waitsFor is when it is the turn of an offer to a member who has made one
// itself: 0 for now.
func (w *waiting) waitsFor(now instant) instant {
	if w.from < w.to.id && !w.after {
		return 0 // they crossed, or this one was first
	}
	return turnOf(w.to.dealt().asked, w.fromHash, now)
}

// handOffer gives an offer to a member of a small swarm here, now or in its
// turn. l is the link it came over, nil from a member here.
func (s *swarm) handOffer(sc *scratch, w waiting, now instant) bool {
	if w.named && w.to.hadBefore(s.offerKeyString(w.from, w.id)) && w.held {
		return true
	}
	known := len(w.to.dealt().asked) > 0 || w.to.holds()
	if w.fromHash == 0 && (w.named || known) {
		w.fromHash = s.app.MemberHash(w.from)
	}
	if known && len(s.waiting) < maxWaiting {
		if w.from > w.to.id && w.waitsFor(now) == 0 {
			s.goFirst(sc, &w, now)
		}
		if w.due = w.waitsFor(now); w.due > 0 {
			w.id, w.payload = slices.Clone(w.id), slices.Clone(w.payload)
			s.waiting = append(s.waiting, w)
			if len(s.waiting) == 1 {
				s.r.mu.Lock()
				s.r.turns[s] = struct{}{}
				s.r.mu.Unlock()
			}
			return true
		}
	}
	return s.handNow(sc, &w, now)
}

// goFirst makes use of the turn of a member that is about to get an offer of
// one with a higher id, of whom nothing is known yet: what it holds goes to the
// other now, and not after it.
func (s *swarm) goFirst(sc *scratch, w *waiting, now instant) {
	t := target{hash: w.fromHash, m: s.find(w.from)}
	switch {
	case !w.to.holds():
		return
	case t.m != nil:
		if t.m.met || !t.m.flags.has(takesOffers) {
			return
		}
	default:
		if t.rem = s.remotes[w.l]; t.rem == nil || len(s.elsewhere[t.hash]) > 0 {
			return
		}
	}
	s.introduce(sc, w.to, &t, protocol.SmallSwarm, now)
}

func (s *swarm) handNow(sc *scratch, w *waiting, now instant) bool {
	if w.l != nil {
		s.routes.put(s.offerKeyString(w.from, w.id), w.l, now)
	} else {
		s.here.place(1)
	}
	if w.fromHash != 0 {
		d := w.to.deals()
		d.given = note(d.given, w.fromHash, now)
	}
	return s.deliver(sc, w.to, Event{Kind: KindOffer, Foreign: w.l != nil, From: w.from, Ref: w.id, Payload: w.payload})
}

// settled says that an answer passed between a member here and another one:
// what waits for its turn between them is not needed, if it was held, or comes
// now.
func (s *swarm) settled(m *Member, other string, now instant) {
	d := m.dealt()
	if len(d.asked) == 0 && len(d.given) == 0 && len(s.waiting) == 0 {
		return
	}
	h := s.app.MemberHash(other)
	d.asked, d.given = without(d.asked, h), without(d.given, h)
	s.release(func(w *waiting) bool { return w.to == m && w.from == other }, true, now)
}

// release hands over the waiting offers that due names.
func (s *swarm) release(due func(*waiting) bool, answered bool, now instant) {
	if len(s.waiting) == 0 {
		return
	}
	sc := scratches.Get().(*scratch)
	defer sc.free()
	s.waiting = slices.DeleteFunc(s.waiting, func(w waiting) bool {
		if !due(&w) {
			return false
		}
		if w.to.at >= 0 && !(answered && w.held) {
			s.handNow(sc, &w, now)
		}
		return true
	})
}

// takeTurns hands over the offers that have waited long enough.
func (r *Relay) takeTurns() {
	now := r.now()
	for _, s := range r.listed(r.turns) {
		s.mu.Lock()
		s.release(func(w *waiting) bool { return now >= w.due || w.to.at < 0 }, false, now)
		if len(s.waiting) == 0 {
			s.waiting = nil
			r.mu.Lock()
			delete(r.turns, s)
			r.mu.Unlock()
		}
		s.mu.Unlock()
	}
}
