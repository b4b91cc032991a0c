package topics

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
)

// Why a client is closed. Neither library has a message for errors; whoever
// looks for the reason finds it in the close frame, in at most 123 bytes.
const (
	whyClients = "this node takes no more clients of this kind; use another node"
	whyTopics  = "too many topics on this connection or from this address; unsubscribe from some first"
	whyLength  = "a topic is over 512 bytes; choose a shorter name"
	whyOpen    = "publishes to over 64 topics without being subscribed; subscribe to them, or wait for 30 s"
	whyMessage = "a message is over 64 KiB, or what it publishes over 56 KiB"
	whyRate    = "too many messages"
	whyDenied  = "this topic is not allowed on this node; use another node"
	whyFull    = "this node is full; use another node"
)

// Sizes that no protocol names.
const (
	publishEach  = 4 << 10  // what a message costs besides its own bytes, for each subscriber
	publishShare = 64 << 10 // one more message of a client's quota for so many bytes
	maxUnopened  = 1000     // publishes that are dropped before the client is closed
)

// Socket is one client's connection: the part of a session that both doors
// have. All but Sweep is called by one goroutine.
type Socket struct {
	// Static after Open.
	hub    *Hub
	c      *door.Conn
	secret [16]byte // what ids are made from that the client did not give
	seated bool     // it has one of the door's places

	shut     bool // it was closed; nothing that still comes is read
	subs     map[string]*Subscription
	opened   map[protocol.AppID]time.Time // published to without being subscribed, and when
	unopened int                          // publishes to more than that
}

// Open makes the Socket of a client. One that finds no place is told so and
// closed.
func (h *Hub) Open(c *door.Conn) *Socket {
	s := &Socket{hub: h, c: c, subs: make(map[string]*Subscription)}
	rand.Read(s.secret[:])
	if s.seated = h.places.Take(); !s.seated {
		s.close(protocol.CloseTryAgainLater, whyClients)
	}
	return s
}

// Takes says whether a message is to be read: none is after the client was
// closed.
func (s *Socket) Takes() bool { return !s.shut }

// Count counts a message that is done with.
func (s *Socket) Count() { s.hub.messages.Add(1) }

// Ignore counts a message that is none of the protocol. The reference servers
// say nothing to it.
func (s *Socket) Ignore() { s.hub.bad.Add(1) }

// Subscription is that of the socket to a topic, nil if there is none.
func (s *Socket) Subscription(topic string) *Subscription { return s.subs[topic] }

// Subscribe makes the client a member of a topic, if it is not yet; quoted is the
// topic as JSON. It reports false when the client is closed instead.
func (s *Socket) Subscribe(topic string, quoted []byte) bool {
	if s.subs[topic] != nil {
		return true
	}
	if len(topic) > MaxTopic {
		return s.close(websocket.ClosePolicyViolation, whyLength)
	}
	if !s.c.TakeMember() {
		return s.close(protocol.CloseTryAgainLater, whyTopics)
	}
	app := s.hub.App(topic)
	sub := &Subscription{Topic: topic, Quoted: string(quoted), App: app, ID: s.anonymous(app), c: s.c, hub: s.hub}
	if err := sub.Join(); err != nil {
		s.c.DropMember()
		return s.fail(codeOf(err))
	}
	s.subs[topic] = sub
	s.hub.count(app, 1)
	return true
}

// Unsubscribe ends a subscription; leave ends its membership.
func (s *Socket) Unsubscribe(topic string, leave func(*Subscription)) {
	if sub := s.subs[topic]; sub != nil {
		leave(sub)
		delete(s.subs, topic)
		s.hub.count(sub.App, -1)
		s.c.DropMember()
	}
}

