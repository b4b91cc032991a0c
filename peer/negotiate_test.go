package peer

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// wired are two rooms whose envelopes reach each other without any node, the
// lower one first.
type wired struct {
	lower, higher *Room

	mu   sync.Mutex
	lose func(h *protocol.EnvelopeHeader) bool
	hold func(h *protocol.EnvelopeHeader)   // returns when it may go on; nil: at once
	sent map[protocol.EnvelopeBody_Kind]int // of both
}

// wire makes the rooms. What lose says is lost on the way.
func wire(t *testing.T, lose func(h *protocol.EnvelopeHeader) bool) *wired {
	t.Helper()
	w := &wired{lower: lone(t, "a"), higher: lone(t, "b"), lose: lose, sent: make(map[protocol.EnvelopeBody_Kind]int)}
	if bytes.Compare(w.lower.self.Bytes(), w.higher.self.Bytes()) > 0 {
		w.lower, w.higher = w.higher, w.lower
	}
	var all sync.WaitGroup
	done := make(chan struct{})
	for _, way := range [][2]*Room{{w.lower, w.higher}, {w.higher, w.lower}} {
		out := way[0].socket.out
		all.Go(func() {
			for {
				select {
				case b := <-out:
					w.carry(b, way[1])
				case <-done:
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		close(done)
		all.Wait()
	})
	return w
}

func (w *wired) carry(b []byte, to *Room) {
	m := new(protocol.ToNode)
	if proto.Unmarshal(b, m) != nil || m.GetSend() == nil {
		return
	}
	h, _, err := m.GetSend().GetEnvelope().Open(to.app, to.self, to.seal, to.secret)
	if err != nil {
		return
	}
	w.mu.Lock()
	lost := w.lose != nil && w.lose(h)
	w.sent[h.Kind]++
	w.mu.Unlock()
	if w.hold != nil {
		w.hold(h)
	}
	if !lost {
		to.delivered(&protocol.Delivered{Envelope: m.GetSend().GetEnvelope()})
	}
}

// meet shows the two to each other and waits for the connection.
func (w *wired) meet(t *testing.T, lowerIsTold, higherIsTold bool) time.Duration {
	t.Helper()
	began := time.Now()
	if higherIsTold { // it has to know who the offer is from
		w.higher.shown(t, w.lower, true)
		w.lower.shown(t, w.higher, lowerIsTold)
	} else {
		w.lower.shown(t, w.higher, lowerIsTold)
		w.higher.shown(t, w.lower, false)
	}
	w.connect(t)
	return time.Since(began)
}

func (w *wired) connect(t *testing.T) (lower, higher *Peer) {
	t.Helper()
	eventually(t, "both connect", func() bool { return len(w.lower.Peers()) == 1 && len(w.higher.Peers()) == 1 })
	return w.lower.Peers()[0], w.higher.Peers()[0]
}

func (w *wired) count(k protocol.EnvelopeBody_Kind) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[k]
}

// until waits, but not for ever, so that a room can be left.
func until(c <-chan struct{}) {
	select {
	case <-c:
	case <-time.After(patience):
	}
}

// TestOffersCross: each thinks that it was there before the other, and no
// offer arrives before both have been made.
func TestOffersCross(t *testing.T) {
	w := wire(t, nil)
	crossed, offers := make(chan struct{}), new(atomic.Int64)
	w.hold = func(h *protocol.EnvelopeHeader) {
		if h.Kind == protocol.EnvelopeBody_KIND_OFFER && offers.Add(1) == 2 {
			close(crossed)
		}
		until(crossed)
	}
	w.meet(t, false, false)
	if n := w.count(protocol.EnvelopeBody_KIND_OFFER); n != 2 {
		t.Errorf("%d offers: only a second try has led anywhere", n)
	}
	if n := w.count(protocol.EnvelopeBody_KIND_ANSWER); n != 1 {
		t.Errorf("%d answers, want that to the lower one's offer", n)
	}
}

// TestLateAnswer: the answer to an offer comes after the next offer was made.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	w := wire(t, nil)
	again, offers := make(chan struct{}), new(atomic.Int64)
	w.hold = func(h *protocol.EnvelopeHeader) {
		if h.Kind == protocol.EnvelopeBody_KIND_OFFER && offers.Add(1) == 2 {
			close(again)
		}
		if h.Kind == protocol.EnvelopeBody_KIND_ANSWER {
			until(again)
		}
	}
	if d := w.meet(t, false, true); d < signalWithin {
		t.Errorf("it took %v, want one more offer", d)
	}
}

// TestBothWait: each thinks that the other was there before.
func TestBothWait(t *testing.T) {
	t.Parallel()
	w := wire(t, nil)
	if d := w.meet(t, true, true); d < signalWithin {
		t.Errorf("somebody made an offer after %v already", d)
	}
	if n := w.count(protocol.EnvelopeBody_KIND_OFFER); n != 1 {
		t.Errorf("%d offers, want the lower one's", n)
	}
}

// TestLostSignals: the first offer, or the first answer, is lost.
func TestLostSignals(t *testing.T) {
	t.Parallel()
	for _, kind := range []protocol.EnvelopeBody_Kind{protocol.EnvelopeBody_KIND_OFFER, protocol.EnvelopeBody_KIND_ANSWER} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			seen := 0
			w := wire(t, func(h *protocol.EnvelopeHeader) bool {
				if h.Kind == kind {
					seen++
				}
				return h.Kind == kind && seen == 1
			})
			if d := w.meet(t, false, true); d < signalWithin {
				t.Errorf("nothing was lost: it took %v", d)
			}
		})
	}
}

