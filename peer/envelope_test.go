package peer

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

// lone is a room without a node: what it would send is in its socket's queue.
func lone(t *testing.T, name string) *Room {
	t.Helper()
	r, err := newRoom("test", Options{Nodes: []string{"ws://127.0.0.1:1"}, Name: name, API: loopback(), NoRelay: true})
	if err != nil {
		t.Fatal(err)
	}
	r.socket = &socket{out: make(chan []byte, maxWaiting)}
	r.epoch = 1
	t.Cleanup(func() {
		r.mu.Lock()
		r.socket = nil
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

// shown has r told that another one is there.
func (r *Room) shown(t *testing.T, o *Room, before bool) {
	t.Helper()
	p, err := o.presence()
	if err != nil {
		t.Fatal(err)
	}
	r.arrived(&protocol.Arrived{App: r.app[:], Session: r.self.Session[:], Presence: p, Before: before})
}

// sends waits for the next envelope that the room gives to its node.
func (r *Room) sends(t *testing.T) *protocol.Envelope {
	t.Helper()
	select {
	case b := <-r.socket.out:
		m := new(protocol.ToNode)
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatal(err)
		}
		return m.GetSend().GetEnvelope()
	case <-time.After(patience):
		t.Fatal("nothing is sent")
		return nil
	}
}

// sealed is an envelope of the room's own, as a member would make it.
func (r *Room) sealed(t *testing.T, h protocol.EnvelopeHeader, plain []byte, to *Room) *protocol.Envelope {
	t.Helper()
	e, err := h.Seal(r.key, to.seal.Public(), r.secret, plain)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// state is all that an envelope could change.
type state struct {
	members, running, peers, sent int
	window                        protocol.Window
}

func (r *Room) state(of *Room) state {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := state{members: len(r.members), running: r.running, peers: len(r.peers), sent: len(r.socket.out)}
	if m := r.members[of.self]; m != nil {
		s.window = m.window
	}
	return s
}

// TestBadEnvelopesChangeNothing gives bob an offer of alice's in all ways that
// are wrong, and then the right one.
func TestBadEnvelopesChangeNothing(t *testing.T) {
	alice, bob, mallory := lone(t, "alice"), lone(t, "bob"), lone(t, "mallory")
	alice.shown(t, bob, false) // she was there before him: she makes the offer
	good := alice.sends(t)
	bob.mu.Lock()
	bob.opts.MaxPeers = 1 // his own place is taken: only an offer can start something
	bob.running++
	bob.mu.Unlock()
	bob.shown(t, alice, true)
	head := protocol.EnvelopeHeader{App: bob.app, From: alice.self, To: bob.self, Sequence: 7, Kind: protocol.EnvelopeBody_KIND_OFFER}
	offer, err := json.Marshal(description{Type: "offer", SDP: "v=0"})
	if err != nil {
		t.Fatal(err)
	}

	bad := map[string]*protocol.Envelope{
		"nil":                      nil,
		"empty":                    {},
		"of somebody not shown":    mallory.sealed(t, protocol.EnvelopeHeader{App: bob.app, From: mallory.self, To: bob.self, Sequence: 1, Kind: head.Kind}, offer, bob),
		"in another's name":        mallory.sealed(t, head, offer, bob),
		"sealed for another":       alice.sealed(t, head, offer, mallory),
		"with another's signature": {Body: good.Body, Signature: mallory.sealed(t, head, offer, bob).Signature},
	}
	other := head
	other.App[0] ^= 1
	bad["of another app"] = alice.sealed(t, other, offer, bob)
	other = head
	other.To = mallory.self
	bad["for another"] = alice.sealed(t, other, offer, mallory)
	other = head
	other.Sequence = 0
	bad["without sequence"] = alice.sealed(t, other, offer, bob)
	for i := 0; i < len(good.Body); i += 11 {
		body := slices.Clone(good.Body)
		body[i] ^= 1
		bad["changed at "+strconv.Itoa(i)] = &protocol.Envelope{Body: body, Signature: good.Signature}
	}
	before := bob.state(alice)
	for what, e := range bad {
		bob.delivered(&protocol.Delivered{App: bob.app[:], From: alice.self.Bytes(), Envelope: e})
		if got := bob.state(alice); got != before {
			t.Errorf("an envelope %s changes %+v to %+v", what, before, got)
		}
	}

	// The node's word for from does not count.
	bob.delivered(&protocol.Delivered{App: bob.app[:], From: mallory.self.Bytes(), Envelope: good})
	if e := bob.sends(t); e == nil {
		t.Fatal("bob does not answer")
	} else if h, _, err := e.Open(alice.app, alice.self, alice.seal, alice.secret); err != nil || h.Kind != protocol.EnvelopeBody_KIND_ANSWER {
		t.Fatalf("bob sends %v, %v, want an answer", h, err)
	}
	m := bob.members[alice.self]
	bob.delivered(&protocol.Delivered{App: bob.app[:], Envelope: good})
	time.Sleep(100 * time.Millisecond)
	for len(bob.socket.out) > 0 {
		if h, _, err := bob.sends(t).Open(alice.app, alice.self, alice.seal, alice.secret); err != nil || h.Kind != protocol.EnvelopeBody_KIND_CANDIDATES {
			t.Errorf("after an offer that was replayed bob sends %v, %v", h, err)
		}
	}
	if len(m.inbox) > 0 {
		t.Error("an offer that was replayed is looked at")
	}
}
