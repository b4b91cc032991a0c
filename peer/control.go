package peer

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxOutbox   = 64 // Controls that gossip has to say
	costlyRate  = 100
	costlyBurst = 400 // a hundred links, and then some
)

// control sends a Control. It waits while too much is on its way, and fails with
// ErrGone when the connection has ended.
func (p *Peer) control(ctx context.Context, c *protocol.Control) error {
	b, err := proto.Marshal(c)
	if err != nil {
		return protocol.Errorf(protocol.CodeMalformed, "peer: %v", err)
	}
	return p.write(ctx, laneControl, b)
}

// say has gossip send a Control, and reports false when too many wait.
func (p *Peer) say(c *protocol.Control) bool {
	select {
	case p.outbox <- c:
		return true
	default:
		return false
	}
}

// take takes a Control of an open peer. It does not wait for the app.
func (p *Peer) take(c *protocol.Control) {
	switch b := c.Body.(type) {
	case *protocol.Control_Linked:
		if p.costly.Allow() {
			p.r.linked(p, b.Linked)
		}
	case *protocol.Control_Unlinked:
		p.r.unlinked(p, b.Unlinked)
	case *protocol.Control_Forward:
		p.r.forward(p, b.Forward)
	case *protocol.Control_Forwarded:
		p.r.forwarded(p, b.Forwarded)
	case *protocol.Control_Passed:
		if p.costly.Allow() {
			p.r.opens(b.Passed)
		}
	case *protocol.Control_Spread:
		if p.costly.Allow() {
			p.r.spread(p, b.Spread)
		}
	default:
		p.calls.take(c)
	}
}

// gossip says what nobody waits for: whom this side is connected to, and what it
// passes on.
func (p *Peer) gossip() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	told := make(map[protocol.Member]Path)
	for {
		var err error
		select {
		case <-p.news:
			err = p.tellLinks(ctx, told)
		case c := <-p.outbox:
			// Whoever a signal is from was shown before.
			if err = p.tellLinks(ctx, told); err == nil {
				err = p.control(ctx, c)
			}
		case <-p.done:
			return
		}
		if err != nil && isClosed(p.done) {
			return
		}
	}
}
