package wsrelay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/wsrelay"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Garbage is answered with nothing, and costs nobody anything: not even who
// sends it.
func TestGarbage(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	c := enters(t, s.url+path, "room")
	before := s.stats().Ignored
	garbage := []string{
		"", " ", "garbage", "{", "}", `{"type":"publish","topic":"room","payload":1`, `{"type":"publish","topic":"room","payload":1}}`, "\x00\xff\xfe", "\xef\xbb\xbf{}",
		"{\"type\":\"publish\",\"topic\":\"room\",\"payload\":\"\xff\"}", strings.Repeat("[", 60_000), strings.Repeat(`{"a":`, 10_000),
		`{"type":["publish"],"topic":"room","payload":1}`, `{"Type":"publish","topic":"room","payload":1}`, `{"type":"PUBLISH","topic":"room","payload":1}`,
		`{"type":"publish","topic":{},"payload":1}`, `{"type":"publish","topic":null,"payload":1}`, `{"type":"publish","topic":["room"],"payload":1}`,
		`{"type":"publish","topic":"room","payload":NaN}`, `{"type":"publish","topic":"room","payload":undefined}`, `[{"type":"publish","topic":"room","payload":1}]`,
	}
	for _, m := range garbage {
		for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
			if err := c.ws.WriteMessage(kind, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.only()
	if n := s.stats().Ignored - before; n != uint64(2*len(garbage)) {
		t.Errorf("%d of %d messages were ignored", n, 2*len(garbage))
	}
	other.publish("room", `"still there"`)
	c.hears(told("room", `"still there"`))
	c.only(told("room", `"still there"`))
	other.only(told("room", `"still there"`))
}

// Each subscriber is told the topic as it wrote it itself.
func TestTopicAsItWasWritten(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	plain, escaped := enters(t, s.url+path, "é<"), dial(t, s.url+path)
	escaped.send(`{"type":"subscribe","topic":"\u00e9\u003C"}`)
	escaped.ping()
	plain.publish("é<", `{"a":1}`)
	plain.only(told("é<", `{"a":1}`))
	escaped.only(`{"topic":"\u00e9\u003C","payload":{"a":1}}`)
}

// A client that subscribes to 10,000 topics is closed and told why, and costs
// others nothing.
func TestTooManyTopics(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{Quota: door.Quota{MessageBurst: 20_000}}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	c := dial(t, s.url+path)
	for n := range 10_000 {
		if c.ws.WriteMessage(websocket.TextMessage, []byte(message("subscribe", fmt.Sprint(n)))) != nil {
			break
		}
	}
	c.closes(protocol.CloseTryAgainLater, "too many topics")
	s.await(t, func(now wsrelay.Stats) bool { return now.Subscriptions == 2 && now.Clients == 1 })
	if n := s.relay.Stats().Members; n != 2 {
		t.Errorf("%d members are left", n)
	}
	other.publish("room", "1")
	other.only(told("room", "1"))
}

// A client may have 64 topics at a time that nobody here is subscribed to; what
// it publishes to more reaches nobody, and whoever goes on is closed.
func TestTooManyTopicsPublishedTo(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{Quota: door.Quota{MessageBurst: 20_000}}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	c := dial(t, s.url+path)
	before := s.stats().Published
	for n := range 100 {
		c.publish(fmt.Sprint("topic ", n), "1")
	}
	c.publish("room", `"to one that is subscribed to"`)
	other.hears(told("room", `"to one that is subscribed to"`))
	if now := s.stats(); now.Published-before != protocol.MaxTempApps+1 || now.Refused != 100-protocol.MaxTempApps {
		t.Errorf("%+v", now)
	}
	for n := range 2000 {
		if c.ws.WriteMessage(websocket.TextMessage, []byte(publish(fmt.Sprint("more ", n), "1"))) != nil {
			break
		}
	}
	c.closes(protocol.CloseTryAgainLater, "64 topics")
	other.only(told("room", `"to one that is subscribed to"`))
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{}, relay.Config{}, 0)
	most := `"` + strings.Repeat("x", protocol.MaxPayload-2) + `"`
	other := enters(t, s.url+path, "room")
	other.publish("room", most)
	other.only(told("room", most))
	for name, test := range map[string]struct {
		send   string
		code   int
		reason string
	}{
		"payload": {publish("room", `"x`+most[1:]), websocket.CloseMessageTooBig, "56 KiB"},
		"message": {publish("room", `"`+strings.Repeat("x", protocol.MaxMessage)+`"`), websocket.CloseMessageTooBig, "64 KiB"},
		"topic":   {message("subscribe", strings.Repeat("x", 513)), websocket.ClosePolicyViolation, "512 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := enters(t, s.url+path, strings.Repeat("x", 512))
			c.send(test.send)
			c.closes(test.code, test.reason)
		})
	}
}

// Who does not read is closed, and nobody waits for it.
func TestSlowReader(t *testing.T) {
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	slow, _, err := websocket.DefaultDialer.Dial(s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.WriteMessage(websocket.TextMessage, []byte(message("subscribe", "room"))); err != nil {
		t.Fatal(err)
	}
	s.await(t, func(now wsrelay.Stats) bool { return now.Subscriptions == 1 })
	c := enters(t, s.url+path, "room")
	large := strings.Repeat("x", 50_000)
	for end, sent := time.Now().Add(patience), 0; s.host.Stats().SlowClosed == 0; sent++ {
		if time.Now().After(end) {
			t.Fatal("it is not closed")
		}
		payload := fmt.Sprintf(`"%d %s"`, sent, large)
		c.publish("room", payload)
		c.hears(told("room", payload))
	}
}

func TestPlacesAndListedTopics(t *testing.T) {
	t.Parallel()
	allowed := protocol.App(wsrelay.Name, []byte("room"), nil)
	s := start(t, door.Config{}, relay.Config{Allows: func(app protocol.AppID) bool { return app == allowed }}, 2)
	var two []*client
	for range 2 {
		c := dial(t, s.url+path)
		c.subscribe("room")
		two = append(two, c)
	}
	s.await(t, func(now wsrelay.Stats) bool { return now.Subscriptions == 2 })
	dial(t, s.url+path).closes(protocol.CloseTryAgainLater, "no more clients")
	two[0].subscribe("another")
	two[0].closes(protocol.CloseDenied, "not allowed")
	s.await(t, func(now wsrelay.Stats) bool { return now.Clients == 1 })
	c := dial(t, s.url+path)
	c.publish("another", "1")
	c.closes(protocol.CloseDenied, "not allowed")
	two[1].publish("room", "1")
	two[1].hears(told("room", "1"))
	two[1].ws.Close()
	s.await(t, func(now wsrelay.Stats) bool { return now.Clients == 0 && now.Subscriptions == 0 && now.Topics == 0 })
}
