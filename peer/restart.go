package peer

import (
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

const (
	restartAfter = 1500 * time.Millisecond // disconnected
	restartEvery = 3 * time.Second         // without an answer
	maxRepeats   = 8                       // of one offer
)

// shakes has a connection restarted if it does not come back by itself. Only
// the lower side offers: two that cross on an open connection would end it,
// since pion cannot take an offer back.
func (m *member) shakes() {
	if m.isDirect() && m.lower {
		m.shaky.Reset(restartAfter)
	}
}

func (m *member) steady() {
	m.shaky.Stop()
	if m.isDirect() {
		m.a.repeats = 0
		m.peer.goes(m.a.path())
	}
}

// moved has all connections restarted, since this machine's network is another
// one. r.mu is held.
func (r *Room) moved() {
	for _, m := range r.members {
		if m.running {
			m.queue(note{kind: noteMoved})
		}
	}
}

// restart finds another way for an open connection, which lives on meanwhile:
// nothing that was said is lost.
func (m *member) restart() error {
	a := m.a
	if !m.isDirect() || !m.lower {
		return nil
	}
	switch a.pc.SignalingState() {
	case webrtc.SignalingStateHaveLocalOffer:
		m.shaky.Reset(restartEvery)
		return m.repeat()
	case webrtc.SignalingStateStable:
	default:
		return nil
	}
	d, err := a.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return err
	}
	m.r.log.Debug("a connection is restarted", "peer", m.id.Peer.Short())
	m.shaky.Reset(restartEvery)
	return m.offers(d)
}

// renegotiate offers what the app has added to an open connection. Before it
// is open there is nothing to add. An offer without an answer is made again.
func (m *member) renegotiate() error {
	a := m.a
	if !m.isDirect() {
		return nil
	}
	switch a.pc.SignalingState() {
	case webrtc.SignalingStateHaveLocalOffer:
		m.turn.Reset(signalWithin)
		return m.repeat()
	case webrtc.SignalingStateStable:
	default:
		return nil
	}
	if !a.wants {
		return nil
	}
	a.wants = false
	d, err := a.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	m.turn.Reset(signalWithin)
	return m.offers(d)
}

// offers sends a new offer of the present connection.
func (m *member) offers(d webrtc.SessionDescription) error {
	sequence, err := m.describe(protocol.EnvelopeBody_KIND_OFFER, d, 0)
	m.a.offer, m.a.again, m.a.repeats = sequence, sequence, 0
	return err
}

// repeat sends the offer once more that was not answered: it or its answer may
// be lost, and pion makes no other one before.
func (m *member) repeat() error {
	a := m.a
	d := a.pc.LocalDescription()
	if d == nil || a.repeats >= maxRepeats {
		return nil
	}
	a.repeats++
	sequence, err := m.sendDescription(protocol.EnvelopeBody_KIND_OFFER, *d, 0)
	a.again = sequence
	return err
}
