package peer

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

// TestWiden: what was tried at first leads nowhere. Who has offered restarts, and
// both try all servers; nobody begins anew.
func TestWiden(t *testing.T) {
	t.Parallel()
	for _, lowerOffers := range []bool{true, false} {
		t.Run(map[bool]string{true: "lower", false: "higher"}[lowerOffers], func(t *testing.T) {
			t.Parallel()
			offers := 0
			w := wire(t, func(h *protocol.EnvelopeHeader) bool {
				if h.Kind == protocol.EnvelopeBody_KIND_OFFER {
					offers++
				}
				return h.Kind == protocol.EnvelopeBody_KIND_CANDIDATES && offers < 2
			})
			w.refused(t, 3)
			if d := w.meet(t, !lowerOffers, lowerOffers); d < widenAfter || d >= openWithin {
				t.Errorf("it took %s", d)
			}
			if n := w.count(protocol.EnvelopeBody_KIND_OFFER); n != 2 {
				t.Errorf("%d offers, want one more", n)
			}
			lower, higher := w.connect(t)
			for _, pc := range []*webrtc.PeerConnection{lower.pc, higher.pc} {
				if n := len(pc.GetConfiguration().ICEServers); n != 3 {
					t.Errorf("%d servers are tried, of 3", n)
				}
			}
		})
	}
}

// TestWidenLater: both sides are on a TURN server, so that what is tried has more
// time, and then more servers all the same.
func TestWidenLater(t *testing.T) {
	t.Parallel()
	offers := 0
	answered, again := make(chan time.Time, 1), make(chan time.Time, 1)
	w := wire(t, func(h *protocol.EnvelopeHeader) bool {
		switch h.Kind {
		case protocol.EnvelopeBody_KIND_OFFER:
			if offers++; offers == 2 {
				again <- time.Now()
			}
		case protocol.EnvelopeBody_KIND_ANSWER:
			if offers == 1 {
				answered <- time.Now()
			}
		case protocol.EnvelopeBody_KIND_CANDIDATES:
			return offers < 2
		}
		return false
	})
	w.refused(t, 2)
	w.higher.shown(t, w.lower, true)
	w.lower.shown(t, w.higher, false)
	began := <-answered
	f := w.lower.trying(w.higher)
	f.ours.turn.Store(true)
	f.theirs.turn.Store(true)
	w.connect(t)
	if d := (<-again).Sub(began); d < 2*widenAfter {
		t.Errorf("it was restarted %s after the answer", d)
	}
}

// refused has both sides know n TURN servers, which let nobody in. They say so: pion
// takes other servers while it still waits for one, but the race detector minds.
func (w *wired) refused(t *testing.T, n int) {
	t.Helper()
	u := "turn:" + turnServer(t, new(atomic.Bool))
	for _, r := range []*Room{w.lower, w.higher} {
		r.servers.take(named(600, "user", slices.Repeat([]string{u}, n)...), true, time.Now())
	}
}

// trying is what is known of a connection that is being made.
func (r *Room) trying(to *Room) *facts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members[to.self].pieces.facts.Load()
}
