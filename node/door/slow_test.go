package door

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/protocol"
)

func insecureTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec // the test's own server

// offer writes an offer of n bytes to a client.
func offer(c *Conn, n int) bool {
	b, ok := c.Begin()
	return ok && c.End(append(b, strings.Repeat("o", n)...), Offer)
}

func waiting(c *Conn) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.inFlight
	if c.out != nil {
		n += len(c.out.b)
	}
	return n
}

// small has queues that a deaf client, which takes some 80 KB a second when it
// reads at last, gets soon.
var small = Config{AllowPrivate: true, OfferQueue: 16 << 10, Queue: 64 << 10}

// dialDeaf is a client that reads nothing, and for which the kernel keeps
// little.
func (s *scene) dialDeaf() (*websocket.Conn, *Conn) {
	s.t.Helper()
	d := insecure
	d.NetDial = func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return c, err
	}
	before := s.count()
	ws, _, err := d.Dial(s.url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ws.Close() })
	eventually(s.t, func() bool { return s.count() > before }, "no session")
	c := s.session().c
	if err := c.under.SetWriteBuffer(4 << 10); err != nil {
		s.t.Fatal(err)
	}
	return ws, c
}

// A client that does not read loses offers, and only its own; when it reads
// again it gets what was kept, in order, and lives on.
func TestSlowClientLosesItsOffers(t *testing.T) {
	overAll(t, small, func(t *testing.T, s *scene) {
		ws, deaf := s.dialDeaf()
		other := s.dial()
		quick := s.session().c
		const size = 1000
		sent, lost, most := 0, 0, 0
		for range 3000 {
			if offer(deaf, size) {
				sent++
			} else {
				lost++
			}
			most = max(most, waiting(deaf))
			if !offer(quick, size) {
				t.Fatal("another client lost an offer")
			}
			hear(t, other)
		}
		if lost < 2000 {
			t.Errorf("%d of 3000 offers lost, want most of them", lost)
		}
		if got := s.host.Stats().LostOffers; got != uint64(lost) {
			t.Errorf("%d counted as lost, want %d", got, lost)
		}
		if most > s.host.cfg.OfferQueue {
			t.Errorf("%d bytes waited, the limit is %d", most, s.host.cfg.OfferQueue)
		}
		// What is owed still finds room.
		b, ok := deaf.Begin()
		if !ok || !deaf.End(append(b, "answer"...), Reply) {
			t.Fatal("a reply was refused where only offers should be")
		}
		ws.SetReadDeadline(time.Now().Add(patience))
		for range sent {
			if got := hear(t, ws); got != strings.Repeat("o", size) {
				t.Fatalf("an offer came as %.20s", got)
			}
		}
		if got := hear(t, ws); got != "answer" {
			t.Fatalf("after the offers came %.20s", got)
		}
		// It is quick again.
		eventually(t, func() bool { return waiting(deaf) == 0 }, "something still waits")
		if !offer(deaf, size) {
			t.Error("an offer is lost though nothing waits")
		}
		hear(t, ws)
	})
}

// A client that does not even take what is owed to it is closed with 1013, and
// told so when it reads at last.
func TestTooSlowClientIsClosed(t *testing.T) {
	overAll(t, small, func(t *testing.T, s *scene) {
		ws, deaf := s.dialDeaf()
		n := 0
		for ; ; n++ {
			b, ok := deaf.Begin()
			if !ok || !deaf.End(append(b, strings.Repeat("r", 1000)...), Reply) {
				break
			}
		}
		if n < s.host.cfg.Queue/1100 {
			t.Errorf("closed after %d replies", n)
		}
		if waiting(deaf) > s.host.cfg.Queue {
			t.Errorf("%d bytes wait", waiting(deaf))
		}
		if _, ok := deaf.Begin(); ok {
			t.Error("it can still be written to")
			deaf.mu.Unlock()
		}
		ws.SetReadDeadline(time.Now().Add(patience))
		closedWith(t, ws, protocol.CloseTryAgainLater)
		eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "it is still counted")
		if got := s.host.Stats().SlowClosed; got != 1 {
			t.Errorf("%d counted as too slow", got)
		}
	})
}

// A client that takes nothing at all is given up.
func TestDeadClientIsGivenUp(t *testing.T) {
	overAll(t, Config{AllowPrivate: true, WriteTimeout: 50 * time.Millisecond}, func(t *testing.T, s *scene) {
		_, deaf := s.dialDeaf()
		for offer(deaf, 1000) {
		}
		eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "it is still there")
	})
}

// A client that was slow once is written to as any other, also after the time
// that it had to take what waited.
func TestSlowOnceIsNotSlowForEver(t *testing.T) {
	s := serve(t, Config{AllowPrivate: true, OfferQueue: 16 << 10, WriteTimeout: 3 * time.Second}, overFront)
	ws, deaf := s.dialDeaf()
	sent := 0
	for range 300 {
		if offer(deaf, 1000) {
			sent++
		}
		time.Sleep(50 * time.Microsecond) // so that it is the kernel that is full
	}
	if sent == 300 {
		t.Fatal("it is not slow")
	}
	ws.SetReadDeadline(time.Now().Add(patience))
	for range sent {
		hear(t, ws)
	}
	eventually(t, func() bool { return waiting(deaf) == 0 }, "something still waits")
	time.Sleep(3500 * time.Millisecond)
	if !offer(deaf, 10) {
		t.Fatal("it is closed")
	}
	hear(t, ws)
}

// Pings are answered, but not for one who does not take the answers.
func TestPingFlood(t *testing.T) {
	overAll(t, Config{AllowPrivate: true, Queue: 20 << 10}, func(t *testing.T, s *scene) {
		ws, deaf := s.dialDeaf()
		ping := []byte("\x89\xfd\x00\x00\x00\x00" + strings.Repeat("p", 125))
		for {
			ws.NetConn().SetWriteDeadline(time.Now().Add(patience))
			if _, err := ws.NetConn().Write(ping); err != nil {
				break
			}
			if n := waiting(deaf); n > s.host.cfg.Queue {
				t.Fatalf("%d bytes wait", n)
			}
			if s.host.Stats().Clients == 0 {
				break
			}
		}
		eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "it is still there")
	})
}

// Clients come, are written to and go at the same time: nothing is written to
// the wrong one, and nothing races.
func TestCloseWhileWriting(t *testing.T) {
	overAll(t, Config{AllowPrivate: true}, func(t *testing.T, s *scene) {
		done := make(chan struct{})
		stop := make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
				}
				s.mu.Lock()
				list := s.sessions[max(0, len(s.sessions)-20):]
				s.mu.Unlock()
				for _, e := range list {
					offer(e.c, 100)
				}
				time.Sleep(time.Microsecond)
			}
		}()
		for i := range 200 {
			ws := s.dial()
			if i%3 == 0 {
				say(t, ws, "x")
			}
			if i%2 == 0 {
				ws.NetConn().Close()
			} else {
				ws.Close()
			}
		}
		close(stop)
		<-done
		eventually(t, func() bool { return s.host.Stats().Clients == 0 }, "a client that went is still counted")
	})
}
