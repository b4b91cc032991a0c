package wsrelay_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/wsrelay"
	"github.com/peerservers/peerserver/relay"
)

const (
	// patience is how long a test waits for what must come.
	patience = 30 * time.Second
	path     = "/ws-relay"
)

// client is a socket of Trystero's ws-relay strategy, by hand. It keeps all that
// comes.
type client struct {
	t  *testing.T
	ws *websocket.Conn

	mu    sync.Mutex
	log   []string
	marks int
	end   error
}

// mark is the topic that a client alone is subscribed to.
func (c *client) mark() string { return fmt.Sprintf("mark %p", c) }

func dial(t *testing.T, url string) *client {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, ws: ws}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	t.Cleanup(func() {
		ws.Close()
		<-done
	})
	return c
}

func (c *client) read() {
	for {
		kind, b, err := c.ws.ReadMessage()
		c.mu.Lock()
		switch {
		case err != nil:
			c.end = err
		case kind != websocket.TextMessage:
			c.log = append(c.log, "a binary frame")
		case string(b) == told(c.mark(), "0"):
			c.marks++
		default:
			c.log = append(c.log, string(b))
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// enters is a client that is subscribed, and known to be.
func enters(t *testing.T, url string, topics ...string) *client {
	t.Helper()
	c := dial(t, url)
	for _, topic := range topics {
		c.subscribe(topic)
	}
	c.ping()
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) subscribe(topic string) { c.send(message("subscribe", topic)) }

func message(kind, topic string) string { return fmt.Sprintf(`{"type":%q,"topic":%q}`, kind, topic) }

// publish is what a client sends; payload is JSON.
func publish(topic, payload string) string {
	return fmt.Sprintf(`{"type":"publish","topic":%q,"payload":%s}`, topic, payload)
}

func (c *client) publish(topic, payload string) { c.send(publish(topic, payload)) }

// told is what subscribers get of a publish.
func told(topic, payload string) string {
	return fmt.Sprintf(`{"topic":%q,"payload":%s}`, topic, payload)
}

// ping waits until the node has done all that was sent.
func (c *client) ping() {
	c.t.Helper()
	c.mu.Lock()
	want := c.marks + 1
	c.mu.Unlock()
	c.subscribe(c.mark())
	c.publish(c.mark(), "0")
	c.await("the mark", func() bool { return c.marks >= want })
}

// await waits until ok, which may look at what has come.
func (c *client) await(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		done, log, err := ok(), c.log, c.end
		c.mu.Unlock()
		if done {
			return
		}
		if err != nil || time.Now().After(end) {
			c.t.Fatalf("no %s; %v; came: %.2000q", what, err, log)
		}
	}
}

// hears waits for a message.
func (c *client) hears(m string) {
	c.t.Helper()
	c.await(m, func() bool { return slices.Contains(c.log, m) })
}

// times is how often what came contains a text.
func (c *client) times(text string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, m := range c.log {
		if strings.Contains(m, text) {
			n++
		}
	}
	return n
}

// only waits for these and checks that nothing else came, in order. What others
// have sent may come after a pong.
func (c *client) only(want ...string) {
	c.t.Helper()
	c.await(fmt.Sprintf("%d messages", len(want)), func() bool { return len(c.log) >= len(want) })
	c.ping()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.log, want) {
		c.t.Errorf("came %.2000q, want %.2000q", c.log, want)
	}
}

// closes waits until the node has closed, and checks how.
func (c *client) closes(code int, reason string) {
	c.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		err := c.end
		c.mu.Unlock()
		if err == nil {
			if time.Now().After(end) {
				c.t.Fatalf("it is not closed, for %q", reason)
			}
			continue
		}
		if e, ok := errors.AsType[*websocket.CloseError](err); !ok || e.Code != code || !strings.Contains(e.Text, reason) {
			c.t.Fatalf("closed with %v, want %d %q", err, code, reason)
		}
		return
	}
}

// scene is a door alone.
type scene struct {
	door  *wsrelay.Door
	relay *relay.Relay
	host  *door.Host
	url   string
	http  string
}

func start(t *testing.T, host door.Config, cfg relay.Config, clients int) *scene {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Key = key
	r, err := relay.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := door.NewHost(host)
	d := wsrelay.New(wsrelay.Config{Host: h, Relay: r, Clients: clients})
	sockets, plain := http.NewServeMux(), http.NewServeMux()
	d.Register(sockets, plain)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if websocket.IsWebSocketUpgrade(q) {
			sockets.ServeHTTP(w, q)
			return
		}
		plain.ServeHTTP(w, q)
	})}
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, serve := range []func(context.Context) error{
		r.Serve, h.Serve, func(context.Context) error {
			if err := server.Serve(h.Front(l, server.Handler)); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	} {
		parts.Go(func() {
			if err := serve(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		server.Close()
		stop()
		parts.Wait()
	})
	at := l.Addr().String()
	return &scene{d, r, h, "ws://" + at, "http://" + at}
}

func (s *scene) stats() wsrelay.Stats { return s.door.Stats().(wsrelay.Stats) }

// await waits for the door's totals.
func (s *scene) await(t *testing.T, ok func(wsrelay.Stats) bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(s.stats()); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", s.stats())
		}
	}
}
