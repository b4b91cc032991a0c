package relay

import (
	"slices"
	"sync"

	"github.com/peerservers/peerserver/protocol"
)

// introducedTo is how many members a newcomer's offer is shown to, beyond those
// that its announce went to. One answer spends it; every further member waits
// for a connection that never comes.
const introducedTo = 3

// holding is what a member of a small swarm left for late comers.
type holding struct {
	offers []heldOffer // the newest, oldest first
	spent  []uint64    // offerKeys whose answer has passed, newest last
	queued bool        // in r.holders, to be dropped when it is old
}

type heldOffer struct {
	id, payload []byte
	at          instant
	had         []protocol.MemberHash // members it was given to
	unnamed     *link                 // given to some member behind this link, before its list was known
}

// held10 bounds the held offers given to one member.
type held10 struct {
	since instant
	n     uint8
}

func (h *held10) allow(now instant) bool {
	if now-h.since >= ns(protocol.HeldWindow) {
		*h = held10{since: now}
	}
	if h.n >= protocol.HeldPerReceiver {
		return false
	}
	h.n++
	return true
}

// target is a member that can be given an offer: here, or behind a remote.
type target struct {
	hash protocol.MemberHash
	m    *Member // nil when it is elsewhere
	rem  *remote
	used bool
}

// scratch is the room that placing offers needs; pooled, so that an announce
// allocates nothing.
type scratch struct {
	targets []target
	picked  []int
	given   []protocol.MemberHash // who got an offer of this announce
	offers  []Offer
	ev      Event
	again   bool // placed a second time: not a third
	frames  map[*remote]*protocol.Offers
	entries []*protocol.Offers_Offer // spare ones
	empty   []*protocol.Offers
}

var scratches = sync.Pool{New: func() any { return &scratch{frames: make(map[*remote]*protocol.Offers)} }}

func (sc *scratch) free() {
	clear(sc.targets)
	clear(sc.offers)
	sc.targets, sc.picked, sc.given, sc.offers, sc.ev = sc.targets[:0], sc.picked[:0], sc.given[:0], sc.offers[:0], Event{}
	scratches.Put(sc)
}

// Offer gives each offer to another member, chosen uniformly over all nodes,
// distinct ones for the offers of one call. In a small swarm the newest are
// held for late comers, and the first call also hands this member the held
// offers of those it meets. Bytes are valid only during the call.
func (m *Member) Offer(offers []Offer) {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.at < 0 {
		return
	}
	offers = offers[:min(len(offers), protocol.MaxOffers)]
	now := s.r.now()
	s.r.totals.offers.Add(uint64(len(offers)))
	sc := scratches.Get().(*scratch)
	defer sc.free()
	if !s.small() {
		m.met = true
		s.placeMany(sc, m, offers, nil)
		return
	}
	offers = m.hold(sc, offers, now)
	s.placeFew(sc, m, offers, nil)
	if !m.met {
		m.met = true
		s.meet(sc, m, now)
	}
}

// hold keeps the newest offers and returns those of offers that are not spent.
func (m *Member) hold(sc *scratch, offers []Offer, now instant) []Offer {
	if len(offers) == 0 {
		return nil
	}
	if m.holding == nil {
		m.holding = new(holding)
	}
	h := m.holding
	for _, o := range offers {
		if !m.isSpent(o.ID) {
			sc.offers = append(sc.offers, o)
		}
	}
	live := sc.offers
	for _, o := range live[max(0, len(live)-protocol.HeldPerMember):] {
		if i := h.find(o.ID); i >= 0 {
			old := h.offers[i]
			m.account(len(o.Payload) - len(old.payload))
			old.at, old.payload = now, append(old.payload[:0], o.Payload...)
			h.offers = append(slices.Delete(h.offers, i, i+1), old)
			continue
		}
		if m.s.r.heldBytes.Load()+int64(len(o.Payload)) > protocol.HeldBytes {
			continue
		}
		h.offers = append(h.offers, heldOffer{id: slices.Clone(o.ID), payload: slices.Clone(o.Payload), at: now})
		m.account(len(o.Payload))
	}
	for len(h.offers) > protocol.HeldPerMember {
		m.drop(0)
	}
	if !h.queued && len(h.offers) > 0 {
		h.queued = true
		m.s.r.holdUntil(m, now)
	}
	return live
}

func (m *Member) holds() bool { return m.holding != nil && len(m.holding.offers) > 0 }

func (h *holding) find(id []byte) int {
	return slices.IndexFunc(h.offers, func(o heldOffer) bool { return string(o.id) == string(id) })
}

func (m *Member) account(n int) { m.s.r.heldBytes.Add(int64(n)) }

func (m *Member) drop(i int) {
	h := m.holding
	m.account(-len(h.offers[i].payload))
	h.offers = slices.Delete(h.offers, i, i+1)
}

// expire drops what is too old.
func (m *Member) expire(now instant) {
	if m.holding == nil {
		return
	}
	for len(m.holding.offers) > 0 && now-m.holding.offers[0].at >= ns(protocol.OfferHold) {
		m.drop(0)
	}
}

