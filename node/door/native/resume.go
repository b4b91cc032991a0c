package native

import (
	"slices"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// keepAll keeps the members of a socket that has ended. What was not written to
// it is missing, and then they cannot be resumed.
func (s *session) keepAll() {
	until := time.Now().Add(protocol.ResumeWithin)
	for _, m := range s.members {
		m.mu.Lock()
		m.s, m.held = nil, &held{until: until, seat: s.c.Unseat()}
		m.mu.Unlock()
	}
	behind := s.c.Behind() // only now: nothing is written to it any more
	for _, m := range s.members {
		m.mu.Lock()
		if behind {
			m.overflow()
		}
		m.mu.Unlock()
		if m.replaced.Load() || !m.d.keeper.add(m, until) {
			m.lose(until)
		}
	}
	clear(s.members)
}

// hold takes an event while the member is kept. What cannot be held is missing
// from then on. mu is held.
func (m *member) hold(e *relay.Event) bool {
	h := m.held
	isEnvelope := e.Kind == relay.KindDirect || e.Kind == relay.KindData
	switch {
	case h == nil || (isEnvelope && m.d.cfg.Host.Draining()):
		return false
	case e.Kind == relay.KindFailed: // of the connection that ended
		return true
	case h.over:
		return !isEnvelope
	}
	size := len(e.Payload) + 2*protocol.MaxMemberID
	if len(h.messages) == protocol.KeptMessages || h.bytes+size > protocol.KeptBytes || !m.d.keeper.room(size) {
		m.overflow()
		return !isEnvelope
	}
	h.bytes += size
	out, _ := m.translate(e)
	if out == nil {
		return false
	}
	h.messages = append(h.messages, out)
	if isEnvelope {
		h.failing = append(h.failing, relay.Undelivered{From: e.From, Ref: slices.Clone(e.Ref)})
	}
	return true
}

// overflow says that something is missing. mu is held.
func (m *member) overflow() {
	h := m.held
	m.d.keeper.bytes.Add(-int64(h.bytes))
	h.over, h.messages, h.bytes = true, nil, 0
}

// release ends the holding, but for the seat. mu is held.
func (m *member) release() *held {
	h := m.held
	m.held = nil
	m.d.keeper.bytes.Add(-int64(h.bytes))
	return h
}

// lose ends a membership that was not taken over in time, and reports false
// when there is none, or it is not time.
func (m *member) lose(now time.Time) bool {
	m.mu.Lock()
	if m.held == nil || now.Before(m.held.until) {
		m.mu.Unlock()
		return false
	}
	h := m.release()
	m.mu.Unlock()
	if now.After(m.until) {
		m.m.Leave()
	}
	m.m.Lose(h.failing)
	h.seat.Free()
	m.d.members.Add(-1)
	return true
}

// yield leaves the place of a member that is not resumed to the one that joins
// instead. It reports false when there is none.
func (m *member) yield(c *door.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil || !c.TakeSeat(m.held.seat) {
		return false
	}
	m.held.seat = door.Seat{}
	return true
}

// resume gives a member that is kept to a socket. It reports false when
// something is missing, or the peer has another key by now: then it joins anew,
// which ends the old membership, and what was held fails.
func (s *session) resume(ref uint32, m *member, p *protocol.PeerPresence, blob []byte) bool {
	if m.replaced.Load() || m.seal != p.Seal || m.m.Show(blob) != nil {
		return false
	}
	_, others := m.m.Sample(0)
	ice := s.ice()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil || m.held.over || !s.c.TakeSeat(m.held.seat) {
		return false
	}
	h := m.release()
	m.s, m.until = s, time.Now().Add(p.TTL)
	s.members[m.key] = m
	s.write(joined(ref, others, true, ice), door.Reply)
	for _, out := range h.messages {
		s.write(out, door.Reply)
	}
	return true
}