// TestConnectionEnds: both are still there, so they connect anew, as other
// Peers.
func TestConnectionEnds(t *testing.T) {
	t.Parallel()
	w := wire(t, nil)
	w.meet(t, false, true)
	lower, higher := w.connect(t)
	if err := higher.Connection().Close(); err != nil {
		t.Fatal(err)
	}
	<-lower.done
	<-higher.done
	eventually(t, "they connect anew", func() bool { return len(w.lower.Peers()) == 1 && len(w.higher.Peers()) == 1 })
	if l, h := w.connect(t); l == lower || h == higher {
		t.Error("a peer whose connection has ended is still in use")
	}
}

// TestGoodbyeBeforeTheEnd: a goodbye that came over the connection counts, however
// long it takes to be read. It comes on one channel, and the other may have closed
// by then.
func TestGoodbyeBeforeTheEnd(t *testing.T) {
	t.Parallel()
	w := wire(t, func(h *protocol.EnvelopeHeader) bool { return h.Kind == protocol.EnvelopeBody_KIND_BYE })
	w.meet(t, false, true)
	lower, _ := w.connect(t)
	lower.mu.Lock()
	main := lower.lanes[laneMain].dc
	lower.mu.Unlock()
	w.lower.mu.Lock() // no envelope is read
	w.higher.stopWork()
	for end := time.Now().Add(patience); main.ReadyState() != webrtc.DataChannelStateClosed && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // the end is noticed
	w.lower.mu.Unlock()
	until(lower.over)
	if !isClosed(lower.over) || lower.Lost() {
		t.Errorf("ended: %v, lost: %v", isClosed(lower.over), lower.Lost())
	}
}

// TestGoodbyeAfterTheEnd: who leaves before the connection is open on its side says
// goodbye over a node, and the connection may end first. If it never comes the peer
// is lost.
func TestGoodbyeAfterTheEnd(t *testing.T) {
	t.Parallel()
	for _, comes := range []bool{true, false} {
		t.Run(strconv.FormatBool(comes), func(t *testing.T) {
			t.Parallel()
			w := wire(t, nil)
			var late *Peer
			w.hold = func(h *protocol.EnvelopeHeader) {
				if h.Kind == protocol.EnvelopeBody_KIND_ANSWER && late == nil {
					w.higher.mu.Lock()
					late = w.higher.members[h.To].pieces
					w.higher.mu.Unlock()
					late.mu.Lock() // the higher one does not begin
				}
			}
			w.higher.shown(t, w.lower, true)
			w.lower.shown(t, w.higher, false)
			eventually(t, "the lower one is connected", func() bool { return len(w.lower.Peers()) == 1 })
			defer late.mu.Unlock()
			lower := w.lower.Peers()[0]
			if err := lower.Connection().Close(); err != nil {
				t.Fatal(err)
			}
			if comes {
				time.Sleep(100 * time.Millisecond) // the end is noticed
				w.higher.mu.Lock()
				m := w.higher.members[w.lower.self]
				w.higher.mu.Unlock()
				bye, _ := w.higher.sealFor(m, protocol.EnvelopeBody_KIND_BYE, nil)
				w.lower.delivered(&protocol.Delivered{Envelope: bye})
			}
			until(lower.over)
			if !isClosed(lower.over) || lower.Lost() == comes {
				t.Errorf("ended: %v, lost: %v", isClosed(lower.over), lower.Lost())
			}
		})
	}
}