// release drops all that the member holds.
func (m *Member) release() {
	for m.holding != nil && len(m.holding.offers) > 0 {
		m.drop(0)
	}
}

func (m *Member) isSpent(ref []byte) bool {
	return m.holding != nil && slices.Contains(m.holding.spent, m.s.offerKeyString(m.id, ref))
}

// spend notes that an answer to an offer passed. It reports false when one had
// passed before.
func (m *Member) spend(ref []byte) bool {
	h := m.holding
	if h == nil {
		return true
	}
	if m.isSpent(ref) {
		return false
	}
	i := h.find(ref)
	if i < 0 {
		return true
	}
	m.drop(i)
	if len(h.spent) >= 4*protocol.HeldPerMember {
		h.spent = slices.Delete(h.spent, 0, 1)
	}
	h.spent = append(h.spent, m.s.offerKeyString(m.id, ref))
	return true
}

func (o *heldOffer) hadBy(h protocol.MemberHash) bool { return slices.Contains(o.had, h) }

// note records that the offer was given to h.
func (m *Member) note(id []byte, h protocol.MemberHash) {
	if m.holding == nil {
		return
	}
	if i := m.holding.find(id); i >= 0 && !m.holding.offers[i].hadBy(h) {
		m.holding.offers[i].had = append(m.holding.offers[i].had, h)
	}
}

// unnote takes back that an offer was given to the member that to names.
func (m *Member) unnote(id, to []byte) {
	h, named := protocol.ParseMemberHash(to)
	if m.holding == nil || !named {
		return
	}
	if i := m.holding.find(id); i >= 0 {
		o := &m.holding.offers[i]
		o.had = slices.DeleteFunc(o.had, func(x protocol.MemberHash) bool { return x == h })
	}
}

// targets lists every member of a small swarm but m, in random order; each
// once, where its newest join is. It reports false when a node does not list
// its own.
func (s *swarm) targets(sc *scratch, m *Member, except *link) bool {
	for _, t := range s.members[:s.takers] {
		if t == m {
			continue
		}
		if at := s.newest(t.hash); at != nil && at.joined > t.joined {
			continue
		}
		sc.targets = append(sc.targets, target{hash: t.hash, m: t})
	}
	for h, places := range s.elsewhere {
		p := places[len(places)-1]
		if t := s.findHash(h); h == m.hash || p.rem.l == except || (t != nil && t.joined >= p.joined) {
			continue
		}
		sc.targets = append(sc.targets, target{hash: h, rem: p.rem})
	}
	// Map order is random too, but not repeatable.
	if s.r.cfg.Seed != 0 {
		slices.SortFunc(sc.targets, func(a, b target) int {
			if a.hash < b.hash {
				return -1
			}
			return 1
		})
	}
	s.rnd.Shuffle(len(sc.targets), func(i, j int) { sc.targets[i], sc.targets[j] = sc.targets[j], sc.targets[i] })
	for _, rem := range s.remotes {
		if !rem.listed && rem.members > 0 && rem.l != except {
			return false
		}
	}
	return true
}

