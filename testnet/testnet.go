package testnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

const readyWithin = 30 * time.Second

// TB is what a Net needs of a *testing.T.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// Options say what net to start. The zero value is one node.
type Options struct {
	Nodes    int           // 0: one
	Islands  bool          // the nodes do not know each other: what fails then shows that it federates otherwise
	JoinWait time.Duration // the nodes learn of each other only then
	Delay    time.Duration // one way, on every link
	Seed     uint64        // makes random choices repeatable
	Tokens   []string      // what clients have to give one of
	TURN     bool          // the nodes have STUN and TURN, and relay on this machine too
	Log      *slog.Logger
}

// Net is some nodes.
type Net struct {
	t     TB
	opts  Options
	wires *wires
	nodes []*member
	peers []*Peer
}

// member is one node of a Net.
type member struct {
	node *node.Node
	addr string // of its port, TCP and UDP
	end  context.CancelFunc
	done chan error
}

// Start runs n nodes that find each other, until the test ends.
func Start(t TB, n int) *Net {
	t.Helper()
	return StartWith(t, Options{Nodes: n})
}

// StartWith is Start with options.
func StartWith(t TB, o Options) *Net {
	t.Helper()
	o.Nodes = max(o.Nodes, 1)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Net{t: t, opts: o, wires: newWires()}
	t.Cleanup(n.stop)
	listeners := make([]net.Listener, o.Nodes)
	packets := make([]net.PacketConn, o.Nodes)
	for i := range listeners {
		l, p, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatalf("testnet: %v", err)
		}
		listeners[i], packets[i] = l, p
		n.wires.ports[uint16(l.Addr().(*net.TCPAddr).Port)] = i
		n.nodes = append(n.nodes, &member{addr: l.Addr().String()})
	}
	if o.Delay > 0 {
		for a := range listeners {
			for b := range a {
				n.Delay(a, b, o.Delay)
			}
		}
	}
	for i, l := range listeners {
		n.run(i, l, packets[i])
	}
	if !o.Islands && o.JoinWait == 0 {
		n.AwaitLinks(min(o.Nodes-1, protocol.MeshLinks))
	}
	return n
}

// Bootstrap is where node i of those with these addresses meets the private DHT:
// some of the others, or none for an island.
func Bootstrap(addrs []string, i int, islands bool) []string {
	list := []string{}
	for k, a := range addrs {
		if k != i && !islands && len(list) < 4 {
			list = append(list, a)
		}
	}
	return list
}

// Listen opens a port over TCP and UDP, one that is free for both if the
// address has port 0.
func Listen(addr string) (net.Listener, net.PacketConn, error) {
	for try := 0; ; try++ {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		if err != nil {
			return nil, nil, err
		}
		p, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", l.Addr().String())
		if err == nil {
			return l, p, nil
		}
		l.Close()
		if try > 20 {
			return nil, nil, err
		}
	}
}

// run starts node i.
func (n *Net) run(i int, l net.Listener, p net.PacketConn) {
	n.t.Helper()
	addrs := make([]string, len(n.nodes))
	for k, m := range n.nodes {
		addrs[k] = m.addr
	}
	stun := "" // none, beside a listener
	if n.opts.TURN {
		stun = "127.0.0.1:0"
	}
	nd, err := node.New(node.Config{
		STUN: stun, TURN: n.opts.TURN, TURNAllowPrivate: true,
		Listener: l, Packets: p, AllowPrivate: true, Bootstrap: Bootstrap(addrs, i, n.opts.Islands), PeerDelay: n.opts.JoinWait, Log: n.opts.Log.With("node", i),
		Seed: n.opts.Seed, Tokens: n.opts.Tokens, Dialer: &dialer{w: n.wires, node: i, next: relay.NewDialer(relay.DialPolicy{AllowPrivate: true})},
	})
	if err != nil {
		n.t.Fatalf("testnet: node %d: %v", i, err)
	}
	ctx, end := context.WithCancel(context.Background())
	m := n.nodes[i]
	m.node, m.end, m.done = nd, end, make(chan error, 1)
	go func() { m.done <- nd.Serve(ctx) }()
}

