package dhtstore

import (
	"bytes"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/dht/v2/krpc"
	peer_store "github.com/anacrolix/dht/v2/peer-store"
)

// What is wrong with the library, row by row of the table that the responder
// was made after, and here shown to be right. "library" subtests show the
// defect itself, where a test can: if one of them fails, the library has been
// repaired, and what we do instead may have become needless.

// TestRow1 is the one packet that kills a process: announce_peer or put
// without arguments.
func TestRow1(t *testing.T) {
	t.Run("library", func(t *testing.T) { dies(t, "announce") })
	packets := []string{
		"d1:q13:announce_peer1:t2:aa1:y1:qe", "d1:q3:put1:t2:aa1:y1:qe", "d1:q3:get1:t2:aa1:y1:qe",
		"d1:q9:get_peers1:t2:aa1:y1:qe", "d1:q9:find_node1:t2:aa1:y1:qe", "d1:q4:ping1:t2:aa1:y1:qe",
		"d1:ade1:q13:announce_peer1:t2:aa1:y1:qe", "d1:a0:1:q3:put1:t2:aa1:y1:qe", "d1:t2:aa1:y1:qe",
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		p := newProbe(h, s)
		for _, packet := range packets {
			if _, code := p.exchange(t, []byte(packet)); code != errProtocol {
				t.Errorf("%s: error %d, want %d", packet, code, errProtocol)
			}
		}
		p.stillAnswers(t)
	})
}

// TestPanicsOfTheDecoder: the library's decoder panics on an address of less
// than two bytes, and takes a length for granted.
func TestPanicsOfTheDecoder(t *testing.T) {
	t.Run("library", func(t *testing.T) { dies(t, "address") })
	packets := []string{
		"d2:ip0:1:t2:aa1:y1:re", "d1:rd2:id20:aaaaaaaaaaaaaaaaaaaa6:valuesl0:ee1:t2:aa1:y1:re",
		"d1:rd2:id134217727:", "d1:eli1ee1:t2:aa1:y1:ee", "d1:rd2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes3:abce1:t2:aa1:y1:re",
		strings.Repeat("d1:a", 500), "d1:y" + strings.Repeat("l", 2000) + strings.Repeat("e", 2001),
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		answerer := newFake(h, func(q *query) []byte {
			i := int(q.target[0])
			if q.target != [20]byte{q.target[0]} || i >= len(packets) {
				return nil // not the question below
			}
			body := packets[i]
			return []byte(strings.Replace(body, "1:t2:aa", "1:t"+string(appendString(nil, q.t)), 1))
		})
		defer answerer.stop()
		p := newProbe(h, s)
		for i, packet := range packets {
			p.exchange(t, []byte(packet))
			if r, err := s.findNode(t.Context(), answerer.addr, [20]byte{byte(i)}); err == nil && len(r.Nodes) > 0 {
				t.Errorf("%.40s: got %v", packet, r)
			}
		}
		p.stillAnswers(t)
	})
}

// TestRow2: an answer to get with a key but no sequence.
func TestRow2(t *testing.T) {
	t.Run("library", func(t *testing.T) { dies(t, "getput") })
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		it := testItem(1, 7)
		whole := map[string]any{"k": it.Key[:], "seq": it.Seq, "sig": it.Sig[:], "v": bencoded(it.V), "token": "tok"}
		for missing := range whole {
			if missing == "token" {
				continue
			}
			part := maps.Clone(whole)
			delete(part, missing)
			answerer := newFake(h, func(q *query) []byte { return replyBytes(q, part) })
			r, err := s.get(t.Context(), answerer.addr, it.target(), 0)
			answerer.stop()
			if err != nil || r.Item != nil || r.Token != "tok" {
				t.Errorf("without %s: got %+v, %v", missing, r, err)
			}
		}
		answerer := newFake(h, func(q *query) []byte { return replyBytes(q, whole) })
		defer answerer.stop()
		r, err := s.get(t.Context(), answerer.addr, it.target(), 0)
		if err != nil || r.Item == nil || string(r.Item.V) != string(it.V) || r.Item.Sig != it.Sig || r.Seq != 7 {
			t.Errorf("whole: got %+v, %v", r, err)
		}
	})
}

// TestRows3And4: the answers to find_node and get are the nodes closest to
// target, not to info_hash; 8 of them, sorted, whichever buckets they are in.
func TestRows3And4(t *testing.T) {
	t.Run("library", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHub()
			asked := libraryServer(t, h, nil)
			right := answersClosest(t, h, asked.addr, func() []node {
				var all []node
				for _, n := range asked.Nodes() {
					all = append(all, node{n.ID, addrPort(n.Addr)})
				}
				return all
			})
			if right > 4 {
				t.Errorf("%d of 40 answers were right", right)
			}
		})
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		asked := startServer(t, h)
		if right := answersClosest(t, h, asked.addr, asked.nodes); right != 40 {
			t.Errorf("%d of 40 answers were right", right)
		}
	})
}

