package peer

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

const (
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

// offer begins a new connection.
func (m *member) offer() {
	m.dropAttempt()
	m.tries++
	m.soon()
	m.expect(m.patience())
	a, err := m.attempt()
	if err == nil {
		var d webrtc.SessionDescription
		if d, err = a.pc.CreateOffer(nil); err == nil {
			err = m.offers(d)
		}
	}
	m.failed(err)
}

// describe sets our description and sends it. Candidates follow as they are
// found.
func (m *member) describe(kind protocol.EnvelopeBody_Kind, d webrtc.SessionDescription, re uint64) (sequence uint64, err error) {
	if err := m.a.pc.SetLocalDescription(d); err != nil {
		return 0, err
	}
	return m.sendDescription(kind, d, re)
}

func (m *member) sendDescription(kind protocol.EnvelopeBody_Kind, d webrtc.SessionDescription, re uint64) (sequence uint64, err error) {
	b, err := json.Marshal(description{Type: d.Type.String(), SDP: d.SDP, Re: re})
	if err != nil {
		return 0, err
	}
	return m.signal(kind, b), nil
}

// failed gives up a connection that cannot be made; the next try comes when it
// is due.
func (m *member) failed(err error) {
	if err == nil {
		return
	}
	m.r.log.Debug("a negotiation fails", "peer", m.id.Peer.Short()) // the error may have addresses
	m.dropAttempt()
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
			m.failed(m.onAnswer(n.sequence, d))
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
	if a != nil && (a.offer != 0 && !a.remote && m.lower || sequence < a.heard) {
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
	m.dropAttempt()
	m.soon()
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
	a.few = a.few && a.open
	if err := a.configure(); err != nil {
		return err
	}
	return m.answer(a, sequence, sdp)
}

func (m *member) answer(a *attempt, sequence uint64, sdp string) error {
	if err := a.setRemote(webrtc.SDPTypeOffer, a.withRole(sdp)); err != nil {
		return err
	}
	a.heard = sequence
	d, err := a.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	_, err = m.describe(protocol.EnvelopeBody_KIND_ANSWER, d, sequence)
	return err
}

// withRole is an offer that says the DTLS role that the other side has already.
// The roles of a connection stay, whoever offers later (RFC 8842); an offer
// leaves them open all the same, and pion would answer it as the client. Chromium,
// if that is the client, takes no such answer: nothing would be restarted.
func (a *attempt) withRole(offer string) string {
	const active, passive = "a=setup:active", "a=setup:passive"
	theirs, ours := a.pc.CurrentRemoteDescription(), a.pc.CurrentLocalDescription()
	role := ""
	switch {
	case theirs == nil || ours == nil:
		return offer
	case theirs.Type == webrtc.SDPTypeAnswer && strings.Contains(theirs.SDP, active), ours.Type == webrtc.SDPTypeAnswer && strings.Contains(ours.SDP, passive):
		role = active
	default:
		role = passive
	}
	return strings.ReplaceAll(offer, "a=setup:actpass", role)
}

// onAnswer takes the answer to the newest offer, or to one of its repetitions.
// Any other one is late, or comes twice.
func (m *member) onAnswer(sequence uint64, d description) error {
	a := m.a
	if a == nil || a.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer || sequence < a.heard {
		return nil
	}
	if d.Re != 0 && (d.Re < a.offer || d.Re > a.again) {
		return nil
	}
	if !a.open {
		m.expect(openWithin)
		m.shaky.Reset(widenAfter)
	}
	a.heard = sequence
	if err := a.setRemote(webrtc.SDPTypeAnswer, d.SDP); err != nil || !a.stale || !a.open {
		return err
	}
	return m.restart() // the network was another one when this offer was made
}

// onCandidates adds candidates, or keeps them until there is a description.
func (m *member) onCandidates(list []webrtc.ICECandidateInit) {
	a := m.a
	if a == nil {
		return
	}
	if len(list) == 0 {
		m.failed(m.asked())
		return
	}
	if a.remote {
		list = a.add(list)
	}
	if len(a.pending)+len(list) <= maxCandidates {
		a.pending = append(a.pending, list...)
	}
}

// onBye ends the connection. What was said over it before may still be on its
// way, so it has a moment to end by itself.
func (m *member) onBye() {
	m.r.mu.Lock()
	m.shown = false // the node will say so too
	m.r.mu.Unlock()
	if m.peer != nil {
		m.peer.goodbye.Store(true)
	}
	if m.isDirect() && !m.a.over {
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
	for line := range strings.Lines(sdp) {
		if c, ok := strings.CutPrefix(line, "a=candidate:"); ok {
			a.facts.learn(&a.facts.theirs, c)
		}
	}
	a.pending = a.add(a.pending)
	return nil
}

// add adds the candidates that are of the present description, as far as they
// say of which they are, and returns the others: they may be of the next. One
// that cannot be used is no failure.
func (a *attempt) add(list []webrtc.ICECandidateInit) (others []webrtc.ICECandidateInit) {
	sdp := a.pc.RemoteDescription().SDP
	for _, c := range list[:min(len(list), maxCandidates)] {
		if f := c.UsernameFragment; f != nil && *f != "" && !strings.Contains(sdp, "a=ice-ufrag:"+*f) {
			others = append(others, c)
			continue
		}
		if err := a.pc.AddICECandidate(c); err != nil {
			a.m.r.log.Debug("a candidate cannot be used")
			continue
		}
		a.facts.learn(&a.facts.theirs, c.Candidate)
	}
	return others
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
		m.signal(protocol.EnvelopeBody_KIND_CANDIDATES, b)
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
