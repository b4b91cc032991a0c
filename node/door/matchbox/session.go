package matchbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
)

// session is one socket: one peer, in one room or group. Its tell methods are
// called by any goroutine.
type session struct {
	// Static.
	d  *Door
	c  *door.Conn
	id string // a UUID that is made up here

	// Owned by the reader.
	in    room // nil: it is in none yet, or no more
	ended bool // disconnected
}

// room is where a session is: a place in a room of all nodes, or a group.
type room interface {
	// send passes a signal on and reports false when it knows nobody of that id.
	send(from *session, to string, data []byte) bool
	leave(s *session)
}

// What a join costs besides the connection that it is, in messages: those who
// are there are told of it, then and when the client leaves.
const (
	joinCost  = 20
	joinShare = 10 // one more for so many members
)

// Message implements door.Session. What is not of the protocol is passed over,
// as the library's server does.
func (s *session) Message(b []byte) {
	if s.in == nil {
		return
	}
	s.d.messages.Add(1)
	r, ok := parse(b)
	switch {
	case !ok:
		s.d.bad.Add(1)
	case !r.isSignal:
	case len(r.data) > protocol.MaxPayload:
		s.disconnect(websocket.CloseMessageTooBig, fmt.Sprintf("the data of a signal is over %d bytes", protocol.MaxPayload))
	default:
		s.d.signals.Add(1)
		if !s.in.send(s, r.receiver, r.data) {
			s.d.dropped.Add(1)
		}
	}
}

// Refuse implements door.Session.
func (s *session) Refuse(code protocol.Code) {
	if code == protocol.CodeTooLarge {
		s.disconnect(websocket.CloseMessageTooBig, fmt.Sprintf("a message is over %d bytes", protocol.MaxMessage))
	}
}

// Sweep implements door.Session. The library's server lets nobody go for its
// silence; the host does, when a client answers no ping.
func (s *session) Sweep(time.Time) {}

// Closed implements door.Session.
func (s *session) Closed() {
	s.leave()
	s.d.places.Free()
}

func (s *session) leave() {
	if s.in != nil {
		s.in.leave(s)
		s.in = nil
		s.c.DropMember()
	}
}

// disconnect ends a client, since the protocol has no message for errors. Whoever
// is refused, and has done nothing wrong, is closed a little later: some come back
// at once.
func (s *session) disconnect(code int, reason string) {
	if s.ended {
		return
	}
	s.ended = true
	s.d.refused.Add(1)
	switch code {
	case protocol.CloseTryAgainLater, protocol.CloseDenied:
		s.c.CloseLater(code, reason)
	default:
		s.c.Close(code, reason)
	}
	s.leave()
}

// admit takes what a client that comes into a room of n costs, or disconnects
// it.
func (s *session) admit(n int) bool {
	switch {
	case n >= MaxRoom:
		s.full()
	case s.c.Charge(joinCost+n/joinShare) > 0:
		s.disconnect(protocol.CloseTryAgainLater, "too many joins from this address; wait before the next")
	case !s.c.TakeMember():
		s.disconnect(protocol.CloseTryAgainLater, "too many members from this address")
	default:
		return true
	}
	return false
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

// tell tells the client of a peer: IdAssigned, NewPeer or PeerLeft.
func (s *session) tell(event, id string) bool {
	b, ok := s.c.Begin()
	return ok && s.c.End(appendPeer(b, event, id), door.Reply)
}

// pass gives the client a signal.
func (s *session) pass(sender string, data []byte) bool {
	b, ok := s.c.Begin()
	return ok && s.c.End(appendSignal(b, sender, data), door.Reply)
}