// answersClosest has 60 nodes ask s something, asks it for the nodes closest to
// 20 targets, by find_node and by get, and counts the answers that were the
// sorted 8 closest of those it knows.
func answersClosest(t *testing.T, h *hub, to netip.AddrPort, known func() []node) (right int) {
	t.Helper()
	for range 60 {
		f := newFake(h, func(q *query) []byte { return replyBytes(q, nil) })
		defer f.stop()
		p := &probe{h: h, conn: f.hubConn, to: to, id: f.id}
		h.inject(p.conn.addr, to, p.query("ping", nil))
		time.Sleep(time.Second)
	}
	time.Sleep(3 * time.Minute)
	all := known()
	if len(all) < 20 {
		t.Fatalf("the node knows %d others", len(all))
	}
	p := &probe{h: h, conn: h.listen(netip.AddrPort{}), to: to}
	for i := range 40 {
		target := testItem(i, 1).target()
		method := []string{"find_node", "get"}[i%2]
		r, _ := p.exchange(t, p.query(method, map[string]any{"target": target[:]}))
		slices.SortFunc(all, func(a, b node) int { return byDistance(a.ID, b.ID, target) })
		var want []byte
		for _, n := range all[:8] {
			want = appendAddr(append(want, n.ID[:]...), n.Addr)
		}
		if got, _ := stringOf(r["nodes"]); bytes.Equal(got, want) {
			right++
		}
		time.Sleep(time.Second)
	}
	return right
}

// TestRow5: cas is compared with the sequence of what is stored.
func TestRow5(t *testing.T) {
	t.Run("library", func(t *testing.T) {
		stored := &bep44.Item{V: "a", Seq: 5}
		if err := bep44.CheckIncoming(stored, &bep44.Item{V: "b", Seq: 6, Cas: 4}); err != nil {
			t.Errorf("cas 4 on an item of seq 5 is refused: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		p := newProbe(h, startServer(t, h))
		for _, c := range []struct {
			seq  int64
			cas  any
			code int
		}{{5, nil, 0}, {6, 4, errCAS}, {6, 6, errCAS}, {6, 5, 0}, {7, nil, 0}, {8, 6, errCAS}, {8, 7, 0}, {9, 0, errCAS}} {
			if code := p.put(t, testItem(1, c.seq), c.cas); code != c.code {
				t.Errorf("seq %d, cas %v: %d, want %d", c.seq, c.cas, code, c.code)
			}
		}
	})
}

// TestRow6: several ports of one address are several peers, and what comes out
// is what went in.
func TestRow6(t *testing.T) {
	infohash := [20]byte{1, 2, 3}
	t.Run("library", func(t *testing.T) {
		var store peer_store.InMemory
		ip := net.IPv4(10, 1, 2, 3).To4()
		store.AddPeer(infohash, krpc.NodeAddr{IP: ip, Port: 1001})
		store.AddPeer(infohash, krpc.NodeAddr{IP: ip, Port: 1002})
		got := store.GetPeers(infohash)
		if len(got) != 1 || len(got[0].IP) == net.IPv4len {
			t.Errorf("got %v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		p := newProbe(h, startServer(t, h))
		for _, port := range []int{1001, 1002, 0} {
			args := map[string]any{"info_hash": infohash[:], "port": port, "token": p.token(t, infohash)}
			if port == 0 {
				args["implied_port"] = 1
			}
			if _, code := p.exchange(t, p.query("announce_peer", args)); code != 0 {
				t.Fatalf("error %d", code)
			}
		}
		r, _ := p.exchange(t, p.query("get_peers", map[string]any{"info_hash": infohash[:]}))
		got := map[netip.AddrPort]bool{}
		for v := range itemsOf(r["values"]) {
			s, _ := stringOf(v)
			a, _ := parseAddr(s, false)
			got[a] = true
		}
		ip := p.conn.addr.Addr()
		want := map[netip.AddrPort]bool{netip.AddrPortFrom(ip, 1001): true, netip.AddrPortFrom(ip, 1002): true, p.conn.addr: true}
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestRow7: get_peers always comes with a token.
func TestRow7(t *testing.T) {
	ask := func(t *testing.T, p *probe) []byte {
		r, _ := p.exchange(t, p.query("get_peers", map[string]any{"info_hash": make([]byte, 20)}))
		return r["token"]
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		if token := ask(t, &probe{h: h, to: libraryServer(t, h, nil).addr, conn: h.listen(netip.AddrPort{})}); token != nil {
			t.Errorf("library: got token %q", token)
		}
		if token := ask(t, newProbe(h, startServer(t, h))); token == nil {
			t.Error("got no token")
		}
	})
}

// TestRow8: a node is asked for nodes of its own family only, and one that
// lists itself and others as v4-mapped addresses too is not counted twice.
func TestRow8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		var wanted atomic.Pointer[[]byte]
		friend := node{[20]byte{7}, netip.MustParseAddrPort("10.200.0.1:6881")}
		answerer := newFake(h, func(q *query) []byte {
			wanted.Store(&q.args)
			mapped := netip.AddrPortFrom(netip.AddrFrom16(friend.Addr.Addr().As16()), friend.Addr.Port())
			n4, n6 := appendAddr(friend.ID[:], friend.Addr), appendAddr(friend.ID[:], mapped)
			return replyBytes(q, map[string]any{"nodes": append(n4, n4...), "nodes6": append(n6, n6...), "token": "t"})
		})
		defer answerer.stop()
		r, err := s.get(t.Context(), answerer.addr, [20]byte{}, 0)
		if err != nil || !slices.Equal(r.Nodes, []node{friend}) {
			t.Errorf("got %+v, %v", r, err)
		}
		if asked := *wanted.Load(); !bytes.Contains(asked, []byte("4:wantl2:n4e")) {
			t.Errorf("asked %q", asked)
		}
	})
}
