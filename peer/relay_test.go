package peer

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// gate is an API that finds a way only while it is open.
type gate struct{ open atomic.Bool }

func (g *gate) api() *webrtc.API {
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetInterfaceFilter(func(name string) bool { return name == "lo" && g.open.Load() })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	return webrtc.NewAPI(webrtc.WithSettingEngine(s))
}

// TestRelayThenDirect: no direct path, so all goes over the nodes; then there is
// one, and both sides go over to it while both are talking. Nothing is lost,
// comes twice, or out of order.
func TestRelayThenDirect(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	g := new(gate)
	alice, bob := talker(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: g.api()}), talker(t, "bob", Options{Nodes: []string{nodes.URL(1)}, API: g.api()})
	alice.sees("+bob")
	bob.sees("+alice")
	a, b := alice.Peers()[0], bob.Peers()[0]
	if a.Path() != PathNodes || b.Path() != PathNodes || a.Connection() != nil {
		t.Fatalf("the paths are %v and %v", a.Path(), b.Path())
	}
	c := converse(t, a, b)
	time.Sleep(time.Second)
	g.open.Store(true)
	eventuallyWithin(t, 5*2*retryMin, "both are direct", func() bool { return a.Path() == PathDirect && b.Path() == PathDirect })
	time.Sleep(300 * time.Millisecond)
	c.ends(t, alice, bob)
	if alice.paths.Load() == 0 || bob.paths.Load() == 0 {
		t.Error("OnPath was not called")
	}
}

// talks hears numbers.
type talks struct {
	*someone
	paths atomic.Int64

	mu    sync.Mutex
	heard []string
}

func talker(t *testing.T, name string, o Options) *talks {
	t.Helper()
	s := new(talks)
	o.OnPath = func(*Peer) { s.paths.Add(1) }
	o.OnMessage = func(_ *Peer, b []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		number, _, _ := strings.Cut(string(b), " ")
		s.heard = append(s.heard, number)
	}
	s.someone = join(t, name, o)
	return s
}

func (s *talks) inOrder(t *testing.T) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, text := range s.heard {
		if text != fmt.Sprint(i) {
			t.Fatalf("%s heard %s as number %d", s.opts.Name, text, i)
		}
	}
	return len(s.heard)
}

// TestTwoMegabytesOverBoth: some of it over nodes, the rest directly.
func TestTwoMegabytesOverBoth(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	g := new(gate)
	var mu sync.Mutex
	hash, size := sha256.New(), 0
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: g.api()})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, API: g.api(), OnMessage: func(_ *Peer, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		hash.Write(b)
		size += len(b)
	}})
	alice.sees("+bob")
	bob.sees("+alice")
	data := make([]byte, 2<<20)
	rand.Read(data)
	var sending sync.WaitGroup
	sending.Go(func() {
		for chunk := range slices.Chunk(data, 50_000) {
			if err := alice.Peers()[0].Send(t.Context(), chunk); err != nil {
				t.Error(err)
				return
			}
		}
	})
	sent := func() int {
		mu.Lock()
		defer mu.Unlock()
		return size
	}
	eventually(t, "some of it comes over nodes", func() bool { return sent() > 100_000 })
	if p := bob.Peers()[0]; p.Path() != PathNodes {
		t.Errorf("the path is %v", p.Path())
	}
	g.open.Store(true)
	sending.Wait()
	eventuallyWithin(t, 10*retryMin, "all of it", func() bool { return sent() == len(data) })
	if p := bob.Peers()[0]; p.Path() != PathDirect {
		t.Errorf("the path is %v", p.Path())
	}
	mu.Lock()
	defer mu.Unlock()
	if want := sha256.Sum256(data); [32]byte(hash.Sum(nil)) != want {
		t.Error("other bytes have arrived")
	}
	if list := append(alice.list(), bob.list()...); len(list) != 2 {
		t.Errorf("the connection has not lived on: %q", list)
	}
}

// TestRelayOnly: with no direct path ever, peers talk, call and leave.
func TestRelayOnly(t *testing.T) {
	t.Parallel()
	nodes := testnet.Start(t, 2)
	g := new(gate)
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: g.api()})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(1)}, API: g.api()})
	alice.sees("+bob")
	bob.sees("+alice")
	long := strings.Repeat("x", MaxMessage)
	for _, s := range []*someone{alice, bob} {
		s.says("hello")
		s.says(long)
	}
	alice.sees("bob: hello", "bob: "+long)
	bob.sees("alice: hello", "alice: "+long)
	if v, err := alice.Peers()[0].Call(t.Context(), commandEcho, "over nodes"); err != nil || string(v.JSON) != `"over nodes"` {
		t.Errorf("a call: %s, %v", v.JSON, err)
	}
	alice.says("goodbye")
	p := bob.Peers()[0]
	alice.leave()
	bob.sees("alice: goodbye", "-alice")
	if p.Lost() {
		t.Error("one who has said goodbye is lost")
	}
}

