package door

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// errTooFast ends the reading of a client that is over its quota of bytes.
var errTooFast = errors.New("door: over the quota of bytes")

// Listen wraps the listener of the node's port. Its connections are counted by
// address, and those that become a Conn are read and written in their own way.
func (h *Host) Listen(l net.Listener) net.Listener { return &listener{l, h} }

type listener struct {
	net.Listener
	host *Host
}

// Accept refuses an address that has too many connections by closing them.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			return c, nil
		}
		from := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		var slot *address
		if l.host.bounded(from) && !l.host.trusted(from) {
			if slot, ok = l.host.addresses.open(from); !ok {
				l.host.totals.refusedConns.Add(1)
				c.Close()
				continue
			}
		}
		return &hotConn{TCPConn: tcp, host: l.host, slot: slot}, nil
	}
}

// hotConn is a TCP connection of the node's port. Until a door takes it over
// it is like the TCPConn in it, and so it stays under TLS. Once hot, reads take
// a pooled buffer only when there is something to read, and only the Conn above
// it writes.
type hotConn struct {
	*net.TCPConn
	host *Host
	slot *address // nil: not counted
	done atomic.Bool

	// Set by prime, which is called before there is a second goroutine.
	raw  syscall.RawConn
	fill func(fd uintptr) bool // hc.readOnce, made once

	// Set by Upgrade before the reader starts.
	conn *Conn // counts what is read
	hot  bool

	// Owned by the reader.
	in       *buffer // nil when there is nothing
	pos, end int
	left     int       // bytes of a frame that are still to come
	head     frameHead // the start of a frame, when it came without the rest
	err      error
}

// Read is called by one goroutine.
func (hc *hotConn) Read(p []byte) (int, error) {
	if !hc.hot {
		if hc.in != nil { // from before net/http took over
			return hc.take(p, hc.end-hc.pos), nil
		}
		n, err := hc.TCPConn.Read(p)
		if hc.conn != nil && !hc.conn.countBytes(n) {
			return n, errTooFast
		}
		return n, err
	}
	if hc.in == nil {
		hc.await()
	}
	if hc.in == nil {
		return 0, hc.err
	}
	n := hc.take(p, hc.inFrame())
	hc.left -= n
	return n, nil
}

// take copies at most most of what there is.
func (hc *hotConn) take(p []byte, most int) int {
	n := copy(p, hc.in.b[hc.pos:hc.end][:most])
	if hc.pos += n; hc.pos == hc.end {
		readBuffers.Put(hc.in)
		hc.in = nil
	}
	return n
}

// await waits until there is something to read, and reads it. After it either
// in or err is not nil; an error stays.
func (hc *hotConn) await() {
	if hc.err != nil {
		return
	}
	if err := hc.raw.Read(hc.fill); err != nil {
		hc.err = err
	}
	if hc.err == nil && hc.conn != nil && !hc.conn.countBytes(hc.end) {
		hc.err = errTooFast
		readBuffers.Put(hc.in)
		hc.in = nil
	}
}

// inFrame is how much of what there is belongs to the frame that gorilla is
// reading. It is given no more than that, so that it never has a frame that
// nobody knows of: when in is nil, there is nothing to handle.
func (hc *hotConn) inFrame() int {
	there := hc.end - hc.pos
	if hc.left == 0 {
		hc.left = hc.head.add(hc.in.b[hc.pos:hc.end])
		if hc.left == 0 { // the header is not complete
			hc.left = there
		}
	}
	return min(there, hc.left)
}

// control takes a ping or a pong that is there whole, between frames. The opcode
// is 0 when there is none; what is not as it should be is left to gorilla.
func (hc *hotConn) control() (opcode byte, data []byte) {
	b := hc.in.b[hc.pos:hc.end]
	if hc.left != 0 || hc.head.n != 0 || len(b) < 6 || (b[0] != opPing && b[0] != opPong) {
		return 0, nil
	}
	n := int(b[1] &^ 0x80)
	if b[1] < 0x80 || n > 125 || len(b) < 6+n {
		return 0, nil
	}
	mask, data := b[2:6], b[6:6+n]
	for i := range data {
		data[i] ^= mask[i%4]
	}
	opcode = b[0]
	if hc.pos += 6 + n; hc.pos < hc.end {
		return opcode, data
	}
	data = append([]byte(nil), data...) // the buffer is somebody else's now
	readBuffers.Put(hc.in)
	hc.in = nil
	return opcode, data
}

// frameHead is the header of a WebSocket frame, as much as has come.
type frameHead struct {
	b [14]byte
	n uint8
}

// add takes more bytes and says how many there are from the start of these to
// the end of the frame, 0 when they do not say that yet.
func (h *frameHead) add(b []byte) int {
	before := int(h.n)
	h.n += uint8(copy(h.b[before:], b))
	if h.n < 2 {
		return 0
	}
	size := 2 // of the header
	payload := uint64(h.b[1] & 0x7f)
	switch payload {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if h.b[1]&0x80 != 0 {
		size += 4
	}
	if int(h.n) < size {
		return 0
	}
	switch payload {
	case 126:
		payload = uint64(binary.BigEndian.Uint16(h.b[2:]))
	case 127:
		payload = binary.BigEndian.Uint64(h.b[2:])
	}
	h.n = 0
	// What is longer is refused by gorilla, when it has read the header.
	return size - before + int(min(payload, 1<<30))
}

// Close may be called more than once.
func (hc *hotConn) Close() error {
	if !hc.done.CompareAndSwap(false, true) {
		return nil
	}
	hc.host.addresses.close(hc.slot)
	return hc.TCPConn.Close()
}

// netConner is what wraps a connection, as tls.Conn does.
type netConner interface{ NetConn() net.Conn }

// under finds the hotConn in or under c, nil when there is none.
func under(c net.Conn) *hotConn {
	for {
		if hc, ok := c.(*hotConn); ok {
			return hc
		}
		w, ok := c.(netConner)
		if !ok {
			return nil
		}
		c = w.NetConn()
	}
}

// bounded says whether the quotas hold for an address.
func (h *Host) bounded(a netip.Addr) bool { return !(h.cfg.AllowPrivate && a.IsLoopback()) }

// trusted says whether an address is a proxy whose X-Forwarded-For is
// believed.
func (h *Host) trusted(a netip.Addr) bool {
	for _, p := range h.cfg.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
