package dhtstore

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// libConn is the socket that the library has: it reads what family.answered
// passes on, and writes through family.send. Read never fails before Close,
// as the library panics then.
type libConn struct {
	family *family
	in     chan libPacket
	once   sync.Once
	closed chan struct{}
}

type libPacket struct {
	bytes []byte
	from  netip.AddrPort
}

func newLibConn(f *family) *libConn {
	return &libConn{family: f, in: make(chan libPacket, 256), closed: make(chan struct{})}
}

// pass drops what the library is too slow for, as a socket does.
func (c *libConn) pass(b []byte, from netip.AddrPort) {
	select {
	case c.in <- libPacket{b, from}:
	default:
	}
}

// ReadFrom is net.PacketConn's.
func (c *libConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-c.in:
		return copy(b, p.bytes), net.UDPAddrFromAddrPort(p.from), nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo is net.PacketConn's.
func (c *libConn) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	addr, ok := udpAddr(to)
	if !ok {
		return 0, errors.New("not an address to send to")
	}
	if err := c.family.send(b, addr); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close is net.PacketConn's. It leaves the real socket open, which outlives a
// change of id.
func (c *libConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// LocalAddr is net.PacketConn's.
func (c *libConn) LocalAddr() net.Addr { return c.family.server.cfg.Conn.LocalAddr() }

// SetDeadline is net.PacketConn's, and so are the next two. The library uses
// none of them.
func (c *libConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c *libConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c *libConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// read takes packets from the real socket and hands them on, until ctx ends or
// the socket is closed by somebody else. Other errors are a moment's: an ICMP
// message that a port is closed, an interface that is down.
func (s *server) read(ctx context.Context) error {
	buf := make([]byte, maxPacket+1)
	for pause := time.Duration(0); ; {
		n, from, err := s.cfg.Conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // closing the socket is how we end, and its error the sign of it
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			pause = min(pause+time.Millisecond, 100*time.Millisecond)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		s.receive(buf[:n], from)
	}
}

// receive decides whose a packet is. The bytes are the caller's again
// afterwards.
func (s *server) receive(b []byte, addr net.Addr) {
	from, ok := udpAddr(addr)
	if !ok {
		s.count.malformed.Add(1)
		return
	}
	f := s.family(from.Addr().Is6())
	p, ok := parsePacket(b)
	if !ok || f == nil {
		s.count.malformed.Add(1)
		return
	}
	if p.kind != 'q' {
		f.answered(p, from)
		return
	}
	s.responder.submit(b, from)
}

// macSize is what a transaction id grows by on its way.
const macSize = 4

// transactionMAC makes transaction ids that only the node that was asked can
// know: the library counts them up, and everybody could guess them and answer
// in its place.
type transactionMAC struct{ secret [32]byte }

func newTransactionMAC() *transactionMAC {
	m := new(transactionMAC)
	_, _ = rand.Read(m.secret[:]) // never fails
	return m
}

func (m *transactionMAC) of(t []byte, to netip.AddrPort) []byte {
	h := hmac.New(sha256.New, m.secret[:])
	h.Write(appendAddr(nil, to))
	h.Write(t)
	return h.Sum(nil)[:macSize]
}

// seal gives a query of the library its real transaction id.
func (m *transactionMAC) seal(b []byte, to netip.AddrPort) []byte {
	out := append(make([]byte, 0, len(b)+macSize+1), 'd')
	for key, value := range entriesOf(b) {
		if t, ok := stringOf(value); ok && key == "t" {
			out = appendEntry(out, "t", append(m.of(t, to), t...))
			continue
		}
		out = appendRaw(out, key, value)
	}
	return append(out, 'e')
}

// open is the library's transaction id again, if the packet answers a query
// that we sent to this address.
func (m *transactionMAC) open(t []byte, from netip.AddrPort) ([]byte, bool) {
	if len(t) <= macSize {
		return nil, false
	}
	mac, t := t[:macSize], t[macSize:]
	return t, hmac.Equal(mac, m.of(t, from))
}
