package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// memNet is a network in memory, made for synctest bubbles: it waits on
// nothing but channels and time. Nodes are named by their link URLs. A
// connection behaves as WebSocket over TCP does: in order, no gaps, at most
// memWindow messages on their way in one direction, and what was sent before a
// Close arrives before the Close does.
//
// A dial takes the four ways that TCP and the upgrade take: the listener gets
// its Conn after three, the dialler after four.
type memNet struct {
	done chan struct{}
	wg   sync.WaitGroup // accept's goroutines

	// Guarded by mu, which is never held over anything that waits.
	mu        sync.Mutex
	closed    bool
	delay     time.Duration
	pairs     map[memPair]*memPath
	listeners map[string]*memListener
	conns     map[*memLink]struct{}
	onMessage func(from, to string, n int, message []byte) action
	hooking   sync.Mutex // one call of it at a time
}

// memWindow is how many messages may be on their way in one direction.
const memWindow = 256

var (
	errMemReset   = errors.New("memnet: connection reset")
	errMemRefused = errors.New("memnet: connection refused")
	errMemClosed  = errors.New("memnet: conn is closed here")
)

// action says what happens to a message, and to its connection.
type action int

const (
	pass      action = iota
	cutBefore        // the connection dies when the other side reads on to this message, which is lost
	cutAfter         // the connection dies as soon as the other side has read this message
)

type memPair struct{ a, b string }

func pairOf(a, b string) memPair {
	a, b = memName(a), memName(b)
	return memPair{min(a, b), max(a, b)}
}

// memName makes wss://a and wss://a:443 one name.
func memName(url string) string {
	if u, err := protocol.ParseLinkURL(url); err == nil {
		return u.String()
	}
	return url
}

// memPath is what is special between two nodes.
type memPath struct {
	delay    time.Duration
	hasDelay bool
	cut      bool
	frozen   bool
	since    time.Time // of frozen
}

type memListener struct{ accept func(Conn) }

func newMemNet() *memNet {
	return &memNet{
		done: make(chan struct{}), pairs: make(map[memPair]*memPath),
		listeners: make(map[string]*memListener), conns: make(map[*memLink]struct{}),
	}
}

// listen gives accept every connection made to url, each on a goroutine of its
// own, until stop. Connections that are there stay.
func (n *memNet) listen(url string, accept func(Conn)) (stop func()) {
	l, url := &memListener{accept: accept}, memName(url)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[url] != nil {
		panic("memnet: two listeners on " + url)
	}
	n.listeners[url] = l
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.listeners[url] == l {
			delete(n.listeners, url)
		}
	}
}

// dialer is for the node whose own URL is from, or for one with any other name
// that cannot be dialled itself.
func (n *memNet) dialer(from string) Dialer { return &memDialer{n, memName(from)} }

// setDelay is one way, between all that have none of their own. It is for
// messages from now on.
func (n *memNet) setDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// setPairDelay is one way, between two.
func (n *memNet) setPairDelay(a, b string, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.path(a, b)
	p.delay, p.hasDelay = d, true
}

// cut kills the connections between two nodes and refuses dials, until heal.
func (n *memNet) cut(a, b string) {
	n.mu.Lock()
	n.path(a, b).cut = true
	n.mu.Unlock()
	n.drop(a, b)
}

// freeze makes a half-open connection of those between two nodes: nothing
// arrives and nothing fails, also not a Close. A connection that has lost a
// message this way carries nothing more in that direction after heal, as a
// stream has no gaps. Dials wait until their context ends.
func (n *memNet) freeze(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.path(a, b)
	p.frozen, p.since = true, time.Now()
}

// heal ends cut and freeze.
func (n *memNet) heal(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.path(a, b)
	p.cut, p.frozen = false, false
}

// drop kills the connections between two nodes once, with what is on its way.
func (n *memNet) drop(a, b string) {
	n.mu.Lock()
	var kill []*memLink
	for l := range n.conns {
		if l.pair == pairOf(a, b) {
			kill = append(kill, l)
		}
	}
	n.mu.Unlock()
	for _, l := range kill {
		l.kill()
	}
}

// hook has f called with each message before it is sent, by the sender. i
// counts the messages of one connection in one direction from 0, the
// handshake's included: 0 and 1 of the dialler, 0 of the responder. f may
// change message.
func (n *memNet) hook(f func(from, to string, i int, message []byte) action) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onMessage = f
}

