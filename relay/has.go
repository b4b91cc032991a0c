package relay

import "github.com/peerservers/peerserver/protocol"

// Has says whether an app has a member of that id on this node.
func (r *Relay) Has(app protocol.AppID, id string) bool {
	return r.ask(app, func(s *swarm) bool { return s.find(id) != nil })
}

// HasClaim is Has of a member that claimed its id with that token.
func (r *Relay) HasClaim(app protocol.AppID, id string, token [32]byte) bool {
	return r.ask(app, func(s *swarm) bool {
		c := s.claims[id]
		return c != nil && c.held && c.token == token
	})
}

func (r *Relay) ask(app protocol.AppID, question func(*swarm) bool) bool {
	r.mu.Lock()
	s := r.swarms[app]
	r.mu.Unlock()
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return question(s)
}
