package peer

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/peer/lan/lantest"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

// host is a machine on a LAN in memory. TCP between them is over loopback.
func host(ether *lantest.Ether, n int) lan.Network {
	return ether.Host("127.0.0." + strconv.Itoa(n) + "/8")
}

// TestLANWithoutNode: members meet with no node at all. Who is in another app
// stays apart, and the app is in no datagram.
func TestLANWithoutNode(t *testing.T) {
	t.Parallel()
	var ether lantest.Ether
	alice := join(t, "alice", Options{LAN: true, network: host(&ether, 1)})
	bob := join(t, "bob", Options{LAN: true, network: host(&ether, 2)})
	carol := join(t, "carol", Options{LAN: true, network: host(&ether, 3)})
	mallory := join(t, "mallory", Options{LAN: true, network: host(&ether, 4), Secret: []byte("another app")})
	alice.sees("+bob", "+carol")
	bob.sees("+alice", "+carol")
	carol.sees("+alice", "+bob")
	carol.says("good evening")
	alice.sees("carol: good evening")
	bob.leave()
	alice.sees("-bob")
	carol.sees("-bob")
	again := join(t, "dave", Options{LAN: true, network: host(&ether, 5)})
	alice.sees("+dave")
	carol.sees("+dave")
	again.sees("+alice", "+carol")
	if list := mallory.list(); len(list) > 0 {
		t.Errorf("another app has met %q", list)
	}
	sent := ether.Sent()
	for _, b := range sent {
		if bytes.Contains(b, alice.app[:]) || bytes.Contains(b, mallory.app[:]) {
			t.Fatal("an app is in a datagram")
		}
	}
	if len(sent) < 5 {
		t.Errorf("%d beacons", len(sent))
	}
}

// TestLANOneIdentityTwice: two devices of one person meet too.
func TestLANOneIdentityTwice(t *testing.T) {
	var ether lantest.Ether
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	phone := join(t, "phone", Options{LAN: true, network: host(&ether, 1), Identity: key})
	laptop := join(t, "laptop", Options{LAN: true, network: host(&ether, 2), Identity: key})
	bob := join(t, "bob", Options{LAN: true, network: host(&ether, 3)})
	phone.sees("+laptop", "+bob")
	laptop.sees("+phone", "+bob")
	bob.sees("+phone", "+laptop")
}

// TestLANAndNode: who is met both ways is one peer, and stays when one of the
// ways ends.
func TestLANAndNode(t *testing.T) {
	nodes := testnet.Start(t, 1)
	var ether lantest.Ether
	alice := join(t, "alice", Options{Nodes: []string{nodes.URL(0)}, LAN: true, network: host(&ether, 1)})
	bob := join(t, "bob", Options{Nodes: []string{nodes.URL(0)}, LAN: true, network: host(&ether, 2)})
	alice.sees("+bob")
	bob.sees("+alice")
	for _, p := range []*someone{alice, bob} {
		eventually(t, "a stream beside the node", func() bool {
			p.local.mu.Lock()
			defer p.local.mu.Unlock()
			return len(p.local.streams) == 1
		})
		if n := len(p.Peers()); n != 1 {
			t.Errorf("%d peers", n)
		}
	}
	nodes.Kill(0)
	alice.says("no node")
	bob.sees("alice: no node")
	carol := join(t, "carol", Options{LAN: true, network: host(&ether, 3)})
	carol.sees("+alice", "+bob")
	alice.sees("+carol")
	bob.sees("+carol")
	for _, p := range []*someone{alice, bob} {
		if list := p.list(); slices.Contains(list, "-bob") || slices.Contains(list, "-alice") {
			t.Errorf("a peer was lost: %q", list)
		}
	}
}

// TestLANStreamBreaks: signals have a way again soon, and the connection knows
// nothing of it.
func TestLANStreamBreaks(t *testing.T) {
	t.Parallel()
	var ether lantest.Ether
	alice := join(t, "alice", Options{LAN: true, network: host(&ether, 1)})
	bob := join(t, "bob", Options{LAN: true, network: host(&ether, 2)})
	alice.sees("+bob")
	bob.sees("+alice")
	stream := func() *lanStream {
		alice.local.mu.Lock()
		defer alice.local.mu.Unlock()
		return alice.local.streams[bob.self]
	}
	first := stream()
	if first == nil {
		t.Fatal("there is no stream")
	}
	first.s.Close()
	eventually(t, "another stream", func() bool { s := stream(); return s != nil && s != first })
	alice.says("still here")
	bob.sees("alice: still here")
	alice.Room.mu.Lock()
	by := alice.members[bob.self].by
	alice.Room.mu.Unlock()
	if by != 1 {
		t.Errorf("%d ways show bob", by)
	}
}

