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

func (h *hub) send(from *hubConn, to netip.AddrPort, packet []byte) {
	h.packets.Add(1)
	h.bytes.Add(uint64(len(packet)))
	h.mu.Lock()
	delay, lose, plugged := h.delay, h.lose, h.conns[from.addr] == from
	h.mu.Unlock()
	if !plugged || lose != nil && lose(from.addr, to, packet) {
		return
	}
	p := hubPacket{append([]byte(nil), packet...), from.addr}
	deliver := func() {
		h.mu.Lock()
		c := h.conns[to]
		h.mu.Unlock()
		if c != nil {
			select {
			case c.in <- p:
			default:
			}
		}
	}
	if delay == 0 {
		deliver()
		return
	}
	time.AfterFunc(delay, deliver)
}

type hubPacket struct {
	bytes []byte
	from  netip.AddrPort
}

// hubConn is a net.PacketConn without deadlines.
type hubConn struct {
	hub    *hub
	addr   netip.AddrPort
	in     chan hubPacket
	once   sync.Once
	closed chan struct{}
}

func (c *hubConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-c.in:
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
		if c.hub.conns[c.addr] == c {
			delete(c.hub.conns, c.addr)
		}
	})
	return nil
}

func (c *hubConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.addr) }
func (c *hubConn) SetDeadline(time.Time) error      { return nil }
func (c *hubConn) SetReadDeadline(time.Time) error  { return nil }
func (c *hubConn) SetWriteDeadline(time.Time) error { return nil }
