package peer

import (
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// maxKnown bounds the members that are remembered. One that has departed is
// remembered too, for as long as there is room: its sequences go on when it
// comes back.
const maxKnown = 4096

// isThere says whether the node or a peer shows the member, with r.mu held.
func (m *member) isThere() bool { return m.shown || m.by > 0 }

// shows takes a presence that is not older than the one that is known, with
// r.mu held.
func (m *member) shows(p *protocol.PeerPresence) {
	if m.presence == nil || !p.Issued.Before(m.presence.Issued) {
		m.presence = p
	}
	m.hopeless = false
}

// arrived takes in that a member is there.
func (r *Room) arrived(a *protocol.Arrived) {
	p, err := r.verified(a.GetPresence())
	if err != nil {
		r.log.Debug("a presence does not verify", "error", err)
		return
	}
	if p.Member == r.self {
		return
	}
	r.mu.Lock()
	m := r.members[p.Member]
	if m == nil {
		if m = r.remember(p.Member); m == nil {
			r.mu.Unlock()
			return
		}
	}
	m.shows(p)
	what := noteOffer
	switch {
	case a.Before && r.epoch == 1:
		what = noteWait // it makes the offer
	case !m.shown && m.by > 0:
		what = noteNews // what peers have said of it has led to something already
	}
	if !a.Before && (!m.shown || m.epoch != r.epoch) {
		r.total++
	}
	m.shown, m.epoch, m.lost = true, r.epoch, false
	if len(a.Node) == len(m.node) {
		m.node = protocol.NodeID(a.Node)
	}
	r.mu.Unlock()
	m.post(note{kind: what})
}

// remember makes room for a member, with mu held. It returns nil when all that
// are remembered are there, and for one that the room has nothing to do with.
func (r *Room) remember(id protocol.Member) *member {
	if !r.wants(id.Peer) {
		return nil
	}
	if len(r.members) >= maxKnown {
		for old, m := range r.members {
			if !m.isThere() && !m.running {
				delete(r.members, old)
				break
			}
		}
	}
	if len(r.members) >= maxKnown {
		return nil
	}
	m := newMember(r, id)
	r.members[id] = m
	return m
}

func (r *Room) departed(d *protocol.Departed) {
	id, err := protocol.ParseMember(d.GetMember())
	if err != nil {
		return
	}
	r.mu.Lock()
	r.total = max(r.total-1, 0)
	m := r.members[id]
	if m == nil || !m.shown {
		r.mu.Unlock()
		return
	}
	m.shown, m.lost = false, d.GetLost()
	r.mu.Unlock()
	if d.GetLost() {
		m.wake(note{kind: noteLost})
	} else {
		m.wake(note{kind: noteLeft})
	}
}

// doubt gives up those that the present node has not shown.
func (r *Room) doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.epoch != r.epoch {
			m.shown = false
		}
	}
}

func (r *Room) delivered(d *protocol.Delivered) { r.opens(d.GetEnvelope()) }

// opens opens an envelope that came by any way. What does not open, is from
// nobody who was shown, or was taken before changes nothing. Only the envelope
// says from whom it is.
func (r *Room) opens(e *protocol.Envelope) {
	h, plain, err := e.Open(r.app, r.self, r.seal, r.secret)
	if err != nil {
		r.log.Debug("an envelope does not open", "error", err)
		return
	}
	r.mu.Lock()
	m := r.members[h.From]
	if m == nil || m.presence == nil {
		r.mu.Unlock()
		r.log.Debug("an envelope is from nobody who was shown")
		return
	}
	err = m.window.Take(h.Sequence)
	m.newest = max(m.newest, h.Sequence)
	r.mu.Unlock()
	if err != nil {
		r.log.Debug("an envelope comes twice or late", "error", err)
		return
	}
	n := note{kind: noteSignal, signal: h.Kind, sequence: h.Sequence, plain: plain}
	switch h.Kind {
	case protocol.EnvelopeBody_KIND_OFFER:
		m.post(n)
	case protocol.EnvelopeBody_KIND_DATA:
		m.pieceCame(n)
	default:
		m.wake(n)
	}
}

// sealFor seals something for a member. The envelope is nil when that cannot be.
func (r *Room) sealFor(m *member, kind protocol.EnvelopeBody_Kind, plain []byte) (*protocol.Envelope, uint64) {
	r.mu.Lock()
	seal := m.presence.Seal
	m.sequence++
	h := protocol.EnvelopeHeader{App: r.app, From: r.self, To: m.id, Sequence: m.sequence, Kind: kind}
	r.mu.Unlock()
	e, err := h.Seal(r.key, seal, r.secret, plain)
	if err != nil {
		r.log.Debug("a signal cannot be sealed", "error", err)
		return nil, h.Sequence
	}
	return e, h.Sequence
}

// toNode gives an envelope to the node, and reports false when there is none.
func (r *Room) toNode(to protocol.Member, e *protocol.Envelope) bool {
	r.mu.Lock()
	s := r.socket
	r.mu.Unlock()
	if s != nil {
		s.send(&protocol.ToNode{Body: &protocol.ToNode_Send{Send: &protocol.Send{
			App: r.app[:], Session: r.self.Session[:], To: to.Bytes(), Envelope: e,
		}}})
	}
	return s != nil
}

// start runs a member's goroutine if it has none and there is room for one
// more connection. mu is held.
func (r *Room) start(m *member, own bool) bool {
	if m.running {
		return true
	}
	limit := r.opts.MaxPeers
	if !own {
		limit *= 2
	}
	if r.closed || r.running >= limit {
		return false
	}
	m.running, m.began, m.inbox = true, time.Now(), make(chan note, maxNotes)
	r.running++
	inbox := m.inbox
	r.working.Go(func() { m.run(inbox) })
	return true
}

// retire ends a member's goroutine unless there is something for it to do, and
// gives its place to somebody else.
func (r *Room) retire(m *member) bool {
	r.mu.Lock()
	if len(m.inbox) > 0 {
		r.mu.Unlock()
		return false
	}
	m.running, m.inbox = false, nil
	r.running--
	var next *member
	for _, o := range r.members {
		if o != m && o.isThere() && !o.running && !o.hopeless {
			next = o
			break
		}
	}
	r.mu.Unlock()
	if next != nil {
		next.post(note{kind: noteOffer})
	}
	return true
}
