package signals_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/testnet/bench/signals"
)

// fake is a server of both protocols that does one thing wrong, once.
type fake struct {
	t     *testing.T
	wrong func(f *fake, to *fakeConn, message []byte) // the signal that is the after-th
	after int

	mu      sync.Mutex
	seen    int
	ids     map[string]*fakeConn
	topics  map[string][]*fakeConn
	pumps   sync.WaitGroup
	delayed func() // what an earlier signal is put off by
}

type fakeConn struct {
	ws   *websocket.Conn
	id   string
	room string // of two ids that follow each other, or a topic
}

func startFake(t *testing.T, f *fake) string {
	t.Helper()
	f.t, f.ids, f.topics = t, make(map[string]*fakeConn), make(map[string][]*fakeConn)
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		server.Close()
		f.pumps.Wait()
	})
	return strings.Replace(server.URL, "http://", "ws://", 1)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	u := websocket.Upgrader{}
	ws, err := u.Upgrade(w, q, nil)
	if err != nil {
		f.t.Error(err)
		return
	}
	c := &fakeConn{ws: ws, id: q.URL.Query().Get("id")}
	f.pumps.Go(func() {
		defer ws.Close()
		if c.id != "" {
			f.mu.Lock()
			f.ids[c.id] = c
			c.write([]byte(`{"type":"OPEN"}`))
			f.mu.Unlock()
		}
		for {
			_, b, err := ws.ReadMessage()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.take(c, b)
			f.mu.Unlock()
		}
	})
}

// write is called with the lock.
func (c *fakeConn) write(b []byte) { _ = c.ws.WriteMessage(websocket.TextMessage, b) }

func (f *fake) take(c *fakeConn, b []byte) {
	var m struct {
		Type, Dst, Topic string
		Topics           []string
		Payload, Data    json.RawMessage
	}
	if err := json.Unmarshal(b, &m); err != nil {
		f.t.Error(err)
	}
	switch m.Type {
	case "subscribe":
		c.room = m.Topics[0]
		f.topics[c.room] = append(f.topics[c.room], c)
	case "ping":
		c.write([]byte(`{"type":"pong"}`))
	case "publish":
		for _, to := range f.topics[m.Topic] {
			f.pass(to, fmt.Appendf(nil, `{"type":"publish","clients":%d,"topic":"%s","data":%s}`, len(f.topics[m.Topic]), m.Topic, m.Data))
		}
	case "HEARTBEAT":
	default:
		f.pass(f.ids[m.Dst], fmt.Appendf(nil, `{"type":"%s","src":"%s","payload":%s,"dst":"%s"}`, m.Type, c.id, m.Payload, m.Dst))
	}
}

// pass passes a signal on, or does with it what is wrong. Probes pass.
func (f *fake) pass(to *fakeConn, b []byte) {
	if strings.Contains(string(b), `o=p `) {
		if to != nil {
			to.write(b)
		}
		return
	}
	if f.seen++; f.seen == f.after {
		f.wrong(f, to, b)
		return
	}
	to.write(b)
	if f.delayed != nil {
		f.delayed()
	}
}

// stranger is a connection of another room.
func (f *fake) stranger(c *fakeConn) *fakeConn {
	for id, o := range f.ids {
		if id[:len(id)-1] != c.id[:len(c.id)-1] { // of more than ten clients, some differ before the last digit
			return o
		}
	}
	for topic, list := range f.topics {
		if topic != c.room {
			return list[0]
		}
	}
	f.t.Error("all are in one room")
	return c
}

