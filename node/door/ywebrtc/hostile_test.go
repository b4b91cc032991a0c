package ywebrtc_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/ywebrtc"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Garbage is answered with nothing, and costs nobody anything: not even who
// sends it.
func TestGarbage(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	c := enters(t, s.url+path, "room", "") // the reference takes the empty topic, and publishes nothing to it
	garbage := []string{
		"", " ", "garbage", "{", "}", "nul", `{"type":"publish","topic":"room"`, `{"type":"publish","topic":"room"}}`, "\x00\xff\xfe", "\xef\xbb\xbf{}",
		"{\"type\":\"publish\",\"topic\":\"room\",\"data\":\"\xff\"}", strings.Repeat("[", 60_000), strings.Repeat(`{"a":`, 10_000), `[{"type":"ping"}]`, `{"type":["ping"]}`,
		`{"TYPE":"ping"}`, `{"type":"PING"}`, `{"type":"subscribe","topics":"room"}`, `{"type":"subscribe","topics":{"0":"x","length":1}}`, `{"type":"subscribe","topics":7}`,
		`{"type":"publish","topic":{},"data":1}`, `{"type":"publish","topic":true}`, `{"type":"publish","topic":null}`, `{"__proto__":{"type":"ping"}}`, `{"type":"publish","topic":"","data":1}`,
		`{"type":"publish","topic":"room","clients":1,"clients":2}`, `{"type":"publish","topic":"room","data":NaN}`, `{"type":"publish","topic":"room","data":'x'}`,
	}
	for _, m := range garbage {
		for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
			if err := c.ws.WriteMessage(kind, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.only()
	if n := s.stats().Ignored; n != uint64(2*len(garbage)) {
		t.Errorf("%d of %d messages were ignored", n, 2*len(garbage))
	}
	other.publish("room", `"still there"`)
	c.only(told("room", `"still there"`, 2))
	other.only(told("room", `"still there"`, 2))
}

// Whoever subscribes to more topics than it may is closed and told why, and
// costs others nothing.
func TestTooManyTopics(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{Quota: door.Quota{MessageBurst: 20_000}}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	c := dial(t, s.url+path)
	for i := range 100 {
		var topics []string
		for n := range 100 {
			topics = append(topics, fmt.Sprint("topic ", i, n))
		}
		if c.ws.WriteMessage(websocket.TextMessage, []byte(list("subscribe", topics...))) != nil {
			break
		}
	}
	c.closes(protocol.CloseTryAgainLater, "too many topics")
	s.await(t, func(now ywebrtc.Stats) bool { return now.Subscriptions == 1 && now.Topics == 1 && now.Clients == 1 })
	if n := s.relay.Stats().Members; n != 1 {
		t.Errorf("%d members are left", n)
	}
	other.publish("room", "1")
	other.only(told("room", "1", 1))
}

// One message with thousands of topics costs as much as thousands of messages.
func TestManyTopicsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{Quota: door.Quota{Members: -1, AddressMembers: -1}}, relay.Config{}, 0)
	c := dial(t, s.url+path)
	var topics []string
	for n := range 5000 {
		topics = append(topics, fmt.Sprint(n))
	}
	c.subscribe(topics...)
	c.closes(protocol.CloseTryAgainLater, "too many messages")
	if n := s.stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions", n)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	most := strings.Repeat("x", protocol.MaxPayload-len(publish("room", `""`))-1)
	other.publish("room", `"`+most+`"`)
	other.only(told("room", `"`+most+`"`, 1))
	var waiting []func()
	for name, test := range map[string]struct {
		send   string
		code   int
		reason string
	}{
		"publish":      {publish("room", `"x`+most+`"`) + "}", websocket.CloseMessageTooBig, "56 KiB"},
		"message":      {`{"type":"ping","x":"` + strings.Repeat("x", protocol.MaxMessage) + `"}`, websocket.CloseMessageTooBig, "64 KiB"},
		"subscription": {list("subscribe", strings.Repeat("x", 513)), websocket.ClosePolicyViolation, "512 bytes"},
		"topic":        {publish(strings.Repeat("x", 513), "1") + "}", websocket.ClosePolicyViolation, "512 bytes"},
	} {
		c := enters(t, s.url+path, strings.Repeat("x", 512))
		c.send(test.send)
		waiting = append(waiting, func() { t.Log(name); c.closes(test.code, test.reason) })
	}
	for _, isClosed := range waiting { // which takes a while, of all at once
		isClosed()
	}
	s.await(t, func(now ywebrtc.Stats) bool { return now.Clients == 1 && now.Subscriptions == 1 })
	other.publish("room", "2")
	other.hears(told("room", "2", 1))
}

