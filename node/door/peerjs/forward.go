package peerjs

import (
	"bytes"
	"slices"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

const (
	// maxEarly bounds what waits for the claim to be decided, which takes no
	// longer than protocol.ClaimWait: an offer and its candidates. In bytes it is
	// protocol.WaitingBytes.
	maxEarly = 64
	// expireAgain is how long one EXPIRE stands for all that is not delivered to
	// the same id. The reference server, too, says it once for all that waited.
	expireAgain = protocol.SignalWait - time.Second
	maxExpired  = protocol.MaxWaitingFor
	maxEcho     = 256 // of an id that cannot be, as JSON
)

// expiry is when a client was last told that an id was not found.
type expiry struct {
	dst string // JSON
	at  time.Time
}

// Message implements door.Session.
func (s *client) Message(b []byte) {
	s.d.messages.Add(1)
	m, ok := parse(b)
	if !ok || m.kind == heartbeat {
		return
	}
	if len(m.payload)+1 > protocol.MaxPayload {
		s.complain(msgLarge)
		return
	}
	s.order.Lock()
	defer s.order.Unlock()
	if !s.postpone(m) {
		s.act(m)
	}
}

// postpone keeps a message for when the client has its id, and whatever comes
// before those that are kept were sent.
func (s *client) postpone(m message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage == over || (s.stage == held && len(s.early) == 0) {
		return false
	}
	size := len(m.rawDst) + len(m.payload)
	if len(s.early) == maxEarly || s.earlyBytes+size > protocol.WaitingBytes {
		s.expireLocked(m.rawDst)
		return true
	}
	m.rawDst, m.payload = bytes.Clone(m.rawDst), bytes.Clone(m.payload)
	s.early, s.earlyBytes = append(s.early, m), s.earlyBytes+size
	return true
}

// flush acts on what was kept.
func (s *client) flush() {
	for s.flushOne() {
	}
}

func (s *client) flushOne() bool {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	if len(s.early) == 0 {
		s.mu.Unlock()
		return false
	}
	m := s.early[0]
	s.early, s.earlyBytes = s.early[1:], s.earlyBytes-len(m.rawDst)-len(m.payload)
	s.mu.Unlock()
	s.act(m)
	return true
}

// act does what a message asks for; order is held.
func (s *client) act(m message) {
	switch {
	case s.m == nil:
	case m.kind == leave && isFalse(m.rawDst):
		s.m.Leave()
		s.finish()
	case m.kind.waits() && m.dst != "" && !validID(m.dst):
		s.expire(m.rawDst) // nobody can have it
	case validID(m.dst):
		s.send(m)
	}
}

// isFalse says whether a value is one that JavaScript takes for none.
func isFalse(raw []byte) bool {
	switch string(raw) {
	case "", "null", "false", `""`, "0":
		return true
	}
	return false
}

// ofNoMatter is the ref of messages that nobody misses.
var ofNoMatter = []byte{0}

func (s *client) send(m message) {
	if m.kind == offer {
		s.forgetExpired(quote(m.dst)) // another try, that may fail as well
	}
	msg := relay.Message{Kind: relay.KindDirect, To: m.dst, Payload: m.wire(), Wait: m.kind.waits(), At: tagOf(m.dst)}
	if !msg.Wait {
		msg.Ref = ofNoMatter
	}
	code := s.m.Send(msg)
	if code == protocol.CodeOK || !msg.Wait {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage == held {
		s.expireLocked(m.rawDst)
	}
}

// Refuse implements door.Session.
func (s *client) Refuse(code protocol.Code) {
	if code == protocol.CodeRate {
		s.complain(msgRate)
		return
	}
	s.complain(msgLarge)
}

// receive writes what another client has sent. A client that does not read
// loses such messages before anything else, and who sent them is told.
func (s *client) receive(e *relay.Event) bool {
	m, ok := readWire(e.Payload, e.Foreign)
	if !ok || (e.Foreign && !validID(e.From)) {
		return true // nothing that a client has sent
	}
	b, ok := s.c.Begin()
	if !ok {
		return false
	}
	if !s.c.End(appendFrame(b, m.kind, quote(e.From), quote(s.id), m.payload), door.Offer) {
		return false
	}
	s.d.relayed.Add(1)
	return true
}

// expire tells the client that somebody was not found. dst is JSON.
func (s *client) expire(dst []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(dst)
}

// expireLocked is called with mu held.
func (s *client) expireLocked(dst []byte) {
	if s.stage == over || len(dst) > maxEcho {
		return
	}
	now := time.Now()
	s.expired = slices.DeleteFunc(s.expired, func(e expiry) bool { return now.Sub(e.at) >= expireAgain })
	if slices.ContainsFunc(s.expired, func(e expiry) bool { return e.dst == string(dst) }) {
		return
	}
	if len(s.expired) == maxExpired {
		s.expired = slices.Delete(s.expired, 0, 1)
	}
	s.expired = append(s.expired, expiry{string(dst), now})
	s.d.expired.Add(1)
	if b, ok := s.c.Begin(); ok {
		s.c.End(appendFrame(b, expire, dst, quote(s.id), nil), door.Reply)
	}
}

func (s *client) forgetExpired(dst []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expired = slices.DeleteFunc(s.expired, func(e expiry) bool { return e.dst == string(dst) })
}

// write queues a frame. Any goroutine may call it.
func write(c *door.Conn, frame string) {
	if b, ok := c.Begin(); ok {
		c.End(append(b, frame...), door.Reply)
	}
}
