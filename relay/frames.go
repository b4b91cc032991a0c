package relay

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// handle takes one frame of a link's reader. An error ends the connection; a
// frame that does not make sense only to us is skipped.
func (r *Relay) handle(l *link, w *wire, f *protocol.Frame) error {
	switch b := f.Body.(type) {
	case *protocol.Frame_Resume:
		if err := l.resume(w, b.Resume); err != nil {
			return err
		}
		r.introduceMesh(l)
	case *protocol.Frame_Interest:
		return r.onInterest(l, w, b.Interest)
	case *protocol.Frame_Swarm:
		r.onSwarm(l, b.Swarm)
	case *protocol.Frame_Offers:
		r.onOffers(l, f.Seq, b.Offers)
	case *protocol.Frame_Signal:
		r.onSignal(l, f.Seq, b.Signal)
	case *protocol.Frame_Publish:
		r.onPublish(l, b.Publish)
	case *protocol.Frame_Presence:
		r.onPresence(l, f.Seq, b.Presence)
	case *protocol.Frame_Find:
		r.onFind(l, b.Find)
	case *protocol.Frame_Claim:
		r.onClaim(l, f.Seq, b.Claim)
	case *protocol.Frame_Holds:
		r.onHolds(l, b.Holds)
	case *protocol.Frame_Fail:
		r.onFail(l, b.Fail)
	case *protocol.Frame_Nodes:
		r.onNodes(l, b.Nodes)
	case *protocol.Frame_Ping:
		l.onPing(w, b.Ping)
	case *protocol.Frame_TurnKeys:
		l.onTurnKeys(b.TurnKeys)
	case *protocol.Frame_Probe:
		r.onProbe(l, w, b.Probe)
	case *protocol.Frame_Bye:
		l.onBye(b.Bye)
	}
	return nil
}

// onInterest binds the other node's numbers to the apps that both serve.
func (r *Relay) onInterest(l *link, w *wire, f *protocol.Interest) error {
	if len(f.Tags) > protocol.MaxInterestTags {
		return protocol.Errorf(protocol.CodeTooLarge, "interest in %d apps at once is over %d", len(f.Tags), protocol.MaxInterestTags)
	}
	for _, t := range f.Tags {
		if len(t.Tag) != protocol.TagSize || t.App == 0 {
			return protocol.Errorf(protocol.CodeMalformed, "tag of %d bytes for app %d", len(t.Tag), t.App)
		}
		if s := l.tagged(w, [protocol.TagSize]byte(t.Tag)); s == nil || !s.onInterest(l, t.App) {
			l.notServed(t.App)
		}
	}
	return nil
}

func (s *swarm) onInterest(l *link, number uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || !s.admits(l) {
		return false
	}
	now := s.r.now()
	first := s.remotes[l] == nil
	rem := s.bind(l)
	rem.theirs = number
	s.tell(rem, now)
	if first {
		s.meetUnnamed(rem, now)
	}
	s.tellNames(rem, now)
	return true
}

func (r *Relay) onSwarm(l *link, f *protocol.Swarm) {
	var s *swarm
	if rem := l.remote(f.App); rem != nil {
		s = rem.s
	} else {
		r.mu.Lock()
		s = r.numbers[f.App]
		r.mu.Unlock()
	}
	if s == nil {
		return
	}
	s.mu.Lock()
	switch rem := s.remotes[l]; {
	case s.gone:
	case f.Mine != 0 && s.admits(l):
		s.hear(s.bind(l), f, r.now())
	case f.Mine != 0:
		l.notServed(f.Mine)
	case rem != nil:
		s.unbind(rem, KindLeft)
	}
	if delete(s.silent, l); len(s.claiming) > 0 {
		s.holdReady(r.now())
	}
	s.mu.Unlock()
	r.answered(l, f.App)
}