// Publish gives payload to all who are subscribed to a topic, the client itself
// too. from is its member id, "" where it gave none. It reports false when the
// client is closed instead.
func (s *Socket) Publish(topic, from string, payload []byte) bool {
	if len(topic) > MaxTopic {
		return s.close(websocket.ClosePolicyViolation, whyLength)
	}
	if len(payload) > protocol.MaxPayload {
		return s.close(websocket.CloseMessageTooBig, whyMessage)
	}
	app := s.hub.App(topic)
	if from == "" {
		from = s.anonymous(app)
	}
	if s.subs[topic] == nil && !s.mayOpen(app) {
		if s.unopened++; s.unopened > maxUnopened {
			return s.close(protocol.CloseTryAgainLater, whyOpen)
		}
		s.hub.refused.Add(1)
		return true
	}
	// It costs as much as the messages that it becomes.
	if n := s.hub.cfg.Relay.Audience(app) * (len(payload) + publishEach) / publishShare; n > 0 && !s.c.Spend(n) {
		return s.close(protocol.CloseTryAgainLater, whyRate)
	}
	if code := s.hub.cfg.Relay.Publish(app, from, payload); code != protocol.CodeOK {
		return s.fail(code)
	}
	s.hub.published.Add(1)
	return true
}

// mayOpen says whether the client may publish to a topic that it is not
// subscribed to. Where nobody else here is, other nodes are asked for it, so there is
// a limit.
func (s *Socket) mayOpen(app protocol.AppID) bool {
	if s.hub.isHere(app) {
		return true
	}
	now := time.Now()
	if _, again := s.opened[app]; !again && len(s.opened) >= protocol.MaxTempApps {
		for a, at := range s.opened {
			if now.Sub(at) >= protocol.PublishHold {
				delete(s.opened, a)
				s.unopened = 0
			}
		}
		if len(s.opened) >= protocol.MaxTempApps {
			return false
		}
	}
	if s.opened == nil {
		s.opened = make(map[protocol.AppID]time.Time)
	}
	s.opened[app] = now
	return true
}

// Spend counts n more messages, for one that costs as much. It reports false when
// the client is closed instead.
func (s *Socket) Spend(n int) bool {
	return n <= 0 || s.c.Spend(n) || s.close(protocol.CloseTryAgainLater, whyRate)
}

// Say sends the client a message.
func (s *Socket) Say(m string) {
	if b, ok := s.c.Begin(); ok {
		s.c.End(append(b, m...), door.Reply)
	}
}

// Refuse implements door.Session.
func (s *Socket) Refuse(code protocol.Code) {
	if code == protocol.CodeTooLarge {
		s.close(websocket.CloseMessageTooBig, whyMessage)
	}
}

// Sweep implements door.Session.
func (s *Socket) Sweep(time.Time) {}

// End is for door.Session's Closed: all subscriptions end.
func (s *Socket) End(leave func(*Subscription)) {
	for topic := range s.subs {
		s.Unsubscribe(topic, leave)
	}
	if s.seated {
		s.hub.places.Free()
	}
}

// fail closes the client for what the relay could not do.
func (s *Socket) fail(code protocol.Code) bool {
	switch code {
	case protocol.CodeDenied:
		return s.close(protocol.CloseDenied, whyDenied)
	case protocol.CodeTooLarge:
		return s.close(websocket.CloseMessageTooBig, whyMessage)
	}
	return s.close(protocol.CloseTryAgainLater, whyFull)
}

// close has the client closed, once. Not at once: y-webrtc would be back in the
// same moment, and again, with each of its tabs.
func (s *Socket) close(code int, why string) bool {
	if !s.shut {
		s.hub.refused.Add(1)
		s.shut = true
		s.c.CloseLater(code, why)
	}
	return false
}

// anonymous is the member id of a client that gives none: another one in each
// app, so that other nodes do not see which of them are one client.
func (s *Socket) anonymous(app protocol.AppID) string {
	h := sha256.Sum256(append(s.secret[:], app[:]...))
	return "?" + string(h[:16])
}

func codeOf(err error) protocol.Code {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Code
	}
	return protocol.CodeInternal
}
