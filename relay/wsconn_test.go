package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// patience is for what real sockets do in milliseconds, on a machine that has
// much else to do.
const patience = 50 * time.Second

// noLeaks fails the test when it leaves goroutines behind.
func noLeaks(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for start := time.Now(); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Since(start) > patience {
				buf := make([]byte, 1<<20)
				t.Fatalf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
			}
		}
	})
}

// wsNode is a real server on loopback whose links are given to accept.
type wsNode struct {
	url    protocol.LinkURL
	policy DialPolicy // that reaches it
}

// strangeConn is as the node's own listener makes them: no *net.TCPConn.
type strangeConn struct{ net.Conn }

type strangeListener struct{ net.Listener }

func (l strangeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return strangeConn{c}, nil
}

func listenWS(t *testing.T, secure bool, accept func(c Conn, err error)) *wsNode {
	t.Helper()
	noLeaks(t)
	mux := http.NewServeMux()
	mux.HandleFunc(linkPath, func(w http.ResponseWriter, r *http.Request) { accept(acceptWS(w, r)) })
	return serve(t, secure, mux)
}

func serve(t *testing.T, secure bool, h http.Handler) *wsNode {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Listener = strangeListener{s.Listener}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	n := &wsNode{policy: DialPolicy{AllowPrivate: true}}
	if secure {
		s.StartTLS()
		n.policy.TLS = &tls.Config{RootCAs: x509.NewCertPool(), NextProtos: []string{"h2"}} // as shared with an HTTP client
		n.policy.TLS.RootCAs.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	a := s.Listener.Addr().(*net.TCPAddr)
	n.url = protocol.LinkURL{Secure: secure, Host: "127.0.0.1", Port: uint16(a.Port)}
	return n
}

func (n *wsNode) dial(t *testing.T) Conn {
	t.Helper()
	c, err := NewDialer(n.policy).Dial(context.Background(), n.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(1000) })
	return c
}

// ending waits for what f returns.
func ending(t *testing.T, what string, f <-chan error) error {
	t.Helper()
	select {
	case err := <-f:
		return err
	case <-time.After(patience):
		t.Fatalf("%s does not end", what)
		return nil
	}
}

// Two nodes link over a real socket, plain and with TLS: handshake, packets of
// all sizes both ways, and a close code that arrives, from either side.
func TestWSLink(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, closer := range []protocol.Role{protocol.Dialler, protocol.Responder} {
			t.Run(fmt.Sprintf("secure=%v closer=%d", secure, closer), func(t *testing.T) {
				me, other := newTestIdentity(t, "me"), newTestIdentity(t, "other")
				accepted := make(chan shaken, 1)
				node := listenWS(t, secure, func(c Conn, err error) {
					if err != nil {
						accepted <- shaken{err: err}
						return
					}
					accepted <- honest(protocol.Responder, other, nil, "")(c)
				})
				d := honest(protocol.Dialler, me, newTestRecord(t, "me", 0), node.url.String())(node.dial(t))
				r := <-accepted
				if d.err != nil || r.err != nil {
					t.Fatalf("dialler: %v, responder: %v", d.err, r.err)
				}
				if d.said.node != other.node || r.said.node != me.node || r.said.record == nil || (secure && r.said.url != node.url.String()) {
					t.Errorf("greetings are %v and %v", d.said, r.said)
				}
				for _, size := range []int{0, 1, 125, 126, 4096, linkReadBuffer, 60_000, protocol.MaxPacket} {
					carry(t, d.conn, r.conn, size)
					carry(t, r.conn, d.conn, size)
				}
				from, to := d.conn, r.conn
				if closer == protocol.Responder {
					from, to = to, from
				}
				from.close(protocol.CloseServiceRestart)
				if _, err := to.readPacket(); closeCode(err) != protocol.CloseServiceRestart {
					t.Errorf("after close the other side reads %v", err)
				}
				if _, err := from.readPacket(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("after close this side reads %v", err)
				}
				if err := from.writePacket(nil); !errors.Is(err, net.ErrClosed) {
					t.Errorf("after close this side writes: %v", err)
				}
				to.close(1000)
			})
		}
	}
}

