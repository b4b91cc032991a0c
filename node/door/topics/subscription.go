package topics

import (
	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Subscription is a client's to one topic, and the sink of its relay.Member.
type Subscription struct {
	// Static after Subscribe.
	Topic  string
	Quoted string // the topic as JSON, as the client wrote it
	App    protocol.AppID
	c      *door.Conn
	hub    *Hub

	// Owned by whoever names members; the socket's goroutine where nobody does.
	ID     string // of the member
	member *relay.Member
}

// Join makes the subscription a member under its ID, in the place of the one here
// that has that ID.
func (s *Subscription) Join() error {
	m, err := s.hub.cfg.Relay.Join(s.App, relay.Joining{
		ID: s.ID, Sink: s, TakesOffers: true, Subscriber: true, WantsCount: s.hub.cfg.Counts,
	})
	if err == nil {
		s.member = m
	}
	return err
}

// Rename gives the member another id.
func (s *Subscription) Rename(id string) error {
	err := s.member.Rename(id)
	if err == nil {
		s.ID = id
	}
	return err
}

// Leave ends the membership.
func (s *Subscription) Leave() { s.member.Leave() }

// Close closes the client, because it cannot be a member any more.
func (s *Subscription) Close() { s.c.Close(protocol.CloseTryAgainLater, whyFull) }

// Deliver implements relay.Sink.
func (s *Subscription) Deliver(e *relay.Event) bool {
	if e.Kind != relay.KindPublish || !s.hub.cfg.Accepts(s, e) {
		return true
	}
	b, ok := s.c.Begin()
	if !ok {
		return false
	}
	s.hub.delivered.Add(1)
	return s.c.End(s.hub.cfg.Append(b, s, e), door.Reply)
}
