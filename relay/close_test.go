package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

// certificate is one that a server may show on 127.0.0.1.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
}

// pipeWS is a link over net.Pipe, which knows deadlines and synctest's time; with
// a certificate there is TLS between.
func pipeWS(t *testing.T, cert *tls.Certificate) (dialled, accepted *wsConn, stop func()) {
	t.Helper()
	here, there := net.Pipe()
	if cert != nil {
		here = tls.Client(here, &tls.Config{InsecureSkipVerify: true})
		there = tls.Server(there, &tls.Config{Certificates: []tls.Certificate{*cert}})
	}
	got := make(chan Conn, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := acceptWS(w, r)
		if err != nil {
			t.Error(err)
		}
		got <- c
	})}
	l := &onceListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conns <- there
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	dialer := websocket.Dialer{
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil },
		Subprotocols:   []string{linkProtocol},
	}
	ws, resp, err := dialer.DialContext(t.Context(), "ws://pipe"+linkPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return newWSConn(ws), (<-got).(*wsConn), func() { _ = server.Close(); <-served }
}

type onceListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *onceListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *onceListener) Close() error   { close(l.done); return nil }
func (l *onceListener) Addr() net.Addr { return &net.TCPAddr{} }

// A node that takes nothing for protocol.LinkSilence is given up.
func TestWSWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a, stop := pipeWS(t, nil)
		defer stop()
		for _, c := range []Conn{d, a} {
			start := time.Now()
			err := c.Write(make([]byte, 1000))
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != protocol.LinkSilence {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}
	})
}

// slowly runs f with a link, plain and with TLS, whose send buffers are always full:
// what one side writes waits for the other to read.
func slowly(t *testing.T, f func(t *testing.T, from, to *wsConn)) {
	cert := certificate(t)
	for name, c := range map[string]*tls.Certificate{"plain": nil, "TLS": &cert} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, a, stop := pipeWS(t, c)
				defer stop()
				f(t, d, a)
				f2 := make(chan struct{}) // whose alert of TLS nobody takes
				go func() { defer close(f2); a.Close(1000) }()
				d.Close(1000)
				<-f2
			})
		})
	}
}

// The other side reads why the link was closed, although it is slow to.
func TestWSCloseReason(t *testing.T) {
	slowly(t, func(t *testing.T, from, to *wsConn) {
		closed := make(chan struct{})
		go func() { defer close(closed); from.Close(protocol.CloseVersion) }()
		time.Sleep(closeWait / 2)
		if _, err := to.Read(); closeCode(err) != protocol.CloseVersion {
			t.Errorf("read %v", err)
		}
		to.Close(1000)
		<-closed
	})
}