// links counts the live connections between two nodes.
func (n *memNet) links(a, b string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.conns {
		if l.pair == pairOf(a, b) {
			count++
		}
	}
	return count
}

// close ends all connections and dials and waits for what accept does.
func (n *memNet) close() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.done)
	}
	var all []*memLink
	for l := range n.conns {
		all = append(all, l)
	}
	n.mu.Unlock()
	for _, l := range all {
		l.kill()
	}
	n.wg.Wait()
}

// path needs mu.
func (n *memNet) path(a, b string) *memPath {
	p := n.pairs[pairOf(a, b)]
	if p == nil {
		p = new(memPath)
		n.pairs[pairOf(a, b)] = p
	}
	return p
}

// state is the way between two nodes as it is now.
func (n *memNet) state(pair memPair) memPath {
	n.mu.Lock()
	defer n.mu.Unlock()
	var p memPath
	if known := n.pairs[pair]; known != nil {
		p = *known
	}
	if !p.hasDelay {
		p.delay = n.delay
	}
	return p
}

type memDialer struct {
	net  *memNet
	from string
}

func (d *memDialer) Dial(ctx context.Context, url protocol.LinkURL) (Conn, error) {
	n, to := d.net, url.String()
	pair := pairOf(d.from, to)
	path := n.state(pair)
	if path.frozen {
		if err := n.wait(ctx, -1); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	listener := n.listeners[to]
	n.mu.Unlock()
	if path.cut || listener == nil {
		if err := n.wait(ctx, 2*path.delay); err != nil {
			return nil, err
		}
		return nil, errMemRefused
	}
	if err := n.wait(ctx, 3*path.delay); err != nil {
		return nil, err
	}
	l, err := n.connect(d.from, to, pair)
	if err != nil {
		return nil, err
	}
	if err := n.wait(ctx, path.delay); err != nil {
		l.kill()
		return nil, err
	}
	return &l.ends[protocol.Dialler], nil
}

// DialAt knows no names.
func (d *memDialer) DialAt(ctx context.Context, url protocol.LinkURL, at netip.Addr) (Conn, error) {
	if url.Host != at.String() {
		return nil, protocol.Errorf(protocol.CodeRefused, "memnet: %s does not have that address", url.Host)
	}
	return d.Dial(ctx, url)
}

// wait is for ever when d is negative.
func (n *memNet) wait(ctx context.Context, d time.Duration) error {
	var timer <-chan time.Time
	if d >= 0 {
		timer = time.After(d)
	}
	select {
	case <-timer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return errMemReset
	}
}

// connect makes the connection and hands its end to the listener.
func (n *memNet) connect(from, to string, pair memPair) (*memLink, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	listener, path := n.listeners[to], n.path(from, to)
	if n.closed || listener == nil || path.cut {
		return nil, errMemRefused
	}
	l := &memLink{net: n, pair: pair, dead: make(chan struct{})}
	for role, name := range []string{from, to} {
		e := &l.ends[role]
		e.link, e.name, e.other = l, name, &l.ends[1-role]
		e.in = make(chan memMessage, memWindow)
		e.here, e.limit = make(chan struct{}), protocol.MaxNoise
	}
	n.conns[l] = struct{}{}
	n.wg.Go(func() { listener.accept(&l.ends[protocol.Responder]) })
	return l, nil
}

// memLink is one connection; ends[protocol.Dialler] is the dialler's.
type memLink struct {
	net  *memNet
	pair memPair
	once sync.Once
	dead chan struct{} // closed by kill
	ends [2]memConn
}

// kill ends both ends at once and loses what is on its way.
func (l *memLink) kill() {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.conns, l)
		l.net.mu.Unlock()
		close(l.dead)
	})
}

// memConn is one end of a memLink.
type memConn struct {
	// Static.
	link  *memLink
	name  string
	other *memConn
	in    chan memMessage // written by other

	// Closing; code and at are set before here is closed.
	once sync.Once
	here chan struct{} // closed by Close
	code int
	at   time.Time // when the other end learns of it

	// Owned by the reader.
	reading atomic.Bool
	last    []byte
	limit   int
	deaf    bool // what the other end sent was lost: the stream ends there

	// Owned by the writer.
	writing atomic.Bool
	sent    int

	mute atomic.Bool // what this end sends from now on is lost
}

type memMessage struct {
	bytes []byte
	at    time.Time // of its arrival
	do    action
}

