package rxdb_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/rxdb"
	"github.com/peerservers/peerserver/relay"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// frame is any message of the server.
type frame struct {
	Type           string          `json:"type"`
	YourPeerID     string          `json:"yourPeerId,omitempty"`
	OtherPeerIDs   []string        `json:"otherPeerIds,omitempty"`
	Room           string          `json:"room,omitempty"`
	SenderPeerID   string          `json:"senderPeerId,omitempty"`
	ReceiverPeerID string          `json:"receiverPeerId,omitempty"`
	Data           json.RawMessage `json:"data,omitempty"`
	ConnectionID   string          `json:"connectionId,omitempty"`
	raw            string
}

// client does what RxDB's simple-peer handler does, by hand.
type client struct {
	t     *testing.T
	ws    *websocket.Conn
	id    string
	room  string
	known []string // as the last joined said
}

func dial(t *testing.T, url string) *client {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url+rxdb.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	c := &client{t: t, ws: ws}
	f := c.read()
	if f.Type != "init" || len(f.YourPeerID) < 20 {
		t.Fatalf("the first message is %s", f.raw)
	}
	c.id = f.YourPeerID
	return c
}

// enters is a client that is in a room.
func enters(t *testing.T, url, room string) *client {
	t.Helper()
	c := dial(t, url)
	c.join(room)
	return c
}

func (c *client) join(room string) {
	c.t.Helper()
	c.room = room
	c.send(map[string]any{"type": "join", "room": room})
	if f := c.read(); f.Type != "joined" || !slices.Contains(f.OtherPeerIDs, c.id) {
		c.t.Fatalf("after the join came %s", f.raw)
	}
}

func (c *client) read() *frame {
	c.t.Helper()
	f, err := c.tryRead(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

func (c *client) tryRead(within time.Duration) (*frame, error) {
	c.ws.SetReadDeadline(time.Now().Add(within))
	kind, b, err := c.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	f := &frame{raw: string(b)}
	if err := json.Unmarshal(b, f); err != nil || kind != websocket.TextMessage {
		return nil, fmt.Errorf("message of kind %d, %s: %w", kind, b, err)
	}
	if f.Type == "joined" {
		c.known = f.OtherPeerIDs
	}
	return f, nil
}

func (c *client) write(text string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) send(v any) {
	c.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(string(b))
}

// signal is a signal as the library writes it; data is JSON.
func (c *client) signal(to, data string) string {
	return fmt.Sprintf(`{"type":"signal","senderPeerId":%q,"receiverPeerId":%q,"room":%q,"data":%s,"connectionId":"abc"}`, c.id, to, c.room, data)
}

// knows reads until the client is shown exactly these, itself too. Nothing but
// joined may come meanwhile.
func (c *client) knows(others ...*client) {
	c.t.Helper()
	want := []string{c.id}
	for _, o := range others {
		want = append(want, o.id)
	}
	slices.Sort(want)
	for !slices.Equal(slices.Sorted(slices.Values(c.known)), want) {
		if f := c.read(); f.Type != "joined" {
			c.t.Fatalf("%s, while %v is to be %v", f.raw, c.known, want)
		}
	}
}

// hears expects exactly this message, of somebody it was shown before.
func (c *client) hears(raw string) {
	c.t.Helper()
	for {
		f := c.read()
		switch {
		case f.Type == "joined":
			continue
		case f.raw != raw:
			c.t.Fatalf("heard %s, want %s", f.raw, raw)
		case !slices.Contains(c.known, f.SenderPeerID):
			c.t.Fatalf("%s came before a joined that names who sent it: %v", f.raw, c.known)
		}
		return
	}
}

// meet has two see each other and signal, the way the library does: the one
// with the lesser id begins as soon as it is shown the other.
func meet(a, b *client) {
	a.t.Helper()
	if a.id > b.id {
		a, b = b, a
	}
	for !slices.Contains(a.known, b.id) {
		a.read()
	}
	offer := a.signal(b.id, `{"type":"offer","sdp":"v=0\r\n é <&> \u2028"}`)
	candidate := a.signal(b.id, ` {"candidate": {"n":1.0} , "type":"candidate"}`)
	a.write(offer)
	a.write(candidate)
	b.hears(offer)
	b.hears(candidate)
	answer := b.signal(a.id, `{"type":"answer","sdp":"v=0"}`)
	b.write(answer)
	a.hears(answer)
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

// silent fails when anything comes before the answer to a join of its own.
func (c *client) silent() {
	c.t.Helper()
	c.send(map[string]any{"type": "join", "room": "silent? " + c.id})
	if f := c.read(); f.Type != "joined" || len(f.OtherPeerIDs) != 1 {
		c.t.Fatalf("heard %s", f.raw)
	}
}

// scene is one node without links, with the door alone.
type scene struct {
	url  string
	door *rxdb.Door
	http string
}

func start(t *testing.T, host door.Config, rcfg relay.Config, clients int) *scene {
	t.Helper()
	_, rcfg.Key, _ = ed25519.GenerateKey(nil)
	r, err := relay.New(rcfg)
	if err != nil {
		t.Fatal(err)
	}
	h := door.NewHost(host)
	s := &scene{door: rxdb.New(rxdb.Config{Host: h, Relay: r, Clients: clients})}
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

func (s *scene) stats() rxdb.Stats { return s.door.Stats().(rxdb.Stats) }

// await waits until the door's totals are as they are to be.
func (s *scene) await(t *testing.T, ok func(rxdb.Stats) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(s.stats()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s.stats())
		}
	}
}
