package peerjs_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/peerjs"
	"github.com/peerservers/peerserver/relay"
	"github.com/peerservers/peerserver/testnet"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

const opened = `{"type":"OPEN"}`

// place is a door of a test's own on a node of a testnet.
type place struct {
	door *peerjs.Door
	host *door.Host
	addr string
}

// open serves a door on node i until the test ends.
func open(t *testing.T, n *testnet.Net, i int, cfg peerjs.Config) *place {
	t.Helper()
	return openAt(t, n, i, cfg, door.Config{AllowPrivate: true})
}

func openAt(t *testing.T, n *testnet.Net, i int, cfg peerjs.Config, on door.Config) *place {
	t.Helper()
	return openOn(t, n.Relay(i), cfg, on)
}

func openOn(t *testing.T, r *relay.Relay, cfg peerjs.Config, on door.Config) *place {
	t.Helper()
	p := &place{host: door.NewHost(on)}
	cfg.Host, cfg.Relay = p.host, r
	p.door = peerjs.New(cfg)
	sockets, plain := http.NewServeMux(), http.NewServeMux()
	p.door.Register(sockets, plain)
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if websocket.IsWebSocketUpgrade(q) {
			sockets.ServeHTTP(w, q)
			return
		}
		plain.ServeHTTP(w, q)
	})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { _ = server.Serve(p.host.Front(l, handler)); done <- struct{}{} }()
	go func() { _ = p.host.Serve(ctx); done <- struct{}{} }()
	t.Cleanup(func() {
		server.Close()
		stop()
		<-done
		<-done
	})
	return p
}

// pair is two nodes that know each other, and a door on each.
func pair(t *testing.T, cfg peerjs.Config) (*testnet.Net, []*place) {
	t.Helper()
	n := testnet.Start(t, 2)
	return n, []*place{open(t, n, 0, cfg), open(t, n, 1, cfg)}
}

func (p *place) stats() peerjs.Stats { return p.door.Stats().(peerjs.Stats) }

// client is a WebSocket that collects what comes.
type client struct {
	t    *testing.T
	name string
	ws   *websocket.Conn
	got  chan string
	end  chan error // why it ended
	pong chan string
}

// connect is a client with these parameters, as a raw query.
func (p *place) connect(t *testing.T, query string) *client {
	t.Helper()
	return dial(t, "ws://"+p.addr+"/peerjs?"+query)
}

func dial(t *testing.T, url string) *client {
	t.Helper()
	ws, answer, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	c := &client{t: t, name: url, ws: ws, got: make(chan string, 10_000), end: make(chan error, 1), pong: make(chan string, 100)}
	ws.SetPongHandler(func(data string) error { c.pong <- data; return nil })
	t.Cleanup(func() { ws.Close() })
	go func() {
		for {
			kind, b, err := ws.ReadMessage()
			if err == nil && kind != websocket.TextMessage {
				err = errors.New("a binary frame")
			}
			if err != nil {
				c.end <- err
				return
			}
			c.got <- string(b)
		}
	}()
	return c
}

// query is what the client library says.
func query(key, id, token string) string {
	return url.Values{"key": {key}, "id": {id}, "token": {token}, "version": {"1.5.5"}}.Encode()
}

// claim connects a client that asks for an id of the key "chess", with a token
// that nobody else has.
func (p *place) claim(t *testing.T, id string) *client {
	t.Helper()
	return p.connect(t, query("chess", id, "token of "+t.Name()))
}

// enters is claim of one that gets its id.
func (p *place) enters(t *testing.T, id string) *client {
	t.Helper()
	c := p.claim(t, id)
	c.wants(opened)
	return c
}

func (c *client) next() string {
	c.t.Helper()
	select {
	case got := <-c.got:
		return got
	default:
	}
	select {
	case got := <-c.got:
		return got
	case err := <-c.end:
		c.end <- err
		if len(c.got) > 0 {
			return <-c.got
		}
		c.t.Fatalf("%s ended: %v", c.name, err)
	case <-time.After(patience):
		c.t.Fatalf("%s got nothing", c.name)
	}
	return ""
}

func (c *client) wants(frame string) {
	c.t.Helper()
	if got := c.next(); got != frame {
		c.t.Fatalf("%s got\n%.300s\nwant\n%.300s", c.name, got, frame)
	}
}

// closed waits for the server to close, and returns the code.
func (c *client) closed() int {
	c.t.Helper()
	select {
	case err := <-c.end:
		c.end <- err
		var closed *websocket.CloseError
		if len(c.got) > 0 {
			c.t.Fatalf("%s got %s", c.name, <-c.got)
		}
		if !errors.As(err, &closed) {
			c.t.Fatalf("%s ended: %v", c.name, err)
		}
		return closed.Code
	case <-time.After(patience):
		c.t.Fatalf("%s is not closed", c.name)
	}
	return 0
}

func (c *client) send(frame string) { c.sendAs(websocket.TextMessage, frame) }

func (c *client) sendAs(kind int, frame string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(kind, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

// sync waits until the server has read all that was sent.
func (c *client) sync() {
	c.t.Helper()
	if err := c.ws.WriteControl(websocket.PingMessage, []byte("sync"), time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.pong:
	case err := <-c.end:
		c.end <- err // it was closed meanwhile
	case <-time.After(patience):
		c.t.Fatalf("%s: no pong", c.name)
	}
}

// silent checks that nothing came but what was taken: a message to itself is the
// next. id is the client's.
func (c *client) silent(id string) {
	c.t.Helper()
	c.send(`{"type":"OFFER","dst":"` + id + `","payload":"the end"}`)
	c.wants(`{"type":"OFFER","src":"` + id + `","dst":"` + id + `","payload":"the end"}`)
}

// leaves closes the socket.
func (c *client) leaves() {
	c.t.Helper()
	message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if err := c.ws.WriteControl(websocket.CloseMessage, message, time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	select {
	case err := <-c.end:
		c.end <- err
	case <-time.After(patience):
		c.t.Fatalf("%s: its close is not answered", c.name)
	}
}

func eventually(t *testing.T, ok func() bool, what string, args ...any) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf(what, args...)
		}
	}
}
