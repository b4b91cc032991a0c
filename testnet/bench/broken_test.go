package bench_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/testnet/bench"
)

// proxy stands before a real node and does some things wrong, each once.
type proxy struct {
	t      *testing.T
	node   string
	faults []*fault

	pumps sync.WaitGroup
	mu    sync.Mutex
	conns []*proxied
}

// fault is one thing to do wrong.
type fault struct {
	on    string // which message is meant: offer, answer, or interval (a reply)
	wrong func(p *proxy, c *proxied, message []byte)
	seen  atomic.Int64 // such messages
	after int64        // how many of them pass before
}

// proxied is a client's connection.
type proxied struct {
	mu     sync.Mutex
	ws     *websocket.Conn
	first  atomic.Pointer[string] // the info_hash of its first announce
	server *websocket.Conn
}

func (c *proxied) write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ws.WriteMessage(websocket.TextMessage, b)
}

func startProxy(t *testing.T, p *proxy) string {
	t.Helper()
	p.t = t
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.CloseClientConnections()
		p.mu.Lock()
		for _, c := range p.conns {
			c.ws.Close()
			c.server.Close()
		}
		p.mu.Unlock()
		server.Close()
		p.pumps.Wait()
	})
	return strings.Replace(server.URL, "http://", "ws://", 1)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	u := websocket.Upgrader{}
	ws, err := u.Upgrade(w, q, nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	server, _, err := websocket.DefaultDialer.Dial(p.node, nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	c := &proxied{ws: ws, server: server}
	p.mu.Lock()
	p.conns = append(p.conns, c)
	p.mu.Unlock()
	p.pumps.Go(func() { p.up(c) })
	p.pumps.Go(func() { p.down(c) })
}

func (p *proxy) up(c *proxied) {
	defer c.server.Close()
	for {
		_, b, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if c.first.Load() == nil {
			hash := hashOf(b)
			c.first.Store(&hash)
		}
		if c.server.WriteMessage(websocket.TextMessage, b) != nil {
			return
		}
	}
}

func (p *proxy) down(c *proxied) {
	defer c.ws.Close()
	for {
		_, b, err := c.server.ReadMessage()
		if err != nil {
			return
		}
		if f := p.due(b); f != nil {
			f.wrong(p, c, b)
			continue
		}
		c.write(b)
	}
}

// due is the fault that is to be done to a message.
func (p *proxy) due(b []byte) (due *fault) {
	for _, f := range p.faults {
		if bytes.Contains(b, []byte(`"`+f.on+`":`)) && f.seen.Add(1) == f.after {
			due = f
		}
	}
	return due
}

func hashOf(b []byte) string {
	const name = `"info_hash":"`
	b = b[bytes.Index(b, []byte(name))+len(name):]
	end := 0
	for b[end] != '"' {
		if b[end] == '\\' {
			end++
		}
		end++
	}
	return string(b[:end])
}

// stranger is a connection in another swarm than c.
func (p *proxy) stranger(c *proxied) *proxied {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.conns {
		if *o.first.Load() != *c.first.Load() {
			return o
		}
	}
	p.t.Error("all are in one swarm")
	return c
}

// Ways to be wrong.
func lose(*proxy, *proxied, []byte) {}

func double(_ *proxy, c *proxied, b []byte) {
	c.write(b)
	c.write(b)
}

func misroute(p *proxy, c *proxied, b []byte) { p.stranger(c).write(b) }

// change changes one letter, in the last line of a payload.
func change(_ *proxy, c *proxied, b []byte) {
	b[bytes.LastIndex(b, []byte(`\r\n"}`))-1] ^= 1
	c.write(b)
}

func shorten(_ *proxy, c *proxied, b []byte) {
	i := bytes.LastIndex(b, []byte(`\r\n"}`))
	c.write(append(append([]byte(nil), b[:i]...), b[i+4:]...))
}

func refuse(_ *proxy, c *proxied, b []byte) {
	c.write([]byte(`{"action":"announce","failure reason":"no","info_hash":"x"}`))
	c.write(b)
}

func hangUp(_ *proxy, c *proxied, _ []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1013, "tired"), time.Now().Add(time.Second))
	c.ws.Close()
}

