package peer

import (
	"github.com/peerservers/peerserver/protocol"
)

// maxKnown bounds the members that are remembered. One that has departed is
// remembered too, for as long as there is room: its sequences go on when it
// comes back.
const maxKnown = 4096

// arrived takes in that a member is there.
func (r *Room) arrived(a *protocol.Arrived) {
	p, err := a.GetPresence().Verify(r.app)
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
	if m.presence == nil || !p.Issued.Before(m.presence.Issued) {
		m.presence = p
	}
	m.shown, m.epoch, m.hopeless = true, r.epoch, false
	what := noteOffer
	if a.Before && r.epoch == 1 {
		what = noteWait // it makes the offer
	}
	r.mu.Unlock()
	m.post(note{kind: what})
}

// remember makes room for a member, with mu held. It returns nil when all that
// are remembered are there.
func (r *Room) remember(id protocol.Member) *member {
	if len(r.members) >= maxKnown {
		for old, m := range r.members {
			if !m.shown && !m.running {
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
	m := r.members[id]
	if m == nil || !m.shown {
		r.mu.Unlock()
		return
	}
	m.shown = false
	r.mu.Unlock()
	if !d.GetLost() {
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

// delivered opens an envelope. What does not open, is from nobody who was
// shown, or was taken before changes nothing. Only the envelope says from whom
// it is, not the node.
func (r *Room) delivered(d *protocol.Delivered) {
	h, plain, err := d.GetEnvelope().Open(r.app, r.self, r.seal, r.secret)
	if err != nil {
		r.log.Debug("an envelope does not open", "error", err)
		return
	}
	r.mu.Lock()
	m := r.members[h.From]
	if m == nil {
		r.mu.Unlock()
		r.log.Debug("an envelope is from nobody who was shown")
		return
	}
	err = m.window.Take(h.Sequence)
	r.mu.Unlock()
	if err != nil {
		r.log.Debug("an envelope comes twice or late", "error", err)
		return
	}
	n := note{kind: noteSignal, signal: h.Kind, sequence: h.Sequence, plain: plain}
	if h.Kind == protocol.EnvelopeBody_KIND_OFFER {
		m.post(n)
	} else {
		m.wake(n)
	}
}

// signal seals something for a member and gives it to the node, if there is
// one; negotiations begin anew on the next. It returns the sequence. Only the
// member's goroutine calls it.
func (r *Room) signal(m *member, kind protocol.EnvelopeBody_Kind, plain []byte) uint64 {
	r.mu.Lock()
	s, seal := r.socket, m.presence.Seal
	r.mu.Unlock()
	m.sequence++
	h := protocol.EnvelopeHeader{App: r.app, From: r.self, To: m.id, Sequence: m.sequence, Kind: kind}
	e, err := h.Seal(r.key, seal, r.secret, plain)
	if err != nil {
		r.log.Debug("a signal cannot be sealed", "error", err)
		return m.sequence
	}
	if s != nil {
		s.send(&protocol.ToNode{Body: &protocol.ToNode_Send{Send: &protocol.Send{
			App: r.app[:], Session: r.self.Session[:], To: m.id.Bytes(), Envelope: e,
		}}})
	}
	return m.sequence
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
	m.running, m.inbox = true, make(chan note, maxNotes)
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
		if o != m && o.shown && !o.running && !o.hopeless {
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
