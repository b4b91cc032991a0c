package dhtstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// TestWalkCosts: lookups among 100 nodes take some 17 queries in a few rounds.
func TestWalkCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.setDelay(10 * time.Millisecond)
		n := 100
		if underRace {
			n = 40
		}
		nodes := startNet(t, h, n)
		time.Sleep(2 * time.Minute)
		for i := range 20 {
			target := testItem(i, 1).target()
			s := nodes[i]
			start := time.Now()
			closest, stats := s.traverse(t.Context(), walk{target: target, do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
				return s.findNode(ctx, addr, target)
			}})
			took := time.Since(start)
			for j := 1; j < len(closest); j++ {
				if closer(closest[j].ID, closest[j-1].ID, target) {
					t.Errorf("walk %d: not in order", i)
				}
			}
			if len(closest) != 8 || stats.Queries != stats.Replies || stats.Queries > 40 || stats.Rounds < 1 || stats.Rounds > 6 {
				t.Errorf("walk %d: %d nodes, %+v", i, len(closest), stats)
			}
			if want := time.Duration(stats.Rounds) * 20 * time.Millisecond; took < want || took > 4*want+100*time.Millisecond {
				t.Errorf("walk %d: %v for %d rounds", i, took, stats.Rounds)
			}
		}
	})
}

// TestEndlessWalk: liars who name each other, ever closer to what is looked
// for, make a walk no longer than 128 queries.
func TestEndlessWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		var liars [500]*fake
		id := func(i int) (id [20]byte) { // the closer to zero, the greater i is
			binary.BigEndian.PutUint32(id[:], uint32(10_000-i))
			return id
		}
		var mu sync.Mutex
		for i := range liars {
			liars[i] = newFake(h, func(q *query) []byte {
				mu.Lock()
				defer mu.Unlock()
				var nodes []byte
				for j := i + 1; j <= i+3 && j < len(liars); j++ {
					it := id(j)
					nodes = appendAddr(append(nodes, it[:]...), liars[j].addr)
				}
				own := id(i)
				return replyBytes(q, map[string]any{"id": own[:], "nodes": nodes, "token": "t"})
			})
			defer liars[i].stop()
		}
		_, stats := s.traverse(t.Context(), walk{seeds: []netip.AddrPort{liars[0].addr}, do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
			return s.get(ctx, addr, [20]byte{}, 0)
		}})
		if stats.Queries < walkLength-8 || stats.Queries > walkLength {
			t.Errorf("%+v", stats)
		}
	})
}

// TestOneNetworkIsOneNode: an attacker with one address cannot be more than one
// of the 8 closest, however many ids it makes up; nor can one whose id BEP 42
// forbids be any of them.
func TestOneNetworkIsOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := runServer(t, serverConfig{Conn: h.listen(netip.MustParseAddrPort("80.9.9.9:6881"))})
		var all []byte
		add := func(addr string, id [20]byte) {
			a := netip.MustParseAddrPort(addr)
			f := fakeAt(h, a, func(q *query) []byte {
				return replyBytes(q, map[string]any{"id": id[:], "nodes": all, "token": "t"})
			})
			t.Cleanup(f.stop)
			all = appendAddr(append(all, id[:]...), a)
		}
		for i := range 6 {
			add(fmt.Sprintf("80.0.0.1:%d", i+1), secureID(netip.MustParseAddr("80.0.0.1")))
		}
		for i := range 4 {
			ip := fmt.Sprintf("80.0.1.%d", i+1)
			add(ip+":1", secureID(netip.MustParseAddr(ip)))
		}
		add("80.0.2.1:1", [20]byte{1, 2, 3})
		closest, _ := s.traverse(t.Context(), walk{seeds: []netip.AddrPort{netip.MustParseAddrPort("80.0.1.1:1")}, do: func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
			return s.get(ctx, addr, [20]byte{}, 0)
		}})
		count := map[netip.Addr]int{}
		for _, n := range closest {
			count[n.Addr.Addr()]++
		}
		if len(count) != 5 || len(closest) != 5 || count[netip.MustParseAddr("80.0.0.1")] != 1 {
			t.Errorf("got %v", count)
		}
	})
}