// linked are two ends over a real socket, without a handshake.
func linked(t *testing.T, secure bool) (dialled, accepted *wsConn) {
	t.Helper()
	got := make(chan Conn, 1)
	node := listenWS(t, secure, func(c Conn, err error) {
		if err != nil {
			t.Error(err)
		}
		got <- c
	})
	d := node.dial(t)
	a := <-got
	t.Cleanup(func() { a.Close(1000) })
	return d.(*wsConn), a.(*wsConn)
}

// Close frees a Read that waits and a Write that is stuck before a reader that
// has stopped, however often it is called.
func TestWSCloseUnblocks(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, side := range []string{"dialled", "accepted"} {
			t.Run(fmt.Sprintf("secure=%v %s", secure, side), func(t *testing.T) {
				c, other := linked(t, secure)
				if side == "accepted" {
					c, other = other, c
				}
				_ = other // reads nothing
				c.closeFor = 100 * time.Millisecond
				read, written, wrote := make(chan error, 1), make(chan error, 1), make(chan struct{}, 10_000)
				go func() { _, err := c.Read(); read <- err }()
				go func() {
					var err error
					for m := make([]byte, protocol.MaxNoise); err == nil; wrote <- struct{}{} {
						err = c.Write(m)
					}
					written <- err
				}()
				for stuck := false; !stuck; { // until the buffers of both kernels are full
					n := len(wrote)
					time.Sleep(100 * time.Millisecond)
					stuck = n > 0 && len(wrote) == n
				}
				closed := make(chan error, 3)
				for range cap(closed) {
					go func() { c.Close(1000); closed <- nil }()
				}
				for range cap(closed) {
					_ = ending(t, "Close", closed)
				}
				if err := ending(t, "Read", read); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Read: %v", err)
				}
				if err := ending(t, "Write", written); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Write: %v", err)
				}
			})
		}
	}
}

// rawLink is a client that has come as far as the upgrade and then sends what
// it likes.
func (n *wsNode) rawLink(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.url.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", linkPath, linkProtocol)
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	resp.Body.Close()
	return c, br
}

