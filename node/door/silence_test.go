package door

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// pipes is a listener in memory, so that time can be that of the test.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p.conns <- far
	return near, nil
}

// A client that answers pings stays for ever, one that does not is closed
// after two minutes, and sessions are asked to look at their members.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHost(Config{})
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		sessions := make(chan *echo, 2)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			h.Upgrade(w, q, Socket{}, func(c *Conn) Session {
				e := &echo{c: c}
				sessions <- e
				return e
			})
		})}
		go server.Serve(h.Listen(l))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Serve(ctx) }()

		dialer := websocket.Dialer{NetDial: l.dial}
		var pings atomic.Int32
		listen := func(answers bool) *websocket.Conn {
			ws, _, err := dialer.Dial("ws://node/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if !answers {
				ws.SetPingHandler(func(string) error { pings.Add(1); return nil })
			}
			go func() {
				for {
					if _, _, err := ws.ReadMessage(); err != nil {
						return
					}
				}
			}()
			return ws
		}
		good, mute := listen(true), listen(false)
		defer good.Close()
		defer mute.Close()
		synctest.Wait()

		time.Sleep(silentLimit - time.Second)
		synctest.Wait()
		if got := h.Stats().Clients; got != 2 {
			t.Errorf("%d clients before the limit, want 2", got)
		}
		if got := pings.Load(); got != 2 {
			t.Errorf("%d pings in two minutes of quiet, want 2", got)
		}
		time.Sleep(2 * sweepEvery)
		synctest.Wait()
		if got := h.Stats().Clients; got != 1 {
			t.Errorf("%d clients after the limit, want 1", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := h.Stats().Clients; got != 1 {
			t.Errorf("%d clients after an hour, want 1", got)
		}
		first, second := <-sessions, <-sessions
		if got := max(first.swept, second.swept); got < 3600/5 {
			t.Errorf("a session was swept %d times in an hour", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		server.Close()
	})
}
