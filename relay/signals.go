package relay

import (
	"slices"

	"github.com/peerservers/peerserver/protocol"
)

// Send gives a message to one member, wherever it is. It reports at once what
// it can; what fails later comes back as KindFailed with the message's Ref.
func (m *Member) Send(msg Message) protocol.Code {
	if len(msg.Payload) > protocol.MaxPayload || len(msg.Ref) > protocol.MaxRef {
		return protocol.CodeTooLarge
	}
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.at < 0 {
		return protocol.CodeUnknownPeer
	}
	if msg.Kind == KindAnswer {
		s.r.totals.answers.Add(1)
		return s.answer(m, msg)
	}
	s.r.totals.signals.Add(1)
	if msg.Wait {
		return s.sendWaiting(m, msg)
	}
	t, rem := s.locate(msg.To)
	if t == nil && rem == nil {
		rem = s.foundOn(msg.To)
	}
	switch {
	case t != nil:
		return s.hand(t, m, msg)
	case rem != nil:
		return s.signal(rem, m, msg)
	}
	return protocol.CodeUnknownPeer
}

// locate finds the newest join of an id.
func (s *swarm) locate(id string) (*Member, *remote) {
	t := s.find(id)
	var at *home
	if len(s.elsewhere) > 0 {
		at = s.newest(s.app.MemberHash(id))
	}
	if p := s.presentAt(id); p != nil && (at == nil || p.joined > at.joined) {
		at = p
	}
	if t != nil && (at == nil || t.joined >= at.joined) {
		return t, nil
	}
	if at != nil {
		return nil, at.rem
	}
	return nil, nil
}

// answer finds its way by the offer: to a member here, or to the node that
// sent the offer, once.
func (s *swarm) answer(m *Member, msg Message) protocol.Code {
	defer s.settled(m, msg.To, s.r.now())
	if l, ok := s.routes.take(s.offerKeyString(msg.To, msg.Ref), s.r.now()); ok {
		if rem := s.remotes[l]; rem != nil {
			s.r.totals.linkAnswers.Add(1)
			return s.signal(rem, m, msg)
		}
		return protocol.CodeNodeGone
	}
	t := s.find(msg.To)
	if t == nil {
		return protocol.CodeUnknownPeer
	}
	if !t.spend(msg.Ref) {
		s.r.totals.duplicateReply.Add(1)
		return protocol.CodeExpired
	}
	s.here.answer()
	code := s.hand(t, m, msg)
	s.settled(t, m.id, s.r.now())
	return code
}

func (s *swarm) hand(t, from *Member, msg Message) protocol.Code {
	sc := scratches.Get().(*scratch)
	defer sc.free()
	if !s.deliver(sc, t, Event{Kind: msg.Kind, From: from.id, Ref: msg.Ref, Payload: msg.Payload}) {
		return protocol.CodeFull
	}
	return protocol.CodeOK
}

// kinds of Signal on the wire.
var (
	toWire = map[Kind]protocol.Signal_Kind{
		KindAnswer: protocol.Signal_KIND_ANSWER, KindCandidate: protocol.Signal_KIND_CANDIDATE,
		KindDirect: protocol.Signal_KIND_DIRECT, KindData: protocol.Signal_KIND_DATA,
	}
	fromWire = map[protocol.Signal_Kind]Kind{
		protocol.Signal_KIND_ANSWER: KindAnswer, protocol.Signal_KIND_CANDIDATE: KindCandidate,
		protocol.Signal_KIND_DIRECT: KindDirect, protocol.Signal_KIND_DATA: KindData,
	}
)

func (s *swarm) signal(rem *remote, m *Member, msg Message) protocol.Code {
	if s.remotes[rem.l] != rem {
		return protocol.CodeNodeGone // an orphan's
	}
	kind := kindSignal
	if msg.Kind == KindData {
		kind = kindData
	}
	_, code := rem.l.sendEncoded(outgoing{kind: kind, owner: m, rem: rem}, encodeSignal(rem.theirs, msg.To, m.id, &msg))
	return code
}

// failLate tells who sent a signal to m, long ago for a link, that it did not
// arrive.
func (s *swarm) failLate(m *Member, u Undelivered, code protocol.Code) {
	t, rem := s.locate(u.From)
	switch {
	case t != nil:
		t.sink.Deliver(&Event{Kind: KindFailed, From: m.id, Ref: u.Ref, Code: code})
	case rem != nil && s.remotes[rem.l] == rem:
		rem.l.send(outgoing{kind: kindControl}, &protocol.Frame{Body: &protocol.Frame_Fail{Fail: &protocol.Fail{
			Code: uint32(code), App: rem.theirs, From: []byte(u.From), To: []byte(m.id), Ref: u.Ref,
		}}})
	}
}

// onFailLate takes what failLate says. Of a member that is known to be
// elsewhere the node has nothing to say.
func (r *Relay) onFailLate(l *link, f *protocol.Fail) {
	rem := l.remote(f.App)
	if rem == nil || len(f.To) > protocol.MaxMemberID || len(f.Ref) > protocol.MaxRef {
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	to := string(f.To)
	if p := s.present[to]; p != nil && !slices.ContainsFunc(p.places, func(at shown) bool { return at.rem == rem }) && protocol.Code(f.Code) == protocol.CodeUnknownPeer {
		return
	}
	if t := s.findBytes(f.From); t != nil {
		t.sink.Deliver(&Event{Kind: KindFailed, Foreign: true, From: to, Ref: f.Ref, Code: protocol.Code(f.Code)})
	}
}

// onSignal hands a signal of another node to its member.
func (r *Relay) onSignal(l *link, seq uint64, f *protocol.Signal) {
	rem := l.remote(f.App)
	kind, known := fromWire[f.Kind]
	if rem == nil || !known || len(f.From) == 0 || len(f.From) > protocol.MaxMemberID || len(f.Ref) > protocol.MaxRef || len(f.Payload) > protocol.MaxPayload {
		l.fail(seq, protocol.CodeUnknownPeer, nil)
		return
	}
	s := rem.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := r.now()
	if kind == KindAnswer {
		if _, asked := s.sent.take(rem.sentKey(f.To, f.Ref), now); !asked {
			r.totals.duplicateReply.Add(1)
			return
		}
		rem.share.answer()
	}
	rem.hear(f.From, now)
	if s.byName() {
		s.heardOf(f.From, rem, now)
	}
	t := s.findBytes(f.To)
	if t == nil {
		l.fail(seq, protocol.CodeUnknownPeer, nil)
		return
	}
	if kind == KindAnswer && !t.spend(f.Ref) {
		r.totals.duplicateReply.Add(1)
		return
	}
	sc := scratches.Get().(*scratch)
	defer sc.free()
	if !s.deliver(sc, t, Event{Kind: kind, Foreign: true, From: string(f.From), Ref: f.Ref, Payload: f.Payload}) {
		l.fail(seq, protocol.CodeFull, nil)
	}
	if kind == KindAnswer {
		s.settled(t, string(f.From), now)
	}
}