// TestBrokenServers shows that each thing a server can do wrong is seen, and
// nothing else.
func TestBrokenServers(t *testing.T) {
	lose := func(*fake, *fakeConn, []byte) {}
	for name, c := range map[string]struct {
		wrong func(*fake, *fakeConn, []byte)
		want  signals.Counts
	}{
		"nothing":   {func(_ *fake, to *fakeConn, b []byte) { to.write(b) }, signals.Counts{}},
		"loses":     {lose, signals.Counts{Lost: 1}},
		"doubles":   {func(_ *fake, to *fakeConn, b []byte) { to.write(b); to.write(b) }, signals.Counts{Duplicated: 1}},
		"misroutes": {func(f *fake, to *fakeConn, b []byte) { f.stranger(to).write(b) }, signals.Counts{Lost: 1, Misrouted: 1}},
		"puts off": {func(f *fake, to *fakeConn, b []byte) {
			n := 100 // until after the next one of the same sender
			f.delayed = func() {
				if n--; n == 0 {
					to.write(b)
				}
			}
		}, signals.Counts{Disordered: 1}},
		"changes": {func(_ *fake, to *fakeConn, b []byte) {
			b[strings.Index(string(b), `\r\n"}`)-1] ^= 1
			to.write(b)
		}, signals.Counts{Lost: 1, Changed: 1}},
		"miscounts or misnames": {func(_ *fake, to *fakeConn, b []byte) {
			text := strings.Replace(string(b), `"clients":2`, `"clients":3`, 1)
			to.write([]byte(strings.Replace(text, `"src":"`, `"src":"1`, 1)))
		}, signals.Counts{Lost: 1, Changed: 1}},
		"refuses": {func(_ *fake, to *fakeConn, b []byte) {
			to.write([]byte(`{"type":"EXPIRE","src":"x","dst":"y"}`))
			to.write(b)
		}, signals.Counts{Refused: 1}},
		"says nonsense": {func(_ *fake, to *fakeConn, b []byte) {
			to.write([]byte(`[]`))
			to.write(b)
		}, signals.Counts{Changed: 1}},
	} {
		for _, p := range []signals.Protocol{signals.PeerJS, signals.YWebRTC} {
			t.Run(string(p)+" "+name, func(t *testing.T) {
				t.Parallel()
				cfg := quick(p, startFake(t, &fake{wrong: c.wrong, after: 40}))
				cfg.Rate, cfg.Grace = 1000, 500*time.Millisecond
				r, err := signals.Run(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				got := r.Counts
				if got.Relayed < 60 || got.Sent-got.Relayed != c.want.Lost {
					t.Errorf("%d relayed of %d", got.Relayed, got.Sent)
				}
				got.Sent, got.Relayed = 0, 0
				if got != c.want {
					t.Errorf("got %+v, want %+v: %s", got, c.want, r.Complaint)
				}
				if err := r.Err(); (err == nil) != (c.want == signals.Counts{}) {
					t.Errorf("the run's error is %v", err)
				}
			})
		}
	}
}

// TestStall shows that what an open loop sends to a server that stalls arrives,
// and counts with the time that it waited.
func TestStall(t *testing.T) {
	stall := func(_ *fake, to *fakeConn, b []byte) {
		time.Sleep(400 * time.Millisecond)
		to.write(b)
	}
	cfg := quick(signals.PeerJS, startFake(t, &fake{wrong: stall, after: 100}))
	cfg.Rate = 1000
	r, err := signals.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if l := r.Load.Latency; l.Max < 350 {
		t.Errorf("of a server that stalls for 400 ms: %+v", l)
	}
}

// TestLostInALoop shows that a closed loop goes on without what a server loses.
func TestLostInALoop(t *testing.T) {
	t.Parallel()
	cfg := quick(signals.PeerJS, startFake(t, &fake{after: 1, wrong: func(*fake, *fakeConn, []byte) {}}))
	cfg.Clients, cfg.Depth, cfg.Duration, cfg.Grace = 2, 1, 8*time.Second, 100*time.Millisecond
	r, err := signals.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Counts.Lost != 1 || r.Counts.Relayed == 0 {
		t.Errorf("%+v", r.Counts)
	}
}

func TestClosedByServer(t *testing.T) {
	hangUp := func(_ *fake, to *fakeConn, _ []byte) { to.ws.Close() }
	cfg := quick(signals.YWebRTC, startFake(t, &fake{wrong: hangUp, after: 40}))
	cfg.Rate, cfg.Grace = 1000, 100*time.Millisecond
	r, err := signals.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Counts.Closed != 1 || r.Counts.Lost == 0 || r.Err() == nil {
		t.Errorf("%+v, %s", r.Counts, r.Complaint)
	}
}

func TestRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		u := websocket.Upgrader{}
		if ws, err := u.Upgrade(w, q, nil); err == nil {
			_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}`))
			ws.Close()
		}
	}))
	defer server.Close()
	_, err := signals.Run(t.Context(), quick(signals.PeerJS, strings.Replace(server.URL, "http://", "ws://", 1)))
	if err == nil || !strings.Contains(err.Error(), "ID-TAKEN") {
		t.Errorf("got %v", err)
	}
}