// frame is a masked one, with a mask of zeros.
func frame(first byte, length int, payload []byte) []byte {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = append(b, 0x80|126, byte(length>>8), byte(length))
	default:
		b = append(b, 0x80|127, 0, 0, 0, 0, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

const (
	frameBinary = 0x82
	frameText   = 0x81
	frameClose  = 0x88
	framePing   = 0x89
	frameMore   = 0x02 // binary, to be continued
	frameNext   = 0x00 // its continuation
)

// Whatever a stranger sends before or in the handshake, the link ends with an
// error, the right close code where there is one, and nothing left behind.
func TestWSGarbage(t *testing.T) {
	half := func(t *testing.T) []byte { // a real first message
		var sent []byte
		c := &recorder{write: func(m []byte) { sent = bytes.Clone(m) }}
		_, _, _ = handshake(context.Background(), c, protocol.Dialler, newTestIdentity(t, "x"), nil, "")
		if len(sent) == 0 {
			t.Fatal("no first message")
		}
		return sent
	}
	for _, tt := range []struct {
		name  string
		send  func(t *testing.T) []byte
		code  protocol.Code // of the error, CodeOK: any
		close int           // what the stranger is told, 0: not looked at
	}{
		{"nothing", func(*testing.T) []byte { return nil }, 0, 0},
		{"HTTP", func(*testing.T) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }, 0, 1002},
		{"zeros", func(*testing.T) []byte { return make([]byte, 10_000) }, 0, 1002},
		{"ones", func(*testing.T) []byte { return bytes.Repeat([]byte{0xff}, 10_000) }, 0, 1002},
		{"text", func(*testing.T) []byte { return frame(frameText, 32, make([]byte, 32)) }, protocol.CodeMalformed, 1003},
		{"no mask", func(*testing.T) []byte { return []byte{frameBinary, 1, 0} }, 0, 1002},
		{"compressed", func(*testing.T) []byte { return frame(frameBinary|0x40, 32, make([]byte, 32)) }, 0, 1002},
		{"an empty message", func(*testing.T) []byte { return frame(frameBinary, 0, nil) }, protocol.CodeMalformed, 4002},
		{"a key that is none", func(*testing.T) []byte { return frame(frameBinary, 32, make([]byte, 32)) }, protocol.CodeMalformed, 4002},
		{"a message over a Hello", func(*testing.T) []byte {
			return frame(frameBinary, protocol.MaxHello+1, make([]byte, protocol.MaxHello+1))
		}, protocol.CodeTooLarge, 1009},
		{"a message over a Hello in pieces", func(*testing.T) []byte {
			b := frame(frameMore, protocol.MaxHello, make([]byte, protocol.MaxHello))
			return append(b, frame(frameNext, 1, make([]byte, 1))...)
		}, protocol.CodeTooLarge, 1009},
		{"an announced gigabyte", func(*testing.T) []byte { return frame(frameBinary, 1<<30, make([]byte, 100)) }, protocol.CodeTooLarge, 1009},
		{"a negative length", func(*testing.T) []byte {
			return append([]byte{frameBinary, 0xff}, bytes.Repeat([]byte{0xff}, 100)...)
		}, protocol.CodeTooLarge, 0},
		{"half a frame", func(*testing.T) []byte { return frame(frameBinary, 100, make([]byte, 10)) }, 0, 0},
		{"half a handshake", func(t *testing.T) []byte { m := half(t); return frame(frameBinary, len(m), m) }, 0, 0},
		{"half a handshake twice", func(t *testing.T) []byte {
			m := half(t)
			return append(frame(frameBinary, len(m), m), frame(frameBinary, len(m), m)...)
		}, protocol.CodeMalformed, 4002},
		{"half a handshake and text", func(t *testing.T) []byte {
			m := half(t)
			return append(frame(frameBinary, len(m), m), frame(frameText, 1, make([]byte, 1))...)
		}, protocol.CodeMalformed, 1003},
		{"pings", func(*testing.T) []byte { return bytes.Repeat(frame(framePing, 3, []byte("abc")), 100) }, 0, 0},
		{"a long ping", func(*testing.T) []byte { return frame(framePing, 126, make([]byte, 126)) }, 0, 1002},
		{"a close", func(*testing.T) []byte { return frame(frameClose, 2, []byte{0x0f, 0xa1}) }, protocol.CodeVersion, 4001},
		{"a close without a code", func(*testing.T) []byte { return frame(frameClose, 0, nil) }, 0, 0},
		{"a close with a bad code", func(*testing.T) []byte { return frame(frameClose, 2, []byte{0, 1}) }, 0, 1002},
	} {
		t.Run(tt.name, func(t *testing.T) {
			me, ended := newTestIdentity(t, "me"), make(chan error, 1)
			node := listenWS(t, false, func(c Conn, err error) {
				if err == nil {
					s := honest(protocol.Responder, me, nil, "")(c)
					err = s.err
				}
				ended <- err
			})
			c, br := node.rawLink(t)
			if _, err := c.Write(tt.send(t)); err != nil {
				t.Fatal(err)
			}
			if tt.close != 0 {
				if got := readClose(br); got != tt.close {
					t.Errorf("the stranger is told %d, want %d", got, tt.close)
				}
			}
			_ = c.(*net.TCPConn).CloseWrite()
			err := ending(t, "the handshake", ended)
			if err == nil || (tt.code != protocol.CodeOK && code(err) != tt.code) {
				t.Errorf("the handshake ended with %v, want %v", err, tt.code)
			}
			if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("the error has an address: %v", err)
			}
		})
	}
}