// TestBrokenServers shows that each thing a server can do wrong is seen, and
// nothing else.
func TestBrokenServers(t *testing.T) {
	server := startNodes(t, 1)[0]
	pass := func(_ *proxy, c *proxied, b []byte) { c.write(b) }
	type faults map[string]func(*proxy, *proxied, []byte)
	for name, c := range map[string]struct {
		faults faults
		want   bench.Counts
	}{
		"none":      {faults{"offer": pass}, bench.Counts{}},
		"loses":     {faults{"offer": lose, "answer": lose, "interval": lose}, bench.Counts{OffersLost: 1, AnswersLost: 1, RepliesLost: 1}},
		"doubles":   {faults{"offer": double, "answer": double, "interval": double}, bench.Counts{Duplicated: 3}},
		"misroutes": {faults{"offer": misroute, "answer": misroute}, bench.Counts{Misrouted: 2, OffersLost: 1, AnswersLost: 1}},
		"changes":   {faults{"offer": change, "answer": change}, bench.Counts{Changed: 2, OffersLost: 1, AnswersLost: 1}},
		"shortens":  {faults{"offer": shorten, "answer": shorten}, bench.Counts{Changed: 2, OffersLost: 1, AnswersLost: 1}},
		"refuses":   {faults{"offer": refuse}, bench.Counts{Refused: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &proxy{node: server}
			for on, wrong := range c.faults {
				// Replies are fewer, and those to the joins must come.
				after := map[string]int64{"offer": 100, "answer": 150, "interval": 160}[on]
				p.faults = append(p.faults, &fault{on: on, wrong: wrong, after: after})
			}
			cfg := quick(startProxy(t, p))
			cfg.Rate, cfg.Duration, cfg.Grace = 1000, 400*time.Millisecond, time.Second
			r, err := bench.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			got := r.Counts
			if got.Offers < 400 {
				t.Errorf("%d offers only", got.Offers)
			}
			got.Offers, got.Answers = 0, 0
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if err := r.Err(); (err == nil) != (c.want == bench.Counts{}) {
				t.Errorf("the run's error is %v", err)
			}
		})
	}
}

func TestClosedByServer(t *testing.T) {
	p := &proxy{node: startNodes(t, 1)[0], faults: []*fault{{on: "offer", wrong: hangUp, after: 100}}}
	cfg := quick(startProxy(t, p))
	cfg.Rate, cfg.Duration, cfg.Grace = 1000, 400*time.Millisecond, time.Second
	r, err := bench.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Counts.Closed != 1 || r.Counts.OffersLost == 0 || !strings.Contains(r.Complaint, "1013") {
		t.Errorf("%+v, %s", r.Counts, r.Complaint)
	}
}

// TestStall shows that an open loop does not wait for a server that stalls:
// all that was due meanwhile is sent and counts with the time it waited.
func TestStall(t *testing.T) {
	var p *proxy
	stall := func(_ *proxy, c *proxied, b []byte) {
		p.mu.Lock() // all of them
		for _, o := range p.conns {
			o.mu.Lock()
		}
		time.Sleep(400 * time.Millisecond)
		for _, o := range p.conns {
			o.mu.Unlock()
		}
		p.mu.Unlock()
		c.write(b)
	}
	p = &proxy{node: startNodes(t, 1)[0], faults: []*fault{{on: "offer", wrong: stall, after: 300}}}
	cfg := quick(startProxy(t, p))
	cfg.Rate, cfg.Duration = 1000, time.Second
	r, err := bench.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if n := r.Load.Offer.Count; n < 950 || n > 1050 {
		t.Errorf("%d offers in a second, want 1000", n)
	}
	// Some 400 waited, for 200 ms on average.
	if l := r.Load.Offer; l.Max < 350 || l.P90 < 100 {
		t.Errorf("a server that stalls for 400 ms has latencies of %+v", l)
	}
}
