package relay

import "github.com/peerservers/peerserver/protocol"

// Rename gives the member another id, as if it had joined with it when it did:
// no publish is lost or comes twice meanwhile. A member here that has the id is
// replaced. It is for members without presence, whose ID nobody asks for at the
// same time.
func (m *Member) Rename(id string) error {
	if len(id) == 0 || len(id) > protocol.MaxMemberID {
		return protocol.Errorf(protocol.CodeMalformed, "member id of %d bytes is not of 1 to %d", len(id), protocol.MaxMemberID)
	}
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.at < 0:
		return protocol.Errorf(protocol.CodeUnknownPeer, "the member has left")
	case m.id == id:
		return nil
	}
	if old := s.find(id); old != nil {
		s.remove(old)
		old.sink.Deliver(&Event{Kind: KindReplaced})
	}
	s.remove(m)
	m.id, m.hash = id, s.app.MemberHash(id)
	s.insert(m)
	s.r.members.Add(1)
	now := s.r.now()
	if s.small() {
		s.told = now - ns(protocol.SwarmEvery) // at once: it may be on another node too
	}
	s.change(now)
	return nil
}