func (r *Relay) onOffers(l *link, seq uint64, f *protocol.Offers) {
	rem := l.remote(f.App)
	if rem == nil || len(f.From) == 0 || len(f.From) > protocol.MaxMemberID || len(f.Offers) > protocol.MaxOffers {
		l.fail(seq, protocol.CodeUnknownPeer, offerIDs(f.Offers))
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	rate := float64(protocol.AppOffers * (1 + rem.believed()))
	if ok, wait := rem.offers.take(float64(len(f.Offers)), rate, rate*protocol.AppOffersBurst, now); !ok {
		l.refuse(seq, protocol.CodeRate, wait, offerIDs(f.Offers))
		return
	}
	rem.hear(f.From, now)
	var failed [][]byte
	sc := scratches.Get().(*scratch)
	defer sc.free()
	for _, o := range f.Offers {
		if len(o.Id) == 0 || len(o.Id) > protocol.MaxRef || len(o.Payload) > protocol.MaxPayload || !s.take(sc, l, f, o, now) {
			failed = append(failed, o.Id)
		}
	}
	if len(failed) > 0 {
		l.fail(seq, protocol.CodeUnknownPeer, failed)
	}
}

func offerIDs(offers []*protocol.Offers_Offer) [][]byte {
	ids := make([][]byte, 0, len(offers))
	for _, o := range offers {
		ids = append(ids, o.Id)
	}
	return ids
}

// take gives an offer of another node to the member it names, or to any that
// has had none of its frame. It reports false when there is nobody to give it
// to.
func (s *swarm) take(sc *scratch, l *link, f *protocol.Offers, o *protocol.Offers_Offer, now instant) bool {
	var t *Member
	if len(o.To) > 0 {
		if h, ok := protocol.ParseMemberHash(o.To); ok {
			t = s.findHash(h)
		}
		if t != nil && !t.flags.has(takesOffers) {
			t = nil
		}
	} else {
		t = s.anyBut(sc, f.From)
	}
	if t == nil || t.id == string(f.From) {
		return false
	}
	if f.Held && !t.deals().received.allow(now) {
		return true // taken, and dropped: it was for this member only
	}
	sc.picked = append(sc.picked, int(t.at))
	return s.handOffer(sc, waiting{to: t, from: string(f.From), id: o.Id, payload: o.Payload, held: f.Held, named: f.Held || len(o.To) > 0, after: o.After, l: l}, now)
}

// anyBut picks a random taker that is not in sc.picked and has another id.
func (s *swarm) anyBut(sc *scratch, id []byte) *Member {
	if s.takers == 0 {
		return nil
	}
	ok := func(i int) bool {
		if s.members[i].id == string(id) {
			return false
		}
		return !slices.Contains(sc.picked, i)
	}
	for range 8 {
		if i := s.rnd.IntN(s.takers); ok(i) {
			return s.members[i]
		}
	}
	start := s.rnd.IntN(s.takers)
	for n := range min(s.takers, 2*protocol.MaxOffers+8) {
		if i := (start + n) % s.takers; ok(i) {
			return s.members[i]
		}
	}
	return nil
}

// onFail places what could not be placed there elsewhere, once, or tells the
// member whose it was.
func (r *Relay) onFail(l *link, f *protocol.Fail) {
	if f.Seq == 0 {
		r.onFailLate(l, f)
		return
	}
	e, ok := l.sentFrame(f.Seq)
	if !ok {
		return
	}
	var only [][]byte
	if e.kind == kindOffers && len(f.Offers) > 0 {
		only = f.Offers
	}
	r.giveUp(l, e, protocol.Code(f.Code), only)
}

// giveUp ends a frame that did not arrive.
func (r *Relay) giveUp(l *link, e outgoing, code protocol.Code, only [][]byte) {
	if e.owner == nil {
		return
	}
	var f protocol.Frame
	if err := proto.Unmarshal(e.body, &f); err != nil {
		return
	}
	switch b := f.Body.(type) {
	case *protocol.Frame_Offers:
		r.placeAgain(l, e, b.Offers, only)
	case *protocol.Frame_Signal:
		m := e.owner
		m.s.mu.Lock()
		if m.at >= 0 && !m.s.again(&e, b.Signal, code) {
			m.sink.Deliver(&Event{Kind: KindFailed, From: string(b.Signal.To), Ref: b.Signal.Ref, Code: code})
		}
		m.s.mu.Unlock()
	}
}

func (r *Relay) placeAgain(l *link, e outgoing, f *protocol.Offers, only [][]byte) {
	m := e.owner
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	var again []Offer
	for _, o := range f.Offers {
		if only != nil && !contains(only, o.Id) {
			continue
		}
		// Not taken: an answer of a member that had it after all comes first
		// or not at all.
		s.sent.take(e.rem.sentKey(f.From, o.Id), now)
		if only != nil {
			m.unnote(o.Id, o.To) // certainly; what was given up may have arrived
		}
		if !m.isSpent(o.Id) {
			again = append(again, Offer{ID: o.Id, Payload: o.Payload})
		}
	}
	if m.at < 0 || e.again || f.Held || len(again) == 0 {
		return
	}
	r.totals.replaced.Add(uint64(len(again)))
	sc := scratches.Get().(*scratch)
	defer sc.free()
	sc.again = true
	if s.small() {
		s.placeFew(sc, m, again, l)
	} else {
		s.placeMany(sc, m, again, l)
	}
	sc.again = false
}

func contains(list [][]byte, id []byte) bool {
	for _, l := range list {
		if string(l) == string(id) {
			return true
		}
	}
	return false
}
