package rxdb

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// silentLimit is how long a client says nothing until it is disconnected: the
// library pings every minute. That it answers the node's own pings does not
// count, a tab that is frozen does so too.
const silentLimit = 2 * time.Minute

// What a join costs besides the message that it is, in messages: all in the room
// are shown all of it, then and when the client leaves.
const (
	joinCost  = 20
	shownCost = 4 << 10  // what a message costs besides its own bytes, in bytes
	idCost    = 30       // bytes of an id in it
	joinShare = 64 << 10 // one more message for so many bytes
)

// session is one socket. It is in one room, as the library is made, or in
// several, as the server allows.
type session struct {
	// Static after open.
	d  *Door
	c  *door.Conn
	id string // made up here, so that nobody can be who it likes

	heard atomic.Int64 // when the last message came, in unix ns

	// Owned by the reader.
	rooms map[string]*place
	ended bool // disconnected: what still comes is not looked at
}

func open(d *Door, c *door.Conn) *session {
	s := &session{d: d, c: c, id: rand.Text(), rooms: make(map[string]*place)}
	s.heard.Store(time.Now().UnixNano())
	if b, ok := c.Begin(); ok {
		c.End(appendInit(b, s.id), door.Reply)
	}
	return s
}

// Message implements door.Session.
func (s *session) Message(b []byte) {
	if s.ended {
		return
	}
	s.d.messages.Add(1)
	s.heard.Store(time.Now().UnixNano())
	m, ok := parse(b)
	if !ok {
		s.disconnect(websocket.ClosePolicyViolation, "invalid message")
		return
	}
	switch m.kind {
	case "join":
		s.join(m.room)
	case "signal":
		s.signal(&m, b)
	case "ping":
	default:
		s.disconnect(websocket.ClosePolicyViolation, "unknown message type; there are join, signal and ping")
	}
}

// Refuse implements door.Session.
func (s *session) Refuse(code protocol.Code) {
	if code == protocol.CodeTooLarge {
		s.disconnect(websocket.CloseMessageTooBig, fmt.Sprintf("a message is over %d bytes", protocol.MaxMessage))
	}
}

// disconnect is how the library's server answers whatever is wrong. Those who
// are left in the rooms are told at once. Whoever is refused, and has done nothing
// wrong, is closed a little later: the library is back half a second after it.
func (s *session) disconnect(code int, reason string) {
	if s.ended {
		return
	}
	s.d.refused.Add(1)
	switch code {
	case protocol.CloseTryAgainLater, protocol.CloseDenied:
		s.c.CloseLater(code, reason)
	default:
		s.c.Close(code, reason)
	}
	s.leave()
}

func (s *session) leave() {
	s.ended = true
	for name, p := range s.rooms {
		p.m.Leave()
		delete(s.rooms, name)
		s.c.DropMember()
		s.d.members.Add(-1)
	}
}

func (s *session) join(name string) {
	if !isRoom(name) {
		s.disconnect(websocket.ClosePolicyViolation, "invalid ids: a room has 6 to 99 characters")
		return
	}
	if s.rooms[name] != nil {
		return
	}
	app := protocol.App(Name, []byte(name), nil)
	n := s.d.cfg.Relay.Audience(app) + 1
	switch {
	case n > MaxRoom:
		s.full()
		return
	case s.c.Charge(joinCost+2*n*(n*idCost+shownCost)/joinShare) > 0:
		s.disconnect(protocol.CloseTryAgainLater, "too many joins; wait before the next connection")
		return
	case !s.c.TakeMember():
		s.disconnect(protocol.CloseTryAgainLater, "too many rooms on this connection or from this address")
		return
	}
	p := &place{s: s}
	m, err := s.d.cfg.Relay.Join(app, relay.Joining{
		ID: s.id, Sink: p, Present: true, WantsPresence: true, TakesOffers: true, Subscriber: true, // to be counted
	})
	if err != nil {
		s.c.DropMember()
		s.refuse(err)
		return
	}
	s.d.members.Add(1)
	p.m, s.rooms[name] = m, p
	before := m.Members() // of members elsewhere this is what the relay knows best
	switch {
	case len(before) >= MaxRoom:
		s.full()
	case !p.begin(before):
		s.disconnect(protocol.CloseTryAgainLater, "too much at once; try again")
	}
}

// full refuses a client because of all who are in the room.
func (s *session) full() {
	s.disconnect(protocol.CloseTryAgainLater, fmt.Sprintf("the room has %d members, its limit; use several rooms", MaxRoom))
}

// refuse disconnects for an error of the relay, which says what to do about it.
func (s *session) refuse(err error) {
	e, ok := errors.AsType[*protocol.Error](err)
	switch {
	case !ok:
		s.disconnect(websocket.CloseInternalServerErr, "internal")
	case e.Code == protocol.CodeDenied:
		s.disconnect(protocol.CloseDenied, e.Text)
	default:
		s.disconnect(protocol.CloseTryAgainLater, e.Text)
	}
}

// signal passes a signal on to a member of the room that it names. One for whom
// there is no such member is dropped: the library tries again by itself.
func (s *session) signal(m *message, raw []byte) {
	if m.sender != s.id {
		s.disconnect(websocket.ClosePolicyViolation, "spoofed sender")
		return
	}
	if len(raw) > protocol.MaxPayload {
		s.disconnect(websocket.CloseMessageTooBig, fmt.Sprintf("a signal is over %d bytes", protocol.MaxPayload))
		return
	}
	s.d.signals.Add(1)
	p := s.rooms[m.room]
	if p == nil || p.m.Send(relay.Message{Kind: relay.KindDirect, To: m.receiver, Payload: raw}) != protocol.CodeOK {
		s.d.dropped.Add(1)
	}
}

// Sweep implements door.Session.
func (s *session) Sweep(now time.Time) {
	if now.UnixNano()-s.heard.Load() > int64(silentLimit) {
		s.c.Close(websocket.ClosePolicyViolation, "no ping for 2 minutes")
	}
}

// Closed implements door.Session.
func (s *session) Closed() {
	s.leave()
	s.d.places.Free()
}
