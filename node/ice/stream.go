package ice

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	firstMessage = 10 * time.Second // for the handshake of TLS and the first message
	idleBefore   = 30 * time.Second // without a message, and without an allocation
	idleAfter    = 11 * time.Minute // with one; a client that lives refreshes it in 10
	slowWrite    = time.Minute      // that a client may take to read: the network may be away for a while
)

var errFrame = errors.New("neither STUN nor ChannelData of a size that is taken")

// stream makes datagrams of a connection over TCP or TLS (RFC 8656, 12.5). It
// takes no frame that is larger than those that are relayed, so that half a frame
// costs little.
type stream struct {
	net.Conn
	r      *bufio.Reader
	remote *net.TCPAddr
	idle   func() time.Duration // until the next message
}

func newStream(c net.Conn) (*stream, bool) {
	at := addrPort(c.RemoteAddr())
	if !at.IsValid() {
		var err error
		if at, err = netip.ParseAddrPort(c.RemoteAddr().String()); err != nil {
			return nil, false
		}
	}
	return &stream{Conn: c, r: bufio.NewReaderSize(c, maxDatagram), remote: net.TCPAddrFromAddrPort(usual(at))}, true
}

// ReadFrom reads one frame.
func (st *stream) ReadFrom(p []byte) (int, net.Addr, error) {
	st.SetReadDeadline(time.Now().Add(st.idle()))
	head, err := st.r.Peek(4)
	if err != nil {
		return 0, nil, err
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	switch head[0] >> 6 {
	case 0:
		size += 20
	case 1: // padded to four bytes here, which it is not over UDP
		size = 4 + (size+3)&^3
	default:
		return 0, nil, errFrame
	}
	if size >= min(len(p), maxDatagram) {
		return 0, nil, errFrame
	}
	if _, err := io.ReadFull(st.r, p[:size]); err != nil {
		return 0, nil, err
	}
	return size, st.remote, nil
}

// WriteTo writes one frame. Who does not read is cut off, since half a frame
// cannot be followed by another.
func (st *stream) WriteTo(p []byte, _ net.Addr) (int, error) {
	st.SetWriteDeadline(time.Now().Add(slowWrite))
	n, err := st.Write(p)
	if err != nil {
		st.Close()
	}
	return n, err
}

// firstFrame has been read, and is given before all others.
type firstFrame struct {
	*stream
	frame []byte
}

func (ff *firstFrame) ReadFrom(p []byte) (int, net.Addr, error) {
	if ff.frame == nil {
		return ff.stream.ReadFrom(p)
	}
	n := copy(p, ff.frame)
	ff.frame = nil
	return n, ff.remote, nil
}

// LocalAddr is of TCP, whatever the connection is wrapped in.
func (st *stream) LocalAddr() net.Addr {
	at := addrPort(st.Conn.LocalAddr())
	if !at.IsValid() {
		at, _ = netip.ParseAddrPort(st.Conn.LocalAddr().String())
	}
	return net.TCPAddrFromAddrPort(at)
}
