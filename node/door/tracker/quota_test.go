package tracker

import (
	"context"
	"crypto/ed25519"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// serve runs a door alone, with quotas, and returns it and its URL.
func serve(t *testing.T, quota door.Quota, cfg relay.Config) (*Door, string) {
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
	h := door.NewHost(door.Config{Quota: quota})
	d := New(Config{Host: h, Relay: r})
	sockets := http.NewServeMux()
	d.Register(sockets, http.NewServeMux())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := h.Front(l, sockets)
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, serve := range []func(context.Context) error{r.Serve, h.Serve} {
		parts.Go(func() {
			if err := serve(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		front.Close()
		stop()
		parts.Wait()
	})
	return d, "ws://" + l.Addr().String() + "/announce"
}

type client struct {
	t  *testing.T
	ws *websocket.Conn
}

func dial(t *testing.T, url string) client {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetReadDeadline(time.Now().Add(20 * time.Second))
	return client{t, ws}
}

// ask sends a message and returns what comes back.
func (c client) ask(m string) string {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
		c.t.Fatal(err)
	}
	_, b, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

func announceOf(hash, peer string) string {
	return `{"action":"announce","info_hash":"` + hash + strings.Repeat(".", 20-len(hash)) + `","peer_id":"` + peer + strings.Repeat("-", 20-len(peer)) + `"}`
}

// A scrape costs as much as it asks for. One too many is refused, without
// closing.
func TestScrapesAreRationed(t *testing.T) {
	_, url := serve(t, door.Quota{Messages: 1, MessageBurst: 3*protocol.MaxTempApps + 10}, relay.Config{})
	c := dial(t, url)
	list := strings.TrimSuffix(strings.Repeat(`"hash................",`, protocol.MaxTempApps), ",")
	for i := range 4 {
		got := c.ask(`{"action":"scrape","info_hash":[` + list + `]}`)
		if strings.Contains(got, "too many messages") != (i == 3) {
			t.Fatalf("scrape %d: %.100s", i, got)
		}
	}
	if got := c.ask(announceOf("h", "p")); !strings.Contains(got, `"interval"`) {
		t.Fatal(got)
	}
}

// A connection has so many members; those that leave make room.
func TestMembersAreRationed(t *testing.T) {
	d, url := serve(t, door.Quota{Members: 2, AddressMembers: 3}, relay.Config{})
	one, two := dial(t, url), dial(t, url)
	const refused = `{"action":"announce","failure reason":"too many swarms on this connection","info_hash":"c..................."}`
	one.ask(announceOf("a", "p"))
	one.ask(announceOf("b", "p"))
	if got := one.ask(announceOf("c", "p")); got != refused {
		t.Error(got)
	}
	if got := one.ask(announceOf("a", "p")); !strings.Contains(got, `"interval"`) {
		t.Error(got)
	}
	two.ask(announceOf("a", "q"))
	if got := two.ask(announceOf("c", "q")); got != refused {
		t.Error("the address has more members than its quota: ", got)
	}
	one.ask(strings.Replace(announceOf("a", "p"), "{", `{"event":"stopped",`, 1))
	if got := two.ask(announceOf("c", "q")); !strings.Contains(got, `"interval"`) {
		t.Error("a member that left still counts: ", got)
	}
	one.ws.Close()
	two.ws.Close()
	for end := time.Now().Add(20 * time.Second); d.totals().Leechers > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("members are left of closed connections")
		}
	}
	three := dial(t, url)
	for _, h := range []string{"a", "b"} {
		if got := three.ask(announceOf(h, "r")); !strings.Contains(got, `"interval"`) {
			t.Error("members of closed connections still count: ", got)
		}
	}
}

// What the relay refuses is told to the client, and does not count.
func TestFullRelay(t *testing.T) {
	_, url := serve(t, door.Quota{Members: 1}, relay.Config{MaxMembers: 1})
	one, two := dial(t, url), dial(t, url)
	one.ask(announceOf("a", "p"))
	for range 3 {
		got := two.ask(announceOf("a", "q"))
		if !strings.Contains(got, `"failure reason":"this node has 1 members`) || !strings.HasSuffix(got, `"info_hash":"a..................."}`) {
			t.Fatal(got)
		}
	}
	one.ask(strings.Replace(announceOf("a", "p"), "{", `{"event":"stopped",`, 1))
	if got := two.ask(announceOf("a", "q")); !strings.Contains(got, `"interval"`) {
		t.Error(got)
	}
}
