package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node"
)

// patience is how long a test waits for what must come: far more than it takes,
// so that a loaded machine fails no test.
const patience = 20 * time.Second

// startNode serves a node until the test ends.
func startNode(t testing.TB, cfg node.Config) *node.Node {
	t.Helper()
	cfg.AllowPrivate = true
	if cfg.Listener == nil {
		cfg.Listen = "127.0.0.1:0"
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the node did not end")
		}
	})
	return n
}

// startNodes serves nodes that know each other, and waits until they do.
func startNodes(t testing.TB, count int) []*node.Node {
	t.Helper()
	listeners, urls := make([]net.Listener, count), make([]string, count)
	for i := range listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i], urls[i] = l, "http://"+l.Addr().String()
	}
	nodes := make([]*node.Node, count)
	for i := range nodes {
		nodes[i] = startNode(t, node.Config{Listener: listeners[i], Peers: urls})
	}
	for i, n := range nodes {
		eventually(t, func() bool { return n.Known() == count-1 }, "node %d does not know the others", i)
	}
	return nodes
}

func eventually(t testing.TB, ok func() bool, what string, args ...any) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf(what, args...)
		}
	}
}

// client is a WebSocket to a node that collects what comes.
type client struct {
	t   testing.TB
	ws  *websocket.Conn
	got chan []byte
	end chan error
}

func dial(t testing.TB, n *node.Node, path string) *client {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+n.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, ws: ws, got: make(chan []byte, 10_000), end: make(chan error, 1)}
	t.Cleanup(func() { ws.Close() })
	go func() {
		for {
			kind, b, err := ws.ReadMessage()
			if err != nil {
				c.end <- err
				return
			}
			if kind != websocket.TextMessage {
				c.end <- errors.New("a binary frame")
				return
			}
			c.got <- b
		}
	}()
	return c
}

func (c *client) send(format string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(format)); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next message.
func (c *client) next() string {
	c.t.Helper()
	select {
	case b := <-c.got:
		return string(b)
	case err := <-c.end:
		c.t.Fatal("the node closed: ", err)
	case <-time.After(patience):
		c.t.Fatal("no message came")
	}
	return ""
}

// none checks that nothing came before the reply to an announce of another
// swarm, which the node handles after whatever the client sent before.
func (c *client) none() {
	c.t.Helper()
	c.send(announce("nothing else came ??", "bystander bystander ", `"event":"stopped"`))
	if got := c.next(); !strings.Contains(got, "nothing else came ??") {
		c.t.Fatalf("unexpected message %s", got)
	}
}

// announce is an announce with more fields.
func announce(hash, peer string, more ...string) string {
	fields := append([]string{`"action":"announce"`, `"info_hash":` + quote(hash), `"peer_id":` + quote(peer)}, more...)
	return "{" + strings.Join(fields, ",") + "}"
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// hash and peer are ids of the protocol: 20 characters.
func hash(name string) string { return pad(name, '.') }

func peer(name string) string { return pad(name, '-') }

func pad(s string, c byte) string { return s + strings.Repeat(string(c), 20-len(s)) }

func offer(id, sdp string) string {
	return `{"offer_id":` + quote(pad(id, '_')) + `,"offer":{"type":"offer","sdp":` + quote(sdp) + `}}`
}

func offers(list ...string) string { return `"offers":[` + strings.Join(list, ",") + `]` }
