package peer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/time/rate"

	"github.com/peerservers/peerserver/protocol"
)

// maxChannels bounds the channels that the other side opens at one time.
const maxChannels = 64

// Peer is an open connection to another member of the app, directly or over
// nodes. When it ends it is over with this Peer; if the member is still there it
// is connected to again, as another one. One identity that has joined twice is
// two, with one ID.
type Peer struct {
	// Static.
	r        *Room
	m        *member
	presence *protocol.PeerPresence
	calls    *calls
	turns    [2]chan struct{}       // of the one that writes, for each lane
	in       chan incoming          // for the app
	spreads  chan []byte            // broadcasts for it, which have no order with the rest
	moved    chan struct{}          // path has changed
	outbox   chan *protocol.Control // what gossip says
	news     chan struct{}          // there is something in dirty
	costly   *rate.Limiter          // of what takes work to check
	opened   chan struct{}          // closed when it is listed
	direct   chan struct{}          // closed when there is an attempt that is open
	done     chan struct{}          // closed when it ends
	quiet    chan struct{}          // closed when nothing more comes for the app
	over     chan struct{}          // closed after OnLeave
	pumps    sync.WaitGroup         // the goroutines that end with done
	goodbye  atomic.Bool            // the other side has left
	lost     atomic.Bool            // it has ended without that

	way   atomic.Int32          // a Path
	facts atomic.Pointer[facts] // of the connection that carries it, or of the last that was tried
	since atomic.Uint64         // sequence of the newest envelope that is older than the peer, about

	mu       sync.Mutex
	channels int // that the other side has opened
	pc       *webrtc.PeerConnection
	lanes    [2]*Channel   // of the connection, nil while there is none
	relay    *relay        // nil: nothing was relayed
	changed  chan struct{} // closed, and another one made, when there is room in relay or lanes are there

	// Guarded by r.mu.
	links map[protocol.Member]link     // whom it says that it is connected to
	dirty map[protocol.Member]struct{} // whom it has to be told of
}

// incoming is something for the app: a message, or a channel.
type incoming struct {
	data    []byte
	channel *Channel
}

func newPeer(m *member) *Peer {
	r := m.r
	p := &Peer{
		r: r, m: m,
		turns: [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)},
		in:    make(chan incoming, readQueue), spreads: make(chan []byte, maxSpreads),
		moved: make(chan struct{}, 1), outbox: make(chan *protocol.Control, maxOutbox), news: make(chan struct{}, 1),
		costly: rate.NewLimiter(costlyRate, costlyBurst),
		opened: make(chan struct{}), direct: make(chan struct{}), done: make(chan struct{}),
		quiet: make(chan struct{}), over: make(chan struct{}), changed: make(chan struct{}),
		links: make(map[protocol.Member]link), dirty: make(map[protocol.Member]struct{}),
	}
	p.calls = newCalls(p, r.commands, p.control)
	r.mu.Lock()
	p.presence = m.presence
	r.mu.Unlock()
	return p
}

func (p *Peer) member() protocol.Member { return p.m.id }

// ID is who the peer is: the holder of this key.
func (p *Peer) ID() protocol.PeerID { return p.m.id.Peer }

// Session tells apart the memberships of one identity.
func (p *Peer) Session() protocol.Session { return p.m.id.Session }

// Name is what the peer calls itself. Anybody may use any name.
func (p *Peer) Name() string { return p.presence.Name }

// Services are what the peer says that it offers.
func (p *Peer) Services() []string { return slices.Clone(p.presence.Services) }

// Metadata is what the peer says of itself.
func (p *Peer) Metadata() []byte { return slices.Clone(p.presence.Metadata) }

// Node is the node that the peer is on, as one's own node says; zero if that is
// not known.
func (p *Peer) Node() protocol.NodeID {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	return p.m.node
}

// Lost says, of a Peer that has ended, that it did so without a goodbye; and of
// one that is connected, that its node is not reached.
func (p *Peer) Lost() bool {
	if isClosed(p.quiet) {
		return p.lost.Load()
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	return p.m.lost
}

// Connection is the WebRTC connection, for media, for statistics and for what
// this package does not do; nil while the path is PathNodes. Closing it ends the
// Peer.
func (p *Peer) Connection() *webrtc.PeerConnection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pc
}

// Send gives the other side's OnMessage a message of at most MaxMessage bytes.
// Messages arrive in the order in which they were sent, or the connection ends.
// Send waits while too much is on its way. It fails with ErrGone when the
// connection has ended.
func (p *Peer) Send(ctx context.Context, b []byte) error { return p.write(ctx, laneMain, b) }

// The lanes of a connection: ids of its data channels, and channels of Pieces.
const (
	laneMain    = 0 // the app's messages
	laneControl = 1 // Controls
)

// write sends a message on a lane, by the way that there is now.
func (p *Peer) write(ctx context.Context, lane int, b []byte) error {
	if len(b) > MaxMessage {
		return protocol.Errorf(protocol.CodeTooLarge, "peer: a message of %d bytes is over %d", len(b), MaxMessage)
	}
	if err := ctx.Err(); err != nil { // then nothing is sent, though there were room
		return err
	}
	select {
	case p.turns[lane] <- struct{}{}:
	case <-p.done:
		return ErrGone
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.turns[lane] }()
	for {
		p.mu.Lock()
		c, changed := p.lanes[lane], p.changed
		queued := c == nil && p.relay != nil && p.relay.out.push(lane, b)
		p.mu.Unlock()
		switch {
		case c != nil:
			return c.Write(ctx, b)
		case queued:
			p.relay.kick()
			return nil
		}
		select {
		case <-changed:
		case <-p.done:
			return ErrGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hasChanged wakes the writers, with mu held.
func (p *Peer) hasChanged() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// drain waits until the other side has what was sent, within reason.
func (p *Peer) drain() {
	for end := time.Now().Add(drainWithin); p.waiting() && time.Now().Before(end); {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-p.done:
			return
		}
	}
}

func (p *Peer) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lanes[laneMain] == nil {
		return p.relay != nil && len(p.relay.out.queue) > 0
	}
	for _, c := range p.lanes {
		if c.dc.BufferedAmount() > 0 && c.dc.ReadyState() == webrtc.DataChannelStateOpen {
			return true
		}
	}
	return false
}
