package peer

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/vnet"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/testnet"
)

// natPair are two peers behind NATs, whose node names a STUN and TURN server.
func natPair(t *testing.T, i *internet, a, b vnet.NATType) (alice, bob *someone) {
	t.Helper()
	node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user", "stun:"+turnHost, "turn:"+turnHost+"?transport=udp"))
	alice = join(t, "alice", Options{Nodes: []string{node.url}, API: travels(i.home(a)).api()})
	bob = join(t, "bob", Options{Nodes: []string{node.url}, API: travels(i.home(b)).api()})
	alice.sees("+bob")
	bob.sees("+alice")
	return alice, bob
}

// goes waits until the only peer is reached in a way. On a machine that is busy
// nodes may have been faster.
func (s *someone) goes(path Path) Way {
	s.t.Helper()
	eventuallyWithin(s.t, 10*retryMin, s.opts.Name+" goes "+path.String(), func() bool {
		list := s.Peers()
		return len(list) == 1 && list[0].Path() == path && list[0].Way().Path == path
	})
	return s.Peers()[0].Way()
}

// TestNATs: what can be direct is, and all else goes over TURN, with servers that
// only the node has named; and both sides say so.
func TestNATs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a, b vnet.NATType
		want Path
	}{
		"full cones":                    {fullCone, fullCone, PathDirect},
		"port restricted":               {portRestricted, portRestricted, PathDirect},
		"symmetric and full cone":       {symmetric, fullCone, PathDirect},
		"symmetric and port restricted": {symmetric, portRestricted, PathTURN},
		"symmetric":                     {symmetric, symmetric, PathTURN},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			alice, bob := natPair(t, newInternet(t), c.a, c.b)
			t.Logf("connected %v after the first has joined", time.Since(began))
			alice.says("hello")
			bob.sees("alice: hello")
			for _, s := range []*someone{alice, bob} {
				w := s.goes(c.want)
				switch {
				case w.Path == PathDirect && w != Way{Path: PathDirect}:
					t.Errorf("%s has reasons not to go directly, which it does: %+v", s.opts.Name, w)
				case w.Path == PathTURN && (w.NoDirect != ReasonNoReply || w.Server == "" || (w.Transport == "udp") == (w.Server == ServerRemote)):
					t.Errorf("%s goes %+v", s.opts.Name, w)
				}
			}
		})
	}
}

// blocked is loopback without UDP, but for what TURN servers do.
type blocked struct{ transport.Net }

func (b blocked) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := b.Net.ListenUDP(network, laddr)
	if err != nil {
		return nil, err
	}
	return &roamingConn{UDPConn: c, only: "nobody"}, nil
}

func (b blocked) ListenPacket(network, address string) (net.PacketConn, error) {
	a, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return nil, err
	}
	return b.ListenUDP(network, a)
}

func (b blocked) api() *webrtc.API {
	s := Setting()
	s.SetNet(b)
	s.SetIncludeLoopbackCandidate(true)
	s.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	return webrtc.NewAPI(webrtc.WithSettingEngine(s))
}

// turnServer is on loopback, by UDP and TCP. It lets in while open is set.
func turnServer(t *testing.T, open *atomic.Bool) (address string) {
	t.Helper()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp4", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	relay := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	all := func(net.Addr, net.IP) bool { return true }
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "test",
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, "password"), open.Load()
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: udp, RelayAddressGenerator: relay, PermissionHandler: all}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: tcp, RelayAddressGenerator: relay, PermissionHandler: all}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return tcp.Addr().String()
}

func turnURLs(at string) []string {
	return []string{"stun:" + at, "turn:" + at + "?transport=udp", "turn:" + at + "?transport=tcp"}
}

// TestUDPBlocked: TURN over TCP is the way, and the node is the only one who has
// named the server.
func TestUDPBlocked(t *testing.T) {
	t.Parallel()
	open := new(atomic.Bool)
	open.Store(true)
	node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user", turnURLs(turnServer(t, open))...))
	alice := join(t, "alice", Options{Nodes: []string{node.url}, API: blocked{sockets{}}.api()})
	bob := join(t, "bob", Options{Nodes: []string{node.url}, API: blocked{sockets{}}.api()})
	alice.sees("+bob")
	bob.sees("+alice")
	alice.says("around two corners")
	bob.sees("alice: around two corners")
	for _, s := range []*someone{alice, bob} {
		if got, want := s.goes(PathTURN), (Way{Path: PathTURN, Transport: "tcp", Server: ServerBoth, NoDirect: ReasonNoReply}); got != want {
			t.Errorf("%s goes %+v, want %+v", s.opts.Name, got, want)
		}
	}
}

