package relay

import (
	"errors"
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

func asError(err error, e **protocol.Error) bool { return errors.As(err, e) }

// crossing is how long after a connection came up another one to the same node
// may still be the other half of two dialled at once. Later a second one means
// that the first is dead.
const crossing = 3 * time.Second

// attach makes a connection the link's. Of two dialled at once both nodes keep
// the one that the lower NodeID dialled; otherwise the newer one stays.
func (l *link) attach(w *wire) bool {
	r := l.r
	now := r.now()
	l.mu.Lock()
	old := l.w
	if old != nil && old.dialed != w.dialed && now-old.since < ns(crossing) && old.dialed == r.self.Less(l.node) {
		l.mu.Unlock()
		return false
	}
	l.w = w
	if a, ok := w.sc.conn.(interface{ RemoteAddr() net.Addr }); ok {
		l.subnet = subnetOf(a.RemoteAddr())
	}
	w.since, w.lastRead, w.lastSent = now, now, now
	l.next = 0
	l.drainUntil, l.idleUntil = 0, 0
	w.looseFrame(&protocol.Frame{Body: &protocol.Frame_Resume{Resume: &protocol.Resume{
		Epoch: l.epoch, PeerEpoch: l.peerEpoch, Seen: l.seen,
	}}})
	w.ping(now)
	w.tags = make(map[[protocol.TagSize]byte]*swarm)
	l.mu.Unlock()
	w.renew(now, true)
	if old != nil {
		old.end(1000)
	}
	// Only now: a swarm made since either is among these or finds w.
	swarms := r.allSwarms()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range swarms {
		w.interest(s)
	}
	return true
}

// interest queues an app to be made known. Called with l.mu held.
func (w *wire) interest(s *swarm) {
	w.tags[s.app.Tag(w.sc.hash, 1-w.sc.role)] = s
	w.interests = append(w.interests, s)
	w.wakeUp()
}

// interest makes an app known on the link, if it is up.
func (l *link) interest(s *swarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		l.w.interest(s)
	}
}

// appendInterest adds one Interest frame with as many of the queued apps as
// fit. Called with l.mu held.
func (w *wire) appendInterest(b []byte) []byte {
	const each = protocol.TagSize + 16
	n := min(len(w.interests), protocol.MaxInterestTags, (protocol.MaxPacket-len(b)-16)/each)
	if n <= 0 {
		return b
	}
	f := new(protocol.Interest)
	for _, s := range w.interests[:n] {
		tag := s.app.Tag(w.sc.hash, w.sc.role)
		f.Tags = append(f.Tags, &protocol.Interest_Tag{Tag: tag[:], App: s.number})
	}
	if w.interests = w.interests[n:]; len(w.interests) == 0 {
		w.interests = nil
	}
	body, err := proto.Marshal(&protocol.Frame{Body: &protocol.Frame_Interest{Interest: f}})
	if err != nil {
		return b
	}
	e := outgoing{body: body}
	return e.appendFrame(b)
}

// uninterest forgets one app.
func (l *link) uninterest(s *swarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.published, s.number)
	if l.w != nil {
		delete(l.w.tags, s.app.Tag(l.w.sc.hash, 1-l.w.sc.role))
	}
}

func (l *link) tagged(w *wire, tag [protocol.TagSize]byte) *swarm {
	l.mu.Lock()
	defer l.mu.Unlock()
	return w.tags[tag]
}

// detach notes that a connection ended.
func (l *link) detach(w *wire) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w == w {
		l.w = nil
		l.downAt = l.r.now()
		l.next = 0
	}
}

// shut says goodbye, and closes unless there is time to drain. It may take
// closeWait.
func (l *link) shut(code protocol.Bye_Code, drain time.Duration) {
	l.mu.Lock()
	w := l.w
	if w != nil {
		w.looseFrame(&protocol.Frame{Body: &protocol.Frame_Bye{Bye: &protocol.Bye{Code: code, Drain: uint32(drain / time.Millisecond)}}})
	}
	l.mu.Unlock()
	if w != nil && drain == 0 {
		w.flushAndEnd()
	}
}

// flushAndEnd gives the writer a moment to send what waits, then closes.
func (w *wire) flushAndEnd() {
	deadline := time.NewTimer(closeWait)
	defer deadline.Stop()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		w.l.mu.Lock()
		waiting := len(w.loose) > 0 || w.writing
		w.l.mu.Unlock()
		if !waiting {
			break
		}
		select {
		case <-poll.C:
			continue
		case <-w.done:
		case <-deadline.C:
		}
		break
	}
	w.end(1000)
}

func (l *link) onBye(f *protocol.Bye) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.r.now()
	switch f.Code {
	case protocol.Bye_CODE_DRAIN:
		l.drainUntil = now + max(min(fromMillis(f.Drain), ns(time.Minute)), ns(time.Second))
	case protocol.Bye_CODE_IDLE:
		l.idleUntil = now.add(protocol.LinkLinger)
	case protocol.Bye_CODE_FULL:
		l.drainUntil = now.add(protocol.LinkLinger)
	}
}