// stop ends all peers and nodes, and waits.
func (n *Net) stop() {
	for _, p := range n.peers {
		p.Leave()
	}
	var all sync.WaitGroup
	for i, m := range n.nodes {
		if m.end != nil {
			all.Go(func() { n.end(i) })
		}
	}
	all.Wait()
	n.wires.pumps.Wait()
}

// end stops a node and waits for it.
func (n *Net) end(i int) {
	m := n.nodes[i]
	if m.end == nil {
		return
	}
	m.end()
	m.end = nil
	if err := <-m.done; err != nil && !errors.Is(err, net.ErrClosed) {
		n.t.Logf("testnet: node %d: %v", i, err)
	}
}

// URL is where clients of node i connect.
func (n *Net) URL(i int) string { return "ws://" + n.nodes[i].addr }

// HTTP is where browsers find node i.
func (n *Net) HTTP(i int) string { return "http://" + n.nodes[i].addr }

// Relay is node i's, for a door of the test's own.
func (n *Net) Relay(i int) *relay.Relay { return n.nodes[i].node.Relay() }

// Join makes a peer of node i, in the room that all peers of the net share.
func (n *Net) Join(name string, i int) *Peer {
	n.t.Helper()
	p, err := newPeer(n.t, name, "testnet", n.URL(i))
	if err != nil {
		n.t.Fatalf("testnet: %v", err)
		return nil
	}
	n.peers = append(n.peers, p)
	return p
}

// Cut ends the links between two nodes and lets none come up until Heal.
func (n *Net) Cut(a, b int) { n.wires.cut(a, b, true) }

// Heal takes back a Cut.
func (n *Net) Heal(a, b int) { n.wires.cut(a, b, false) }

// Partition cuts every node of group from every other one.
func (n *Net) Partition(group ...int) {
	for a := range n.nodes {
		for b := range a {
			if slices.Contains(group, a) != slices.Contains(group, b) {
				n.Cut(a, b)
			}
		}
	}
}

// HealAll takes back every Cut.
func (n *Net) HealAll() {
	for a := range n.nodes {
		for b := range a {
			n.Heal(a, b)
		}
	}
}

// Delay makes every message between two nodes take that long, one way.
func (n *Net) Delay(a, b int, d time.Duration) {
	n.wires.mu.Lock()
	defer n.wires.mu.Unlock()
	n.wires.path(a, b).delay = d
}

// Kill ends a node as a power cut does: nobody is told.
func (n *Net) Kill(i int) {
	n.t.Helper()
	for k := range n.nodes {
		if k != i {
			n.Cut(i, k)
		}
	}
	n.nodes[i].node.Close()
	n.end(i)
}

// Restart starts a node that was killed, at its old address, as a new one.
func (n *Net) Restart(i int) {
	n.t.Helper()
	for k := range n.nodes {
		if k != i {
			n.Heal(i, k)
		}
	}
	l, p, err := Listen(n.nodes[i].addr)
	if err != nil {
		n.t.Fatalf("testnet: node %d: %v", i, err)
		return
	}
	n.run(i, l, p)
}

// AwaitLinks waits until each of the nodes has at least so many links.
func (n *Net) AwaitLinks(want int) {
	n.t.Helper()
	deadline := time.Now().Add(readyWithin)
	for i, m := range n.nodes {
		for m.end != nil && m.node.Relay().Stats().Links < want {
			if time.Now().After(deadline) {
				n.t.Fatalf("testnet: node %d has %d links after %v, want %d", i, m.node.Relay().Stats().Links, readyWithin, want)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// Trace is what flowed on the links so far.
func (n *Net) Trace() []Message {
	n.wires.mu.Lock()
	defer n.wires.mu.Unlock()
	return slices.Clone(n.wires.trace)
}

// String lists the nodes and their totals.
func (n *Net) String() string {
	var s strings.Builder
	for i, m := range n.nodes {
		if m.end != nil {
			fmt.Fprintf(&s, "node %d at %s: %+v\n", i, m.addr, m.node.Relay().Stats())
		}
	}
	return s.String()
}
