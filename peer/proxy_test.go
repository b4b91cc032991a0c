package peer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// proxy is between a peer and its node: what both see is what a node could see
// and do.
type proxy struct {
	url  string
	node string
	up   func(*protocol.ToNode) []*protocol.ToNode // what the node gets of it; nil: as it is
	down func(*protocol.ToPeer) []*protocol.ToPeer // what the peer gets

	mu    sync.Mutex
	bytes [][]byte // of all frames
	conns []*websocket.Conn
	pumps sync.WaitGroup
}

// between makes a proxy to a node. It ends with the test.
func between(t *testing.T, node string) *proxy {
	t.Helper()
	x := &proxy{node: node}
	server := httptest.NewServer(http.HandlerFunc(x.serve))
	x.url = "ws" + strings.TrimPrefix(server.URL, "http")
	t.Cleanup(func() {
		x.cut()
		server.Close()
		x.pumps.Wait()
	})
	return x
}

// cut breaks all connections.
func (x *proxy) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		c.Close()
	}
	x.conns = nil
}

func (x *proxy) serve(w http.ResponseWriter, q *http.Request) {
	d := websocket.Dialer{Subprotocols: []string{subprotocol}}
	to, resp, err := d.DialContext(q.Context(), x.node+path, http.Header{"Host": {q.Host}})
	if err != nil {
		http.Error(w, "no node", http.StatusBadGateway)
		return
	}
	resp.Body.Close()
	from, err := (&websocket.Upgrader{Subprotocols: []string{subprotocol}}).Upgrade(w, q, nil)
	if err != nil {
		to.Close()
		return
	}
	x.mu.Lock()
	x.conns = append(x.conns, from, to)
	x.mu.Unlock()
	x.pumps.Go(func() {
		defer from.Close()
		defer to.Close()
		pump(x, from, to, new(protocol.ToNode), func(m *protocol.ToNode) []*protocol.ToNode { return apply(x.up, m) })
	})
	x.pumps.Go(func() {
		defer from.Close()
		defer to.Close()
		pump(x, to, from, new(protocol.ToPeer), func(m *protocol.ToPeer) []*protocol.ToPeer { return apply(x.down, m) })
	})
}

func apply[M any](f func(M) []M, m M) []M {
	if f == nil {
		return []M{m}
	}
	return f(m)
}

// pump carries messages one way, as change has them.
func pump[M proto.Message](x *proxy, from, to *websocket.Conn, like M, change func(M) []M) {
	for {
		_, b, err := from.ReadMessage()
		if err != nil {
			return
		}
		x.mu.Lock()
		x.bytes = append(x.bytes, b)
		x.mu.Unlock()
		m := like.ProtoReflect().New().Interface().(M)
		if proto.Unmarshal(b, m) != nil {
			return
		}
		for _, m := range change(m) {
			b, err := proto.Marshal(m)
			if err != nil || to.WriteMessage(websocket.BinaryMessage, b) != nil {
				return
			}
		}
	}
}

// saw says whether any frame has that in it.
func (x *proxy) saw(what string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.bytes, func(b []byte) bool { return bytes.Contains(b, []byte(what)) })
}

// mischief changes, repeats, drops and reorders what is delivered.
type mischief struct {
	mu     sync.Mutex
	random *rand.Rand
	old    []*protocol.ToPeer
	counts map[string]int
}

func (s *mischief) down(m *protocol.ToPeer) []*protocol.ToPeer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.GetDelivered() == nil {
		return []*protocol.ToPeer{m}
	}
	s.old = append(s.old, m)
	before := s.old[s.random.IntN(len(s.old))]
	switch s.random.IntN(5) {
	case 0:
		s.counts["changed"]++
		bad := proto.Clone(m).(*protocol.ToPeer)
		body := bad.GetDelivered().GetEnvelope().GetBody()
		body[s.random.IntN(len(body))] ^= 1 << s.random.IntN(8)
		return []*protocol.ToPeer{bad, m}
	case 1:
		s.counts["repeated"]++
		return []*protocol.ToPeer{m, m, before}
	case 2:
		s.counts["dropped"]++
		return nil
	case 3:
		s.counts["reordered"]++
		swapped := proto.Clone(before).(*protocol.ToPeer)
		swapped.GetDelivered().From = m.GetDelivered().From
		return []*protocol.ToPeer{swapped, m, before}
	}
	return []*protocol.ToPeer{m}
}