// recorder is a Conn of which only what is written counts.
type recorder struct{ write func([]byte) }

func (r *recorder) Read() ([]byte, error) { return nil, io.EOF }
func (r *recorder) Write(m []byte) error  { r.write(m); return nil }
func (r *recorder) Close(int)             {}

// readClose skips to the close frame and returns its code.
func readClose(br *bufio.Reader) int {
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(br, head); err != nil {
			return -1
		}
		size := int(head[1])
		if size == 126 {
			if _, err := io.ReadFull(br, head); err != nil {
				return -1
			}
			size = int(head[0])<<8 | int(head[1])
			head[0] = 0
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(br, body); err != nil {
			return -1
		}
		if head[0] == frameClose && size >= 2 {
			return int(body[0])<<8 | int(body[1])
		}
	}
}

// After the handshake a message may be as large as Noise allows, in pieces
// too, and not larger.
func TestWSLargest(t *testing.T) {
	ended, size := make(chan error, 1), make(chan int, 10)
	node := listenWS(t, false, func(c Conn, err error) {
		for err == nil {
			var m []byte
			if m, err = c.Read(); err == nil {
				size <- len(m)
			}
		}
		_, again := c.Read()
		if !errors.Is(again, err) {
			err = fmt.Errorf("first %w, then %w", err, again)
		}
		ended <- err
		c.Close(1000)
	})
	c, br := node.rawLink(t)
	whole := make([]byte, protocol.MaxNoise)
	for _, b := range [][]byte{
		frame(frameBinary, len(whole), whole),
		append(frame(frameMore, 65_000, whole[:65_000]), frame(0x80, 535, whole[:535])...),
	} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if n := <-size; n != protocol.MaxNoise {
			t.Errorf("a message of %d bytes is read", n)
		}
	}
	b := frame(frameMore, len(whole), whole)
	for range 3 {
		b = append(b, frame(frameNext, 0, nil)...)
	}
	if _, err := c.Write(append(b, frame(0x80, 1, whole[:1])...)); err != nil {
		t.Fatal(err)
	}
	if err := ending(t, "the reader", ended); code(err) != protocol.CodeTooLarge {
		t.Errorf("one byte more: %v", err)
	}
	if got := readClose(br); got != closeTooBig {
		t.Errorf("its sender is told %d", got)
	}
}

func TestWSWriteTooLarge(t *testing.T) {
	d, a := linked(t, false)
	if err := d.Write(make([]byte, protocol.MaxNoise+1)); code(err) != protocol.CodeTooLarge {
		t.Errorf("over protocol.MaxNoise: %v", err)
	}
	if err := d.Write([]byte("next")); err != nil {
		t.Fatal(err)
	}
	if m, err := a.Read(); err != nil || string(m) != "next" {
		t.Errorf("then %q, %v", m, err)
	}
}

// A connection that ends without a close frame is no close.
func TestWSReset(t *testing.T) {
	for _, linger := range []int{0, -1} { // a reset, and the end of the stream
		d, a := linked(t, false)
		_ = d.ws.NetConn().(*boundedConn).Conn.(*net.TCPConn).SetLinger(linger)
		_ = d.ws.NetConn().Close()
		_, err := a.Read()
		if err == nil || closeCode(err) != 0 || strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("linger %d: %v", linger, err)
		}
		if linger < 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("at the end of the stream: %v", err)
		}
	}
}

// An error of Read is its last, however often it is asked. gorilla panics at
// the thousandth time.
func TestWSReadAgain(t *testing.T) {
	d, a := linked(t, false)
	if err := d.ws.WriteMessage(websocket.TextMessage, nil); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if _, err := a.Read(); code(err) != protocol.CodeMalformed {
			t.Fatal(err)
		}
	}
	if _, err := d.Read(); closeCode(err) != closeText {
		t.Errorf("its sender reads %v", err)
	}
}
