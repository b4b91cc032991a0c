package peer

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// roaming is a network whose old addresses can stop to work: what is sent from
// there, and to there, is lost, and nobody is told.
type roaming struct {
	transport.Net
	only string // the one address that is reached, if there is one

	mu    sync.Mutex
	conns []*roamingConn
}

type roamingConn struct {
	transport.UDPConn
	only string
	dead atomic.Bool
}

func newRoaming(t *testing.T) *roaming {
	t.Helper()
	n, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	return &roaming{Net: n}
}

func (n *roaming) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, laddr)
	if err != nil {
		return nil, err
	}
	r := &roamingConn{UDPConn: c, only: n.only}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, r)
	return r, nil
}

func (n *roaming) ListenPacket(network, address string) (net.PacketConn, error) {
	a, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return nil, err
	}
	return n.ListenUDP(network, a)
}

// roam is the end of all addresses there are.
func (n *roaming) roam() (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if !c.dead.Swap(true) {
			count++
		}
	}
	return count
}

func (c *roamingConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(b)
		if err != nil || !c.dead.Load() {
			return n, from, err
		}
	}
}

func (c *roamingConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.dead.Load() || c.only != "" && to.String() != c.only {
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, to)
}

func (n *roaming) api() *webrtc.API {
	var s webrtc.SettingEngine
	s.SetNet(n)
	s.SetIncludeLoopbackCandidate(true)
	s.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetICETimeouts(time.Second, 30*time.Second, 200*time.Millisecond)
	return webrtc.NewAPI(webrtc.WithSettingEngine(s))
}

// TestNetworkChanges: the addresses of a peer are gone while both sides talk.
// The connection and its channels live on, and nothing is lost. Once with a
// node, and once with none: then it goes over a third peer.
func TestNetworkChanges(t *testing.T) {
	t.Parallel()
	for _, nodeless := range []bool{false, true} {
		t.Run(fmt.Sprint("nodeless ", nodeless), func(t *testing.T) {
			t.Parallel()
			nodes := testnet.Start(t, 1)
			n := newRoaming(t)
			var mu sync.Mutex
			heard := make(map[string][]string)
			hears := func(who string) func(p *Peer, b []byte) {
				return func(p *Peer, b []byte) {
					mu.Lock()
					defer mu.Unlock()
					heard[p.Name()+" to "+who] = append(heard[p.Name()+" to "+who], string(b))
				}
			}
			fast := func() *webrtc.API { return newRoaming(t).api() }
			alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, API: n.api(), NoRelay: true, OnMessage: hears("alice")})
			bob := join(t, "bob", Options{Nodes: []string{nodes.URL(0)}, API: fast(), NoRelay: true, OnMessage: hears("bob")})
			alice.sees("+bob")
			if nodeless {
				join(t, "carol", Options{Nodes: []string{nodes.URL(0)}, API: fast(), NoRelay: true})
				bob.sees("+carol", "+alice")
				alice.sees("+carol")
				eventually(t, "carol says whom she knows", func() bool {
					return len(saysLinked(alice.connected(t, "carol"))) == 1 && len(saysLinked(bob.connected(t, "carol"))) == 1
				})
				nodes.Kill(0)
				eventually(t, "there is no node", func() bool { return alice.Node()+bob.Node() == "" })
			}
			a, b := alice.connected(t, "bob"), bob.connected(t, "alice")
			if nodeless {
				// Alice's way to carol lives on, that to bob does not.
				n.roamFrom(t, a)
			} else if n.roam() == 0 {
				t.Fatal("no address was in use")
			}
			began := time.Now()
			for i := range 200 {
				for _, p := range []*Peer{a, b} {
					if err := p.Send(t.Context(), fmt.Append(nil, i)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			eventuallyWithin(t, 2*patience, "all is heard", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(heard["alice to bob"]) == 200 && len(heard["bob to alice"]) == 200
			})
			t.Logf("all was heard %v after the addresses had gone", time.Since(began))
			mu.Lock()
			defer mu.Unlock()
			for who, list := range heard {
				for i, text := range list {
					if text != fmt.Sprint(i) {
						t.Fatalf("%s: %s is number %d", who, text, i)
					}
				}
			}
			for _, s := range []*someone{alice, bob} {
				if slices.ContainsFunc(s.list(), func(s string) bool { return strings.HasPrefix(s, "-") }) {
					t.Errorf("a connection has ended: %q", s.list())
				}
			}
		})
	}
}

// roamFrom ends the address that a peer's connection has here.
func (n *roaming) roamFrom(t *testing.T, p *Peer) {
	t.Helper()
	pair, err := p.Connection().SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		t.Fatalf("there is no pair: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok && a.Port == int(pair.Local.Port) {
			c.dead.Store(true)
			return
		}
	}
	t.Fatal("the address is not known")
}

// connected is the peer of that name.
func (s *someone) connected(t *testing.T, name string) *Peer {
	t.Helper()
	var found *Peer
	eventually(t, s.opts.Name+" is connected to "+name, func() bool {
		for _, p := range s.Peers() {
			if p.Name() == name {
				found = p
			}
		}
		return found != nil
	})
	return found
}

// TestRestartWithLostSignals: the first offer to restart and the first answer to
// it are lost; then answers come twice and late. The connection lives on.
func TestRestartWithLostSignals(t *testing.T) {
	t.Parallel()
	w := wire(t, nil)
	w.meet(t, false, true)
	lower, higher := w.connect(t)
	offers, answers := 0, 0
	w.mu.Lock()
	w.lose = func(h *protocol.EnvelopeHeader) bool {
		switch h.Kind {
		case protocol.EnvelopeBody_KIND_OFFER:
			offers++
			return offers == 1
		case protocol.EnvelopeBody_KIND_ANSWER:
			answers++
			return answers == 1
		}
		return false
	}
	w.mu.Unlock()
	before := fragment(lower.Connection().LocalDescription().SDP)
	lower.m.wake(note{kind: noteMoved})
	// It is made again after restartEvery, and after twice as long.
	eventuallyWithin(t, 5*3*restartEvery, "it is restarted", func() bool {
		now := fragment(lower.Connection().LocalDescription().SDP)
		return now != before && lower.Connection().SignalingState() == webrtc.SignalingStateStable &&
			lower.Connection().ICEConnectionState() == webrtc.ICEConnectionStateConnected
	})
	// An answer to an offer of long ago, and one that comes again.
	d := description{Type: "answer", SDP: lower.Connection().RemoteDescription().SDP, Re: 1}
	for range 2 {
		w.lower.mu.Lock()
		lower.m.newest++
		sequence := lower.m.newest
		w.lower.mu.Unlock()
		lower.m.wake(note{kind: noteSignal, signal: protocol.EnvelopeBody_KIND_ANSWER, sequence: sequence, plain: marshal(t, d)})
	}
	if err := higher.Send(t.Context(), []byte("still here")); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond)
	if l, h := w.connect(t); l != lower || h != higher {
		t.Error("the connection did not live on")
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