// TestNodeThatTampers changes, repeats, drops and reorders signals, for several
// pairs: they connect in the end, each to the right key, and the node has seen
// nothing of what they said.
func TestNodeThatTampers(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	x := []*proxy{between(t, nodes.URL(0)), between(t, nodes.URL(1))}
	s := &mischief{random: rand.New(rand.NewPCG(3, 4)), counts: make(map[string]int)}
	for _, x := range x {
		x.down = s.down
	}
	var all []*someone
	for i := range 4 {
		all = append(all, join(t, fmt.Sprint("peer", i), Options{Nodes: []string{x[i%2].url}, NoRelay: true}))
	}
	for i, a := range all {
		eventuallyWithin(t, 10*signalWithin, a.opts.Name+" connects to all", func() bool { return len(a.Peers()) == len(all)-1 })
		for _, p := range a.Peers() {
			var k int
			if _, err := fmt.Sscanf(p.Name(), "peer%d", &k); err != nil || k == i || all[k].ID() != p.ID() || all[k].Session() != p.Session() {
				t.Errorf("%s takes %v for %s", a.opts.Name, p.ID().Short(), p.Name())
			}
			// What the key that a connection is with says of itself, it says over that connection.
			v, err := p.Call(t.Context(), commandPeers, nil)
			if err != nil || !strings.Contains(string(v.JSON), a.ID().String()) {
				t.Errorf("%s does not know %s: %s, %v", p.Name(), a.opts.Name, v.JSON, err)
			}
		}
	}
	t.Logf("%v", s.counts)
	for _, x := range x {
		if x.saw("candidate:") || x.saw("a=ice-ufrag") || x.saw("v=0\r\n") || x.saw("\"type\":\"offer\"") {
			t.Error("a node has seen a description")
		}
		if !x.saw("peer1") { // names are no secret: the recording works
			t.Error("nothing was recorded")
		}
	}
}

// TestRelayedIsSealed: what goes over nodes they cannot read either.
func TestRelayedIsSealed(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 1)
	x := between(t, nodes.URL(0))
	g := new(gate)
	alice := join(t, "alice", Options{Nodes: []string{x.url}, API: g.api()})
	bob := join(t, "bob", Options{Nodes: []string{x.url}, API: g.api()})
	alice.sees("+bob")
	alice.says("a word in private")
	bob.sees("alice: a word in private")
	if x.saw("a word in private") {
		t.Error("a node has seen what was said")
	}
}

// TestWays counts the ways from join to an open channel: join, offer, answer,
// and the candidates beside them. Nothing else is said before the channel is
// open.
func TestWays(t *testing.T) {
	nodes := testnet.Start(t, 2)
	var mu sync.Mutex
	var trace []string
	say := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		trace = append(trace, what)
	}
	var x []*proxy
	for i, name := range []string{"alice", "bob"} {
		p := between(t, nodes.URL(i))
		p.up = func(m *protocol.ToNode) []*protocol.ToNode {
			say(name + " " + strings.TrimPrefix(what(m, m.GetSend().GetEnvelope()), "*protocol.ToNode_"))
			return []*protocol.ToNode{m}
		}
		p.down = func(m *protocol.ToPeer) []*protocol.ToPeer {
			say("node to " + name + " " + strings.TrimPrefix(what(m, m.GetDelivered().GetEnvelope()), "*protocol.ToPeer_"))
			return []*protocol.ToPeer{m}
		}
		x = append(x, p)
	}
	alice := join(t, "alice", Options{Nodes: []string{x[0].url}})
	time.Sleep(500 * time.Millisecond) // until all that is about her own join has been said
	mu.Lock()
	trace = nil
	mu.Unlock()
	bob := join(t, "bob", Options{Nodes: []string{x[1].url}})
	alice.sees("+bob")
	bob.sees("+alice")
	mu.Lock()
	defer mu.Unlock()
	t.Log(strings.Join(trace, ", "))
	var ways []string
	for _, s := range trace {
		if !strings.HasSuffix(s, "KIND_CANDIDATES") {
			ways = append(ways, s)
		}
	}
	for _, must := range [][]string{
		{"bob Login", "bob Join", "node to bob Joined", "node to bob KIND_OFFER", "bob KIND_ANSWER", "node to alice KIND_ANSWER"},
		{"bob Join", "node to alice Arrived", "alice KIND_OFFER", "node to bob KIND_OFFER", "bob KIND_ANSWER"},
	} {
		last := -1
		for _, s := range must {
			i := slices.Index(ways, s)
			if i <= last {
				t.Errorf("%q is not said after what has to come before it", s)
			}
			last = i
		}
	}
	want := map[string]bool{
		"node to bob Challenge": true, "bob Login": true, "bob Join": true, "node to bob Welcome": true, "node to bob Joined": true,
		"node to bob Arrived": true, "node to alice Arrived": true, "alice KIND_OFFER": true, "node to bob KIND_OFFER": true,
		"bob KIND_ANSWER": true, "node to alice KIND_ANSWER": true,
	}
	for _, s := range ways {
		if !want[s] {
			t.Errorf("%q is said too, or again", s)
		}
		delete(want, s)
	}
}

// what names a message, an envelope by its kind.
func what(m any, e *protocol.Envelope) string {
	var b protocol.EnvelopeBody
	if e != nil && proto.Unmarshal(e.Body, &b) == nil {
		return b.Kind.String()
	}
	switch m := m.(type) {
	case *protocol.ToNode:
		return fmt.Sprintf("%T", m.Body)
	case *protocol.ToPeer:
		return fmt.Sprintf("%T", m.Body)
	}
	return "?"
}
