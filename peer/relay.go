package peer

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	relayPace     = 64_000   // bytes a second that a room gives to nodes to relay
	relayBurst    = 64 << 10 // and at once
	relayOverhead = 400      // bytes of a Piece besides its data: envelope, seal, signature
	ackAfter      = 50 * time.Millisecond
	ackBytes      = 32 << 10               // come before an acknowledgement does not wait
	nodeWithin    = 200 * time.Millisecond // after which a room without a node looks for one again
	refusedFor    = time.Second            // before what a node has refused goes out again, if it does not say
	maxRefused    = 10 * time.Second
	never         = time.Duration(1<<63 - 1)
	relayQueue    = 64 // Pieces from nodes that wait
)

// relay carries the two lanes of a peer as Pieces over the nodes, while there is
// no connection. It is also what is left of that afterwards: the other side may
// go on for a while.
type relay struct {
	// Static.
	p        *Peer
	ref      uint32               // of all that is given to the node
	fromNode chan *protocol.Piece // what is too much comes again
	fromPeer chan handover        // over a connection, which waits
	refused  chan time.Duration   // the node takes nothing for so long
	wake     chan struct{}

	theirs atomic.Uint64 // run of the other side

	out outbox // guarded by p.mu

	// Owned by run.
	in      inbox
	began   bool     // the first Piece of the other side has come
	ready   [][]byte // messages that the app has not taken
	bytes   int      // of those
	owed    int      // bytes that were not acknowledged
	ackAt   time.Time
	quiet   time.Time // when the node takes something again
	ended   bool
	resumes *handover // the Start of a connection, until ready is empty
}

// handover is what comes over a connection for the relay: a Piece, or in the end
// the Start.
type handover struct {
	piece *protocol.Piece
	run   uint64
	start func(ok bool)
}

// relaying is the peer's relay, which is made if there is none. It says nothing
// by itself.
func (p *Peer) relaying() *relay {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.relay != nil {
		return p.relay
	}
	var run [8]byte
	rand.Read(run[:])
	rl := &relay{
		p: p, ref: p.r.newRef(), fromNode: make(chan *protocol.Piece, relayQueue), fromPeer: make(chan handover),
		refused: make(chan time.Duration, 1), wake: make(chan struct{}, 1),
		out: outbox{run: binary.BigEndian.Uint64(run[:]) | 1},
	}
	p.relay = rl
	p.r.mu.Lock()
	p.r.relays[rl.ref] = rl
	p.r.mu.Unlock()
	p.pumps.Go(rl.run)
	return rl
}

// begin says over the nodes that this side wants to be relayed, unless it has
// said so or has a connection.
func (rl *relay) begin() {
	p := rl.p
	start, err := proto.Marshal(&protocol.Control{Body: &protocol.Control_Start{Start: &protocol.Start{}}})
	if err != nil {
		return
	}
	p.mu.Lock()
	if rl.out.last == 0 && p.lanes[laneControl] == nil {
		rl.out.push(laneControl, start)
		p.hasChanged()
	}
	p.mu.Unlock()
	rl.kick()
}

func (rl *relay) kick() {
	select {
	case rl.wake <- struct{}{}:
	default:
	}
}

// refuse is called when the node refuses a Piece.
func (rl *relay) refuse(r *protocol.Refused) {
	wait := min(time.Duration(r.GetRetryAfter())*time.Millisecond, maxRefused)
	switch {
	case protocol.Code(r.GetCode()) == protocol.CodeDenied:
		wait = never
	case wait == 0:
		wait = refusedFor
	}
	select {
	case rl.refused <- wait:
	default:
	}
}

func (rl *relay) run() {
	defer func() {
		rl.p.r.mu.Lock()
		delete(rl.p.r.relays, rl.ref)
		rl.p.r.mu.Unlock()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var app chan<- incoming
		var next incoming
		fromPeer := rl.fromPeer
		if len(rl.ready) > 0 && rl.p.isOpen() {
			app, next.data = rl.p.in, rl.ready[0]
		}
		if rl.bytes > pieceWindow || rl.resumes != nil {
			fromPeer = nil // its channel waits
		}
		select {
		case app <- next:
			rl.bytes -= len(rl.ready[0])
			rl.ready = rl.ready[1:]
		case p := <-rl.fromNode:
			rl.take(p, true)
		case h := <-fromPeer:
			rl.takeOver(h)
		case d := <-rl.refused:
			rl.pause(d)
		case <-rl.wake:
		case <-timer.C:
		case <-rl.p.done:
			return
		}
		rl.resume()
		timer.Reset(rl.work(time.Now()))
	}
}

// pause gives the node nothing for a while, and then all of it again. Where the
// node relays nothing at all, only one who is relayed already waits for another
// node.
func (rl *relay) pause(d time.Duration) {
	if d == never {
		if !rl.began {
			rl.end()
		}
		d = maxRefused
	}
	rl.p.mu.Lock()
	rl.out.resend()
	rl.p.mu.Unlock()
	rl.quiet = time.Now().Add(d)
}

