package peer

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

const (
	mainLabel     = "peerserver" // of the channel that Send uses, with id 0 on both sides
	signalWithin  = 5 * time.Second
	openWithin    = 15 * time.Second       // from offer and answer to an open channel
	turnAfter     = 500 * time.Millisecond // the higher side's offers on an open connection wait for one of the lower
	goneWithin    = 5 * time.Second        // from a goodbye to the end of the connection by itself
	offerEvery    = time.Second            // connections that one member may ask for, on average
	offerBurst    = 10                     // and at once
	maxCandidates = 128                    // of one connection, before its description
)

// description is the plaintext of an offer or an answer. Re, which other
// implementations may leave out, is the sequence of the offer that an answer
// is to: without it a late one would be taken for that to a newer offer.
type description struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
	Re   uint64 `json:"re,omitempty"`
}

// attempt is one connection, from its first description to its end.
type attempt struct {
	m    *member
	pc   *webrtc.PeerConnection
	peer *Peer
	done chan struct{} // closed before the connection is
	tell chan<- event

	// Owned by the member's goroutine.
	offer   uint64 // sequence of our offer, 0: the other side made it
	remote  bool   // the other side's description is set
	open    bool
	local   []webrtc.ICECandidateInit // ours that have not gone out
	pending []webrtc.ICECandidateInit // theirs that came before their description
}

// attempt makes a connection with its main channel.
func (m *member) attempt() (*attempt, error) {
	pc, err := m.r.api.NewPeerConnection(webrtc.Configuration{ICEServers: m.r.opts.ICEServers})
	if err != nil {
		return nil, err
	}
	a := &attempt{m: m, pc: pc, done: make(chan struct{}), tell: m.events}
	yes, zero := true, uint16(0)
	dc, err := pc.CreateDataChannel(mainLabel, &webrtc.DataChannelInit{Negotiated: &yes, ID: &zero})
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	a.peer = newPeer(a, dc)
	dc.OnOpen(func() { a.post(event{kind: eventOpen}) })
	dc.OnClose(func() { a.post(event{kind: eventClosed}) })
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		// One that is closed may still have messages; its channel closes after them.
		if s == webrtc.PeerConnectionStateFailed {
			a.post(event{kind: eventClosed})
		}
	})
	pc.OnNegotiationNeeded(func() { a.post(event{kind: eventNegotiate}) })
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			a.post(event{kind: eventGathered})
			return
		}
		a.post(event{kind: eventCandidate, candidate: c.ToJSON()})
	})
	m.a = a
	return a, nil
}

// post tells the member's goroutine, which is there until done is closed.
func (a *attempt) post(e event) {
	e.a = a
	select {
	case a.tell <- e:
	case <-a.done:
	}
}

// drop ends the present connection, if there is one, and waits for it.
func (m *member) drop() {
	a := m.a
	if a == nil {
		return
	}
	m.a = nil
	m.r.mu.Lock()
	delete(m.r.peers, a.peer)
	m.r.mu.Unlock()
	close(a.done)
	a.peer.end()
	if err := a.pc.GracefulClose(); err != nil {
		m.r.log.Debug("a connection does not close", "peer", m.id.Peer.Short())
	}
	if f := m.r.opts.OnLeave; f != nil && a.open {
		f(a.peer)
	}
}

// offer begins a new connection.
func (m *member) offer() {
	m.drop()
	m.tries++
	m.expect(m.patience())
	a, err := m.attempt()
	if err == nil {
		var d webrtc.SessionDescription
		if d, err = a.pc.CreateOffer(nil); err == nil {
			err = m.describe(protocol.EnvelopeBody_KIND_OFFER, d, 0)
			a.offer = m.sequence
		}
	}
	m.failed(err)
}

// describe sets our description and sends it. Candidates follow as they are
// found.
func (m *member) describe(kind protocol.EnvelopeBody_Kind, d webrtc.SessionDescription, re uint64) error {
	if err := m.a.pc.SetLocalDescription(d); err != nil {
		return err
	}
	b, err := json.Marshal(description{Type: d.Type.String(), SDP: d.SDP, Re: re})
	if err != nil {
		return err
	}
	m.r.signal(m, kind, b)
	return nil
}

// failed gives up a connection that cannot be made; the next try comes when it
// is due.
func (m *member) failed(err error) {
	if err == nil {
		return
	}
	m.r.log.Debug("a negotiation fails", "peer", m.id.Peer.Short()) // the error may have addresses
	m.drop()
	m.expect(m.patience())
}

// signalled takes an envelope that has been opened.
func (m *member) signalled(n note) {
	switch n.signal {
	case protocol.EnvelopeBody_KIND_OFFER:
		var d description
		if json.Unmarshal(n.plain, &d) == nil && d.Type == "offer" {
			m.failed(m.onOffer(n.sequence, d.SDP))
		}
	case protocol.EnvelopeBody_KIND_ANSWER:
		var d description
		if json.Unmarshal(n.plain, &d) == nil && d.Type == "answer" {
			m.failed(m.onAnswer(d))
		}
	case protocol.EnvelopeBody_KIND_CANDIDATES:
		var list []webrtc.ICECandidateInit
		if json.Unmarshal(n.plain, &list) == nil {
			m.onCandidates(list)
		}
	case protocol.EnvelopeBody_KIND_BYE:
		m.onBye()
	}
}