// TestNoPacketsIntoOurNetwork: a node on the internet cannot have us send
// packets to addresses of our own network.
func TestNoPacketsIntoOurNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := runServer(t, serverConfig{Conn: h.listen(netip.MustParseAddrPort("80.9.9.9:6881"))})
		inside := []string{"192.168.1.1:53", "127.0.0.1:53", "10.0.0.1:53", "169.254.169.254:80", "224.0.0.1:1", "0.0.0.0:1", "80.1.1.1:0"}
		var nodes []byte
		var values []byte
		for i, a := range append(inside, "80.1.1.1:1") {
			addr := netip.MustParseAddrPort(a)
			nodes = appendAddr(append(nodes, bytes.Repeat([]byte{byte(i)}, 20)...), addr)
			values = appendString(values, appendAddr(nil, addr))
		}
		answer := func(q *query) []byte {
			return replyBytes(q, map[string]any{"nodes": nodes, "values": bencoded("l" + string(values) + "e"), "token": "t"})
		}
		outside := fakeAt(h, netip.MustParseAddrPort("80.2.2.2:1"), answer)
		defer outside.stop()
		near := fakeAt(h, netip.MustParseAddrPort("192.168.7.7:1"), answer)
		defer near.stop()
		r, err := s.getPeers(t.Context(), outside.addr, [20]byte{})
		if err != nil || len(r.Nodes) != 1 || len(r.Peers) != 1 || r.Peers[0] != netip.MustParseAddrPort("80.1.1.1:1") {
			t.Errorf("from outside: %+v, %v", r, err)
		}
		r, err = s.getPeers(t.Context(), near.addr, [20]byte{})
		if err != nil || len(r.Nodes) != 5 || len(r.Peers) != 5 {
			t.Errorf("from our own network: %+v, %v", r, err)
		}
	})
}

// TestPublicAddress: what most see is our address, and our id becomes one that
// BEP 42 allows there; the table stays.
func TestPublicAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		var bootstrap []string
		for i := range 9 {
			addr := netip.MustParseAddrPort(fmt.Sprintf("80.%d.1.1:6881", i+1))
			runServer(t, serverConfig{Conn: h.listen(addr), NodeID: secureID(addr.Addr()), Bootstrap: bootstrap})
			bootstrap = []string{"80.1.1.1:6881"}
		}
		own := netip.MustParseAddrPort("90.1.1.1:6881")
		s := runServer(t, serverConfig{Conn: h.listen(own), NodeID: [20]byte{1, 2, 3}, Bootstrap: bootstrap})
		liar := fakeAt(h, netip.MustParseAddrPort("80.77.1.1:1"), func(q *query) []byte {
			b := replyBytes(q, nil)
			return append([]byte("d2:ip6:abcdef"), b[1:]...)
		})
		defer liar.stop()
		_, _ = s.ping(t.Context(), liar.addr)
		if got := s.publicAddr(false); got.IsValid() {
			t.Errorf("one vote is enough: %v", got)
		}
		time.Sleep(5 * time.Minute)
		if got := s.publicAddr(false); got != own {
			t.Errorf("got %v, want %v", got, own)
		}
		if id := s.id(); !secure(id, own.Addr()) || id == [20]byte{1, 2, 3} {
			t.Errorf("id %x", id)
		}
		if n := len(s.nodes()); n < 8 {
			t.Errorf("knows %d nodes", n)
		}
		r, err := s.ping(t.Context(), own) // as others see it
		if err != nil || r.ID != s.id() {
			t.Errorf("answers with %v, %v", r, err)
		}
		probe := &probe{h: h, conn: h.listen(netip.MustParseAddrPort("90.2.2.2:1")), to: netip.MustParseAddrPort("80.5.1.1:6881")}
		id := s.id()
		answer, _ := probe.exchange(t, probe.query("find_node", map[string]any{"target": id[:]}))
		if want := appendAddr(id[:], own); !bytes.Contains(answer["nodes"], want) {
			t.Errorf("others do not know the new id: %q", answer["nodes"])
		}
	})
}

