package peerjs

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// connector serves a door until the test ends, and gives both ends of each
// client that connects.
func connector(t *testing.T) (d *Door, connect func(id, token string) (*websocket.Conn, *client)) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(relay.Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	d = New(Config{Host: door.NewHost(door.Config{AllowPrivate: true}), Relay: r})
	clients := make(chan *client, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		d.cfg.Host.Upgrade(w, q, door.Socket{}, func(c *door.Conn) door.Session {
			s := &client{d: d, c: c}
			s.open(parseQuery(q.URL.RawQuery))
			clients <- s
			return s
		})
	}))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.cfg.Host.Serve(ctx) }()
	t.Cleanup(func() { stop(); <-done; server.Close() })
	return d, func(id, token string) (*websocket.Conn, *client) {
		t.Helper()
		ws, answer, err := websocket.DefaultDialer.Dial(strings.Replace(server.URL, "http", "ws", 1)+"/peerjs?key=k&id="+id+"&token="+token, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		t.Cleanup(func() { ws.Close() })
		_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
		wants(t, ws, opened)
		return ws, <-clients
	}
}

func wants(t *testing.T, ws *websocket.Conn, frame string) {
	t.Helper()
	if _, b, err := ws.ReadMessage(); err != nil || string(b) != frame {
		t.Fatalf("%s, %v; want %s", b, err, frame)
	}
}

// A client that is silent for a minute is gone, and its id is free.
func TestSilence(t *testing.T) {
	d, connect := connector(t)
	ws, s := connect("alice", "one")
	s.Sweep(time.Now().Add(silentFor - 5*time.Second))
	if stats := d.Stats().(Stats); stats.Members != 1 {
		t.Fatalf("it is gone before: %+v", stats)
	}
	s.Sweep(time.Now().Add(silentFor + time.Second))
	connect("alice", "another")
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNoStatusReceived) {
		t.Errorf("it is told %v", err)
	}
}

// One EXPIRE stands for all that is lost on the way to one id for a while,
// unless a new offer was sent meanwhile.
func TestOneEXPIREForEachTry(t *testing.T) {
	d, connect := connector(t)
	ws, s := connect("alice", "one")
	failed := func(to string) {
		s.Deliver(&relay.Event{Kind: relay.KindFailed, From: to, Code: protocol.CodeNodeGone})
	}
	for range 10 {
		failed("bob")
		failed("carol")
		failed(`"`) // no door of ours has sent anything there
	}
	s.Deliver(&relay.Event{Kind: relay.KindFailed, From: "dave", Ref: ofNoMatter, Code: protocol.CodeNodeGone})
	s.order.Lock()
	s.send(message{kind: offer, dst: "bob", rawDst: quote("bob")}) // waits
	s.order.Unlock()
	failed("bob")
	for _, id := range []string{"bob", "carol", "bob"} {
		wants(t, ws, `{"type":"EXPIRE","src":"`+id+`","dst":"alice"}`)
	}
	for i := range 1000 {
		failed(fmt.Sprint(i))
		wants(t, ws, fmt.Sprintf(`{"type":"EXPIRE","src":"%d","dst":"alice"}`, i))
	}
	if len(s.expired) > maxExpired {
		t.Errorf("%d are remembered", len(s.expired))
	}
	if got := d.Stats().(Stats).Expired; got != 1003 {
		t.Errorf("%d are counted", got)
	}
}

// What a request may do on a private node: ids are for everybody, lists are for
// those whose key is the node's token.
func TestKeysOfRequests(t *testing.T) {
	d := &Door{}
	for path, want := range map[string]struct {
		token  string
		anyone bool
	}{
		"/peerjs/id": {"", true}, "/peerjs/peers": {}, "/peerjs-server/": {"", true}, "/peerjs-server/k/id": {"k", true}, "/peerjs-server/k/peers": {"k", false},
		"/": {}, "/k/id": {}, "/peerjs-server": {}, "/peerjs-server/k": {}, "/peerjs-server/k/id/x": {}, "/stats.json": {},
	} {
		if token, anyone := d.Key(httptest.NewRequest(http.MethodGet, path, nil)); token != want.token || anyone != want.anyone {
			t.Errorf("%s: %q, %v", path, token, anyone)
		}
	}
}