// take takes a Piece. What comes over nodes is acknowledged, also when it comes
// again: a receiver that is slow is not to be taken for one that has gone.
func (rl *relay) take(piece *protocol.Piece, owe bool) {
	rl.acknowledged(piece)
	if piece.Sequence == 0 || rl.ended {
		return
	}
	if owe {
		rl.owe(len(piece.Data))
		if rl.bytes > pieceWindow {
			return
		}
	}
	list, err := rl.in.take(piece)
	rl.theirs.Store(rl.in.run)
	if err != nil {
		rl.end()
		return
	}
	for _, m := range list {
		if m.lane == laneMain {
			rl.ready = append(rl.ready, m.data)
			rl.bytes += len(m.data)
			continue
		}
		rl.control(m.data)
	}
	if !rl.began && rl.in.upTo > 0 && !rl.ended {
		rl.end() // the first is a Start
	}
}

// control takes a Control of the relayed lane, of which the first is a Start.
func (rl *relay) control(b []byte) {
	c := new(protocol.Control)
	if proto.Unmarshal(b, c) != nil || rl.ended {
		return
	}
	if !rl.began {
		if c.GetStart() != nil {
			rl.began = true
			rl.p.post(event{kind: eventRelayed})
		}
		return
	}
	select {
	case <-rl.p.opened:
		rl.p.take(c)
	case <-rl.p.done:
	}
}

// takeOver takes what comes over the connection that ends the relay.
func (rl *relay) takeOver(h handover) {
	if h.piece != nil {
		rl.take(h.piece, false)
		return
	}
	rl.resumes = &h
}

// resume lets the connection go on when all that came before has gone to the
// app.
func (rl *relay) resume() {
	h := rl.resumes
	if h == nil {
		return
	}
	ok := h.run == rl.in.run && len(rl.in.early) == 0 && !rl.ended
	if !ok || len(rl.ready) == 0 {
		rl.resumes = nil
		h.start(ok)
	}
}

func (rl *relay) acknowledged(piece *protocol.Piece) {
	p := rl.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if piece.AckRun == rl.out.run && rl.out.ack(piece.Ack, time.Now()) {
		p.hasChanged()
	}
}

func (rl *relay) owe(bytes int) {
	rl.owed += bytes + relayOverhead
	at := time.Now()
	if rl.owed < ackBytes {
		at = at.Add(ackAfter)
	}
	if rl.ackAt.IsZero() || at.Before(rl.ackAt) {
		rl.ackAt = at
	}
}

// post tells the member's goroutine, which is there until done is closed.
func (p *Peer) post(e event) {
	e.p = p
	select {
	case p.m.events <- e:
	case <-p.done:
	}
}

// end gives the relay up.
func (rl *relay) end() {
	if !rl.ended {
		rl.ended = true
		rl.p.post(event{kind: eventRelayEnded})
	}
}

// work sends what may be sent, and returns after which time there may be more.
func (rl *relay) work(now time.Time) time.Duration {
	if rl.ended {
		return time.Hour
	}
	if wait := rl.quiet.Sub(now); wait > 0 {
		if rl.check(now) {
			rl.end()
		}
		return wait
	}
	for {
		if rl.check(now) {
			rl.end()
			return time.Hour
		}
		rl.p.mu.Lock()
		piece := rl.out.next()
		rl.p.mu.Unlock()
		if piece == nil {
			break
		}
		if wait := rl.paced(now, len(piece.Data)+relayOverhead); wait > 0 {
			return min(wait, rl.acks(now))
		}
		if !rl.send(piece) {
			return nodeWithin
		}
		rl.p.mu.Lock()
		if rl.out.next() == piece { // it was not handed over meanwhile
			rl.out.went(now)
		}
		rl.p.mu.Unlock()
	}
	return min(rl.acks(now), rl.idle(now))
}

func (rl *relay) check(now time.Time) (ended bool) {
	rl.p.mu.Lock()
	defer rl.p.mu.Unlock()
	return rl.out.check(now)
}

// idle is how long nothing has to be sent again.
func (rl *relay) idle(now time.Time) time.Duration {
	rl.p.mu.Lock()
	defer rl.p.mu.Unlock()
	if due := rl.out.due(); !due.IsZero() {
		return max(due.Sub(now), time.Millisecond)
	}
	return time.Hour
}

// paced takes n bytes of the room's pace, or says how long to wait for them.
func (rl *relay) paced(now time.Time, n int) time.Duration {
	pace := rl.p.r.pace.ReserveN(now, n)
	wait := pace.DelayFrom(now)
	if wait > 0 {
		pace.CancelAt(now)
	}
	return wait
}

// acks sends an acknowledgement if it is time for one, and returns when it is.
func (rl *relay) acks(now time.Time) time.Duration {
	if rl.ackAt.IsZero() {
		return time.Hour
	}
	if wait := rl.ackAt.Sub(now); wait > 0 {
		return wait
	}
	if !rl.send(&protocol.Piece{Run: rl.out.run}) {
		return nodeWithin
	}
	return time.Hour
}

// send gives a Piece to the node, with what is to be acknowledged.
func (rl *relay) send(piece *protocol.Piece) bool {
	if !rl.p.r.relayed(rl.p.m, rl.ref, &protocol.Piece{
		Run: piece.Run, Sequence: piece.Sequence, Channel: piece.Channel, More: piece.More, Data: piece.Data,
		AckRun: rl.in.run, Ack: rl.in.upTo,
	}) {
		return false
	}
	rl.owed, rl.ackAt = 0, time.Time{}
	return true
}