// TestLANStrangers: connections of those who say nothing, are not of the app or
// show somebody else are bounded and ended, and members meet all the same.
func TestLANStrangers(t *testing.T) {
	t.Parallel()
	var ether lantest.Ether
	alice := join(t, "alice", Options{LAN: true, network: host(&ether, 1)})
	at := alice.local.listener.Addr().(*net.TCPAddr).Port
	dial := func() net.Conn {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(at)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	eventually(t, "alice on the LAN", func() bool { return alice.local.beacons.Near(netip.MustParseAddr("127.0.0.1")) })
	for range 3 * lanOfSource {
		dial()
	}
	eventually(t, "all places taken", func() bool {
		alice.local.mu.Lock()
		defer alice.local.mu.Unlock()
		if alice.local.conns > lanOfSource {
			t.Fatalf("%d connections of one address", alice.local.conns)
		}
		return alice.local.conns == lanOfSource
	})
	eventually(t, "the silent ones to be given up", func() bool {
		alice.local.mu.Lock()
		defer alice.local.mu.Unlock()
		return alice.local.conns == 0 && len(alice.local.sources) == 0
	})
	// One who knows the app greets with a key and shows another's presence.
	bob := join(t, "bob", Options{LAN: true, network: host(&ether, 2)})
	bob.sees("+alice")
	presence, err := bob.presence()
	if err != nil {
		t.Fatal(err)
	}
	var low protocol.PeerID // lower than any key, so it may dial
	c := dial()
	s, err := lan.Open(t.Context(), c, alice.app, low, &alice.self.Peer)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(&protocol.Control{Body: &protocol.Control_Linked{Linked: &protocol.Linked{Presence: presence}}}); err != nil {
		t.Fatal(err)
	}
	for ended := false; !ended; { // alice shows herself, and then nothing comes
		m, err := s.Read()
		if ended = err != nil; errors.Is(err, os.ErrDeadlineExceeded) || (!ended && m.GetLinked() == nil) {
			t.Fatalf("alice says %v, %v", m, err)
		}
	}
	bob.says("it is me")
	alice.sees("bob: it is me")
}

// TestLANCallsFromElsewhere: who is on no subnet of the interfaces is not even
// greeted.
func TestLANCallsFromElsewhere(t *testing.T) {
	var ether lantest.Ether
	alice := join(t, "alice", Options{LAN: true, network: ether.Host("127.0.0.1/32")})
	eventually(t, "alice on the LAN", func() bool { return alice.local.beacons.Near(netip.MustParseAddr("127.0.0.1")) })
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(alice.local.listener.Addr().(*net.TCPAddr).Port))
	for from, greeted := range map[string]bool{"127.0.0.1": true, "127.0.0.9": false} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.DialContext(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) || (n == 1) != greeted {
			t.Errorf("%s gets %d bytes, %v", from, n, err)
		}
		c.Close()
	}
}

// TestLANNodesAreHints: a node that is heard is one to try, at the address that
// the beacon came from, and only if it has the key.
func TestLANNodesAreHints(t *testing.T) {
	h, err := newHomes(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newHomes(nil, false); err == nil {
		t.Error("no nodes and no LAN are enough")
	}
	from := netip.MustParseAddr("10.0.0.2")
	verified := func(urls ...string) *protocol.Record {
		s := record(t, time.Hour, urls...)
		r, err := s.Verify(protocol.NodeID{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, second := verified("ws://10.0.0.2:8787", "ws://10.0.0.3:8787", "wss://a.example"), verified("ws://10.0.0.2:8787")
	h.near(first, from)
	if want := []string{"ws://10.0.0.2:8787"}; !slices.Equal(h.list(), want) {
		t.Errorf("the nodes are %q, want %q", h.list(), want)
	}
	select {
	case <-h.fresh:
	default:
		t.Error("nobody is told")
	}
	if !h.isNode("ws://10.0.0.2:8787", first.Node[:]) || h.isNode("ws://10.0.0.2:8787", second.Node[:]) {
		t.Error("it is not the one whose record it was")
	}
	h.near(second, from)
	if !h.isNode("ws://10.0.0.2:8787", second.Node[:]) {
		t.Error("it was started anew and is not believed")
	}
	for i := range 2 * maxHomes {
		h.near(verified("ws://10.0.0.2:"+strconv.Itoa(2000+i)), from)
	}
	if n := len(h.list()); n != maxHomes {
		t.Errorf("%d nodes", n)
	}
}