// TestAppAddsTracks: on both sides at the same time.
func TestAppAddsTracks(t *testing.T) {
	w := wire(t, nil)
	w.meet(t, false, true)
	lower, higher := w.connect(t)
	for _, p := range []*Peer{lower, higher} {
		if _, err := p.Connection().AddTransceiverFromKind(webrtc.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both are negotiated", func() bool {
		for _, p := range []*Peer{lower, higher} {
			d := p.Connection().CurrentRemoteDescription()
			if d == nil || !bytes.Contains([]byte(d.SDP), []byte("m=audio")) || p.Connection().SignalingState() != webrtc.SignalingStateStable {
				return false
			}
		}
		return true
	})
	if l, h := w.connect(t); l != lower || h != higher {
		t.Error("the connection did not live on")
	}
}

// TestBounds: no more connections are made than asked for, and a place that
// gets free is given to somebody else.
func TestBounds(t *testing.T) {
	r := lone(t, "r")
	r.opts.MaxPeers = 2
	for range 5 {
		r.shown(t, lone(t, "x"), false)
	}
	running := func() (n int, first *member) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, m := range r.members {
			if m.running {
				first = m
			}
		}
		return r.running, first
	}
	n, m := running()
	if n != 2 || len(r.members) != 5 {
		t.Errorf("%d of %d members are connected to, want 2 of 5", n, len(r.members))
	}
	r.departed(&protocol.Departed{Member: m.id.Bytes()})
	eventually(t, "another one is tried", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !m.running && r.running == 2
	})
}

// TestKnownAreBounded: nobody can fill the memory with members; those that have
// departed make room.
func TestKnownAreBounded(t *testing.T) {
	r := lone(t, "r")
	r.mu.Lock()
	defer r.mu.Unlock()
	var id protocol.Member
	for i := range maxKnown + 10 {
		binary.BigEndian.PutUint32(id.Peer[:], uint32(i))
		if m := r.remember(id); (m != nil) != (i < maxKnown) {
			t.Fatalf("member %d: %v", i, m)
		} else if m != nil {
			m.shown = true
		}
	}
	r.members[protocol.Member{}].shown = false
	if r.remember(id) == nil || len(r.members) != maxKnown {
		t.Error("one that has departed makes no room")
	}
}

// TestOffersAreBounded: a member that asks for one connection after the other
// gets some.
func TestOffersAreBounded(t *testing.T) {
	alice, bob := lone(t, "alice"), lone(t, "bob")
	alice.shown(t, bob, false)
	_, plain, err := alice.sends(t).Open(bob.app, bob.self, bob.seal, bob.secret)
	if err != nil {
		t.Fatal(err)
	}
	bob.shown(t, alice, true)
	for i := range uint64(3 * offerBurst) {
		offer := bytes.Replace(plain, []byte("o=- "), []byte("o=- "+strconv.FormatUint(i+1, 10)), 1)
		h := protocol.EnvelopeHeader{App: bob.app, From: alice.self, To: bob.self, Sequence: i + 1, Kind: protocol.EnvelopeBody_KIND_OFFER}
		bob.delivered(&protocol.Delivered{Envelope: alice.sealed(t, h, offer, bob)})
	}
	eventually(t, "bob has looked at all", func() bool {
		bob.mu.Lock()
		defer bob.mu.Unlock()
		return len(bob.members[alice.self].inbox) == 0
	})
	answers := 0
	for len(bob.socket.out) > 0 {
		if h, _, err := bob.sends(t).Open(alice.app, alice.self, alice.seal, alice.secret); err == nil && h.Kind == protocol.EnvelopeBody_KIND_ANSWER {
			answers++
		}
	}
	if answers < offerBurst/2 || answers > offerBurst+2 {
		t.Errorf("%d answers to %d offers, want about %d", answers, 3*offerBurst, offerBurst)
	}
}
