package relay

import (
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// meet introduces a member that just came to all others of a small swarm: one
// held offer in each direction, also while the other one is on its way, because
// a client may ignore the offers of others while its own are out.
func (s *swarm) meet(sc *scratch, m *Member, now instant) {
	sc.targets = sc.targets[:0]
	s.targets(sc, m, nil)
	for i := range sc.targets {
		t := &sc.targets[i]
		if !slices.Contains(sc.given, t.hash) {
			s.introduce(sc, m, t, introducedTo, now)
		}
		if t.m != nil && m.flags.has(takesOffers) {
			s.introduce(sc, t.m, &target{hash: m.hash, m: m}, protocol.SmallSwarm, now)
		}
	}
	// Those that take no offers have made some.
	if m.flags.has(takesOffers) {
		for _, h := range s.members[s.takers:] {
			s.introduce(sc, h, &target{hash: m.hash, m: m}, protocol.SmallSwarm, now)
		}
	}
}

// meetElsewhere introduces the members here to one that another node lists
// since now.
func (s *swarm) meetElsewhere(sc *scratch, t target, now instant) {
	for _, h := range s.members {
		if h.hash != t.hash {
			s.introduce(sc, h, &t, protocol.SmallSwarm, now)
		}
	}
}

// introduce gives t one held offer of h, unless it had one: the one that
// fewest have had, and fewer than limit.
func (s *swarm) introduce(sc *scratch, h *Member, t *target, limit int, now instant) {
	h.expire(now)
	if h.holding == nil {
		return
	}
	var best *heldOffer
	for i := range h.holding.offers {
		o := &h.holding.offers[i]
		if o.hadBy(t.hash) {
			return
		}
		if o.unnamed != nil && t.rem != nil && o.unnamed == t.rem.l {
			continue // t may be the one that had it
		}
		if len(o.had) < limit && (best == nil || len(o.had) < len(best.had)) {
			best = o
		}
	}
	if best == nil {
		return
	}
	if t.m != nil {
		if !t.m.deals().received.allow(now) {
			return
		}
		s.r.totals.held.Add(1)
		h.ask(t.hash, now)
		s.handOffer(sc, waiting{
			to: t.m, from: h.id, fromHash: h.hash, id: best.id, payload: best.payload, held: true, named: true,
			after: turnOf(h.dealt().given, t.hash, now) > 0,
		}, now)
	} else {
		h.ask(t.hash, now)
		s.r.totals.held.Add(1)
		s.sendHeld(t.rem, h, best, t.hash.Bytes(), turnOf(h.dealt().given, t.hash, now) > 0, now)
	}
	best.had = append(best.had, t.hash)
}

func (s *swarm) sendHeld(rem *remote, h *Member, o *heldOffer, to []byte, after bool, now instant) {
	s.sendOffers(rem, h, &protocol.Offers{
		From: []byte(h.id), Age: millis(now - o.at), Held: true,
		Offers: []*protocol.Offers_Offer{{Id: o.id, Payload: o.payload, To: to, After: after}},
	}, false)
}

// meetUnnamed gives a node that just showed interest, and whose members are
// not known yet, the newest held offer of each member here, if nobody had it:
// that saves a cold start one round trip.
func (s *swarm) meetUnnamed(rem *remote, now instant) {
	if !s.small() {
		return
	}
	for _, h := range s.members {
		h.expire(now)
		if h.holding == nil || len(h.holding.offers) == 0 {
			continue
		}
		o := &h.holding.offers[len(h.holding.offers)-1]
		if o.unnamed == nil && len(o.had) == 0 {
			o.unnamed = rem.l
			s.sendHeld(rem, h, o, nil, false, now)
		}
	}
}

// settleUnnamed learns from a node's list who had the offers of meetUnnamed: it
// is known only when there is just one it could have been.
func (s *swarm) settleUnnamed(rem *remote, now instant) {
	for _, h := range s.members {
		if h.holding == nil {
			continue
		}
		for i := range h.holding.offers {
			o := &h.holding.offers[i]
			if o.unnamed != rem.l {
				continue
			}
			var only protocol.MemberHash
			n := 0
			for _, l := range rem.list {
				if l != h.hash {
					only, n = l, n+1
				}
			}
			if n > 1 {
				continue
			}
			o.unnamed = nil
			if n == 1 && !o.hadBy(only) {
				o.had = append(o.had, only)
				h.ask(only, now)
			}
		}
	}
}
