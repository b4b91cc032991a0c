package native

import (
	"slices"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// keep begins to hold what comes for a member whose socket has ended. Behind
// says that something is missing already, so that its peer cannot resume.
func (m *member) keep(behind bool) {
	h := &held{until: time.Now().Add(protocol.ResumeWithin), over: behind}
	m.mu.Lock()
	h.seat = m.s.c.Unseat()
	m.s, m.held = nil, h
	m.mu.Unlock()
	if m.replaced.Load() || !m.d.keeper.add(m, h.until) {
		m.lose(h.until)
	}
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
		h.over = true
		m.d.keeper.bytes.Add(-int64(h.bytes))
		h.messages, h.bytes = nil, 0
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

// resume gives a member that is kept to a socket. It reports false when
// something is missing, or the peer has another key by now: then it joins anew,
// which ends the old membership, and what was held fails.
func (s *session) resume(ref uint32, m *member, p *protocol.PeerPresence, blob []byte) bool {
	if m.replaced.Load() || m.seal != p.Seal || m.m.Show(blob) != nil {
		return false
	}
	_, others := m.m.Sample(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil || m.held.over || !s.c.TakeSeat(m.held.seat) {
		return false
	}
	h := m.release()
	m.s, m.until = s, time.Now().Add(p.TTL)
	s.members[m.key] = m
	s.write(joined(ref, others, true), door.Reply)
	for _, out := range h.messages {
		s.write(out, door.Reply)
	}
	return true
}
