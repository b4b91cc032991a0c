package rxdb

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
	"github.com/peerservers/peerserver/relay"
)

// opened is a session with its client, which has sent these messages.
func opened(t *testing.T, messages ...string) (*session, *websocket.Conn) {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(nil)
	r, err := relay.New(relay.Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	h := door.NewHost(door.Config{})
	d := New(Config{Host: h, Relay: r})
	sessions := make(chan *session, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		d.places.Take()
		h.Upgrade(w, q, door.Socket{}, func(c *door.Conn) door.Session {
			s := open(d, c)
			for _, m := range messages {
				s.Message([]byte(m))
			}
			sessions <- s
			return s
		})
	}))
	server.Listener = h.Listen(server.Listener)
	server.Start()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx) }()
	t.Cleanup(func() { stop(); <-done; server.Close() })
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	s := <-sessions
	hears(t, ws, `{"type":"init","yourPeerId":"`+s.id+`"}`)
	return s, ws
}

func hears(t *testing.T, ws *websocket.Conn, want string) {
	t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, b, err := ws.ReadMessage(); err != nil || string(b) != want {
		t.Fatalf("heard %s, %v, want %s", b, err, want)
	}
}

func joined(ids ...string) string { return string(appendJoined(nil, ids)) }

func signal(from, to string) string {
	return fmt.Sprintf(`{"type":"signal","senderPeerId":%q,"receiverPeerId":%q,"data":1}`, from, to)
}

// What comes before the join has returned is shown after it, in order.
func TestEarly(t *testing.T) {
	s, ws := opened(t)
	p := &place{s: s}
	payload := []byte(signal("second", s.id))
	for _, e := range []relay.Event{
		{Kind: relay.KindJoined, From: "second"},
		{Kind: relay.KindDirect, From: "second", Payload: payload},
		{Kind: relay.KindLeft, From: "primus"},
	} {
		if !p.Deliver(&e) {
			t.Fatal("refused")
		}
	}
	copy(payload, "it was valid only then")
	if !p.begin([]relay.Info{{ID: "primus"}}) {
		t.Fatal("too much")
	}
	hears(t, ws, joined("primus", s.id))
	hears(t, ws, joined("primus", s.id, "second"))
	hears(t, ws, signal("second", s.id))
	hears(t, ws, joined(s.id, "second"))
}

func TestTooMuchTooEarly(t *testing.T) {
	s, _ := opened(t)
	p := &place{s: s}
	for i := range door.MaxEarly + 1 {
		if ok := p.Deliver(&relay.Event{Kind: relay.KindJoined, From: fmt.Sprint("member ", i)}); ok != (i < door.MaxEarly) {
			t.Fatalf("event %d: %v", i, ok)
		}
	}
	if p.begin(nil) {
		t.Error("nobody noticed")
	}
}

// Of what other nodes say the client is shown only what it can take.
func TestForeign(t *testing.T) {
	s, ws := opened(t)
	p := &place{s: s}
	p.begin(nil)
	hears(t, ws, joined(s.id))
	for _, id := range []string{`","x`, "short", strings.Repeat("x", 65), "with space", "\xff\xff\xff\xff\xff\xff", s.id} {
		p.Deliver(&relay.Event{Kind: relay.KindJoined, Foreign: true, From: id})
		p.Deliver(&relay.Event{Kind: relay.KindDirect, Foreign: true, From: id, Payload: []byte(signal(id, s.id) + " ")})
	}
	hears(t, ws, signal(s.id, s.id)+" ") // from itself it may be
	p.Deliver(&relay.Event{Kind: relay.KindLost, From: s.id})
	p.Deliver(&relay.Event{Kind: relay.KindPresent, Foreign: true, From: "friend"})
	hears(t, ws, joined(s.id, "friend"))
	for _, bad := range []string{
		"", "x", "null", "{}", joined("enemy!"), signal("another", s.id), signal("friend", "another"), signal("friend", s.id) + "}",
		strings.Replace(signal("friend", s.id), "1", "\"\xff\"", 1),
	} {
		p.Deliver(&relay.Event{Kind: relay.KindDirect, Foreign: true, From: "friend", Payload: []byte(bad)})
	}
	p.Deliver(&relay.Event{Kind: relay.KindDirect, Foreign: true, From: "stranger", Payload: []byte(signal("stranger", s.id))})
	p.Deliver(&relay.Event{Kind: relay.KindDirect, Foreign: true, From: "friend", Payload: []byte(signal("friend", s.id))})
	hears(t, ws, signal("friend", s.id))
	for i := range 3 * maxShown {
		p.Deliver(&relay.Event{Kind: relay.KindJoined, Foreign: true, From: fmt.Sprintf("crowd%06d", i)})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) != maxShown {
		t.Errorf("%d are shown", len(p.ids))
	}
}

// A client that says nothing for two minutes is disconnected, though it answers
// pings.
func TestSilentClient(t *testing.T) {
	s, ws := opened(t)
	s.Sweep(time.Now().Add(silentLimit - 10*time.Second))
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"join","room":"heroes"}`)); err != nil {
		t.Fatal(err)
	}
	hears(t, ws, joined(s.id))
	s.Sweep(time.Now().Add(silentLimit + time.Second))
	_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, b, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.ClosePolicyViolation) || !strings.Contains(err.Error(), "no ping for 2 minutes") {
		t.Errorf("%s, %v", b, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"type":"join","room":"heroes"}`, signal("from", "to"), `{"type":"ping"}`, `null`, `{"type":1}`, `[`, "\xff", `{"\u0074ype":"signal"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parse(b)
		isRoom(m.room)
		if isSignal(b, m.sender, m.receiver) != (ok && m.kind == "signal") {
			t.Errorf("%s", b)
		}
	})
}

// Who is disconnected is out of its rooms at once, and what it has sent after
// that does nothing.
func TestDisconnected(t *testing.T) {
	s, ws := opened(t, `{"type":"join","room":"heroes"}`, `garbage`, `{"type":"join","room":"ghosts"}`)
	hears(t, ws, joined(s.id))
	if st := s.d.Stats().(Stats); st.Members != 0 || st.Refused != 1 || st.Messages != 2 {
		t.Errorf("%+v", st)
	}
}