// onOffer answers an offer. Of two that cross that of the lower member stands.
func (m *member) onOffer(sequence uint64, sdp string) error {
	a := m.a
	if a != nil && a.offer != 0 && !a.remote && m.lower {
		return nil
	}
	if a != nil && a.remote && origin(a.pc.RemoteDescription().SDP) == origin(sdp) {
		return m.again(a, sequence, sdp)
	}
	if !m.affords() {
		return nil
	}
	var early []webrtc.ICECandidateInit
	if a != nil && !a.remote {
		early = a.pending
	}
	m.drop()
	a, err := m.attempt()
	if err != nil {
		return err
	}
	a.pending = early
	m.expect(openWithin)
	return m.answer(a, sequence, sdp)
}

// affords says whether one more connection is made at the other side's wish:
// each costs a key and sockets.
func (m *member) affords() bool {
	now := time.Now()
	if m.served.Before(now) {
		m.served = now
	}
	if m.served.Sub(now) > offerBurst*offerEvery {
		return false
	}
	m.served = m.served.Add(offerEvery)
	return true
}

// again answers an offer for the connection that there is: a track, other
// addresses. pion cannot take an offer back, so of two that cross on an open
// connection the higher side's ends it, and a new one is made.
func (m *member) again(a *attempt, sequence uint64, sdp string) error {
	if a.pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer && m.lower {
		return nil
	}
	return m.answer(a, sequence, sdp)
}

// renegotiate offers what the app has added to an open connection. Before it
// is open there is nothing to add, and while an offer is on its way pion asks
// again when it is answered.
func (m *member) renegotiate() error {
	a := m.a
	if a == nil || !a.open || a.pc.SignalingState() != webrtc.SignalingStateStable {
		return nil
	}
	d, err := a.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	err = m.describe(protocol.EnvelopeBody_KIND_OFFER, d, 0)
	a.offer = m.sequence
	return err
}

func (m *member) answer(a *attempt, sequence uint64, sdp string) error {
	if err := a.setRemote(webrtc.SDPTypeOffer, sdp); err != nil {
		return err
	}
	d, err := a.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	return m.describe(protocol.EnvelopeBody_KIND_ANSWER, d, sequence)
}

func (m *member) onAnswer(d description) error {
	a := m.a
	if a == nil || a.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer || d.Re != 0 && d.Re != a.offer {
		return nil
	}
	if !a.open {
		m.expect(openWithin)
	}
	return a.setRemote(webrtc.SDPTypeAnswer, d.SDP)
}

// onCandidates adds candidates, or keeps them until there is a description.
func (m *member) onCandidates(list []webrtc.ICECandidateInit) {
	a := m.a
	if a == nil {
		return
	}
	if !a.remote {
		if len(a.pending)+len(list) <= maxCandidates {
			a.pending = append(a.pending, list...)
		}
		return
	}
	a.add(list)
}

// onBye ends the connection. What was said over it before may still be on its
// way, so it has a moment to end by itself.
func (m *member) onBye() {
	m.r.mu.Lock()
	m.shown = false // the node will say so too
	m.r.mu.Unlock()
	if m.a != nil && m.a.open {
		m.expect(goneWithin)
		return
	}
	m.drop()
	m.expect(0)
}

// setRemote sets the other side's description and the candidates that came
// before it.
func (a *attempt) setRemote(t webrtc.SDPType, sdp string) error {
	if err := a.pc.SetRemoteDescription(webrtc.SessionDescription{Type: t, SDP: sdp}); err != nil {
		return err
	}
	a.remote = true
	a.add(a.pending)
	a.pending = nil
	return nil
}

// add adds the candidates that are of this connection, as far as they say of
// which they are. One that cannot be used is no failure.
func (a *attempt) add(list []webrtc.ICECandidateInit) {
	sdp := a.pc.RemoteDescription().SDP
	for _, c := range list[:min(len(list), maxCandidates)] {
		if f := c.UsernameFragment; f != nil && *f != "" && !strings.Contains(sdp, "a=ice-ufrag:"+*f) {
			continue
		}
		if err := a.pc.AddICECandidate(c); err != nil {
			a.m.r.log.Debug("a candidate cannot be used")
		}
	}
}

// sendCandidates sends those that have been found, together.
func (m *member) sendCandidates() {
	if m.a == nil || len(m.a.local) == 0 {
		return
	}
	frag := fragment(m.a.pc.LocalDescription().SDP)
	for i := range m.a.local {
		m.a.local[i].UsernameFragment = &frag
	}
	b, err := json.Marshal(m.a.local)
	m.a.local = nil
	if err == nil {
		m.r.signal(m, protocol.EnvelopeBody_KIND_CANDIDATES, b)
	}
}

// origin tells connections apart: the session id of the o= line stays the same
// over all descriptions of one (RFC 8829, 5.2.2).
func origin(sdp string) string {
	_, line, _ := strings.Cut(sdp, "\no=")
	f := strings.Fields(line)
	if len(f) < 2 {
		return ""
	}
	return f[1]
}

// fragment is the ICE username fragment of a description.
func fragment(sdp string) string {
	_, rest, _ := strings.Cut(sdp, "a=ice-ufrag:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
