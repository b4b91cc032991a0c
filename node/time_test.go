package node_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node"
)

// pipes is a listener in memory, so that time can be that of the test.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return pipeAddr{} }

func (p *pipes) dial(t *testing.T) *client {
	d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) {
		near, far := net.Pipe()
		p.conns <- far
		return near, nil
	}}
	ws, _, err := d.Dial("ws://node/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, ws)
}

// inside runs a test with a node in a bubble of its own time.
func inside(t *testing.T, f func(t *testing.T, n *node.Node, l *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		n, err := node.New(node.Config{Listener: l, Seed: 1, NoDHT: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Serve(ctx) }()
		f(t, n, l)
		stop()
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// A peer is gone after twice the interval that it was last told; its socket
// stays, and it may come back on it.
func TestSilentPeerIsGone(t *testing.T) {
	inside(t, func(t *testing.T, n *node.Node, l *pipes) {
		h := hash("h")
		c := l.dial(t)
		defer c.ws.Close()
		c.send(announce(h, peer("p"), `"left":0`))
		c.wants(reply(h, 40, 1, 0))
		time.Sleep(70 * time.Second)
		c.send(announce(h, peer("q")))
		c.wants(reply(h, 40, 1, 1))
		time.Sleep(9 * time.Second) // 79 s after p's announce
		synctest.Wait()
		if s := n.Stats(); s.PeersAll != 2 {
			t.Errorf("%d peers before twice the interval, want 2", s.PeersAll)
		}
		time.Sleep(7 * time.Second) // a sweep is every 5 s
		synctest.Wait()
		if s := n.Stats(); s.PeersAll != 1 || s.PeersLeecher != 1 {
			t.Errorf("%d peers after twice the interval, want q alone", s.PeersAll)
		}
		c.send(announce(h, peer("p")))
		c.wants(reply(h, 40, 0, 2))
		if n.Stats().Clients.Clients != 1 {
			t.Error("the socket was closed")
		}
	})
}

// What counts is what the peer was told, not what it would be told now.
func TestSilenceCountsFromTheIntervalTold(t *testing.T) {
	inside(t, func(t *testing.T, n *node.Node, l *pipes) {
		h := hash("h")
		c := l.dial(t)
		defer c.ws.Close()
		for i := range 60 {
			c.send(announce(h, peer(string(rune('0'+i)))))
			c.next() // from the 50th on it is told 120 s
		}
		for range 9 {
			time.Sleep(10 * time.Second)
		}
		synctest.Wait()
		if got := n.Stats().PeersAll; got != 11 {
			t.Errorf("%d peers after 90 s, want the 11 that were told 120 s", got)
		}
		time.Sleep(140 * time.Second)
		synctest.Wait()
		if got := n.Stats().PeersAll; got != 11 {
			t.Errorf("%d peers after 230 s, want 11", got)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := n.Stats().PeersAll; got != 0 {
			t.Errorf("%d peers after 250 s, want none", got)
		}
	})
}

// An answer is a sign of life too.
func TestAnswersKeepAPeer(t *testing.T) {
	inside(t, func(t *testing.T, n *node.Node, l *pipes) {
		h := hash("h")
		c := l.dial(t)
		defer c.ws.Close()
		c.send(announce(h, peer("p")))
		c.next()
		time.Sleep(60 * time.Second)
		c.send(answer(h, peer("p"), peer("nobody"), "o", "{}"))
		time.Sleep(60 * time.Second)
		synctest.Wait()
		if got := n.Stats().PeersAll; got != 1 {
			t.Errorf("%d peers, want 1", got)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := n.Stats().PeersAll; got != 0 {
			t.Errorf("%d peers, want none", got)
		}
	})
}
