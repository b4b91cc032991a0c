package door

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// frames reads messages from the stream of frames that a client sends. It is
// gorilla's connection, of which only the reading half is used. A hot client
// has none of its own, which would be a sixth of the memory that it takes: a
// worker lends it one for each message.
type frames struct {
	ws *websocket.Conn
	c  *Conn // whose frames are read
}

// bind makes what gorilla finds between messages go to the client.
func (f *frames) bind(ws *websocket.Conn) {
	f.ws = ws
	ws.SetReadLimit(hardLimit)
	ws.SetPingHandler(func(data string) error { return f.c.onPing([]byte(data)) })
	ws.SetPongHandler(func(string) error { f.c.onPong(); return nil })
	ws.SetCloseHandler(func(code int, _ string) error { f.c.onClose(code); return nil })
}

// lendable makes frames that read for any hot client, one at a time. They are
// between messages whenever they are lent, and are thrown away after an error.
func lendable() *frames {
	f := new(frames)
	ws, err := borrowed.Upgrade(&handshake{nc: shim{f}}, handshakeRequest, nil)
	if err != nil {
		panic("door: gorilla does not take its own handshake: " + err.Error())
	}
	f.bind(ws)
	return f
}

// borrowed makes gorilla's connections of no connection: there is no other way
// to have one.
var (
	borrowed         = websocket.Upgrader{ReadBufferSize: 128, WriteBufferSize: 512, WriteBufferPool: &writePool}
	handshakeRequest = &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}}
)

// handshake is the http.ResponseWriter of an upgrade that nobody asked for.
type handshake struct {
	http.ResponseWriter // nil: gorilla only hijacks
	nc                  net.Conn
}

func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.nc, bufio.NewReadWriter(bufio.NewReaderSize(h.nc, 16), bufio.NewWriterSize(h.nc, 512)), nil
}

// shim is the net.Conn of the client whose frames are read.
type shim struct{ f *frames }

func (s shim) Read(p []byte) (int, error) {
	if s.f.c == nil {
		return 0, io.EOF
	}
	return s.f.c.hot.Read(p)
}

// Write queues what gorilla writes by itself, to a client that broke the
// protocol, and forgets the answer to its handshake.
func (s shim) Write(p []byte) (int, error) {
	if s.f.c == nil {
		return len(p), nil
	}
	return s.f.c.queue(p)
}

func (s shim) Close() error                     { return nil }
func (s shim) LocalAddr() net.Addr              { return nil }
func (s shim) RemoteAddr() net.Addr             { return nil }
func (s shim) SetDeadline(time.Time) error      { return nil }
func (s shim) SetReadDeadline(time.Time) error  { return nil }
func (s shim) SetWriteDeadline(time.Time) error { return nil }
