package relay

import (
	"errors"
	"slices"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// maxHeldPublishes bounds what waits in one swarm for nodes not yet known; the
// oldest go first.
const maxHeldPublishes = 256

type heldPublish struct {
	n       uint64
	from    string
	payload []byte
	at      instant
	places  []givenAt
	first   *Member               // whose first it was
	heard   []protocol.MemberHash // whose first that one was given before
}

// oneMove is how soon after its join a member's first publish counts as made with
// it: what a client sends in one go is read one by one.
const oneMove = instant(50 * time.Millisecond)

// maxEarly bounds whose first publishes are remembered for one member.
const maxEarly = 16

// Publish gives payload to every other subscriber, on all nodes.
func (m *Member) Publish(payload []byte) protocol.Code {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if m.at < 0 {
		return protocol.CodeUnknownPeer
	}
	return m.s.publish(m.id, m, payload)
}

// Audience is how many subscribers an app has, on all nodes, as far as they are
// known and believed in.
func (r *Relay) Audience(app protocol.AppID) int {
	r.mu.Lock()
	s := r.swarms[app]
	r.mu.Unlock()
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.subs
	for _, rem := range s.remotes {
		n += min(rem.subscribers, rem.believed())
	}
	return n
}

// Publish gives payload to every subscriber of an app that the sender need not
// be a member of. The node serves the app for as long as publishes are held,
// so that other nodes may fetch it.
func (r *Relay) Publish(app protocol.AppID, from string, payload []byte) protocol.Code {
	for {
		s, err := r.swarm(app)
		if err != nil {
			return codeOf(err)
		}
		s.mu.Lock()
		if s.gone {
			s.mu.Unlock()
			continue
		}
		s.tempTo = r.now().add(protocol.PublishHold)
		code := s.publish(from, nil, payload)
		s.lingerLocked()
		s.mu.Unlock()
		return code
	}
}

func (s *swarm) publish(from string, self *Member, payload []byte) protocol.Code {
	if len(payload) > protocol.MaxPayload {
		return protocol.CodeTooLarge
	}
	now := s.r.now()
	s.r.totals.publishes.Add(1)
	sc := scratches.Get().(*scratch)
	defer sc.free()
	if s.subs > 0 {
		e := Event{Kind: KindPublish, From: from, Ref: s.r.self[:], Payload: payload, Count: s.count()}
		for _, t := range s.members {
			if t != self && t.flags.has(subscriber) && !s.isElsewhere(t) {
				s.deliver(sc, t, e)
			}
		}
	}
	s.dropPublishes(now)
	s.published++
	p := heldPublish{n: s.published, from: from, payload: payload, at: now, places: s.places(), first: s.firstOf(from, now)}
	if p.first != nil && now-p.first.joined < oneMove {
		p.heard, _ = s.early.take(p.first, now)
	}
	if s.r.heldBytes.Load()+p.size() <= protocol.HeldBytes {
		held := p
		held.payload = slices.Clone(payload)
		s.publishes = append(s.publishes, held)
		s.r.heldBytes.Add(p.size())
	}
	for _, rem := range s.remotes {
		if rem.subscribers > 0 {
			s.sendPublish(rem, &p, 0, rem.l.seenNow())
		}
	}
	return protocol.CodeOK
}

// firstOf is the member whose first publish this is, if it came with its join.
func (s *swarm) firstOf(from string, now instant) *Member {
	if s.counted == 0 {
		return nil
	}
	m := s.find(from)
	if m == nil || m.flags&(wantsCount|hasPublished) != wantsCount {
		return nil
	}
	m.flags |= hasPublished
	if now-m.joined >= ns(protocol.FirstPublish) {
		return nil
	}
	return m
}

// sendPublish gives a publish to one node. seen is what of that node had been
// handled when it was made.
func (s *swarm) sendPublish(rem *remote, p *heldPublish, age instant, seen uint64) {
	seq, code := rem.l.send(outgoing{kind: kindPublish}, &protocol.Frame{Body: &protocol.Frame_Publish{Publish: &protocol.Publish{
		App: rem.theirs, From: []byte(p.from), Age: millis(age), Payload: p.payload, Elsewhere: elsewhere(p, rem.l),
		First: p.first != nil, Seen: seen,
	}}})
	if code == protocol.CodeOK {
		if p.first != nil {
			rem.firsts.put(p.first, seq, s.r.now())
		}
		rem.l.mu.Lock()
		rem.l.published[s.number] = p.n
		rem.l.mu.Unlock()
	}
}

// dropPublishes forgets what has waited long enough.
func (s *swarm) dropPublishes(now instant) {
	n := 0
	for n < len(s.publishes) && (now-s.publishes[n].at >= ns(protocol.PublishHold) || len(s.publishes)-n >= maxHeldPublishes) {
		s.r.heldBytes.Add(-s.publishes[n].size())
		n++
	}
	if n == len(s.publishes) {
		s.publishes = nil
		return
	}
	s.publishes = slices.Delete(s.publishes, 0, n)
}

// sendHeldPublishes sends a node with subscribers what it did not get yet: it
// became known, or they came, after the publish. Its age tells the node which
// of its subscribers were there.
func (s *swarm) sendHeldPublishes(rem *remote, now instant) {
	if rem.subscribers == 0 {
		return
	}
	s.dropPublishes(now)
	rem.l.mu.Lock()
	upTo := rem.l.published[s.number]
	rem.l.mu.Unlock()
	for i := range s.publishes {
		if p := &s.publishes[i]; p.n > upTo {
			s.sendPublish(rem, p, now-p.at, 0)
		}
	}
}

// onPublish gives a publish of another node to those subscribers that one
// server would have given it to.
func (r *Relay) onPublish(l *link, f *protocol.Publish) {
	rem := l.remote(f.App)
	if rem == nil || len(f.From) > protocol.MaxMemberID || len(f.Payload) > protocol.MaxPayload {
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	sc := scratches.Get().(*scratch)
	defer sc.free()
	e := Event{Kind: KindPublish, Foreign: true, From: string(f.From), Ref: l.node[:], Payload: f.Payload, Count: s.count()}
	for _, t := range s.members {
		if t.flags.has(subscriber) && t.precedes(rem, f, now) && t.id != e.From && !s.isGivenElsewhere(t, f.Elsewhere) {
			if f.First {
				s.hearEarly(t, f.From, now)
			}
			s.deliver(sc, t, e)
		}
	}
}

// hearEarly notes that a member that is about to publish for the first time was
// given somebody else's first: that one is not given the member's. They crossed,
// between a node's reading of a subscription and of the publish that came with it.
func (s *swarm) hearEarly(m *Member, from []byte, now instant) {
	if m.flags&(wantsCount|hasPublished) != wantsCount || now-m.joined >= oneMove {
		return
	}
	if s.early.max == 0 {
		s.early = expiring[*Member, []protocol.MemberHash]{period: oneMove, max: maxHeldPublishes}
	}
	if list, _ := s.early.get(m, now); len(list) < maxEarly {
		s.early.put(m, append(list, s.app.MemberHash(string(from))), now)
	}
}

// precedes says whether a subscriber was there before what another node
// published, as on one server. Where its own first publish and that of the other
// one crossed, both nodes compare the same, so that one of the two hears the
// other: the ages alone are wrong by what the links take.
func (m *Member) precedes(rem *remote, f *protocol.Publish, now instant) bool {
	earlier := now - m.joined - fromMillis(f.Age)
	if f.First && max(earlier, -earlier) < ns(protocol.FirstPublish) {
		if own, ok := rem.firsts.get(m, now); ok && f.Seen < own {
			return rem.s.r.self.Less(rem.l.node)
		}
	}
	return earlier >= 0
}

// count is how many there are to be given a publish, if anybody wants to know.
func (s *swarm) count() int {
	if s.counted == 0 {
		return 0
	}
	c := s.counts()
	return c.Complete + c.Incomplete
}

// codeOf is the code of an error for a member.
func codeOf(err error) protocol.Code {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Code
	}
	return protocol.CodeInternal
}
