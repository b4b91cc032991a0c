package peer

import (
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

const (
	restartAfter = 300 * time.Millisecond // disconnected
	restartEvery = 3 * time.Second        // without a connection; twice as long each time, but at most
	restartRarer = 3                      // times
	restartLeast = time.Second            // between two that are not needed to connect
	maxRepeats   = 8                      // of one offer
	widenAfter   = turnWait + time.Second // with an answer, without a connection: all servers are tried
)

// shakes has a connection mended if it does not come back by itself.
func (m *member) shakes() {
	if m.isDirect() {
		m.shaky.Reset(restartAfter)
		m.r.doubtNode()
	}
}

func (m *member) steady() {
	m.shaky.Stop()
	if m.isDirect() {
		m.a.repeats, m.a.restarts = 0, 0
		m.peer.goes(m.a.path())
	}
}

// moved is called when this machine's network is another one, or there is a node
// again to tell those of it that are cut off. Offers that have gone out have the
// addresses of before.
func (m *member) moved() {
	switch {
	case m.isDirect():
		m.a.restarts = 0
		m.a.stale = m.a.pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer
		m.failed(m.mend())
	case m.isRelayed() && m.a == nil && m.isShown():
		m.tries = 1
		m.offer()
	}
}

// mend finds another way for an open connection, and tries again until there is
// one. Only the lower side offers: two that cross on an open connection would end
// it, since pion cannot take an offer back. The higher one asks it to, by a list
// of candidates that is empty.
func (m *member) mend() error {
	if !m.isDirect() {
		return m.widen()
	}
	if m.a.over {
		return nil
	}
	m.shaky.Reset(restartEvery << min(m.a.restarts, restartRarer))
	m.a.restarts++
	if m.lower {
		return m.restart()
	}
	if m.a.pc.SignalingState() == webrtc.SignalingStateStable {
		m.signal(protocol.EnvelopeBody_KIND_CANDIDATES, []byte("[]"))
	}
	return nil
}

// widen has both sides try all servers when few have not led to the other: who
// answers a restart takes it for that. A browser begins with TURN over UDP alone.
// It is for who has offered, whose connection this side's restart leaves as it is
// in all else. When both have been let in by a TURN server there is a way already,
// most likely, and it is given as long again: on a machine that is busy with many
// connections it is late, and as many restarts, each with more servers, are what
// it can bear least.
func (m *member) widen() error {
	a := m.a
	if a == nil || !a.few || !a.remote || a.offer == 0 || isConnected(a.pc) || !m.r.servers.hasTURN() {
		return nil
	}
	if !a.late && a.facts.ours.turn.Load() && a.facts.theirs.turn.Load() {
		a.late = true
		m.shaky.Reset(widenAfter)
		return nil
	}
	a.few = false
	return m.restart()
}

// asked is called when the other side wants an open connection to be mended.
func (m *member) asked() error {
	if !m.isDirect() || !m.lower || time.Since(m.a.restarted) < restartLeast {
		return nil
	}
	m.shaky.Reset(restartEvery)
	return m.restart()
}

// restart finds another way for an open connection, which lives on meanwhile:
// nothing that was said is lost.
func (m *member) restart() error {
	a := m.a
	switch a.pc.SignalingState() {
	case webrtc.SignalingStateHaveLocalOffer:
		return m.repeat()
	case webrtc.SignalingStateStable:
	default:
		return nil
	}
	a.restarted, a.stale = time.Now(), false
	if err := a.configure(); err != nil {
		return err
	}
	d, err := a.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return err
	}
	m.r.log.Debug("a connection is restarted", "peer", m.id.Peer.Short())
	return m.offers(d)
}

// renewed has connections over TURN go on with credentials that have not
// expired: their server would not let them stay.
func (r *Room) renewed() {
	for _, p := range r.Peers() {
		if p.Path() == PathTURN {
			p.m.wake(note{kind: noteRenewed})
		}
	}
}

// renew restarts a connection over a server of this side.
func (m *member) renew() error {
	if !m.isDirect() || !isConnected(m.a.pc) {
		return nil
	}
	pair, err := m.a.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil || pair.Local.Typ != webrtc.ICECandidateTypeRelay || time.Since(m.a.configured) < restartLeast {
		return nil //nolint:nilerr // it has ended, and that is told otherwise
	}
	return m.mend()
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
