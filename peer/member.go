package peer

import (
	"bytes"
	"math/rand/v2"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxNotes   = 64 // for one member's goroutine; what comes on top is dropped, and negotiated anew
	maxTries   = 5  // connections in a row that do not open, before a member is given up
	batchAfter = 5 * time.Millisecond
	lostFor    = 30 * time.Second // after which one that is relayed and whose node is lost has gone
	retryMin   = 5 * time.Second  // between attempts to connect to one that is relayed
	retryMax   = 60 * time.Second
)

// member is somebody else in the app. It has a goroutine while there is a
// connection to it, or one is being made.
type member struct {
	// Static.
	r     *Room
	id    protocol.Member
	lower bool // this side's offer stands when two cross, and it tries first when nothing comes

	// Guarded by r.mu.
	presence  *protocol.PeerPresence // the newest, nil if there was none
	shown     bool                   // the node says that it is there
	by        int                    // peers that say so
	epoch     int                    // in which the node did
	node      protocol.NodeID        // that it is on
	lost      bool                   // that node is not reached
	running   bool                   // there is a goroutine
	began     time.Time              // when it began
	connected bool                   // there is an open Peer
	inbox     chan note              // nil while there is none
	hopeless  bool                   // it did not connect in many tries
	window    protocol.Window        // of its envelopes
	heard     protocol.Window        // of its broadcasts
	sequence  uint64                 // of the last envelope to it
	newest    uint64                 // the highest of those that came
	pieces    *Peer                  // the Peer that takes its Pieces

	// Owned by the goroutine, of which there is one at a time.
	events    chan event
	peer      *Peer    // open, or to be; nil while there is nothing that could carry it
	a         *attempt // nil while there is none
	tries     int
	served    time.Time // when the offers that it has made would all be forgotten
	unrelayed time.Time // until when it is not tried to relay
	unsure    []*unsure
	waiting   bool // due is set
	relaying  bool // relayAt is set

	due     *time.Timer // when something has to have happened
	flush   *time.Timer // when candidates go out
	turn    *time.Timer // when there may be an offer on an open connection
	ways    *time.Timer // when a signal goes another way
	relayAt *time.Timer // when there has to be a connection, or it is relayed
	shaky   *time.Timer // when a connection that is disconnected is mended, or one that does not open has all servers
}

// note tells a member's goroutine something.
type note struct {
	kind     noteKind
	signal   protocol.EnvelopeBody_Kind
	sequence uint64
	plain    []byte
	piece    *protocol.Piece
	ref      uint32
	ok       bool
}

type noteKind int

const (
	noteOffer     noteKind = iota // make it an offer, unless there is a connection
	noteNews                      // the same, unless one is being made
	noteWait                      // its offer is to be expected
	noteLeft                      // it has left
	noteLost                      // its node is not reached
	noteSignal                    // it has sent something
	notePiece                     // it begins to relay
	noteForwarded                 // what became of a Forward
	noteMoved                     // this side's network is another one, or it can tell again
	noteRenewed                   // there are other credentials for TURN
)

// event tells a member's goroutine something from a connection.
type event struct {
	a         *attempt // nil: from the relay
	p         *Peer
	kind      eventKind
	candidate webrtc.ICECandidateInit
}

type eventKind int

const (
	eventCandidate eventKind = iota
	eventGathered
	eventOpen
	eventClosing // one of its lanes has closed
	eventClosed
	eventRefused // the two do not belong together: both begin anew
	eventNegotiate
	eventShaky   // it is disconnected
	eventSteady  // and connected again
	eventPath    // it goes another way
	eventRelayed // the other side has begun to relay
	eventRelayEnded
)

func newMember(r *Room, id protocol.Member) *member {
	return &member{r: r, id: id, lower: bytes.Compare(r.self.Bytes(), id.Bytes()) < 0}
}

// post tells the goroutine, and starts it if it has to.
func (m *member) post(n note) {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	if m.r.start(m, n.kind != noteSignal && n.kind != notePiece) {
		m.queue(n)
	}
}

// wake tells the goroutine if there is one.
func (m *member) wake(n note) {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	if m.running {
		m.queue(n)
	}
}

func (m *member) queue(n note) {
	select {
	case m.inbox <- n:
	default:
	}
}

func (m *member) run(inbox <-chan note) {
	m.events = make(chan event, maxNotes)
	m.waiting, m.relaying = false, false
	for _, t := range []**time.Timer{&m.due, &m.flush, &m.turn, &m.ways, &m.relayAt, &m.shaky} {
		*t = time.NewTimer(time.Hour)
		(*t).Stop()
		defer (*t).Stop()
	}
	for {
		select {
		case n := <-inbox:
			m.told(n)
		case e := <-m.events:
			for e.kind == eventClosed && len(inbox) > 0 { // with a goodbye that came before
				m.told(<-inbox)
			}
			if e.a != nil && e.a == m.a || e.a == nil && e.p == m.peer {
				m.happened(e)
			}
		case <-m.due.C:
			m.waiting = false
			m.overdue()
		case <-m.flush.C:
			m.sendCandidates()
		case <-m.turn.C:
			m.failed(m.renegotiate())
		case <-m.ways.C:
			m.notForwarded()
		case <-m.relayAt.C:
			m.beginRelay()
		case <-m.shaky.C:
			m.failed(m.mend())
		case <-m.r.work.Done():
			m.bye()
			return
		}
		if m.a == nil && m.peer == nil && !m.waiting && len(m.unsure) == 0 && m.r.retire(m) {
			return
		}
	}
}

func (m *member) isShown() bool {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	return m.isThere()
}

// isDirect says whether there is a connection that carries the peer.
func (m *member) isDirect() bool { return m.a != nil && m.a.open }

