package peer

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/protocol"
)

// What is read of one stream; it is read more slowly above that. A negotiation
// is some ten signals of a kilobyte.
const (
	lanMessages      = 100 // a second
	lanMessageBurst  = 400
	lanBytes         = 256 << 10 // a second
	lanByteBurst     = 1 << 20
	lanWaiting       = 64 // messages for one that does not read
	lanFlushMessages = 64 // that are still written when the room is left
)

// lanStream is an open stream to another member.
type lanStream struct {
	l    *local
	s    *lan.Stream
	id   protocol.Member // set before it is among the streams
	out  chan *protocol.Control
	done chan struct{} // closed by the reader
}

// stream serves an open stream: each side shows itself, then signals pass.
func (l *local) stream(s *lan.Stream) {
	t := &lanStream{l: l, s: s, out: make(chan *protocol.Control, lanWaiting), done: make(chan struct{})}
	var writing sync.WaitGroup
	writing.Go(t.write)
	if t.shown() {
		t.read()
		l.hide(t)
	}
	close(t.done)
	writing.Wait()
	s.Close()
}

// shown waits for the other side's presence and lists it.
func (t *lanStream) shown() bool {
	give := time.AfterFunc(protocol.LANHelloTime, func() { t.s.Close() })
	defer give.Stop()
	m, err := t.s.Read()
	if err != nil {
		return false
	}
	p, err := t.l.r.verified(m.GetLinked().GetPresence())
	if err != nil || p.Member.Peer != t.s.Peer() {
		t.l.r.log.Debug("a presence on the LAN is not believed")
		return false
	}
	t.id = p.Member
	return t.l.show(t, p)
}

// show lists a stream, in place of an older one to the same member, which may
// be dead.
func (l *local) show(t *lanStream, p *protocol.PeerPresence) bool {
	l.mu.Lock()
	old := l.streams[t.id]
	l.streams[t.id] = t
	l.mu.Unlock()
	if old != nil {
		old.s.Close()
	}
	if l.r.showBy(p) {
		return true
	}
	l.unlist(t)
	return false
}

func (l *local) unlist(t *lanStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams[t.id] == t {
		delete(l.streams, t.id)
	}
}

func (l *local) hide(t *lanStream) {
	l.unlist(t)
	l.r.mu.Lock()
	l.r.hides(t.id)
	l.r.mu.Unlock()
}

// read takes what comes until the stream ends.
func (t *lanStream) read() {
	messages, bytes := rate.NewLimiter(lanMessages, lanMessageBurst), rate.NewLimiter(lanBytes, lanByteBurst)
	for {
		m, err := t.s.Read()
		if err != nil {
			return
		}
		if messages.Wait(t.l.r.wire) != nil || bytes.WaitN(t.l.r.wire, proto.Size(m)) != nil {
			return
		}
		if e := m.GetPassed(); e != nil {
			t.l.r.opens(e)
		}
	}
}

// write shows this member and then writes what is to be passed.
func (t *lanStream) write() {
	defer t.s.Close()
	r := t.l.r
	presence, err := r.presence()
	if err != nil { // it was signed before, with the same fields
		return
	}
	if t.s.Write(&protocol.Control{Body: &protocol.Control_Linked{Linked: &protocol.Linked{Presence: presence}}}) != nil {
		return
	}
	for {
		select {
		case m := <-t.out:
			if t.s.Write(m) != nil {
				return
			}
		case <-t.done:
			return
		case <-r.wire.Done():
			t.flush()
			return
		}
	}
}

// flush writes what is left, such as a goodbye.
func (t *lanStream) flush() {
	for range lanFlushMessages {
		select {
		case m := <-t.out:
			if t.s.Write(m) != nil {
				return
			}
		default:
			return
		}
	}
}

// overLAN gives an envelope to a member's stream, if there is one that is read.
func (r *Room) overLAN(to protocol.Member, e *protocol.Envelope) bool {
	if r.local == nil {
		return false
	}
	r.local.mu.Lock()
	t := r.local.streams[to]
	r.local.mu.Unlock()
	if t == nil {
		return false
	}
	select {
	case t.out <- &protocol.Control{Body: &protocol.Control_Passed{Passed: e}}:
		return true
	default:
		return false
	}
}

// showBy takes in that a member is reached in another way than by a node, until
// hides. Who is shown in no other way is connected to; the lower of the two
// makes the offer.
func (r *Room) showBy(p *protocol.PeerPresence) bool {
	r.mu.Lock()
	m := r.members[p.Member]
	if m == nil && p.Member != r.self {
		m = r.remember(p.Member)
	}
	if m == nil {
		r.mu.Unlock()
		return false
	}
	first := !m.isThere()
	m.shows(p)
	m.by++
	r.mu.Unlock()
	switch {
	case !first:
	case m.lower:
		m.post(note{kind: noteNews})
	default:
		m.post(note{kind: noteWait})
	}
	return true
}

// lanCode is what may be logged of an error: its text may have addresses.
func lanCode(err error) string {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e.Code.String()
	}
	return protocol.CodeInternal.String()
}
