package matchbox_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/matchbox"
	"github.com/peerservers/peerserver/relay"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// event is any message of the server.
type event struct {
	IDAssigned string `json:"IdAssigned"`
	NewPeer    string
	PeerLeft   string
	Signal     *struct {
		Sender string          `json:"sender"`
		Data   json.RawMessage `json:"data"`
	}
	raw string
}

// client does what matchbox_socket does, by hand.
type client struct {
	t  *testing.T
	ws *websocket.Conn
	id string
}

// enters is a client that is in a room; a query may follow its name.
func enters(t *testing.T, url, room string) *client {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url+matchbox.Path+"/"+room, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	c := &client{t: t, ws: ws}
	e := c.read()
	if c.id = e.IDAssigned; len(c.id) != 36 || c.id[14] != '4' || !strings.ContainsRune("89ab", rune(c.id[19])) {
		t.Fatalf("the first message is %s", e.raw)
	}
	return c
}

func (c *client) tryRead(within time.Duration) (*event, error) {
	c.ws.SetReadDeadline(time.Now().Add(within))
	kind, b, err := c.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	e := &event{raw: string(b)}
	if err := json.Unmarshal(b, e); err != nil || kind != websocket.TextMessage {
		return nil, fmt.Errorf("message of kind %d, %s: %w", kind, b, err)
	}
	return e, nil
}

func (c *client) read() *event {
	c.t.Helper()
	e, err := c.tryRead(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

func (c *client) write(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// signals sends data, which is JSON, to a peer by what it is called.
func (c *client) signals(to, data string) {
	c.t.Helper()
	c.write(fmt.Sprintf(`{"Signal":{"receiver":%q,"data":%s}}`, to, data))
}

// told expects exactly one message, of a peer.
func (c *client) told(what, id string) {
	c.t.Helper()
	if e := c.read(); e.raw != fmt.Sprintf(`{%q:%q}`, what, id) {
		c.t.Fatalf("told %s, want %s %s", e.raw, what, id)
	}
}

// hears expects exactly this signal.
func (c *client) hears(sender, data string) {
	c.t.Helper()
	if e := c.read(); e.raw != fmt.Sprintf(`{"Signal":{"sender":%q,"data":%s}}`, sender, data) {
		c.t.Fatalf("heard %s, want %s of %s", e.raw, data, sender)
	}
}

// offers is told of b as a new peer and sends it an offer, which b answers.
func (c *client) offers(b *client) {
	c.t.Helper()
	c.told("NewPeer", b.id)
	offer, candidate := `{"Offer":"v=0\r\n é <&> \u2028"}`, `{ "IceCandidate" : "{}","n":1.0}`
	c.signals(b.id, offer)
	c.signals(b.id, candidate)
	b.hears(c.id, offer)
	b.hears(c.id, candidate)
	b.signals(c.id, `{"Answer":"v=0"}`)
	c.hears(b.id, `{"Answer":"v=0"}`)
}

// silent fails when anything is on its way to c but what it tells itself.
func (c *client) silent() {
	c.t.Helper()
	c.signals(c.id, `"silent?"`)
	c.hears(c.id, `"silent?"`)
}

// closes expects the connection to be closed, and returns how.
func (c *client) closes() *websocket.CloseError {
	c.t.Helper()
	for {
		_, err := c.tryRead(patience)
		if e, ok := errors.AsType[*websocket.CloseError](err); ok {
			return e
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// scene is one node without links, with the door alone.
type scene struct {
	url, http string
	door      *matchbox.Door
}

func start(t *testing.T, host door.Config, rcfg relay.Config, clients int) *scene {
	t.Helper()
	_, rcfg.Key, _ = ed25519.GenerateKey(nil)
	r, err := relay.New(rcfg)
	if err != nil {
		t.Fatal(err)
	}
	h := door.NewHost(host)
	s := &scene{door: matchbox.New(matchbox.Config{Host: h, Relay: r, Clients: clients})}
	sockets, plain := http.NewServeMux(), http.NewServeMux()
	s.door.Register(sockets, plain)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if websocket.IsWebSocketUpgrade(q) {
			sockets.ServeHTTP(w, q)
			return
		}
		plain.ServeHTTP(w, q)
	}))
	server.Listener = h.Listen(server.Listener)
	server.Start()
	s.http, s.url = server.URL, "ws"+strings.TrimPrefix(server.URL, "http")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- h.Serve(ctx) }()
	go func() { done <- r.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		server.Close()
	})
	return s
}

func (s *scene) stats() matchbox.Stats { return s.door.Stats().(matchbox.Stats) }

// await waits until the door's totals are as they are to be.
func (s *scene) await(t *testing.T, ok func(matchbox.Stats) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(s.stats()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.stats())
		}
	}
}
