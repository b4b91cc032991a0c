package peer

import (
	"bytes"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxNotes   = 64 // for one member's goroutine; what comes on top is dropped, and negotiated anew
	maxTries   = 5  // connections in a row that do not open, before a member is given up
	batchAfter = 5 * time.Millisecond
)

// member is somebody else in the app. It has a goroutine while there is a
// connection to it, or one is being made.
type member struct {
	// Static.
	r     *Room
	id    protocol.Member
	lower bool // this side's offer stands when two cross, and it tries first when nothing comes

	// Guarded by r.mu.
	presence *protocol.PeerPresence // the newest
	shown    bool                   // the node says that it is there
	epoch    int                    // in which that was
	running  bool                   // there is a goroutine
	inbox    chan note              // nil while there is none
	hopeless bool                   // it did not connect in many tries
	window   protocol.Window

	// Owned by the goroutine, of which there is one at a time.
	sequence uint64 // of the last signal to it
	events   chan event
	a        *attempt
	tries    int
	served   time.Time   // when the offers that it has made would all be forgotten
	due      *time.Timer // when something has to have happened
	waiting  bool        // due is set
	flush    *time.Timer // when candidates go out
	turn     *time.Timer // when the higher side may offer on an open connection
}

// note tells a member's goroutine something from the node.
type note struct {
	kind     noteKind
	signal   protocol.EnvelopeBody_Kind
	sequence uint64
	plain    []byte
}

type noteKind int

const (
	noteOffer noteKind = iota // make it an offer, unless there is a connection
	noteWait                  // its offer is to be expected
	noteLeft                  // it has left
	noteSignal
)

// event tells a member's goroutine something from a connection.
type event struct {
	a         *attempt
	kind      eventKind
	candidate webrtc.ICECandidateInit
}

type eventKind int

const (
	eventCandidate eventKind = iota
	eventGathered
	eventOpen
	eventClosed
	eventNegotiate
)

func newMember(r *Room, id protocol.Member) *member {
	return &member{r: r, id: id, lower: bytes.Compare(r.self.Bytes(), id.Bytes()) < 0}
}

// post tells the goroutine, and starts it if it has to.
func (m *member) post(n note) {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	if m.r.start(m, n.kind != noteSignal) {
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
	for _, t := range []**time.Timer{&m.due, &m.flush, &m.turn} {
		*t = time.NewTimer(time.Hour)
		(*t).Stop()
		defer (*t).Stop()
	}
	for {
		select {
		case n := <-inbox:
			m.told(n)
		case e := <-m.events:
			if e.a == m.a {
				m.happened(e)
			}
		case <-m.due.C:
			m.waiting = false
			m.overdue()
		case <-m.flush.C:
			m.sendCandidates()
		case <-m.turn.C:
			m.failed(m.renegotiate())
		case <-m.r.work.Done():
			m.bye()
			return
		}
		if m.a == nil && !m.waiting {
			m.flush.Stop()
			m.turn.Stop()
			if m.r.retire(m) {
				return
			}
		}
	}
}

func (m *member) isShown() bool {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	return m.shown
}

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
		if m.a == nil || !m.a.open {
			m.tries = 0
			m.offer()
		}
	case noteWait:
		if m.a == nil {
			m.tries = 0
			m.expect(m.patience())
		}
	case noteLeft:
		if m.a == nil || !m.a.open {
			m.drop()
			m.expect(0)
		}
	case noteSignal:
		m.signalled(n)
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

// overdue begins anew when an offer, an answer or a connection did not come.
func (m *member) overdue() {
	switch {
	case m.a != nil && m.a.open: // it said goodbye, and its connection is still there
		m.drop()
		return
	case !m.isShown():
		m.drop()
		return
	case m.tries >= maxTries:
		m.drop()
		m.r.mu.Lock()
		m.hopeless = true
		m.r.mu.Unlock()
		m.r.log.Debug("a peer does not connect", "peer", m.id.Peer.Short())
		return
	}
	m.offer()
}

// happened takes an event of the present connection.
func (m *member) happened(e event) {
	switch e.kind {
	case eventCandidate:
		if len(m.a.local) == 0 {
			m.flush.Reset(batchAfter)
		}
		m.a.local = append(m.a.local, e.candidate)
	case eventGathered:
		m.sendCandidates()
	case eventOpen:
		m.opened()
	case eventClosed:
		m.closed()
	case eventNegotiate:
		if !m.lower {
			m.turn.Reset(turnAfter)
			return
		}
		m.failed(m.renegotiate())
	}
}

func (m *member) opened() {
	m.a.open, m.tries = true, 0
	m.expect(0)
	p := m.a.peer
	m.r.mu.Lock()
	m.r.peers[p] = struct{}{}
	m.r.mu.Unlock()
	m.r.log.Debug("connected", "peer", m.id.Peer.Short())
	if f := m.r.opts.OnPeer; f != nil {
		f(p)
	}
	close(p.ready)
}

// closed begins anew if the member is still there: the lower one at once, the
// other when nothing comes of that.
func (m *member) closed() {
	wasOpen := m.a.open
	m.drop()
	switch {
	case !m.isShown():
		m.expect(0)
	case wasOpen && m.lower:
		m.offer()
	default:
		m.expect(m.patience())
	}
}

// bye ends the connection because the room is left.
func (m *member) bye() {
	if m.a == nil {
		return
	}
	if m.a.open {
		m.a.peer.drain()
	}
	m.r.signal(m, protocol.EnvelopeBody_KIND_BYE, nil)
	m.drop()
}
