package ywebrtc_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/testnet"
)

// tab is a client as the library is: it subscribes and announces itself by each
// of its sockets, and offers to whoever announces itself, once, by the socket on
// which it heard that first.
type tab struct {
	id, room string

	mu     sync.Mutex
	known  map[string]bool
	offers map[string]int // heard, by whom
}

// opens makes a tab whose sockets come so far apart.
func opens(t *testing.T, id, room string, apart time.Duration, urls ...string) *tab {
	t.Helper()
	b := &tab{id: id, room: room, known: make(map[string]bool), offers: make(map[string]int)}
	var readers sync.WaitGroup
	var sockets []*websocket.Conn
	for _, url := range urls {
		ws, _, err := websocket.DefaultDialer.Dial(url, nil)
		if err != nil {
			t.Error(err)
			return b
		}
		sockets = append(sockets, ws)
	}
	t.Cleanup(func() {
		for _, ws := range sockets {
			ws.Close()
		}
		readers.Wait()
	})
	for i, ws := range sockets {
		if i > 0 {
			time.Sleep(apart)
		}
		for _, m := range []string{list("subscribe", room), publish(room, announce(id)) + "}"} {
			if err := ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
				t.Error(err)
			}
		}
		readers.Go(func() { b.read(ws) })
	}
	return b
}

func (b *tab) read(ws *websocket.Conn) {
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		var m struct {
			Data struct{ Type, From, To string } `json:"data"`
		}
		if json.Unmarshal(frame, &m) != nil || m.Data.From == b.id || (m.Data.To != "" && m.Data.To != b.id) {
			continue
		}
		b.mu.Lock()
		known := b.known[m.Data.From]
		b.known[m.Data.From] = true
		if m.Data.Type == "signal" {
			b.offers[m.Data.From]++
		}
		b.mu.Unlock()
		if m.Data.Type == "announce" && !known {
			time.Sleep(time.Millisecond) // less than an offer takes
			offer := publish(b.room, fmt.Sprintf(`{"type":"signal","from":%q,"to":%q}`, b.id, m.Data.From)) + "}"
			_ = ws.WriteMessage(websocket.TextMessage, []byte(offer))
		}
	}
}

func (b *tab) heard(from string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.offers[from]
}

// Two clients that were both told the same two nodes make one offer, which comes
// once, though the nodes learn of the second socket of a client later than the
// other client answers to the first.
func TestTwoClientsWithTwoURLsEach(t *testing.T) {
	for _, delay := range []time.Duration{5 * time.Millisecond, 60 * time.Millisecond} {
		net := testnet.StartWith(t, testnet.Options{Nodes: 2, Delay: delay})
		var rooms sync.WaitGroup
		for n := range 24 {
			rooms.Go(func() {
				room, apart := fmt.Sprint("room ", delay, n), time.Duration(n/4)*20*time.Millisecond
				urls := []string{at(net, n%2), at(net, 1-n%2)}
				bob := opens(t, "bob", room, apart, urls...)
				time.Sleep(5*delay + 5*time.Second/2) // so that both nodes know where Bob is, which they say within half a second
				if n/2%2 == 0 {
					urls[0], urls[1] = urls[1], urls[0]
				}
				ada := opens(t, "ada", room, apart, urls...)
				for end := time.Now().Add(patience); ada.heard("bob")+bob.heard("ada") == 0; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Errorf("%s: no offer came", room)
						return
					}
				}
				time.Sleep(5*delay + 200*time.Millisecond) // a second copy would have come
				if a, b := ada.heard("bob"), bob.heard("ada"); a+b != 1 {
					t.Errorf("%s: %d and %d offers came", room, a, b)
				}
			})
		}
		rooms.Wait()
	}
}
