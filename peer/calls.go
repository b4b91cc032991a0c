package peer

import (
	"context"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

const (
	maxPending  = 256              // calls of this side to one peer that are not over
	maxRunning  = 64               // calls of one peer that run here; a further one is busy
	maxArgs     = 16 << 20         // bytes of the arguments of those
	maxProgress = 16               // that wait for their listener
	window      = 32               // values of a stream that wait to be taken
	callWithin  = 30 * time.Second // where the context has no deadline
)

// calls are those of one connection, in both directions: caller.go has those
// that this side makes, answer.go those that it answers.
type calls struct {
	// Static.
	p    *Peer
	cmds *commands
	send func(context.Context, *protocol.Control) error // may wait, and fails with ErrGone when the connection has ended
	ctx  context.Context                                //nolint:containedctx // of the handlers and of what they send: ends with the connection
	stop context.CancelFunc
	turn chan struct{} // of the call that begins: ids go out in order
	work sync.WaitGroup

	mu        sync.Mutex
	ended     bool
	lastID    uint32
	pending   map[uint32]*pending
	newest    uint32 // id of theirs
	answers   map[uint32]*answer
	argBytes  int // of answers
	answering int // goroutines of answers, with those that have only to send the last
	refusing  int // messages of outbox
	outbox    []outgoing
	flushing  bool // there is a goroutine for outbox
}

// outgoing is a message that must not keep the one who has it for the other
// side, and what is to be done when it has gone out, with calls.mu held.
type outgoing struct {
	m    *protocol.Control
	sent func()
}

func newCalls(p *Peer, cmds *commands, send func(context.Context, *protocol.Control) error) *calls {
	c := &calls{
		p: p, cmds: cmds, send: send, turn: make(chan struct{}, 1),
		pending: make(map[uint32]*pending), answers: make(map[uint32]*answer),
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// take gets what comes from the other side, in its order. It does not wait for
// anything. Controls that are not of calls are none of its business.
func (c *calls) take(m *protocol.Control) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	switch b := m.GetBody().(type) {
	case *protocol.Control_Call:
		c.called(b.Call)
	case *protocol.Control_CallCredit:
		c.credited(b.CallCredit)
	case *protocol.Control_CallCancel:
		c.cancelled(b.CallCancel.GetId())
	case *protocol.Control_CallValue:
		c.valued(b.CallValue)
	case *protocol.Control_CallProgress:
		c.progressed(b.CallProgress)
	case *protocol.Control_CallError:
		c.failed(b.CallError)
	}
}

// end is called when the connection has ended. Calls to the other side fail
// with ErrGone; handlers are cancelled and waited for.
func (c *calls) end() {
	c.mu.Lock()
	c.ended = true
	for _, q := range c.pending {
		c.finish(q, ErrGone)
	}
	clear(c.answers)
	c.outbox = nil
	c.mu.Unlock()
	c.stop()
	c.work.Wait()
}

// post sends a message without waiting. c.mu is held; what is posted is bounded
// by its callers, who count it until sent is called.
func (c *calls) post(m *protocol.Control, sent func()) {
	if c.ended {
		return
	}
	c.outbox = append(c.outbox, outgoing{m, sent})
	if !c.flushing {
		c.flushing = true
		c.work.Go(c.flush)
	}
}

func (c *calls) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.outbox) > 0 {
		next := c.outbox[0]
		c.outbox = c.outbox[1:]
		c.mu.Unlock()
		_ = c.send(c.ctx, next.m) // if it fails all is over, and end says so
		c.mu.Lock()
		next.sent()
	}
	c.flushing = false
}