// RemoteAddr is the other end's address where its name has one.
func (c *memConn) RemoteAddr() net.Addr {
	at, _ := netip.ParseAddrPort(strings.TrimPrefix(c.other.name, "ws://"))
	return net.TCPAddrFromAddrPort(at)
}

func (c *memConn) limitRead(n int) { c.limit = n }

// Read overwrites what the last Read returned: nobody may have kept it.
func (c *memConn) Read() ([]byte, error) {
	if !c.reading.CompareAndSwap(false, true) {
		panic("memnet: two goroutines read one conn")
	}
	defer c.reading.Store(false)
	for i := range c.last {
		c.last[i] = 0xdb
	}
	c.last = nil
	m, err := c.receive()
	if err != nil {
		return nil, err
	}
	if len(m.bytes) > c.limit {
		c.Close(closeTooBig)
		return nil, protocol.Errorf(protocol.CodeTooLarge, "memnet: message of %d bytes is over %d", len(m.bytes), c.limit)
	}
	if m.do == cutAfter {
		c.link.kill()
	}
	c.last = m.bytes
	return m.bytes, nil
}

// receive waits for the next message and until it has arrived.
func (c *memConn) receive() (memMessage, error) {
	for {
		if err := c.err(); err != nil {
			return memMessage{}, err
		}
		select {
		case m := <-c.in:
			if err := c.arrive(m.at); err != nil {
				return m, err
			}
			if m.do == cutBefore {
				c.link.kill()
				return m, errMemReset
			}
			if path := c.link.net.state(c.link.pair); path.frozen && m.at.After(path.since) {
				c.deaf = true
			}
			if !c.deaf {
				return m, nil
			}
		case <-c.fin():
			if c.fin() == nil {
				continue // a message or a freeze came before it
			}
			if err := c.arrive(c.other.at); err != nil {
				return memMessage{}, err
			}
			c.link.kill()
			return memMessage{}, &closeError{c.other.code}
		case <-c.here:
		case <-c.link.dead:
		}
	}
}

// fin is the other end's close, once all it has sent before has been read and
// unless the network swallows it.
func (c *memConn) fin() <-chan struct{} {
	if len(c.in) > 0 || c.deaf || c.other.mute.Load() {
		return nil
	}
	return c.other.here
}

// arrive waits until at.
func (c *memConn) arrive(at time.Time) error {
	if d := time.Until(at); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.here:
		case <-c.link.dead:
		}
	}
	return c.err()
}

// err says why this end is over, nil when it is not.
func (c *memConn) err() error {
	select {
	case <-c.here:
		return errMemClosed
	default:
	}
	select {
	case <-c.link.dead:
		return errMemReset
	default:
		return nil
	}
}

func (c *memConn) Write(message []byte) error {
	if !c.writing.CompareAndSwap(false, true) {
		panic("memnet: two goroutines write one conn")
	}
	defer c.writing.Store(false)
	if len(message) > protocol.MaxNoise {
		return protocol.Errorf(protocol.CodeTooLarge, "memnet: message of %d bytes is over %d", len(message), protocol.MaxNoise)
	}
	if err := c.err(); err != nil {
		return err
	}
	m := memMessage{bytes: append([]byte(nil), message...)}
	c.link.net.mu.Lock()
	hook := c.link.net.onMessage
	c.link.net.mu.Unlock()
	if hook != nil {
		c.link.net.hooking.Lock()
		m.do = hook(c.name, c.other.name, c.sent, m.bytes)
		c.link.net.hooking.Unlock()
	}
	c.sent++
	path := c.link.net.state(c.link.pair)
	if path.frozen {
		c.mute.Store(true)
	}
	if c.mute.Load() {
		return nil
	}
	m.at = time.Now().Add(path.delay)
	select {
	case <-c.other.here:
		if time.Now().Before(c.other.at) {
			return nil // lost, but this end cannot know yet
		}
		return errMemReset
	default:
	}
	select {
	case c.other.in <- m:
		return nil
	case <-c.other.here: // nobody reads any more: the reset comes back after a while
		if err := c.arrive(c.other.at); err != nil {
			return err
		}
		return errMemReset
	case <-c.here:
		return errMemClosed
	case <-c.link.dead:
		return errMemReset
	}
}

func (c *memConn) Close(code int) {
	c.once.Do(func() {
		path := c.link.net.state(c.link.pair)
		if path.frozen {
			c.mute.Store(true)
		}
		c.code, c.at = code, time.Now().Add(path.delay)
		close(c.here)
		select {
		case <-c.other.here:
			c.link.kill()
		default:
		}
	})
}
