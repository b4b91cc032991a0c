package peer

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	forwardWithin = 500 * time.Millisecond // for a Forwarded
	maxForward    = 32 << 10               // bytes of an envelope that goes over a peer
	maxUnsure     = 64                     // signals to one member that were not Forwarded yet
	maxWays       = 3                      // peers that a signal is given to, one after the other
)

// unsure is a signal that was given to a peer to forward, and may have to go
// another way.
type unsure struct {
	ref   uint32
	e     *protocol.Envelope
	until time.Time
	tried []*Peer
}

// signal seals something for the member and sends it, and returns its sequence.
// What is lost leads to a negotiation that begins anew.
func (m *member) signal(kind protocol.EnvelopeBody_Kind, plain []byte) uint64 {
	e, sequence := m.r.sealFor(m, kind, plain)
	if e == nil {
		return sequence
	}
	if m.isDirect() { // it takes this too, if the connection works
		m.peer.say(&protocol.Control{Body: &protocol.Control_Passed{Passed: e}})
	}
	if m.r.overLAN(m.id, e) && m.tries <= 1 { // a stream may be dead without anybody knowing
		return sequence
	}
	if u := (&unsure{e: e}); len(m.unsure) >= maxUnsure || proto.Size(e) > maxForward || !m.forward(u) {
		m.r.toNode(m.id, e)
	}
	return sequence
}

// forward gives a signal to a peer that says it is connected to the member.
func (m *member) forward(u *unsure) bool {
	via := m.r.via(m.id, u.tried)
	if via == nil {
		return false
	}
	u.tried, u.ref, u.until = append(u.tried, via), m.r.forwarding(m, via), time.Now().Add(forwardWithin)
	f := &protocol.Forward{Ref: u.ref, To: m.id.Bytes(), Envelope: u.e}
	if !via.say(&protocol.Control{Body: &protocol.Control_Forward{Forward: f}}) {
		m.r.notForwarding(u.ref)
		return false
	}
	if len(m.unsure) == 0 {
		m.ways.Reset(forwardWithin)
	}
	m.unsure = append(m.unsure, u)
	return true
}

// onForwarded ends the wait for a signal, or sends it another way.
func (m *member) onForwarded(ref uint32, ok bool) {
	i := slices.IndexFunc(m.unsure, func(u *unsure) bool { return u.ref == ref })
	if i < 0 {
		return
	}
	u := m.unsure[i]
	m.unsure = slices.Delete(m.unsure, i, i+1)
	if !ok {
		m.otherWay(u)
	}
}

// notForwarded sends what has waited for too long another way.
func (m *member) notForwarded() {
	now := time.Now()
	for len(m.unsure) > 0 && !now.Before(m.unsure[0].until) {
		u := m.unsure[0]
		m.unsure = m.unsure[1:]
		m.otherWay(u)
	}
	if len(m.unsure) > 0 {
		m.ways.Reset(m.unsure[0].until.Sub(now))
	}
}

// otherWay sends the same envelope over the node, or over another peer when
// there is none.
func (m *member) otherWay(u *unsure) {
	m.r.notForwarding(u.ref)
	if !m.r.toNode(m.id, u.e) && len(u.tried) < maxWays {
		m.forward(u)
	}
}

// forget gives up the signals that may have to go another way.
func (m *member) forget() {
	for _, u := range m.unsure {
		m.r.notForwarding(u.ref)
	}
	m.unsure = nil
	m.ways.Stop()
}

// asked is a Forward that is not answered.
type asked struct {
	m   *member // whose signal it is
	via *Peer   // who alone may answer
}

// forwarding makes the ref of a Forward.
func (r *Room) forwarding(m *member, via *Peer) uint32 {
	ref := r.newRef()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forwards[ref] = asked{m, via}
	return ref
}

func (r *Room) notForwarding(ref uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.forwards, ref)
}

func (r *Room) forwarded(p *Peer, f *protocol.Forwarded) {
	r.mu.Lock()
	a := r.forwards[f.GetRef()]
	if a.via == p {
		delete(r.forwards, f.GetRef())
	}
	r.mu.Unlock()
	if a.via == p {
		a.m.wake(note{kind: noteForwarded, ref: f.GetRef(), ok: f.GetCode() == uint32(protocol.CodeOK)})
	}
}

// via is a peer that is connected, as this side is to it, to a member.
func (r *Room) via(to protocol.Member, but []*Peer) *Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.peers {
		l, ok := p.links[to]
		if ok && l.path != PathNodes && p.Path() != PathNodes && p.member() != to && !slices.Contains(but, p) {
			return p
		}
	}
	return nil
}

// connectedTo is the peer of a member, nil when there is none.
func (r *Room) connectedTo(id protocol.Member) *Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.peers {
		if p.member() == id {
			return p
		}
	}
	return nil
}

// forward passes on a signal of a peer to another one, and says whether it did.
func (r *Room) forward(p *Peer, f *protocol.Forward) {
	code := r.pass(p, f)
	p.say(&protocol.Control{Body: &protocol.Control_Forwarded{Forwarded: &protocol.Forwarded{Ref: f.GetRef(), Code: uint32(code)}}})
}

// pass takes only what is from the peer itself: the receiver opens it, and this
// is nobody's way to bother others in the dark.
func (r *Room) pass(p *Peer, f *protocol.Forward) protocol.Code {
	if !p.costly.Allow() {
		return protocol.CodeRate
	}
	if proto.Size(f.GetEnvelope()) > maxForward {
		return protocol.CodeTooLarge
	}
	var b protocol.EnvelopeBody
	if proto.Unmarshal(f.GetEnvelope().GetBody(), &b) != nil {
		return protocol.CodeMalformed
	}
	if string(b.From) != string(p.member().Bytes()) || string(b.To) != string(f.To) || b.Kind == protocol.EnvelopeBody_KIND_DATA {
		return protocol.CodeDenied
	}
	to, err := protocol.ParseMember(f.To)
	if err != nil {
		return protocol.CodeMalformed
	}
	q := r.connectedTo(to)
	if q == nil || q == p || q.Path() == PathNodes {
		return protocol.CodeUnknownPeer
	}
	if !q.say(&protocol.Control{Body: &protocol.Control_Passed{Passed: f.Envelope}}) {
		return protocol.CodeFull
	}
	return protocol.CodeOK
}