// placeFew places offers in a small swarm, where all members are known by
// their hash: each goes to a member that has not had it, if there is one.
func (s *swarm) placeFew(sc *scratch, m *Member, offers []Offer, except *link) {
	if !s.targets(sc, m, except) {
		sc.targets = sc.targets[:0]
		s.placeMany(sc, m, offers, except)
		return
	}
	left := len(sc.targets)
	for _, o := range offers {
		if left == 0 {
			break
		}
		var held *heldOffer
		if m.holding != nil {
			if i := m.holding.find(o.ID); i >= 0 {
				held = &m.holding.offers[i]
			}
		}
		if sc.again && held == nil {
			continue // newer ones took its place, and who had it is not known any more
		}
		best := -1
		for i := range sc.targets {
			t := &sc.targets[i]
			if t.used {
				continue
			}
			if held == nil || !held.hadBy(t.hash) {
				best = i
				break
			}
			if best < 0 && !sc.again {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		t := &sc.targets[best]
		t.used = true
		left--
		s.give(sc, m, o, t)
	}
	s.flushOffers(sc, m)
}

// give hands one offer to a target, or adds it to the frame for its node.
func (s *swarm) give(sc *scratch, m *Member, o Offer, t *target) {
	now := s.r.now()
	m.note(o.ID, t.hash)
	m.ask(t.hash, now)
	sc.given = append(sc.given, t.hash)
	after := turnOf(m.dealt().given, t.hash, now) > 0
	if t.m != nil {
		s.handOffer(sc, waiting{to: t.m, from: m.id, fromHash: m.hash, id: o.ID, payload: o.Payload, named: true, after: after}, now)
		return
	}
	sc.add(t.rem, o, t.hash.Bytes()).After = after
}

func (sc *scratch) add(rem *remote, o Offer, to []byte) *protocol.Offers_Offer {
	f := sc.frames[rem]
	if f == nil {
		if f = pop(&sc.empty); f == nil {
			f = new(protocol.Offers)
		}
		sc.frames[rem] = f
	}
	e := pop(&sc.entries)
	if e == nil {
		e = new(protocol.Offers_Offer)
	}
	e.Id, e.Payload, e.To = o.ID, o.Payload, to
	f.Offers = append(f.Offers, e)
	return e
}

// pop takes a spare one, nil when there is none.
func pop[T any](list *[]*T) *T {
	last := len(*list) - 1
	if last < 0 {
		return nil
	}
	e := (*list)[last]
	*list = (*list)[:last]
	return e
}

// flushOffers sends the frames that give collected.
func (s *swarm) flushOffers(sc *scratch, m *Member) {
	for rem, f := range sc.frames {
		list := f.Offers
		f.From = append(f.From[:0], m.id...)
		s.sendOffers(rem, m, f, sc.again)
		for _, e := range list {
			e.Id, e.Payload, e.To, e.After = nil, nil, nil, false
		}
		sc.entries = append(sc.entries, list...)
		f.Offers = list[:0]
		sc.empty = append(sc.empty, f)
	}
	clear(sc.frames)
}

// sendOffers sends offers of a member to another node, as many frames as their
// size needs. Their answers are accepted from now on.
func (s *swarm) sendOffers(rem *remote, m *Member, f *protocol.Offers, again bool) {
	now := s.r.now()
	f.App = rem.theirs
	all := f.Offers
	for len(all) > 0 {
		n, size := 0, 0
		for n < len(all) && (n == 0 || size+len(all[n].Payload)+256 < protocol.MaxPayload) {
			size += len(all[n].Payload) + 256
			s.sent.put(rem.sentKey(f.From, all[n].Id), struct{}{}, now)
			n++
		}
		f.Offers, all = all[:n], all[n:]
		rem.share.place(n)
		s.r.totals.linkOffers.Add(uint64(n))
		rem.l.sendEncoded(outgoing{kind: kindOffers, owner: m, rem: rem, again: again}, encodeOffers(f))
	}
}

func (s *swarm) deliver(sc *scratch, m *Member, e Event) bool {
	sc.ev = e
	ok := m.sink.Deliver(&sc.ev)
	if !ok {
		s.r.totals.refused.Add(1)
	}
	return ok
}

// placeMany places offers in a swarm too large to list: nodes get as many as
// their share of the members, drawn without replacement, and choose the
// members themselves.
func (s *swarm) placeMany(sc *scratch, m *Member, offers []Offer, except *link) {
	here := s.takers
	if m.flags.has(takesOffers) && m.at >= 0 {
		here--
	}
	if len(s.remotes) == 0 {
		s.placeHere(sc, m, offers, here)
		return
	}
	portions, total := s.portions(except)
	total += here
	local := 0 // offers for members here: moved to the front
	for i, o := range offers {
		if total == 0 {
			break
		}
		n := s.rnd.IntN(total)
		total--
		if n < here {
			here--
			offers[i], offers[local] = offers[local], offers[i]
			local++
			continue
		}
		n -= here
		for b := range portions {
			if n < portions[b].n {
				portions[b].n--
				sc.add(portions[b].rem, o, nil)
				break
			}
			n -= portions[b].n
		}
	}
	s.flushOffers(sc, m)
	s.placeHere(sc, m, offers[:local], here+local)
}

type portion struct {
	rem *remote
	n   int
}

func (s *swarm) portions(except *link) ([]portion, int) {
	portions, total := make([]portion, 0, len(s.remotes)), 0
	for _, rem := range s.remotes {
		if n := rem.weight(s); n > 0 && rem.l != except {
			portions = append(portions, portion{rem, n})
			total += n
		}
	}
	if s.r.cfg.Seed != 0 {
		slices.SortFunc(portions, func(a, b portion) int {
			if a.rem.l.node.Less(b.rem.l.node) {
				return -1
			}
			return 1
		})
	}
	return portions, total
}

// placeHere gives offers to distinct members here, others many there are
// besides m.
func (s *swarm) placeHere(sc *scratch, m *Member, offers []Offer, others int) {
	k := min(len(offers), others)
	if k == 0 {
		return
	}
	s.here.place(k)
	s.pick(sc, k, m.at)
	for i, at := range sc.picked {
		t := s.members[at]
		m.note(offers[i].ID, t.hash)
		s.deliver(sc, t, Event{Kind: KindOffer, From: m.id, Ref: offers[i].ID, Payload: offers[i].Payload})
	}
}

// pick chooses k distinct takers at random, never the one at skip: by
// rejection when that is quick, else by walking.
func (s *swarm) pick(sc *scratch, k int, skip int32) {
	sc.picked = sc.picked[:0]
	if 2*k > s.takers {
		for i := range s.takers {
			if int32(i) != skip {
				sc.picked = append(sc.picked, i)
			}
		}
		p := sc.picked
		for i := range min(k, len(p)) {
			j := i + s.rnd.IntN(len(p)-i)
			p[i], p[j] = p[j], p[i]
		}
		sc.picked = p[:min(k, len(p))]
		return
	}
	for len(sc.picked) < k {
		i := s.rnd.IntN(s.takers)
		if int32(i) != skip && !slices.Contains(sc.picked, i) {
			sc.picked = append(sc.picked, i)
		}
	}
}
