package node

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// runNode makes and serves a node that has no outside of its own: the test says
// what it has found.
func runNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n.reach != nil {
		n.reach.neighbours = func() []relay.Neighbour { return nil }
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := n.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// TestOutsideInRecord: what a node finds out comes into its record, with the DHT
// and without, to the nodes it is linked to, and out again.
func TestOutsideInRecord(t *testing.T) {
	for _, dht := range []bool{false, true} {
		b := runNode(t, Config{Listen: "127.0.0.1:0", NoDHT: true, AllowPrivate: true, STUN: none})
		cfg := Config{Listen: ":0", NoDHT: !dht, Bootstrap: []string{"127.0.0.1:1"}, AllowPrivate: true, STUN: "127.0.0.1:0", Peers: []string{"http://" + b.Addr().String()}}
		a := runNode(t, cfg)
		known := func() *protocol.Record {
			for _, o := range b.relay.Neighbours() {
				if o.Node == a.ID() {
					return o.Record
				}
			}
			return nil
		}
		eventually(t, "the link", func() bool { return len(b.relay.Neighbours()) == 1 && len(a.relay.Neighbours()) == 1 })
		if a.finder.own() != nil || known() != nil {
			t.Fatalf("a node that knows of no URL has the record %v, known is %v", a.finder.own(), known())
		}
		_, port, _ := net.SplitHostPort(a.Addr().String())
		url := "ws://127.0.0.1:" + port
		far := "ws://8.1.1.1:40001"
		stun, _, _ := a.icePorts()
		if a.isOwn(far, "") {
			t.Error("a URL that nobody has reached is taken for one of the node's")
		}
		a.onOutside(&outside{public: []netip.Addr{netip.MustParseAddr("8.1.1.1")}, urls: []string{url, far}, stun: reachYes})
		eventually(t, "the record at the other node", func() bool { return known() != nil && slices.Equal(known().URLs, []string{url, far}) })
		if known().STUNPort != stun || !a.isOwn(far, "") || !slices.Equal(a.Self().Public, a.publicAddresses()) || len(a.publicAddresses()) != 1 {
			t.Errorf("STUN port %d, want %d; own: %v; public: %v", known().STUNPort, stun, a.isOwn(far, ""), a.publicAddresses())
		}
		if b, err := json.Marshal(a.Stats()); err != nil || bytes.Contains(b, []byte("8.1.1.1")) || !bytes.Contains(b, []byte(`"reach":{`)) {
			t.Errorf("the totals that all see: %s, %v", b, err)
		}
		a.onOutside(&outside{urls: []string{url}, stun: reachYes, ports: mapped{stun: 40002}})
		eventually(t, "the router's port", func() bool { return known().STUNPort == 40002 && len(known().URLs) == 1 })
		for host, want := range map[string]uint16{"8.1.1.1": 40002, "192.168.1.2": stun, "node.example": stun} {
			a.public.Store(&[]netip.Addr{netip.MustParseAddr("8.1.1.1")})
			if got, _, _ := a.portsAt(host); got != want {
				t.Errorf("who came to %s is told of STUN at %d, want %d", host, got, want)
			}
		}
		a.onOutside(&outside{urls: []string{url}, stun: reachNo})
		eventually(t, "no STUN that is not reached", func() bool { return known().STUNPort == 0 })
		a.onOutside(&outside{stun: reachNo})
		if a.finder.own() != nil || a.isOwn(far, "") {
			t.Errorf("a node that is no longer reached has the record %v", a.finder.own())
		}
	}
}

// TestTrySTUN: a node tries another one's STUN, and is not waiting for ever where
// there is none.
func TestTrySTUN(t *testing.T) {
	n := runNode(t, Config{Listen: "127.0.0.1:0", NoDHT: true, AllowPrivate: true, STUN: "127.0.0.1:0"})
	at := netip.MustParseAddrPort(n.iceSockets.packets.LocalAddr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if !trySTUN(ctx, at) {
		t.Error("a STUN server is not reached")
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if trySTUN(ctx, netip.MustParseAddrPort(silent.LocalAddr().String())) {
		t.Error("one that says nothing is reached")
	}
}

// TestSpokenFor: a link over a trusted proxy is from the node that the proxy
// speaks for, and nobody else is believed.
func TestSpokenFor(t *testing.T) {
	n := runNode(t, Config{Listen: "127.0.0.1:0", NoDHT: true, STUN: none, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for _, tt := range []struct{ from, hops, want string }{
		{"10.0.0.1:99", "8.1.1.1", "8.1.1.1:0"},
		{"10.0.0.1:99", "9.9.9.9, 8.1.1.1, 10.0.0.2", "8.1.1.1:0"},
		{"10.0.0.1:99", "", "10.0.0.1:99"},
		{"10.0.0.1:99", "nonsense", "10.0.0.1:0"},
		{"8.2.2.2:99", "8.1.1.1", "8.2.2.2:99"},
	} {
		q := &http.Request{RemoteAddr: tt.from, Header: http.Header{}}
		if tt.hops != "" {
			q.Header.Set("X-Forwarded-For", tt.hops)
		}
		if got := n.spokenFor(q).RemoteAddr; got != tt.want {
			t.Errorf("from %s for %q: %s, want %s", tt.from, tt.hops, got, tt.want)
		}
	}
}

// TestReachStats: a node on loopback has no outside, another one knows nothing yet.
func TestReachStats(t *testing.T) {
	inside := runNode(t, Config{Listen: "127.0.0.1:0", NoDHT: true, AllowPrivate: true, STUN: none})
	if s := inside.Stats(); s.Reach != nil {
		t.Errorf("on loopback: %+v", s.Reach)
	}
	out := runNode(t, Config{Listen: ":0", NoDHT: true, STUN: none})
	if s := out.Stats(); s.Reach == nil || *s.Reach != (Reach{TCP: reachUnknown, STUN: reachUnknown}) {
		t.Errorf("in the open: %+v", s.Reach)
	}
}
