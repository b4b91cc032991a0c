package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"reflect"
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
	return startPublicNode(t, cfg)
}

// startPublicNode is startNode of one that does not dial private addresses.
func startPublicNode(t testing.TB, cfg node.Config) *node.Node {
	t.Helper()
	if cfg.Bootstrap == nil {
		cfg.NoDHT = true // nothing of a test is to leave the machine
	}
	if cfg.Listener == nil && cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, n)
	return n
}

// serve serves a node as it is until the test ends.
func serve(t testing.TB, n *node.Node) {
	t.Helper()
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
	return newClient(t, ws)
}

func newClient(t testing.TB, ws *websocket.Conn) *client {
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

// pending are the messages before the reply to an announce of another swarm,
// which the node handles after whatever the client sent before.
func (c *client) pending() []string {
	c.t.Helper()
	const mark = "nothing else came ??"
	c.send(announce(mark, "bystander bystander ", `"event":"stopped"`))
	var got []string
	for {
		m := c.next()
		if strings.Contains(m, mark) {
			return got
		}
		got = append(got, m)
	}
}

// none checks that nothing came.
func (c *client) none() {
	c.t.Helper()
	if got := c.pending(); len(got) > 0 {
		c.t.Fatalf("unexpected %.300s", got)
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

// escape writes each character of a string as \u00XX.
func escape(s string) string {
	var b strings.Builder
	for _, c := range s {
		fmt.Fprintf(&b, `\u%04x`, c)
	}
	return `"` + b.String() + `"`
}

func answer(hash, from, to, id, payload string) string {
	return announce(hash, from, `"to_peer_id":`+quote(to), `"offer_id":`+quote(pad(id, '_')), `"answer":`+payload)
}

// reply, offered and answered are what the node sends.
func reply(hash string, interval, complete, incomplete int) string {
	return fmt.Sprintf(`{"action":"announce","interval":%d,"info_hash":%s,"complete":%d,"incomplete":%d}`, interval, quote(hash), complete, incomplete)
}

func offered(hash, from, id, payload string) string {
	return `{"action":"announce","offer":` + payload + `,"offer_id":` + quote(pad(id, '_')) + `,"peer_id":` + quote(from) + `,"info_hash":` + quote(hash) + `}`
}

func answered(hash, from, id, payload string) string {
	return `{"action":"announce","answer":` + payload + `,"offer_id":` + quote(pad(id, '_')) + `,"peer_id":` + quote(from) + `,"info_hash":` + quote(hash) + `}`
}

// wants takes the next message, which must be this one: as JSON, since a
// character may be written in several ways.
func (c *client) wants(want string) {
	c.t.Helper()
	got := c.next()
	if got == want {
		return
	}
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		c.t.Fatalf("got %.300q: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		c.t.Fatalf("want %.300q: %v", want, err)
	}
	if !reflect.DeepEqual(g, w) || payloadOf(got) != payloadOf(want) {
		c.t.Fatalf("got  %.300s\nwant %.300s", got, want)
	}
}

// payloadOf is the part of a message that must be verbatim.
func payloadOf(m string) string {
	if !strings.Contains(m, `"offer_id"`) {
		return ""
	}
	return m[:strings.LastIndex(m, `,"offer_id"`)]
}

// until sends a message until this is the reply: counts of other nodes take a
// moment.
func (c *client) until(send, want string) {
	c.t.Helper()
	var got string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c.send(send)
		if got = c.next(); got == want {
			return
		}
	}
	c.t.Fatalf("got  %s\nwant %s", got, want)
}

// leave closes the socket and waits until the node has noticed.
func (c *client) leave(n *node.Node) {
	c.t.Helper()
	before := n.Stats().Clients.Clients
	c.ws.Close()
	eventually(c.t, func() bool { return n.Stats().Clients.Clients < before }, "the node has not noticed that a client went")
}

// Without a DHT a node that is told of one other still meets all that this one
// knows, whoever came first.
func TestOneContactIsEnough(t *testing.T) {
	hub := startNode(t, node.Config{})
	contact := []string{"http://" + hub.Addr().String()}
	nodes := []*node.Node{startNode(t, node.Config{Peers: contact})}
	a := dial(t, nodes[0], "/")
	a.send(announce(hash("room"), peer("alice"), offers(offer("o1", "sdp"))))
	a.next()
	for i := range 3 {
		nodes = append(nodes, startNode(t, node.Config{Peers: contact}))
		c := dial(t, nodes[len(nodes)-1], "/")
		eventually(t, func() bool {
			c.send(announce(hash("room"), peer(fmt.Sprint("late", i))))
			for {
				if m := c.next(); strings.Contains(m, `"interval":`) {
					return m == reply(hash("room"), 40, 0, i+2)
				}
			}
		}, "node %d does not count all %d", i+1, i+2)
	}
	if hub.Stats().Relay.Apps != 0 {
		t.Error("the hub serves the app, and this test shows nothing")
	}
}
