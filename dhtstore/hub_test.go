package dhtstore

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// hub is a UDP network in memory, made for synctest bubbles: it waits on
// nothing but channels and time. A packet to nobody, or to one whose buffer is
// full, is lost without a word.
type hub struct {
	// Guarded by mu.
	mu    sync.Mutex
	conns map[netip.AddrPort]*hubConn
	delay time.Duration                                     // one way
	lose  func(from, to netip.AddrPort, packet []byte) bool // true: lost; may look, not keep
	given uint32

	packets, bytes atomic.Uint64 // sent
}

func newHub() *hub { return &hub{conns: make(map[netip.AddrPort]*hubConn)} }

// listen is a socket at an address, or with a zero one at the next of
// 10.0.0.1:6881, 10.0.0.2:6881 and so on. A socket that is there already loses
// its packets to the new one.
func (h *hub) listen(addr netip.AddrPort) *hubConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !addr.IsValid() {
		h.given++
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(h.given >> 16), byte(h.given >> 8), byte(h.given)}), 6881)
	}
	c := &hubConn{hub: h, addr: addr, in: make(chan hubPacket, 256), closed: make(chan struct{})}
	h.conns[addr] = c
	return c
}

// listenDual is a socket that has an address of each family, as one bound to
// [::] has.
func (h *hub) listenDual(v4, v6 netip.AddrPort) *hubConn {
	c := h.listen(v4)
	h.mu.Lock()
	defer h.mu.Unlock()
	c.addr6 = v6
	h.conns[v6] = c
	return c
}

// inject sends a packet in the name of any address. Its answers are lost if
// nobody listens there.
func (h *hub) inject(from, to netip.AddrPort, packet []byte) {
	h.mu.Lock()
	c, delay := h.conns[to], h.delay
	h.mu.Unlock()
	h.deliver(c, from, packet, delay)
}

// setDelay is one way, for packets from now on.
func (h *hub) setDelay(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delay = d
}

// setLose has f decide which packets are lost.
func (h *hub) setLose(f func(from, to netip.AddrPort, packet []byte) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lose = f
}

// unplug has nothing reach the socket at addr any more, or leave it. Its owner
// does not notice.
func (h *hub) unplug(addr netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, addr)
}

func (h *hub) send(c *hubConn, to netip.AddrPort, packet []byte) {
	h.packets.Add(1)
	h.bytes.Add(uint64(len(packet)))
	from := c.addr
	if to.Addr().Is6() && c.addr6.IsValid() {
		from = c.addr6
	}
	h.mu.Lock()
	lose, delay, plugged, receiver := h.lose, h.delay, h.conns[from] == c, h.conns[to]
	h.mu.Unlock()
	if plugged && (lose == nil || !lose(from, to, packet)) {
		h.deliver(receiver, from, packet, delay)
	}
}

func (h *hub) deliver(to *hubConn, from netip.AddrPort, packet []byte, delay time.Duration) {
	if to == nil {
		return
	}
	select {
	case to.in <- hubPacket{append([]byte(nil), packet...), from, time.Now().Add(delay)}:
	default:
	}
}

type hubPacket struct {
	bytes []byte
	from  netip.AddrPort
	at    time.Time // of its arrival
}

// hubConn is a net.PacketConn without deadlines.
type hubConn struct {
	hub    *hub
	addr   netip.AddrPort
	addr6  netip.AddrPort // of listenDual
	in     chan hubPacket
	once   sync.Once
	closed chan struct{}
}

func (c *hubConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-c.in:
		// The reader waits, not a timer for each packet: with thousands of those in
		// a bubble the race detector crashes (golang/go#78156).
		if d := time.Until(p.at); d > 0 {
			select {
			case <-time.After(d):
			case <-c.closed:
				return 0, nil, net.ErrClosed
			}
		}
		return copy(b, p.bytes), net.UDPAddrFromAddrPort(p.from), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *hubConn) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	a := to.(*net.UDPAddr).AddrPort()
	c.hub.send(c, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), b)
	return len(b), nil
}

func (c *hubConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.hub.mu.Lock()
		defer c.hub.mu.Unlock()
		for _, a := range []netip.AddrPort{c.addr, c.addr6} {
			if c.hub.conns[a] == c {
				delete(c.hub.conns, a)
			}
		}
	})
	return nil
}

func (c *hubConn) LocalAddr() net.Addr {
	if c.addr6.IsValid() {
		return &net.UDPAddr{IP: net.IPv6unspecified, Port: int(c.addr.Port())}
	}
	return net.UDPAddrFromAddrPort(c.addr)
}

func (c *hubConn) SetDeadline(time.Time) error      { return nil }
func (c *hubConn) SetReadDeadline(time.Time) error  { return nil }
func (c *hubConn) SetWriteDeadline(time.Time) error { return nil }