// TestTURN: the only way is by a TURN server, and the path says so.
func TestTURN(t *testing.T) {
	t.Parallel()
	l, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "test",
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, "password"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            l,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"},
			PermissionHandler:     func(net.Addr, net.IP) bool { return true },
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	host, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	nodes := testnet.Start(t, 1)
	ice := []webrtc.ICEServer{{URLs: []string{"turn:" + l.LocalAddr().String()}, Username: "user", Credential: "password"}}
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: (&roaming{Net: host, only: l.LocalAddr().String()}).api(), ICEServers: ice, NoRelay: true})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(0)}, API: (&roaming{Net: host, only: l.LocalAddr().String()}).api(), ICEServers: ice, NoRelay: true})
	alice.sees("+bob")
	bob.sees("+alice")
	if a, b := alice.Peers()[0].Path(), bob.Peers()[0].Path(); a != PathTURN || b != PathTURN {
		t.Errorf("the paths are %v and %v", a, b)
	}
	alice.says("around a corner")
	bob.sees("alice: around a corner")
}

// TestRelayAfterFourSeconds: there are candidates, and no answer ever comes.
func TestRelayAfterFourSeconds(t *testing.T) {
	t.Parallel()
	w := wire(t, func(h *protocol.EnvelopeHeader) bool { return h.Kind == protocol.EnvelopeBody_KIND_ANSWER })
	w.relay()
	began := time.Now()
	w.meet(t, false, true)
	if d := time.Since(began); d < relayAfter {
		t.Errorf("relayed after %v", d)
	}
	if p := w.lower.Peers()[0]; p.Path() != PathNodes {
		t.Errorf("the path is %v", p.Path())
	}
}

// relay lets the two be relayed.
func (w *wired) relay() {
	w.lower.opts.NoRelay, w.higher.opts.NoRelay = false, false
}

// TestNoRelay: one of the two does not want it, so there is no peer.
func TestNoRelay(t *testing.T) {
	t.Parallel()
	w := wire(t, func(h *protocol.EnvelopeHeader) bool { return h.Kind == protocol.EnvelopeBody_KIND_ANSWER })
	w.lower.opts.NoRelay = false
	w.lower.shown(t, w.higher, false)
	w.higher.shown(t, w.lower, true)
	eventually(t, "it is asked for", func() bool { return w.count(protocol.EnvelopeBody_KIND_DATA) > 1 })
	if len(w.lower.Peers())+len(w.higher.Peers()) > 0 {
		t.Error("it is relayed")
	}
}

// TestFirstPieceComesLate: the direct connection opens while the wish to be
// relayed is on its way. That changes nothing.
func TestFirstPieceComesLate(t *testing.T) {
	t.Parallel()
	w := wire(t, nil)
	w.relay()
	asked, met := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.hold = func(h *protocol.EnvelopeHeader) {
		switch h.Kind {
		case protocol.EnvelopeBody_KIND_DATA:
			once.Do(func() { close(asked) })
			until(met)
		case protocol.EnvelopeBody_KIND_ANSWER:
			until(asked)
		}
	}
	w.meet(t, false, true)
	lower, higher := w.connect(t)
	close(met)
	time.Sleep(time.Second)
	if l, h := w.connect(t); l != lower || h != higher || l.Path() != PathDirect || h.Path() != PathDirect {
		t.Errorf("the connection did not live on: %v and %v", l.Path(), h.Path())
	}
}

// TestOtherSideBeginsAnew: it has forgotten the connection, and wants to be
// relayed. So it is another one.
func TestOtherSideBeginsAnew(t *testing.T) {
	t.Parallel()
	w := wire(t, nil)
	w.relay()
	w.meet(t, false, true)
	_, higher := w.connect(t)
	piece := &protocol.Piece{Run: 99, Sequence: 1, Channel: laneControl, Data: []byte{0x0a, 0x00}}
	begins := func(sequence uint64) {
		plain, err := proto.Marshal(piece)
		if err != nil {
			t.Fatal(err)
		}
		h := protocol.EnvelopeHeader{App: w.higher.app, From: w.lower.self, To: w.higher.self, Sequence: sequence, Kind: protocol.EnvelopeBody_KIND_DATA}
		w.higher.delivered(&protocol.Delivered{Envelope: w.lower.sealed(t, h, plain, w.higher)})
	}
	w.higher.mu.Lock()
	newest := w.higher.members[w.lower.self].newest
	w.higher.mu.Unlock()
	begins(newest + 10)
	select {
	case <-higher.done:
	case <-time.After(patience):
		t.Error("a new run does not end the old connection")
	}
}
