package peer

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	relayAfter    = 4 * time.Second  // without a connection
	unrelayedFor  = 60 * time.Second // after nothing came back
	goodbyeWithin = time.Second
)

// ensure makes the peer that an attempt or a relay is to carry.
func (m *member) ensure() *Peer {
	if m.peer != nil {
		return m.peer
	}
	p := newPeer(m)
	m.peer = p
	m.r.mu.Lock()
	m.pieces = p
	p.since.Store(m.newest)
	m.r.mu.Unlock()
	return p
}

// soon has the member be relayed if there is no connection in time.
func (m *member) soon() {
	if m.relaying || m.r.opts.NoRelay || m.hasBegun() {
		return
	}
	m.relaying = true
	m.relayAt.Reset(relayAfter)
}

func (m *member) notSoon() {
	m.relaying = false
	m.relayAt.Stop()
}

// hasBegun says whether this side has begun to relay.
func (m *member) hasBegun() bool {
	if m.peer == nil {
		return false
	}
	m.peer.mu.Lock()
	defer m.peer.mu.Unlock()
	return m.peer.relay != nil && m.peer.relay.out.last > 0
}

// gathered is called when all candidates are found: without one there is nothing
// to try.
func (m *member) gathered() {
	if m.a.found || m.a.open {
		return
	}
	m.beginRelay()
	if m.hasBegun() {
		m.dropAttempt()
		m.expect(m.backoff())
	}
}

// beginRelay begins to relay, unless there is a connection, or nothing came of
// it not long ago.
func (m *member) beginRelay() {
	m.notSoon()
	if m.r.opts.NoRelay || m.isDirect() || !m.isShown() || time.Now().Before(m.unrelayed) {
		return
	}
	m.ensure().relaying().begin()
}

// relayed is called when the first Piece of the other side has come.
func (m *member) relayed() {
	if m.isDirect() || m.peer.isOpen() {
		return
	}
	m.notSoon()
	m.peer.open(PathNodes)
	m.tries = 1
	if m.a == nil {
		m.expect(m.backoff())
	}
}

// relayEnded is called when nothing was acknowledged for too long, or the other
// side broke the rules.
func (m *member) relayEnded() {
	m.unrelayed = time.Now().Add(unrelayedFor)
	m.drop()
	m.anew()
}

// pieceCame takes a Piece that came over nodes. The first of a run begins
// something; all others go straight to the relay.
func (m *member) pieceCame(n note) {
	n.piece = new(protocol.Piece)
	if m.r.opts.NoRelay || proto.Unmarshal(n.plain, n.piece) != nil || n.piece.Run == 0 {
		return
	}
	n.plain = nil
	m.r.mu.Lock()
	p := m.pieces
	m.r.mu.Unlock()
	if p != nil && p.pieceCame(n) {
		return
	}
	if n.piece.Sequence == 1 {
		m.post(n.as(notePiece))
	}
}

func (n note) as(kind noteKind) note {
	n.kind = kind
	return n
}

// pieceCame reports whether the Piece is one of the peer's relay.
func (p *Peer) pieceCame(n note) bool {
	p.mu.Lock()
	rl := p.relay
	begun := rl != nil && rl.out.last > 0
	p.mu.Unlock()
	if rl == nil {
		return false
	}
	theirs := rl.theirs.Load()
	if n.piece.Sequence != 0 && n.piece.Run != theirs && (theirs != 0 || !begun || n.sequence < p.since.Load()) {
		return false
	}
	rl.come(n.piece)
	return true
}

// onPiece takes the first Piece of a run: the other side wants to be relayed. If
// it was connected it is no more, unless the Piece is an old one.
func (m *member) onPiece(n note) {
	if p := m.peer; p != nil && m.isOther(n.piece.Run) {
		if n.sequence < p.since.Load() || m.a != nil && n.sequence < m.a.heard {
			return
		}
		m.drop()
	}
	if m.peer == nil && !m.affords() {
		return
	}
	p := m.ensure()
	p.since.Store(min(p.since.Load(), n.sequence))
	rl := p.relaying()
	if !m.isDirect() {
		rl.begin()
	}
	if !p.pieceCame(n) { // with a connection this side has not begun
		rl.come(n.piece)
	}
}

// isOther says whether a run is not the one that the peer takes, or it takes
// none any more.
func (m *member) isOther(run uint64) bool {
	m.peer.mu.Lock()
	rl := m.peer.relay
	m.peer.mu.Unlock()
	if rl != nil {
		if theirs := rl.theirs.Load(); theirs != 0 {
			return theirs != run
		}
	}
	return m.isDirect() && isClosed(m.a.started)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// come takes a Piece that came over nodes. One too many comes again.
func (rl *relay) come(piece *protocol.Piece) {
	select {
	case rl.fromNode <- piece:
	default:
	}
}

// relayed gives a Piece to the node, and reports false when there is none.
func (r *Room) relayed(m *member, ref uint32, piece *protocol.Piece) bool {
	r.mu.Lock()
	s := r.socket
	r.mu.Unlock()
	plain, err := proto.Marshal(piece)
	if s == nil || err != nil || s.isBusy() {
		return false
	}
	e, _ := r.sealFor(m, protocol.EnvelopeBody_KIND_DATA, plain)
	s.send(&protocol.ToNode{Ref: ref, Body: &protocol.ToNode_Send{Send: &protocol.Send{
		App: r.app[:], Session: r.self.Session[:], To: m.id.Bytes(), Envelope: e, Data: true,
	}}})
	return true
}

// dropAttempt ends a connection that carries nothing, if there is one, and waits
// for it.
func (m *member) dropAttempt() {
	if m.a == nil {
		return
	}
	if m.a.open || !m.peer.isOpen() && !m.hasBegun() {
		m.drop()
		return
	}
	a := m.a
	m.a = nil
	m.idle()
	a.end()
}

// drop ends the peer, and what carries it, and waits for it.
func (m *member) drop() {
	a, p := m.a, m.peer
	m.a, m.peer = nil, nil
	m.idle()
	m.notSoon()
	if p != nil {
		m.r.unlist(p)
		close(p.done)
	}
	if a != nil {
		a.end()
	}
	if p != nil {
		p.end()
	}
}

// idle stops what is only of the present connection.
func (m *member) idle() {
	m.forget()
	m.flush.Stop()
	m.turn.Stop()
	m.shaky.Stop()
}

// goodbyeOver says goodbye over the connection itself: it comes before its end,
// and needs no node.
func (p *Peer) goodbyeOver(e *protocol.Envelope) {
	ctx, cancel := context.WithTimeout(p.r.wire, goodbyeWithin)
	defer cancel()
	if err := p.control(ctx, &protocol.Control{Body: &protocol.Control_Passed{Passed: e}}); err != nil {
		p.r.log.Debug("no goodbye over the connection", "peer", p.ID().Short())
	}
}