// A Write that is under way ends as it should before the reason goes out.
func TestWSCloseAfterWrite(t *testing.T) {
	slowly(t, func(t *testing.T, from, to *wsConn) {
		wrote := make(chan error, 1)
		go func() { wrote <- from.Write([]byte("before")) }()
		synctest.Wait()
		closed := make(chan struct{})
		go func() { defer close(closed); from.Close(protocol.CloseVersion) }()
		time.Sleep(closeWait / 2)
		if m, err := to.Read(); err != nil || string(m) != "before" {
			t.Errorf("read %q, %v", m, err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("the Write that was under way: %v", err)
		}
		if _, err := to.Read(); closeCode(err) != protocol.CloseVersion {
			t.Errorf("then %v", err)
		}
		to.Close(1000)
		<-closed
	})
}

// While nobody reads, Close frees a Read at once, and itself and a Write within
// its time: whether the Write is stuck then or has been given up.
func TestWSCloseBounded(t *testing.T) {
	for _, stuck := range []bool{true, false} {
		t.Run(fmt.Sprintf("stuck=%v", stuck), func(t *testing.T) {
			slowly(t, func(t *testing.T, c, _ *wsConn) {
				c.closeFor = closeWait / 5 // crypto/tls would take as long as closeWait
				if !stuck {
					c.writeFor = time.Second
				}
				wrote, freed := make(chan error, 1), make(chan time.Time, 1)
				go func() { wrote <- c.Write([]byte("x")) }()
				go func() {
					if _, err := c.Read(); !errors.Is(err, net.ErrClosed) {
						t.Errorf("Read: %v", err)
					}
					freed <- time.Now()
				}()
				time.Sleep(2 * time.Second)
				start := time.Now()
				c.Close(1000)
				if took := time.Since(start); took > c.closeFor {
					t.Errorf("Close took %v", took)
				}
				if after := (<-freed).Sub(start); after != 0 {
					t.Errorf("Read was freed after %v", after)
				}
				if err := <-wrote; err == nil || time.Since(start) > c.closeFor {
					t.Errorf("Write: %v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// A handshake that nobody answers ends after protocol.Handshake, over a real
// connection too.
func TestWSHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, a, stop := pipeWS(t, nil)
		defer stop()
		start := time.Now()
		_, _, err := handshake(context.Background(), a, protocol.Responder, newTestIdentity(t, "me"), nil, "")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) < protocol.Handshake || time.Since(start) > protocol.Handshake+closeWait {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		d.Close(1000)
	})
}

// lateConn is a Conn whose machine is slow: a message goes out late, and so does
// a close.
type lateConn struct {
	Conn
	write, shut time.Duration
}

func (c *lateConn) Write(m []byte) error {
	time.Sleep(c.write)
	return c.Conn.Write(m)
}

func (c *lateConn) Close(code int) {
	time.Sleep(c.shut)
	c.Conn.Close(code)
}

type lateDialer struct {
	Dialer
	write, shut time.Duration
}

func (d *lateDialer) Dial(ctx context.Context, url protocol.LinkURL) (Conn, error) {
	c, err := d.Dialer.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	return &lateConn{c, d.write, d.shut}, nil
}

// late is a scene of two nodes that share an app. The first dials, by d.
func late(t *testing.T, d lateDialer, f func(sc *scene)) {
	play(t, 0, func(sc *scene) {
		sc.configure = func(nd *tnode, cfg *Config) {
			d := d
			d.Dialer = cfg.Dialer
			cfg.Dialer = &d
		}
		a, b := sc.start(), sc.start()
		a.finder.know(b.finder.own)
		a.join("a")
		b.join("b")
		sc.wait(5 * time.Second)
		if a.link(b) == nil || !a.link(b).isUp() {
			t.Fatal("no link")
		}
		f(sc)
	})
}

// A node that stops says so, although its words take a while to go out: the other
// one does not dial it then.
func TestByeArrives(t *testing.T) {
	late(t, lateDialer{write: 500 * time.Millisecond}, func(sc *scene) {
		a, b := sc.nodes[0], sc.nodes[1]
		l := b.link(a)
		a.stop()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.drainUntil == 0 {
			t.Error("the other node did not hear the goodbye")
		}
	})
}

// A connection that takes its time to close keeps nothing else waiting: the link
// is down at once, and up again over another.
func TestSlowClose(t *testing.T) {
	late(t, lateDialer{shut: 30 * time.Second}, func(sc *scene) {
		a, b := sc.nodes[0], sc.nodes[1]
		l := a.link(b)
		l.mu.Lock()
		w := l.w
		l.mu.Unlock()
		start := time.Now()
		w.end(1001)
		if took := time.Since(start); took != 0 {
			t.Errorf("end took %v", took)
		}
		sc.net.cut(a.url, b.url)
		sc.wait(100 * time.Millisecond)
		if l.isUp() {
			t.Error("the link is up without a connection")
		}
		sc.net.heal(a.url, b.url)
		sc.wait(2 * time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.w == nil || l.w == w {
			t.Error("the link is not up again after 2 s")
		}
	})
}
