package peer

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxSpreads = 64 // broadcasts that wait for the app; what is more is lost
	// MaxBroadcast is the largest message, in bytes, that Broadcast takes in a
	// room with members that are not connected.
	MaxBroadcast = 55 << 10
)

// Sender is a member that is not connected, as a broadcast of it shows it.
type Sender struct {
	ID      protocol.PeerID
	Session protocol.Session
	Name    string // what it calls itself, if that is known
}

// stranger is what a Sender has sent.
type stranger struct {
	from Sender
	data []byte
}

// Broadcast sends to all other members. It returns when the slowest of those
// that are connected has taken it; that one has left meanwhile is no error.
//
// When a room is larger than what is connected, the others get it over the nodes,
// or over peers when there is no node: sealed for all who know the app, in at
// most MaxBroadcast bytes, at most once, and their OnBroadcast is told. It has
// then no order with what Send sends, and a receiver that is slow may miss it.
func (r *Room) Broadcast(ctx context.Context, b []byte) error {
	if !r.isLarge() {
		return r.toAll(func(p *Peer) error { return p.Send(ctx, b) })
	}
	if len(b) > MaxBroadcast {
		return protocol.Errorf(protocol.CodeTooLarge, "peer: a broadcast of %d bytes to members that are not connected is over %d", len(b), MaxBroadcast)
	}
	r.mu.Lock()
	r.broadcasts++
	h := protocol.EnvelopeHeader{App: r.app, From: r.self, Sequence: r.broadcasts}
	s := r.socket
	r.mu.Unlock()
	e, err := h.SealBroadcast(r.key, r.broadcastKey, b)
	if err != nil {
		return err
	}
	if s != nil {
		s.send(&protocol.ToNode{Body: &protocol.ToNode_Broadcast{Broadcast: &protocol.Broadcast{
			App: r.app[:], Session: r.self.Session[:], Envelope: e,
		}}})
	}
	c := &protocol.Control{Body: &protocol.Control_Spread{Spread: &protocol.Spread{Envelope: e, Pass: s == nil}}}
	return r.toAll(func(p *Peer) error { return p.control(ctx, c) })
}

// toAll does something for all peers at once.
func (r *Room) toAll(send func(*Peer) error) error { return sendAll(r.Peers(), send) }

func sendAll(peers []*Peer, send func(*Peer) error) error {
	errs := make([]error, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			if err := send(p); !errors.Is(err, ErrGone) {
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// isLarge says whether there are members that are not connected, and not about
// to be.
func (r *Room) isLarge() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := 0
	for _, m := range r.members {
		if m.connected || m.isThere() {
			there++
		}
		if m.isThere() && !m.connected && !(m.running && time.Since(m.began) < relayAfter) {
			return true
		}
	}
	return r.total > max(there, protocol.PeerSample) // a node shows no more than those
}

// Members is how many others the app has, as far as is known: those that are
// there, connected or not.
func (r *Room) Members() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.countMembers()
}

// countMembers is with mu held. The node counts those that it has not shown, too.
func (r *Room) countMembers() int {
	shown := 0
	for _, m := range r.members {
		if m.isThere() || m.connected {
			shown++
		}
	}
	if r.total > protocol.PeerSample {
		return max(shown, r.total)
	}
	return shown
}

// spread takes a broadcast that came over a peer, which may ask to pass it on.
func (r *Room) spread(p *Peer, s *protocol.Spread) {
	from, fresh := r.broadcast(s.GetEnvelope())
	if !fresh || !s.Pass || from != p.member() {
		return
	}
	on := &protocol.Control{Body: &protocol.Control_Spread{Spread: &protocol.Spread{Envelope: s.Envelope}}}
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.peers {
		if _, linked := p.links[q.member()]; !linked && q != p {
			q.say(on)
		}
	}
}

// broadcast takes a broadcast, and reports from whom it is and whether it came
// for the first time.
func (r *Room) broadcast(e *protocol.Envelope) (from protocol.Member, fresh bool) {
	if proto.Size(e) > protocol.MaxPayload {
		return from, false
	}
	h, plain, err := e.OpenBroadcast(r.app, r.broadcastKey)
	if err != nil || h.From == r.self {
		r.log.Debug("a broadcast does not open")
		return from, false
	}
	r.mu.Lock()
	m := r.members[h.From]
	if m == nil {
		m = r.remember(h.From) // it may be one that was not shown
	}
	if m == nil || m.heard.Take(h.Sequence) != nil {
		r.mu.Unlock()
		return h.From, false
	}
	s := stranger{from: Sender{ID: h.From.Peer, Session: h.From.Session}, data: plain}
	if m.presence != nil {
		s.from.Name = m.presence.Name
	}
	r.mu.Unlock()
	to := r.connectedTo(h.From)
	if to == nil {
		select {
		case r.strangers <- s:
		default:
			r.log.Debug("a broadcast is lost, since the app is slow")
		}
		return h.From, true
	}
	select {
	case to.spreads <- plain:
	default:
		r.log.Debug("a broadcast is lost, since the app is slow")
	}
	return h.From, true
}

// deliverStrangers calls OnBroadcast until the room is left.
func (r *Room) deliverStrangers() {
	for {
		select {
		case s := <-r.strangers:
			if f := r.opts.OnBroadcast; f != nil {
				f(s.from, s.data)
			}
		case <-r.work.Done():
			return
		}
	}
}