// TestUDPBeforeTCP: where a TURN server is reached by both, UDP is used.
func TestUDPBeforeTCP(t *testing.T) {
	t.Parallel()
	open := new(atomic.Bool)
	open.Store(true)
	at := turnServer(t, open)
	node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user", turnURLs(at)...))
	var all []*someone
	for _, name := range []string{"alice", "bob"} {
		n := newRoaming(t)
		n.only = at
		all = append(all, join(t, name, Options{Nodes: []string{node.url}, API: n.api()}))
	}
	for k, s := range all {
		s.sees("+" + all[1-k].opts.Name)
	}
	for _, s := range all {
		if w := s.goes(PathTURN); w.Transport != "udp" {
			t.Errorf("%s goes %+v", s.opts.Name, w)
		}
	}
}

// TestReasons: without any way but nodes, peers say why.
func TestReasons(t *testing.T) {
	t.Parallel()
	shut := new(atomic.Bool)
	at := turnServer(t, shut)
	for name, c := range map[string]struct {
		unused, turn bool
		want         Reason
	}{
		"no TURN":        {false, false, ReasonNoTURN},
		"it is refused":  {false, true, ReasonTURNFailed},
		"it is not used": {true, true, ReasonForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			urls := turnURLs(at)
			if !c.turn {
				urls = urls[:1]
			}
			node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user", urls...))
			enter := func(name string) *someone {
				return join(t, name, Options{Nodes: []string{node.url}, API: blocked{sockets{}}.api(), NoNodeICE: c.unused})
			}
			alice, bob := enter("alice"), enter("bob")
			alice.sees("+bob")
			bob.sees("+alice")
			for _, s := range []*someone{alice, bob} {
				if got, want := s.Peers()[0].Way(), (Way{Path: PathNodes, NoDirect: ReasonNoReply, NoTURN: c.want}); got != want {
					t.Errorf("%s goes %+v, want %+v", s.opts.Name, got, want)
				}
			}
		})
	}
}

// TestRelayThenTURN: all goes over the nodes until a TURN server lets in; then over
// that one, and nothing is lost, comes twice, or out of order.
func TestRelayThenTURN(t *testing.T) {
	t.Parallel()
	i := newInternet(t)
	i.open.Store(false)
	node := iceBetween(t, testnet.Start(t, 1).URL(0), named(3600, "user", "stun:"+turnHost, "turn:"+turnHost+"?transport=udp"))
	alice := talker(t, "alice", Options{Nodes: []string{node.url}, API: travels(i.home(symmetric)).api()})
	bob := talker(t, "bob", Options{Nodes: []string{node.url}, API: travels(i.home(symmetric)).api()})
	alice.sees("+bob")
	bob.sees("+alice")
	a, b := alice.Peers()[0], bob.Peers()[0]
	if w := a.Way(); w.Path != PathNodes || w.NoTURN != ReasonTURNFailed {
		t.Errorf("they begin %+v", w)
	}
	c := converse(t, a, b)
	time.Sleep(time.Second)
	i.open.Store(true)
	eventuallyWithin(t, 5*retryMin, "both go over TURN", func() bool { return a.Path() == PathTURN && b.Path() == PathTURN })
	time.Sleep(300 * time.Millisecond)
	c.ends(t, alice, bob)
}

// conversation is both sides sending numbers, so that there is always something on
// its way.
type conversation struct {
	talking sync.WaitGroup
	stop    chan struct{}
	sent    [2]int
	padding string
}

func converse(t *testing.T, a, b *Peer) *conversation {
	t.Helper()
	c := &conversation{stop: make(chan struct{}), padding: " " + strings.Repeat("x", 2000)}
	for k, p := range []*Peer{a, b} {
		c.talking.Go(func() {
			for i := 0; ; i++ {
				if err := p.Send(t.Context(), []byte(strconv.Itoa(i)+c.padding)); err != nil {
					t.Error(err)
					return
				}
				c.sent[k] = i + 1
				select {
				case <-c.stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	return c
}

// ends ends it and waits until both have heard all of it, in order.
func (c *conversation) ends(t *testing.T, a, b *talks) {
	t.Helper()
	close(c.stop)
	c.talking.Wait()
	eventuallyWithin(t, 3*patience, "all is heard", func() bool { return b.inOrder(t) == c.sent[0] && a.inOrder(t) == c.sent[1] })
	t.Logf("%d and %d messages", c.sent[0], c.sent[1])
}
