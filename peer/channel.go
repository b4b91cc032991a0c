package peer

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
)

// MaxMessage is the largest message of a channel, in bytes: what pion takes in
// one by default, and browsers too.
const MaxMessage = 64<<10 - 1

const (
	highWater = 1 << 20   // bytes on their way, above which writers wait
	lowWater  = 256 << 10 // and below which they go on
	readQueue = 16        // messages that wait to be read
)

// ChannelOptions say what a channel promises. The zero value is reliable and
// ordered.
type ChannelOptions struct {
	Unordered      bool
	MaxRetransmits *uint16 // a message is given up after as many; nil: never
}

// Channel is a channel of a Peer besides that of Send. Messages stay messages.
type Channel struct {
	// Static.
	p      *Peer
	dc     *webrtc.DataChannel
	turn   chan struct{} // of the one that writes
	low    chan struct{} // there is room to write again
	in     chan []byte
	opened chan struct{}
	done   chan struct{} // closed when it has ended on its own

	once sync.Once
}

func newChannel(p *Peer, dc *webrtc.DataChannel) *Channel {
	c := &Channel{
		p: p, dc: dc, turn: make(chan struct{}, 1), low: make(chan struct{}, 1),
		in: make(chan []byte, readQueue), opened: make(chan struct{}), done: make(chan struct{}),
	}
	dc.SetBufferedAmountLowThreshold(lowWater)
	dc.OnBufferedAmountLow(func() {
		select {
		case c.low <- struct{}{}:
		default:
		}
	})
	return c
}

// listen queues messages for Read. While the queue is full nothing is read, and
// so the other side's writers wait: in the end those of all channels of the
// connection, since SCTP has one window for them (RFC 9260, 6.2).
func (c *Channel) listen(ended func()) {
	c.dc.OnOpen(func() { close(c.opened) })
	c.dc.OnClose(func() {
		c.once.Do(func() { close(c.done) })
		ended()
	})
	c.dc.OnMessage(func(m webrtc.DataChannelMessage) {
		select {
		case c.in <- m.Data:
		case <-c.p.done:
		}
	})
}

// Channel opens a channel besides that of Send, and waits until it is open. To
// a peer that is reached over nodes it waits until there is a direct way.
func (p *Peer) Channel(ctx context.Context, label string, o ChannelOptions) (*Channel, error) {
	select {
	case <-p.direct:
	case <-p.done:
		return nil, ErrGone
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ordered := !o.Unordered
	dc, err := p.Connection().CreateDataChannel(label, &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: o.MaxRetransmits})
	if err != nil {
		return nil, fmt.Errorf("peer: open a channel: %w", err)
	}
	c := newChannel(p, dc)
	c.listen(func() {})
	select {
	case <-c.opened:
		return c, nil
	case <-p.done:
		return nil, ErrGone
	case <-ctx.Done():
		dc.Close()
		return nil, ctx.Err()
	}
}

// accept takes a channel that the other side opens.
func (p *Peer) accept(dc *webrtc.DataChannel) {
	p.mu.Lock()
	ok := p.r.opts.OnChannel != nil && p.channels < maxChannels
	if ok {
		p.channels++
	}
	p.mu.Unlock()
	if !ok {
		dc.OnOpen(func() { dc.Close() }) // before it is open it cannot be
		return
	}
	c := newChannel(p, dc)
	c.listen(func() {
		p.mu.Lock()
		p.channels--
		p.mu.Unlock()
	})
	p.hand(incoming{channel: c})
}

// Peer is whose channel it is.
func (c *Channel) Peer() *Peer { return c.p }

// Label is what the channel was opened with.
func (c *Channel) Label() string { return c.dc.Label() }

// Write sends a message of at most MaxMessage bytes. It waits while too much is
// on its way, and fails with ErrGone when the channel or its peer has gone.
func (c *Channel) Write(ctx context.Context, b []byte) error {
	if len(b) > MaxMessage {
		return protocol.Errorf(protocol.CodeTooLarge, "peer: a message of %d bytes is over %d", len(b), MaxMessage)
	}
	select {
	case c.turn <- struct{}{}:
	case <-c.p.done:
		return ErrGone
	case <-c.done:
		return ErrGone
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	for c.dc.BufferedAmount() > highWater {
		select {
		case <-c.low:
		case <-c.p.done:
			return ErrGone
		case <-c.done:
			return ErrGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := c.dc.Send(b); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}

// Read waits for the next message. A channel that is not read holds up all that
// comes from its peer, once about a megabyte waits. Read fails with io.EOF when the channel has
// ended and all that came has been read.
func (c *Channel) Read(ctx context.Context) ([]byte, error) {
	select {
	case b := <-c.in:
		return b, nil
	default:
	}
	select {
	case b := <-c.in:
		return b, nil
	case <-c.p.done:
	case <-c.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case b := <-c.in:
		return b, nil
	default:
		return nil, io.EOF
	}
}

// Close ends the channel on both sides.
func (c *Channel) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.dc.Close()
}
