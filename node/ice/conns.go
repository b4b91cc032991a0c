package ice

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// conns are the connections over TCP and TLS.
type conns struct {
	all, perAddress int

	mu        sync.Mutex
	open      map[net.Conn]netip.Addr
	addresses map[netip.Addr]int
	closed    bool
}

func newConns(q Quota) *conns {
	return &conns{all: q.Conns, perAddress: q.AddressConns, open: make(map[net.Conn]netip.Addr), addresses: make(map[netip.Addr]int)}
}

// add takes a connection, unless there are too many.
func (c *conns) add(n net.Conn, address netip.Addr, admitted func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.open) >= c.all || (c.perAddress > 0 && address.IsValid() && c.addresses[address] >= c.perAddress) {
		return false
	}
	c.open[n] = address
	if address.IsValid() {
		c.addresses[address]++
	}
	admitted()
	return true
}

func (c *conns) remove(n net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	address := c.open[n]
	delete(c.open, n)
	if c.addresses[address]--; c.addresses[address] <= 0 {
		delete(c.addresses, address)
	}
}

// stop closes all connections, and those that come later.
func (c *conns) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for n := range c.open {
		n.Close()
	}
}

func (c *conns) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// ServeConn takes over a connection that somebody else has accepted and whose
// first byte is under 4. It does not block. The connection is closed when there
// are too many, and when Serve has ended, which ends it too.
func (s *Server) ServeConn(c net.Conn) {
	st, ok := newStream(c)
	if !ok {
		c.Close()
		return
	}
	address := network(addrPort(st.remote).Addr())
	if s.cfg.AllowPrivate && address.IsLoopback() {
		address = netip.Addr{}
	}
	if !s.conns.add(c, address, func() { s.running.Add(1) }) {
		s.count.refuse(overConns)
		c.Close()
		return
	}
	go func() {
		defer s.running.Done()
		defer s.conns.remove(c)
		defer c.Close()
		s.serveStream(st)
	}()
}

// serveStream waits for the first message, which is what a connection is not
// worth more than a goroutine before.
func (s *Server) serveStream(st *stream) {
	st.idle = func() time.Duration { return firstMessage }
	st.SetWriteDeadline(time.Now().Add(firstMessage)) // of the handshake
	buf := make([]byte, maxDatagram)
	n, _, err := st.ReadFrom(buf)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.count.refuse(slow)
		}
		return
	}
	f := newFront(s, &firstFrame{st, buf[:n]}, false)
	st.idle = func() time.Duration {
		if f.busy() {
			return idleAfter
		}
		return idleBefore
	}
	s.serveFront(f)
}
