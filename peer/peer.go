package peer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

// maxChannels bounds the channels that the other side opens at one time.
const maxChannels = 64

// Peer is an open connection to another member of the app. When it ends it is
// over with this Peer; if the member is still there it is connected to again,
// as another one. One identity that has joined twice is two, with one ID.
type Peer struct {
	// Static.
	r        *Room
	pc       *webrtc.PeerConnection
	presence *protocol.PeerPresence
	main     *Channel
	ready    chan struct{} // closed after OnPeer: messages may come
	done     chan struct{} // closed when the connection ends

	mu       sync.Mutex
	channels int // that the other side has opened
}

func newPeer(a *attempt, dc *webrtc.DataChannel) *Peer {
	r := a.m.r
	r.mu.Lock()
	presence := a.m.presence
	r.mu.Unlock()
	p := &Peer{r: r, pc: a.pc, presence: presence, ready: make(chan struct{}), done: make(chan struct{})}
	p.main = newChannel(p, dc)
	dc.OnMessage(func(msg webrtc.DataChannelMessage) {
		select {
		case <-p.ready:
			if f := r.opts.OnMessage; f != nil {
				f(p, msg.Data)
			}
		case <-p.done:
		}
	})
	a.pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		select {
		case <-p.ready:
			p.accept(dc)
		case <-p.done:
		}
	})
	return p
}

// end is called once, before the connection is closed.
func (p *Peer) end() { close(p.done) }

func (p *Peer) member() protocol.Member { return p.presence.Member }

// ID is who the peer is: the holder of this key.
func (p *Peer) ID() protocol.PeerID { return p.presence.Member.Peer }

// Session tells apart the memberships of one identity.
func (p *Peer) Session() protocol.Session { return p.presence.Member.Session }

// Name is what the peer calls itself. Anybody may use any name.
func (p *Peer) Name() string { return p.presence.Name }

// Services are what the peer says that it offers.
func (p *Peer) Services() []string { return slices.Clone(p.presence.Services) }

// Metadata is what the peer says of itself.
func (p *Peer) Metadata() []byte { return slices.Clone(p.presence.Metadata) }

// Connection is the WebRTC connection, for statistics and for what this
// package does not do. Closing it ends the Peer.
func (p *Peer) Connection() *webrtc.PeerConnection { return p.pc }

// Send gives the other side's OnMessage a message of at most MaxMessage bytes.
// Messages arrive in the order in which they were sent, or the connection ends.
// Send waits while too much is on its way. It fails with ErrGone when the
// connection has ended.
func (p *Peer) Send(ctx context.Context, b []byte) error { return p.main.Write(ctx, b) }

// drain waits until the other side has what was sent, within reason.
func (p *Peer) drain() {
	for end := time.Now().Add(drainWithin); p.main.dc.BufferedAmount() > 0 && time.Now().Before(end); {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-p.done:
			return
		}
	}
}
