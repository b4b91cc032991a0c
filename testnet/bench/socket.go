package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 asks for it
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// dialWithin is how long a server has to take a connection and to upgrade it.
const dialWithin = 20 * time.Second

// target is a server's URL.
type target struct {
	host string // with its port
	tls  bool
	path string
	name string // Host header and certificate
}

func parseTarget(s string) (t target, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return t, err
	}
	t = target{host: u.Host, path: u.RequestURI(), name: u.Host, tls: u.Scheme == "wss"}
	if (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
		return t, fmt.Errorf("%q is not of the form ws://host:port or wss://host", s)
	}
	if u.Port() == "" {
		port := "80"
		if t.tls {
			port = "443"
		}
		t.host = net.JoinHostPort(u.Hostname(), port)
	}
	return t, nil
}

// source says from where a server on loopback is dialled: 500 connections
// from each address, so that neither ports nor a server's bound on connections
// of one address end. It is nil for other servers.
func (t *target) source(n int) *net.TCPAddr {
	host, _, err := net.SplitHostPort(t.host)
	ip := net.ParseIP(host).To4()
	if err != nil || ip == nil || !ip.IsLoopback() {
		return nil
	}
	n = n/500 + 1
	return &net.TCPAddr{IP: net.IPv4(127, 0, byte(n>>8), byte(n))}
}

// dial opens a WebSocket. Not with gorilla's dialer: what it allocates for each
// would be half of what is measured when thousands are opened.
func (t *target) dial(ctx context.Context, n int) (net.Conn, error) {
	d := net.Dialer{Timeout: dialWithin}
	if from := t.source(n); from != nil {
		d.LocalAddr = from
	}
	c, err := d.DialContext(ctx, "tcp", t.host)
	if err != nil {
		return nil, err
	}
	if t.tls {
		host, _, _ := net.SplitHostPort(t.host)
		c = tls.Client(c, &tls.Config{ServerName: host})
	}
	_ = c.SetDeadline(time.Now().Add(dialWithin))
	if err := t.upgrade(c); err != nil {
		c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

func (t *target) upgrade(c net.Conn) error {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", t.path, t.name, key)
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, 1<<10)
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	answer.Body.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 asks for it
	switch {
	case answer.StatusCode != http.StatusSwitchingProtocols:
		return fmt.Errorf("upgrade: the server answers %s", answer.Status)
	case answer.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]):
		return errors.New("upgrade: the server's answer has the wrong Sec-WebSocket-Accept")
	case r.Buffered() > 0:
		return errors.New("upgrade: the server speaks before it was asked")
	}
	return nil
}

// Opcodes of RFC 6455.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// room is kept free before a message, for the longest header of a frame.
const room = 14

// finish makes a frame of b, whose first room bytes are free, and returns where
// it begins.
func finish(b []byte, opcode byte, mask uint32) []byte {
	n := len(b) - room
	at := room - 4
	binary.LittleEndian.PutUint32(b[at:], mask)
	switch {
	case n < 126:
		at -= 2
		b[at+1] = byte(n)
	case n < 1<<16:
		at -= 4
		b[at+1] = 126
		binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	default:
		at -= 10
		b[at+1] = 127
		binary.BigEndian.PutUint64(b[at+2:], uint64(n))
	}
	b[at] = 0x80 | opcode
	b[at+1] |= 0x80
	long := uint64(mask)<<32 | uint64(mask)
	p := b[room:]
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^long)
	}
	for i := range p {
		p[i] ^= byte(long >> (8 * i))
	}
	return b[at:]
}

// frames reads the frames of a server.
type frames struct {
	c        io.Reader
	buf      []byte
	pos, end int
}

// errFrame is a server that breaks RFC 6455, or splits messages, which no
// tracker does.
var errFrame = errors.New("a frame that no tracker sends")

// maxFrame bounds what a server may send at once.
const maxFrame = 1 << 20

// fill reads what there is, at least something.
func (f *frames) fill() error {
	if f.pos > 0 {
		f.end = copy(f.buf, f.buf[f.pos:f.end])
		f.pos = 0
	}
	if f.end == len(f.buf) {
		f.buf = append(f.buf, make([]byte, len(f.buf))...)
	}
	n, err := f.c.Read(f.buf[f.end:])
	f.end += n
	if n > 0 {
		return nil
	}
	return err
}

// next is the next frame that has come whole; ok is false when there is none.
func (f *frames) next() (opcode byte, payload []byte, ok bool, err error) {
	b := f.buf[f.pos:f.end]
	if len(b) < 2 {
		return 0, nil, false, nil
	}
	n, size := uint64(b[1]), 2
	switch {
	case b[0]&0xf0 != 0x80 || b[1]&0x80 != 0:
		return 0, nil, false, errFrame
	case n == 126:
		if size = 4; len(b) >= size {
			n = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case n == 127:
		if size = 10; len(b) >= size {
			n = binary.BigEndian.Uint64(b[2:])
		}
	}
	if n > maxFrame {
		return 0, nil, false, errFrame
	}
	if len(b) < size+int(n) {
		return 0, nil, false, nil
	}
	f.pos += size + int(n)
	return b[0] & 0x0f, b[size : size+int(n)], true, nil
}
