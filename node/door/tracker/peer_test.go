package tracker

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// mute is a session that does nothing.
type mute struct{}

func (mute) Message([]byte)       {}
func (mute) Refuse(protocol.Code) {}
func (mute) Sweep(time.Time)      {}
func (mute) Closed()              {}

// connected is both ends of a client's connection.
func connected(t *testing.T) (*door.Conn, client) {
	t.Helper()
	h := door.NewHost(door.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan *door.Conn, 1)
	front := h.Front(l, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		h.Upgrade(w, q, door.Socket{}, func(c *door.Conn) door.Session {
			conns <- c
			return mute{}
		})
	}))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- h.Serve(ctx) }()
	t.Cleanup(func() {
		front.Close()
		stop()
		<-done
	})
	c := dial(t, "ws://"+l.Addr().String())
	return <-conns, c
}

func (c client) hear() string {
	c.t.Helper()
	kind, b, err := c.ws.ReadMessage()
	if err != nil || kind != websocket.TextMessage {
		c.t.Fatal(kind, err)
	}
	return string(b)
}

// What comes while a peer joins waits for the reply to its announce.
func TestOffersWaitForTheReply(t *testing.T) {
	conn, c := connected(t)
	p := &peer{c: conn, d: &Door{}}
	p.early.Store(new(early))
	from := strings.Repeat("f", 20)
	payload := []byte(`"first"`)
	if !p.Deliver(&relay.Event{Kind: relay.KindOffer, From: from, Ref: []byte("r"), Payload: payload}) {
		t.Fatal("an early offer is refused")
	}
	copy(payload, `"XXXXX"`) // it was valid during the call only
	for i := 1; ; i++ {
		if !p.Deliver(&relay.Event{Kind: relay.KindOffer, From: from, Ref: []byte("r"), Payload: []byte(`1`)}) {
			if i != maxEarly {
				t.Errorf("%d early offers are kept, want %d", i, maxEarly)
			}
			break
		}
	}
	b, _ := conn.Begin()
	conn.End(append(b, "the reply"...), door.Reply)
	p.replied()
	p.Deliver(&relay.Event{Kind: relay.KindAnswer, From: from, Ref: []byte("r"), Payload: []byte(`"last"`)})
	if got := c.hear(); got != "the reply" {
		t.Fatal(got)
	}
	if got := c.hear(); !strings.Contains(got, `"offer":"first"`) {
		t.Fatal(got)
	}
	for range maxEarly - 1 {
		c.hear()
	}
	if got := c.hear(); !strings.Contains(got, `"answer":"last"`) {
		t.Fatal(got)
	}
}

// Another node may send anything; clients are sent JSON only.
func TestGarbageOfOtherNodesIsNotPassedOn(t *testing.T) {
	conn, c := connected(t)
	p := &peer{c: conn, d: &Door{}}
	from := strings.Repeat("f", 20)
	for _, payload := range []string{"", "x", `{}{}`, `{},"peer_id":"x"`, `{"a":"` + "\xff" + `"}`, "\"\n\"", `"`, ` `} {
		if p.Deliver(&relay.Event{Kind: relay.KindOffer, Foreign: true, From: from, Ref: []byte("r"), Payload: []byte(payload)}) {
			t.Errorf("%q was passed on", payload)
		}
	}
	if p.Deliver(&relay.Event{Kind: relay.KindOffer, Foreign: true, From: "short", Ref: []byte("r"), Payload: []byte("{}")}) {
		t.Error("an offer of a peer_id of 5 bytes was passed on")
	}
	if p.Deliver(&relay.Event{Kind: relay.KindDirect, From: from, Payload: []byte("{}")}) {
		t.Error("what a tracker knows nothing of was passed on")
	}
	if !p.Deliver(&relay.Event{Kind: relay.KindOffer, Foreign: true, From: from, Ref: []byte("\"\x00\xff"), Payload: []byte("{}")}) {
		t.Error("a good one was not")
	}
	if got, want := c.hear(), `{"action":"announce","offer":{},"offer_id":"\"\u0000ÿ","peer_id":"`+from+`","info_hash":"`+strings.Repeat(`\u0000`, 20)+`"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
