package door

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// A client that answers a ping needs a worker for a moment only: nobody waits
// in one for the message after the pong.
func TestPongsHoldNoWorker(t *testing.T) {
	s := serve(t, Config{AllowPrivate: true}, overFront)
	const clients = 300
	pinged := make(chan struct{}, clients)
	for range clients {
		ws := s.dial()
		ws.SetReadDeadline(time.Time{}) // it would end what this test looks for
		ws.SetPingHandler(func(string) error {
			pinged <- struct{}{}
			return ws.WriteControl(websocket.PongMessage, []byte("here"), time.Time{})
		})
		go ws.ReadMessage()
	}
	before := runtime.NumGoroutine()
	heard := func() (n int) {
		for _, c := range s.host.all() {
			if time.Since(time.Unix(0, c.last.Load())) < pingAfter {
				n++
			}
		}
		return n
	}
	for _, c := range s.host.all() {
		c.last.Store(time.Now().Add(-pingAfter - time.Second).UnixNano())
		c.mu.Lock()
		c.pinged = 0
		c.mu.Unlock()
		c.sweep(time.Now())
	}
	for range clients {
		<-pinged
	}
	eventually(t, func() bool { return heard() == clients }, "not all pongs were heard")
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+maxIdleWorkers+10 }, "goroutines wait for what comes after a pong")
}

// recorder is a session that remembers its messages.
type recorder struct {
	mu   sync.Mutex
	got  []string
	done chan struct{}
}

func (r *recorder) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, s)
}

func (r *recorder) Message(b []byte)          { r.add(string(b)) }
func (r *recorder) Refuse(code protocol.Code) { r.add("refused " + code.String()) }
func (r *recorder) Sweep(time.Time)           {}
func (r *recorder) Closed()                   { close(r.done) }

// reading is a net.Conn with something to read.
type reading struct {
	shim
	io.Reader
}

func (r reading) Read(p []byte) (int, error)  { return r.Reader.Read(p) }
func (r reading) Write(p []byte) (int, error) { return len(p), nil }

// plainly is what gorilla alone reads from a stream.
func plainly(t *testing.T, stream []byte) (got []string) {
	nc := reading{Reader: bytes.NewReader(nil)}
	ws, err := borrowed.Upgrade(&handshake{nc: &nc}, handshakeRequest, nil)
	if err != nil {
		t.Fatal(err)
	}
	nc.Reader = bytes.NewReader(stream)
	ws.SetReadLimit(hardLimit)
	for {
		_, r, err := ws.NextReader()
		if err != nil {
			return got
		}
		b, err := io.ReadAll(r)
		switch {
		case err != nil:
			return got
		case len(b) > maxMessage:
			got = append(got, "refused too_large")
		default:
			got = append(got, string(b))
		}
	}
}

// FuzzFrames sends a stream in two pieces to a hot connection. The session must
// be given what gorilla alone reads from it.
func FuzzFrames(f *testing.F) {
	frame := func(head string, payload string) string { return head + "\x00\x00\x00\x00" + payload }
	for _, s := range []string{
		frame("\x81\x82", "ab") + frame("\x81\x81", "c"),
		frame("\x01\x82", "ab") + frame("\x89\x81", "p") + frame("\x80\x81", "c") + frame("\x8a\x80", "") + frame("\x81\x80", ""),
		frame("\x8a\x81", "x") + frame("\x89\x80", "") + frame("\x88\x82", "\x03\xe8") + frame("\x81\x80", ""),
		frame("\x81\xfe\x00\x7e", strings.Repeat("x", 126)) + frame("\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01", "y"),
		"\x81\x05hello", "\x91\x80\x00\x00\x00\x00", "\x09\x80\x00\x00\x00\x00", "\x89\xfe\x00\x7e\x00\x00\x00\x00", "\x8a\x05hello",
	} {
		for _, cut := range []int{0, 1, 3, 7, 12} {
			f.Add([]byte(s), cut)
		}
	}
	h := NewHost(Config{AllowPrivate: true})
	sessions := make(chan *recorder, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	front := h.Front(l, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		h.Upgrade(w, q, Socket{}, func(*Conn) Session {
			r := &recorder{done: make(chan struct{})}
			sessions <- r
			return r
		})
	}))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- h.Serve(ctx) }()
	f.Cleanup(func() {
		front.Close()
		stop()
		<-done
	})
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+l.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := <-sessions
		c := ws.NetConn().(*net.TCPConn)
		defer c.Close()
		cut = min(max(cut, 0), len(stream))
		// It may be closed before all is sent.
		_, _ = c.Write(stream[:cut])
		if cut > 0 && cut < len(stream) {
			time.Sleep(50 * time.Microsecond)
		}
		_, _ = c.Write(stream[cut:])
		_ = c.CloseWrite()
		go io.Copy(io.Discard, c)
		<-r.done
		if want := plainly(t, stream); !slices.Equal(r.got, want) {
			t.Errorf("of %q cut at %d\ngot  %q\nwant %q", stream, cut, r.got, want)
		}
	})
}