// isRelayed says whether the peer is open over nodes.
func (m *member) isRelayed() bool { return m.peer != nil && m.peer.isOpen() && !m.isDirect() }

// expect has something to happen within a time, 0: nothing has to.
func (m *member) expect(within time.Duration) {
	m.waiting = within > 0
	if m.waiting {
		m.due.Reset(within)
	} else {
		m.due.Stop()
	}
}

func (m *member) told(n note) {
	switch n.kind {
	case noteOffer:
		if !m.isDirect() {
			m.tries = 0
			m.offer()
		}
	case noteNews:
		if m.a == nil {
			m.tries = 0
			m.offer()
		}
	case noteWait:
		if m.a == nil && m.peer == nil {
			m.tries = 0
			m.soon()
			m.expect(m.patience())
		}
	case noteLeft:
		if m.peer != nil {
			m.peer.goodbye.Store(true)
		}
		if (!m.isDirect() || m.a.over) && !m.isShown() {
			m.drop()
			m.expect(0)
		}
	case noteLost:
		if m.isRelayed() {
			m.expect(lostFor)
		}
	case noteSignal:
		m.signalled(n)
	case notePiece:
		m.onPiece(n)
	case noteForwarded:
		m.onForwarded(n.ref, n.ok)
	case noteMoved:
		m.moved()
	case noteRenewed:
		m.failed(m.renew())
	}
}

// patience is how long the other side has for its offer or answer. The lower
// one is the first to lose it, so that they do not both begin anew.
func (m *member) patience() time.Duration {
	if m.lower {
		return signalWithin
	}
	return 2 * signalWithin
}

// backoff is the time between attempts to connect to one that is relayed.
func (m *member) backoff() time.Duration {
	d := min(retryMin<<min(max(m.tries-1, 0), 4), retryMax)
	if !m.lower {
		d *= 2
	}
	return d*3/4 + rand.N(d/2)
}

// overdue begins anew when an offer, an answer or a connection did not come.
func (m *member) overdue() {
	switch {
	case m.isDirect(), !m.isShown(): // it said goodbye, or closed one lane, and its connection is still there
		m.drop()
		m.anew()
	case m.isRelayed() && m.a != nil:
		m.dropAttempt()
		m.expect(m.backoff())
	case !m.isRelayed() && m.tries >= maxTries:
		m.drop()
		m.r.mu.Lock()
		m.hopeless = true
		m.r.mu.Unlock()
		m.r.log.Debug("a peer does not connect", "peer", m.id.Peer.Short())
	default:
		m.offer()
	}
}

// happened takes an event of the present connection, or of the relay.
func (m *member) happened(e event) {
	switch e.kind {
	case eventCandidate:
		if len(m.a.local) == 0 {
			m.flush.Reset(batchAfter)
		}
		m.a.finds(e.candidate)
	case eventGathered:
		m.sendCandidates()
		m.gathered()
	case eventOpen:
		m.opened()
	case eventClosing:
		m.expect(goneWithin)
	case eventClosed:
		m.ended()
	case eventRefused:
		m.closed()
	case eventNegotiate:
		m.negotiate()
	case eventShaky:
		m.shakes()
	case eventSteady:
		m.steady()
	case eventPath:
		if m.a.open {
			m.peer.goes(m.a.path())
		}
	case eventRelayed:
		m.relayed()
	case eventRelayEnded:
		m.relayEnded()
	}
}

// negotiate makes an offer for what the app has added; the higher side waits,
// because there may be one of the lower's.
func (m *member) negotiate() {
	if !m.isDirect() {
		return
	}
	m.a.wants = true
	if m.lower {
		m.failed(m.renegotiate())
	} else {
		m.turn.Reset(turnAfter)
	}
}

// opened has a connection carry the peer, which may be open over nodes already.
func (m *member) opened() {
	a, p := m.a, m.peer
	if p.carry(a) != nil {
		m.drop()
		m.anew()
		return
	}
	a.open, m.tries = true, 0
	m.expect(0)
	m.notSoon()
	if p.isOpen() {
		p.goes(a.path())
	} else {
		p.open(a.path())
	}
	close(a.shown)
}

// ended waits for the goodbye of one that may have left before the connection was
// open on its side, since then it comes over a node, behind the end. All others
// have said it over the connection.
func (m *member) ended() {
	if m.isDirect() && !isClosed(m.a.started) && !m.peer.goodbye.Load() && m.isShown() {
		m.a.over = true
		m.expect(goneWithin)
		return
	}
	m.closed()
}

// closed begins anew if the member is still there: the lower one at once, the
// other when nothing comes of that.
func (m *member) closed() {
	switch {
	case m.isDirect():
		m.drop()
		m.anew()
	case m.isRelayed():
		m.dropAttempt()
		m.expect(m.backoff())
	default:
		m.beginRelay()
		m.dropAttempt()
		m.expectIfShown(m.patience())
	}
}

// anew begins a new connection after one has ended.
func (m *member) anew() {
	if m.lower && m.isShown() {
		m.offer()
		return
	}
	m.expectIfShown(m.patience())
}

func (m *member) expectIfShown(within time.Duration) {
	if !m.isShown() {
		within = 0
	}
	m.expect(within)
}

// bye ends the connection because the room is left.
func (m *member) bye() {
	defer m.forget()
	if m.peer == nil && m.a == nil {
		return
	}
	e, _ := m.r.sealFor(m, protocol.EnvelopeBody_KIND_BYE, nil)
	if m.peer.isOpen() {
		if e != nil && m.isDirect() {
			m.peer.goodbyeOver(e)
		}
		m.peer.drain()
	}
	if e != nil && !m.r.overLAN(m.id, e) && !m.r.toNode(m.id, e) && !m.isDirect() {
		m.forward(&unsure{e: e})
	}
	m.drop()
}
