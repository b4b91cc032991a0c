package peer

import (
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxPiece    = 16 << 10  // bytes of a Piece
	pieceWindow = 128 << 10 // bytes on their way
	maxFlight   = 32        // Pieces on their way: half of what envelopes may be out of order
	maxAhead    = 64        // how far a Piece may be before its turn
	maxQueued   = 1024      // Pieces that wait or are on their way, before writers wait
	pieceEnds   = 30 * time.Second
)

// outbox is the sending side of a relayed connection: what was not acknowledged
// yet. It does no I/O and has no clock.
type outbox struct {
	run    uint64
	last   uint64            // sequence of the newest
	top    uint64            // the highest that has gone out
	queue  []*protocol.Piece // not acknowledged, in order
	bytes  int               // of queue
	sent   int               // of queue: those that are on their way
	flight int               // bytes of those
	tries  int               // in a row without an acknowledgement
	again  time.Time         // when all go out again; zero: nothing is on its way
	heard  time.Time         // of the newest acknowledgement, or when there began to be something to acknowledge
}

// push queues a message, or reports false when too much waits already.
func (o *outbox) push(lane int, b []byte) bool {
	if o.bytes >= pieceWindow || len(o.queue) >= maxQueued {
		return false
	}
	b = append([]byte(nil), b...)
	for {
		n := min(len(b), maxPiece)
		o.last++
		o.queue = append(o.queue, &protocol.Piece{Run: o.run, Sequence: o.last, Channel: uint32(lane), More: n < len(b), Data: b[:n:n]})
		o.bytes += n
		if b = b[n:]; len(b) == 0 {
			return true
		}
	}
}

// next is the Piece that may go out now, nil when there is none.
func (o *outbox) next() *protocol.Piece {
	if o.sent == len(o.queue) || o.sent >= maxFlight {
		return nil
	}
	p := o.queue[o.sent]
	if o.flight > 0 && o.flight+len(p.Data) > pieceWindow {
		return nil
	}
	return p
}

// went says that what next returned has gone out.
func (o *outbox) went(now time.Time) {
	if o.again.IsZero() {
		o.again = now.Add(resendAfter(o.tries))
	}
	o.flight += len(o.queue[o.sent].Data)
	o.top = max(o.top, o.queue[o.sent].Sequence)
	o.sent++
}

// resendAfter is 2, 4, 8, 10, 10 ... s.
func resendAfter(tries int) time.Duration {
	return min(2*time.Second<<min(tries, 3), 10*time.Second)
}

// ack takes an acknowledgement of all up to a sequence, and reports whether
// anything has left the queue.
func (o *outbox) ack(upTo uint64, now time.Time) bool {
	n := 0
	for n < len(o.queue) && o.queue[n].Sequence <= min(upTo, o.top) {
		if n < o.sent {
			o.flight -= len(o.queue[n].Data)
		}
		o.bytes -= len(o.queue[n].Data)
		n++
	}
	o.queue, o.sent = o.queue[n:], max(o.sent-n, 0)
	if n > 0 {
		o.tries = 0
	}
	switch {
	case len(o.queue) == 0:
		o.queue, o.again, o.heard = nil, time.Time{}, time.Time{}
	case o.sent == 0:
		o.again, o.heard = time.Time{}, now
	default:
		o.heard = now
		if n > 0 {
			o.again = now.Add(resendAfter(0))
		}
	}
	return n > 0
}

// resend has all that is on its way go out again.
func (o *outbox) resend() { o.sent, o.flight, o.again = 0, 0, time.Time{} }

// handOver is what was not acknowledged, for another way.
func (o *outbox) handOver() []*protocol.Piece {
	rest := o.queue
	*o = outbox{run: o.run, last: o.last, top: o.top}
	return rest
}

// check looks at the time: what was not acknowledged goes out again, and in the
// end the other side is not there any more.
func (o *outbox) check(now time.Time) (ended bool) {
	if o.heard.IsZero() && len(o.queue) > 0 {
		o.heard = now
	}
	if !o.again.IsZero() && !now.Before(o.again) {
		o.tries++
		o.resend()
	}
	return !o.heard.IsZero() && now.Sub(o.heard) >= pieceEnds
}

// due is when check has something to do, zero when it has nothing.
func (o *outbox) due() time.Time {
	if o.heard.IsZero() {
		return time.Time{}
	}
	end := o.heard.Add(pieceEnds)
	if !o.again.IsZero() && o.again.Before(end) {
		return o.again
	}
	return end
}

// inbox is the receiving side: it puts Pieces in order and messages together.
type inbox struct {
	run   uint64 // 0: nothing has come
	upTo  uint64 // the sequence of the last in order
	early map[uint64]*protocol.Piece
	bytes int // of early
	parts [2][]byte
}

// message is one of a lane, whole.
type message struct {
	lane int
	data []byte
}

// take takes a Piece and returns the messages that are complete with it. It
// fails when the other side breaks the rules.
func (i *inbox) take(p *protocol.Piece) ([]message, error) {
	if p.GetRun() == 0 || p.Sequence == 0 || p.Channel > laneControl || len(p.Data) > maxPiece {
		return nil, protocol.Errorf(protocol.CodeMalformed, "peer: this is no Piece")
	}
	if i.run == 0 {
		i.run, i.early = p.Run, make(map[uint64]*protocol.Piece)
	}
	if p.Run != i.run || p.Sequence <= i.upTo || p.Sequence-i.upTo > maxAhead || i.early[p.Sequence] != nil {
		return nil, nil
	}
	if p.Sequence != i.upTo+1 && i.bytes+len(p.Data) > pieceWindow {
		return nil, nil // it comes again
	}
	i.early[p.Sequence] = p
	i.bytes += len(p.Data)
	var list []message
	for p = i.early[i.upTo+1]; p != nil; p = i.early[i.upTo+1] {
		i.upTo++
		delete(i.early, i.upTo)
		i.bytes -= len(p.Data)
		part := append(i.parts[p.Channel], p.Data...)
		if len(part) > MaxMessage {
			return nil, protocol.Errorf(protocol.CodeTooLarge, "peer: a relayed message is over %d bytes", MaxMessage)
		}
		i.parts[p.Channel] = part
		if !p.More {
			i.parts[p.Channel] = nil
			list = append(list, message{int(p.Channel), part})
		}
	}
	return list, nil
}