// TestBootstrapComesLate: a node that starts first finds the others as soon as
// they are there.
func TestBootstrapComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		late := netip.MustParseAddrPort("10.7.7.7:6881")
		early := runServer(t, serverConfig{Conn: h.listen(netip.AddrPort{}), Private: true, Bootstrap: []string{late.String(), "nonsense"}})
		select {
		case <-early.ready(false):
			t.Error("ready, with nobody there")
		case <-time.After(20 * time.Minute):
		}
		runServer(t, serverConfig{Conn: h.listen(late), Private: true})
		start := time.Now()
		<-early.ready(false)
		if took := time.Since(start); took > bootstrapMax+time.Second {
			t.Errorf("found after %v", took)
		}
		time.Sleep(time.Second)
		if n := early.stats().Nodes4; n != 1 {
			t.Errorf("knows %d nodes", n)
		}
	})
}

// TestRestart: with its nodes kept a server needs no bootstrap node.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 10)
		time.Sleep(time.Minute)
		kept := append(nodes[4].nodes(), node{[20]byte{1}, netip.MustParseAddrPort("10.99.0.1:1")}, node{}, node{ID: [20]byte{2}})
		s, err := newServer(serverConfig{Conn: h.listen(netip.AddrPort{}), Private: true})
		if err != nil {
			t.Fatal(err)
		}
		s.addNodes(kept)
		if n := len(s.nodes()); n != 0 {
			t.Errorf("%d nodes are used before they have answered", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.serve(ctx) }()
		<-s.ready(false)
		time.Sleep(2 * time.Second)
		if n := len(s.nodes()); n < 9 {
			t.Errorf("%d nodes of 9", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func longURL(n int) string { return "wss://" + strings.Repeat("a.", n) + "b" }

// TestRecord: ps_record answers with the node's own record, to a query as long
// as that.
func TestRecord(t *testing.T) {
	r := &protocol.Record{Seq: epoch.UnixMilli(), TTL: time.Hour, STUNPort: 3478}
	r.URLs = []string{longURL(120), longURL(120), longURL(100), longURL(0)}
	for n := 0; protocol.SignRecord(testKey(1), r) == nil; n++ { // to be as long as a record can be
		r.URLs[3] = longURL(n)
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		var own *protocol.SignedRecord
		s := runServer(t, serverConfig{Conn: h.listen(netip.AddrPort{}), Private: true, Record: func() *protocol.SignedRecord { return own }})
		asker := startServer(t, h)
		if _, err := asker.record(t.Context(), s.addr); !refusedWith(err, errMethod) {
			t.Errorf("without a record: %v", err)
		}
		if _, err := s.record(t.Context(), asker.addr); !refusedWith(err, errMethod) {
			t.Errorf("of a node that is none of ours: %v", err)
		}
		own = r.Signed
		got, err := asker.record(t.Context(), s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := got.Verify(r.Node, epoch); err != nil || v.STUNPort != 3478 {
			t.Errorf("got %v, %v", v, err)
		}
		p := newProbe(h, s)
		for pad, want := range map[int]int{0: errProtocol, 700: errProtocol, recordPadding: 0} {
			packet := p.query("ps_record", map[string]any{"v": string(make([]byte, pad))})
			_, raw := p.raw(packet)
			if m, _ := parsePacket(raw); len(raw) > len(packet) && pad > 0 || (m.kind == 'r') != (want == 0) {
				t.Errorf("a query of %d bytes has an answer of %d: %q", len(packet), len(raw), raw)
			}
		}
	})
}

// refusedWith says whether err is another node's refusal with that code.
func refusedWith(err error, code int) bool {
	r, ok := errors.AsType[refusal](err)
	return ok && r.Code == code
}
