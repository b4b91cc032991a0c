package testnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// maxTrace bounds the record of what flowed; the oldest goes first.
const maxTrace = 100_000

var errCut = errors.New("testnet: the path is cut")

// Message is one message on a link, as it left: encrypted, so only its size and
// its time tell something.
type Message struct {
	At       time.Duration // since the net started
	From, To int           // nodes
	Bytes    int
}

// wires is what lies between the nodes: it delays, cuts and records.
type wires struct {
	start time.Time

	mu    sync.Mutex
	ports map[uint16]int // node by the port of its link URL
	paths map[[2]int]*path
	trace []Message
	pumps sync.WaitGroup
}

// path is what lies between two nodes.
type path struct {
	delay time.Duration // one way
	cut   bool
	conns map[*wiredConn]struct{}
}

func newWires() *wires {
	return &wires{start: time.Now(), ports: make(map[uint16]int), paths: make(map[[2]int]*path)}
}

// path is called with mu held.
func (w *wires) path(a, b int) *path {
	key := [2]int{min(a, b), max(a, b)}
	p := w.paths[key]
	if p == nil {
		p = &path{conns: make(map[*wiredConn]struct{})}
		w.paths[key] = p
	}
	return p
}

func (w *wires) cut(a, b int, cut bool) {
	w.mu.Lock()
	p := w.path(a, b)
	p.cut = cut
	var ended []*wiredConn
	for c := range p.conns {
		if cut {
			ended = append(ended, c)
		}
	}
	w.mu.Unlock()
	for _, c := range ended {
		c.Close(1001)
	}
}

func (w *wires) record(from, to, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.trace) >= maxTrace {
		w.trace = append(w.trace[:0], w.trace[maxTrace/2:]...)
	}
	w.trace = append(w.trace, Message{At: time.Since(w.start), From: from, To: to, Bytes: n})
}

// dialer is the dialer of one node.
type dialer struct {
	w    *wires
	node int
	next relay.Dialer
}

// Dial refuses what is cut, and wraps what is not.
func (d *dialer) Dial(ctx context.Context, url protocol.LinkURL) (relay.Conn, error) {
	d.w.mu.Lock()
	to, known := d.w.ports[url.Port]
	p := d.w.path(d.node, to)
	cut := p.cut
	d.w.mu.Unlock()
	if !known || cut {
		return nil, errCut
	}
	next, err := d.next.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	c := &wiredConn{Conn: next, w: d.w, path: p, done: make(chan struct{})}
	c.out = newPump(c, d.node, to)
	c.in = newPump(c, to, d.node)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if p.cut {
		next.Close(1001)
		return nil, errCut
	}
	p.conns[c] = struct{}{}
	d.w.pumps.Go(c.write)
	d.w.pumps.Go(c.read)
	return c, nil
}

// DialAt refuses what is cut. Nothing else happens to a Probe.
func (d *dialer) DialAt(ctx context.Context, url protocol.LinkURL, at netip.Addr) (relay.Conn, error) {
	d.w.mu.Lock()
	to, known := d.w.ports[url.Port]
	cut := d.w.path(d.node, to).cut
	d.w.mu.Unlock()
	if !known || cut {
		return nil, errCut
	}
	return d.next.DialAt(ctx, url, at)
}

// wiredConn is a link seen from the node that dialled it; both directions pass
// through.
type wiredConn struct {
	relay.Conn
	w       *wires
	path    *path
	out, in *pump
	done    chan struct{}
	once    sync.Once
}

// pump is one direction.
type pump struct {
	c        *wiredConn
	from, to int
	queue    chan parcel
}

type parcel struct {
	message []byte
	due     time.Time
}

func newPump(c *wiredConn, from, to int) *pump {
	return &pump{c: c, from: from, to: to, queue: make(chan parcel, 256)}
}

// put takes a message on its way.
func (p *pump) put(message []byte) error {
	p.c.w.record(p.from, p.to, len(message))
	p.c.w.mu.Lock()
	due := time.Now().Add(p.c.path.delay)
	p.c.w.mu.Unlock()
	select {
	case p.queue <- parcel{append([]byte(nil), message...), due}:
		return nil
	case <-p.c.done:
		return net.ErrClosed
	}
}

// take waits for a message to arrive.
func (p *pump) take() ([]byte, error) {
	select {
	case m := <-p.queue:
		t := time.NewTimer(time.Until(m.due))
		defer t.Stop()
		select {
		case <-t.C:
			return m.message, nil
		case <-p.c.done:
		}
	case <-p.c.done:
	}
	return nil, net.ErrClosed
}

// Read is the next message from the other node.
func (c *wiredConn) Read() ([]byte, error) { return c.in.take() }

// Write sends a message to the other node.
func (c *wiredConn) Write(message []byte) error { return c.out.put(message) }

func (c *wiredConn) write() {
	for {
		m, err := c.out.take()
		if err == nil {
			err = c.Conn.Write(m)
		}
		if err != nil {
			c.Close(1001)
			return
		}
	}
}

func (c *wiredConn) read() {
	for {
		m, err := c.Conn.Read()
		if err == nil {
			err = c.in.put(m)
		}
		if err != nil {
			c.Close(1001)
			return
		}
	}
}

// Close ends both directions; what is on its way is lost.
func (c *wiredConn) Close(code int) {
	c.once.Do(func() {
		close(c.done)
		c.w.mu.Lock()
		delete(c.path.conns, c)
		c.w.mu.Unlock()
	})
	c.Conn.Close(code)
}
