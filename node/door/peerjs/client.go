package peerjs

import (
	"errors"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

const (
	// claimCost is what a claim costs, in messages: all nodes of the key are
	// told.
	claimCost = 20
	// silentFor is how long a client that is there may be silent. It sends a
	// HEARTBEAT every 5 s, its browser's timers allowing, and answers pings.
	silentFor = 60 * time.Second
)

// client is one socket, which has one id or tries to have it. It is the
// session of its connection and the sink of its member.
type client struct {
	// Static after open.
	d  *Door
	c  *door.Conn
	id string
	m  *relay.Member // nil: it was refused

	order    sync.Mutex // of what goes to the relay; mu is never held meanwhile
	flushing sync.WaitGroup

	mu         sync.Mutex
	stage      stage
	early      []message
	earlyBytes int
	expired    []expiry // oldest first
}

// stage is how far a client has come.
type stage uint8

const (
	claiming stage = iota
	held           // OPEN was sent
	over           // the id is somebody else's, or nobody's
)

// open claims the id that a client asks for.
func (s *client) open(p parameters) {
	switch {
	case !p.complete():
		s.refuse(msgParameters)
		return
	case !p.validKey():
		s.refuse(msgKey)
		return
	case !validID(p.id):
		s.refuse(msgID)
		return
	}
	s.id = p.id
	if err := s.claim(p); err != nil {
		s.refuseError(err)
	}
}

func (s *client) claim(p parameters) error {
	if !s.enter() {
		return protocol.Errorf(protocol.CodeFull, "no room")
	}
	joining := relay.Joining{ID: p.id, Sink: s}
	if l := s.d.directories[p.key]; l != nil {
		if err := l.watch(s.d.cfg.Relay); err != nil {
			s.exit()
			return err
		}
		joining.Present = true
	}
	m, err := s.d.cfg.Relay.Claim(app(p.key), relay.Claiming{Joining: joining, Token: p.proof(), Issued: tagOf(p.id) == s.d.tag})
	if err != nil {
		s.exit()
		return err
	}
	s.m = m
	return nil
}

// enter takes a place in the quotas, exit gives it back.
func (s *client) enter() bool {
	if !s.d.places.Take() {
		return false
	}
	if s.c.Charge(claimCost) == 0 && s.c.TakeMember() {
		return true
	}
	s.d.places.Free()
	return false
}

func (s *client) exit() {
	s.c.DropMember()
	s.d.places.Free()
}

// refuseError tells a client why it cannot be served.
func (s *client) refuseError(err error) {
	var e *protocol.Error
	errors.As(err, &e)
	switch {
	case e != nil && e.Code == protocol.CodeDenied: // a key that is not for this node
		s.refuse(msgKey)
	case e != nil && e.Code == protocol.CodeTaken:
		s.lose()
	default:
		s.refuse(msgFull)
	}
}

// refuse tells a client why it cannot be served, and closes.
func (s *client) refuse(why string) {
	s.complain(why)
	s.close()
}

// lose tells a client that its id is somebody else's, and closes. That may come
// after OPEN.
func (s *client) lose() {
	s.d.taken.Add(1)
	write(s.c, idTaken)
	s.close()
}

// close closes without a code, as the reference server does.
func (s *client) close() {
	s.finish()
	s.c.Close(websocket.CloseNoStatusReceived, "")
}

// finish notes that the client has its id no more.
func (s *client) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage == held {
		s.d.members.Add(-1)
	}
	s.stage, s.early, s.earlyBytes = over, nil, 0
}

// complain tells a client what is wrong. The library disconnects then.
func (s *client) complain(what string) {
	s.d.refused.Add(1)
	write(s.c, failure(what))
}

// Deliver implements relay.Sink.
func (s *client) Deliver(e *relay.Event) bool {
	switch e.Kind {
	case relay.KindHeld:
		s.hold()
	case relay.KindTaken:
		s.lose()
	case relay.KindReplaced: // the client has connected again, here or elsewhere
		s.finish()
		s.c.Close(websocket.CloseNormalClosure, "connected again")
	case relay.KindDirect:
		return s.receive(e)
	case relay.KindFailed:
		if len(e.Ref) == 0 && validID(e.From) {
			s.expire(quote(e.From))
		}
	}
	return true
}

// hold tells the client that it has its id. What it has sent meanwhile is sent
// on by a goroutine, since a sink calls nothing of the relay.
func (s *client) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage != claiming {
		return
	}
	s.stage = held
	s.d.members.Add(1)
	write(s.c, opened)
	if len(s.early) > 0 {
		s.flushing.Go(s.flush)
	}
}

// Sweep implements door.Session.
func (s *client) Sweep(now time.Time) {
	if now.UnixNano()-s.c.Heard() > int64(silentFor) {
		s.leave()
		s.close()
	}
}

// Closed implements door.Session.
func (s *client) Closed() {
	if s.m == nil {
		return
	}
	s.leave()
	s.flushing.Wait()
	s.exit()
}

// leave gives the id back, unless it is somebody else's by now.
func (s *client) leave() {
	if s.m != nil {
		s.m.Leave()
	}
	s.finish()
}