// A client may have 64 topics at a time that nobody here is subscribed to; what
// it publishes to more reaches nobody, and whoever goes on is closed.
func TestTooManyTopicsPublishedTo(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{Quota: door.Quota{MessageBurst: 20_000}}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	c := dial(t, s.url+path)
	for range 2 {
		for n := range 100 {
			c.publish(fmt.Sprint("topic ", n), "1")
		}
	}
	c.publish("room", `"to one that is subscribed to"`)
	c.ping()
	if now := s.stats(); now.Published != 2*protocol.MaxTempApps+1 || now.Refused != 2*(100-protocol.MaxTempApps) {
		t.Errorf("%+v", now)
	}
	other.only(told("room", `"to one that is subscribed to"`, 1))
	for n := range 2000 {
		if c.ws.WriteMessage(websocket.TextMessage, []byte(publish(fmt.Sprint("more ", n), "1")+"}")) != nil {
			break
		}
	}
	c.closes(protocol.CloseTryAgainLater, "64 topics")
	other.only(told("room", `"to one that is subscribed to"`, 1))
}

func TestTooManyMessages(t *testing.T) {
	s := start(t, door.Config{}, relay.Config{}, 0)
	other := enters(t, s.url+path, "room")
	c := enters(t, s.url+path, "room")
	for range 5000 {
		if c.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)) != nil {
			break
		}
	}
	c.closes(protocol.CloseTryAgainLater, "too many messages")
	other.only()
}

// A publish to many costs its sender as much as the messages that it becomes.
func TestPublishToMany(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{Quota: door.Quota{Messages: 1, MessageBurst: 100}}, relay.Config{}, 0)
	for range 50 {
		enters(t, s.url+path, "room")
	}
	c := enters(t, s.url+path, "room")
	for before := s.stats().Messages; !c.hasEnded() && before < 200; before++ {
		c.publish("room", `"`+strings.Repeat("x", 50_000)+`"`)
		// One by one: what a socket is sent after its end takes the reason with it.
		c.await("what becomes of it", func() bool { return c.end != nil || s.stats().Messages > before })
	}
	c.closes(protocol.CloseTryAgainLater, "too many messages")
	if n := s.stats().Published; n == 0 || n > 3 {
		t.Errorf("%d were published", n)
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
	if err := slow.WriteMessage(websocket.TextMessage, []byte(list("subscribe", "room"))); err != nil {
		t.Fatal(err)
	}
	c := enters(t, s.url+path, "room")
	c.knows("room", 2)
	large := strings.Repeat("x", 50_000)
	sent := 0
	for end := time.Now().Add(patience); s.host.Stats().SlowClosed == 0; sent++ {
		if time.Now().After(end) {
			t.Fatal("it is not closed")
		}
		c.publish("room", fmt.Sprintf(`"%d %s"`, sent, large))
		c.await("its own", func() bool { return strings.Contains(c.log[len(c.log)-1], fmt.Sprintf(`"%d x`, sent)) })
	}
	for n := range sent {
		if c.times(fmt.Sprintf(`"%d x`, n)) != 1 {
			t.Errorf("message %d did not come once", n)
		}
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{}, relay.Config{}, 2)
	first, second := enters(t, s.url+path, "room"), enters(t, s.url+path, "room")
	dial(t, s.url+path).closes(protocol.CloseTryAgainLater, "no more clients")
	second.ws.Close()
	s.await(t, func(now ywebrtc.Stats) bool { return now.Clients == 1 })
	enters(t, s.url+path, "room").publish("room", "1")
	first.hears(told("room", "1", 2))
}

func TestTopicsThatAreNotAllowed(t *testing.T) {
	t.Parallel()
	allowed := protocol.App(ywebrtc.Name, []byte("room"), nil)
	s := start(t, door.Config{}, relay.Config{Allows: func(app protocol.AppID) bool { return app == allowed }}, 0)
	c := enters(t, s.url+path, "room")
	d, e := enters(t, s.url+path, "room"), enters(t, s.url+path, "room")
	d.subscribe("another")
	e.publish("another", "1")
	d.closes(protocol.CloseDenied, "not allowed")
	e.closes(protocol.CloseDenied, "not allowed")
	s.await(t, func(now ywebrtc.Stats) bool { return now.Subscriptions == 1 })
	c.publish("room", "1")
	c.only(told("room", "1", 1))
}

func TestNodeIsFull(t *testing.T) {
	t.Parallel()
	s := start(t, door.Config{}, relay.Config{MaxMembers: 1}, 0)
	c := enters(t, s.url+path, "room")
	d := dial(t, s.url+path)
	d.subscribe("room")
	d.closes(protocol.CloseTryAgainLater, "full")
	c.publish("room", "1")
	c.only(told("room", "1", 1))
}

// The sums over everything that comes and goes are zero.
func TestNothingIsLeft(t *testing.T) {
	s := start(t, door.Config{AllowPrivate: true}, relay.Config{}, 0)
	for n := range 20 {
		c := enters(t, s.url+path, "a", "b", fmt.Sprint(n))
		c.publish("a", announce(fmt.Sprint(n%3)))
		c.publish("b", announce(fmt.Sprint(n%3)))
		c.unsubscribe("b", "never")
		c.ping()
		c.ws.Close()
	}
	s.await(t, func(now ywebrtc.Stats) bool { return now.Clients == 0 && now.Topics == 0 && now.Subscriptions == 0 })
	if n := s.relay.Stats().Members; n != 0 {
		t.Errorf("%d members are left", n)
	}
	if _, err := json.Marshal(s.door.Stats()); err != nil {
		t.Error(err)
	}
}
