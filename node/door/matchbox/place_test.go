package matchbox

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/relay"
)

// opened is a session that is in no room yet, with its client.
func opened(t *testing.T) (*session, *websocket.Conn) {
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
			s := &session{d: d, c: c, id: newUUID()}
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
	return <-sessions, ws
}

func hears(t *testing.T, ws *websocket.Conn, want []byte) {
	t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, b, err := ws.ReadMessage(); err != nil || string(b) != string(want) {
		t.Fatalf("heard %s, %v, want %s", b, err, want)
	}
}

// What comes before the join has returned is told after the client knows who it
// is, in order; nothing is told of those who were there before, but that they
// leave.
func TestEarly(t *testing.T) {
	s, ws := opened(t)
	p := newPlace(s)
	before, late, after := newUUID(), newUUID(), newUUID()
	payload := []byte(`{"Offer":""}`)
	for _, e := range []relay.Event{
		{Kind: relay.KindDirect, From: before, Payload: payload},
		{Kind: relay.KindPresent, From: late},
		{Kind: relay.KindJoined, From: after},
		{Kind: relay.KindDirect, From: late, Payload: payload},
		{Kind: relay.KindLeft, From: before},
	} {
		if !p.Deliver(&e) {
			t.Fatal("refused")
		}
	}
	copy(payload, "it was valid")
	if !p.begin([]relay.Info{{ID: before}}) {
		t.Fatal("too much")
	}
	hears(t, ws, appendPeer(nil, "IdAssigned", s.id))
	hears(t, ws, appendSignal(nil, before, []byte(`{"Offer":""}`)))
	hears(t, ws, appendPeer(nil, "NewPeer", after))
	hears(t, ws, appendSignal(nil, late, []byte(`{"Offer":""}`)))
	hears(t, ws, appendPeer(nil, "PeerLeft", before))
}

func TestTooMuchTooEarly(t *testing.T) {
	s, _ := opened(t)
	p := newPlace(s)
	for i := range door.MaxEarly + 1 {
		if ok := p.Deliver(&relay.Event{Kind: relay.KindJoined, From: newUUID()}); ok != (i < door.MaxEarly) {
			t.Fatalf("event %d: %v", i, ok)
		}
	}
	if p.begin(nil) {
		t.Error("nobody noticed")
	}
}

// Of what other nodes say the client is told only what it can take.
func TestForeign(t *testing.T) {
	s, ws := opened(t)
	p := newPlace(s)
	p.begin(nil)
	hears(t, ws, appendPeer(nil, "IdAssigned", s.id))
	other, stranger := newUUID(), newUUID()
	for _, id := range []string{`"}`, "", "short", strings.ToUpper(other), "urn:uuid:" + other, strings.Repeat("x", 36), s.id} {
		p.Deliver(&relay.Event{Kind: relay.KindJoined, Foreign: true, From: id})
		p.Deliver(&relay.Event{Kind: relay.KindLost, Foreign: true, From: id})
	}
	p.Deliver(&relay.Event{Kind: relay.KindDirect, Foreign: true, From: stranger, Payload: []byte("1")})
	p.Deliver(&relay.Event{Kind: relay.KindLeft, Foreign: true, From: stranger})
	p.Deliver(&relay.Event{Kind: relay.KindJoined, Foreign: true, From: other})
	p.Deliver(&relay.Event{Kind: relay.KindJoined, Foreign: true, From: other})
	for _, bad := range []string{"", "x", "1}}", `1,"sender":"x"`, "\"\xff\"", "1 1"} {
		p.Deliver(&relay.Event{Kind: relay.KindDirect, Foreign: true, From: other, Payload: []byte(bad)})
	}
	p.Deliver(&relay.Event{Kind: relay.KindDirect, Foreign: true, From: other, Payload: []byte(" [1] ")})
	hears(t, ws, appendPeer(nil, "NewPeer", other))
	hears(t, ws, appendSignal(nil, other, []byte(" [1] ")))
	for range 3 * maxShown {
		p.Deliver(&relay.Event{Kind: relay.KindPresent, Foreign: true, From: newUUID()})
	}
	if len(p.names) != maxShown || len(p.ids) != maxShown {
		t.Errorf("%d and %d are known", len(p.names), len(p.ids))
	}
	for range 3 * maxShown {
		id := newUUID()
		p.Deliver(&relay.Event{Kind: relay.KindLeft, Foreign: true, From: other})
		p.Deliver(&relay.Event{Kind: relay.KindPresent, Foreign: true, From: id})
		p.Deliver(&relay.Event{Kind: relay.KindLost, Foreign: true, From: id})
	}
	if len(p.lost) > maxShown || len(p.ids) != len(p.names) || len(p.names) > maxShown {
		t.Errorf("%d are lost, %d and %d known", len(p.lost), len(p.names), len(p.ids))
	}
}

func TestUUID(t *testing.T) {
	const usual = "01234567-89ab-4cde-8f01-23456789abcd"
	for _, text := range []string{usual, strings.ToUpper(usual), strings.ReplaceAll(usual, "-", ""), "{" + usual + "}", "urn:uuid:" + usual} {
		if got, ok := parseUUID(text); !ok || got != usual {
			t.Errorf("%s: %s, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", usual[1:], usual + "0", "{" + usual, usual + "}", strings.Replace(usual, "-", "0", 1), strings.Replace(usual, "0", "g", 1), strings.Replace(usual, "-89", "8-9", 1)} {
		if got, ok := parseUUID(text); ok {
			t.Errorf("%s is %s", text, got)
		}
	}
	if a, b := newUUID(), newUUID(); a == b || !isPeerID(a) || !isPeerID(b) {
		t.Errorf("%s, %s", a, b)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`"KeepAlive"`, `{"KeepAlive":null}`, `{"Signal":{"receiver":"01234567-89ab-4cde-8f01-23456789abcd","data":{"Offer":"v=0"}}}`, `null`, `{"Signal":{}}`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parse(b)
		if ok && r.isSignal && (!isPeerID(r.receiver) || !isData(r.data)) {
			t.Errorf("%q: %+v", b, r)
		}
	})
}
