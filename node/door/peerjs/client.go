package peerjs

import (
	"bytes"
	"errors"
	"slices"
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
	// maxEarly bounds what waits for the claim to be decided, which takes no
	// longer than protocol.ClaimWait: an offer and its candidates.
	maxEarly = 64
	// expireAgain is how long one EXPIRE stands for all that is not delivered to
	// the same id. The reference server, too, says it once for all that waited.
	expireAgain = protocol.SignalWait - time.Second
	maxExpired  = protocol.MaxWaitingFor
	maxEcho     = 256 // of an id that cannot be, as JSON
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

	mu      sync.Mutex
	stage   stage
	early   []message
	expired []expiry // oldest first
}

// stage is how far a client has come.
type stage uint8

const (
	claiming stage = iota
	held           // OPEN was sent
	over           // the id is somebody else's, or nobody's
)

// expiry is when a client was last told that an id was not found.
type expiry struct {
	dst string // JSON
	at  time.Time
}

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
	s.stage, s.early = over, nil
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
	if len(s.early) < maxEarly {
		m.rawDst, m.payload = bytes.Clone(m.rawDst), bytes.Clone(m.payload)
		s.early = append(s.early, m)
		return true
	}
	s.expireLocked(m.rawDst)
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
	s.early = s.early[1:]
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
