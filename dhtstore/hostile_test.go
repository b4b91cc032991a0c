package dhtstore

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// A hundred addresses where nobody is do not hide the one where somebody is,
// also on the internet, where few are asked at a time.
func TestGarbageCandidates(t *testing.T) {
	for name, public := range map[string]bool{"private": false, "public": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub()
				h.setDelay(20 * time.Millisecond)
				nodes := startNet(t, h, 12)
				a, b := openStore(t, h, 1, addrs(nodes[:1]), at(h, public)), openStore(t, h, 2, addrs(nodes[:1]), at(h, public))
				time.Sleep(2 * time.Minute)
				a.want(chess)
				time.Sleep(10 * time.Second)
				for i := range 100 {
					liar := netip.AddrFrom4([4]byte{10, 66, byte(i), 1})
					if public {
						liar = netip.AddrFrom4([4]byte{66, 66, byte(i), 1})
					}
					announceAs(h, nodes, netip.AddrPortFrom(liar, 6881), chess)
				}
				w := watch(h, b.addr)
				start := time.Now()
				b.want(chess)
				at, ok := b.finds(chess, a, time.Minute)
				if !ok {
					t.Error("not found")
				}
				w.reset()
				t.Logf("found after %v", at.Sub(start))
				time.Sleep(10 * time.Minute)
				if n := w.count("ps_record"); n > 200 {
					t.Errorf("%d more questions to those who do not answer", n)
				}
			})
		})
	}
}

// at puts a Store on a public address.
func at(h *hub, public bool) func(*Config) {
	return func(c *Config) {
		if public {
			i := c.Key.Public().(ed25519.PublicKey)
			c.Conn = h.listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{88, i[0], i[1], 1}), 8787))
		}
	}
}

// announceAs has all nodes store an announce from any address.
func announceAs(h *hub, nodes []*testServer, from netip.AddrPort, app protocol.AppID) {
	for _, day := range days(time.Now()) {
		key := app.Rendezvous(day)
		for _, n := range nodes {
			p := &probe{h: h, id: [20]byte{'l', 'i', 'a', 'r'}}
			token := n.responder.tokens.issue(from.Addr(), time.Now())
			h.inject(from, n.addr, p.query("announce_peer", map[string]any{"info_hash": key[:], "port": 1, "implied_port": 1, "token": token}))
		}
	}
	time.Sleep(50 * time.Millisecond)
}

// Nodes around the key that answer with hundreds of addresses of nobody: of
// each of them only a few are asked.
func TestLyingResponders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 20)
		a, b := openStore(t, h, 1, addrs(nodes[:1]), at(h, true)), openStore(t, h, 2, addrs(nodes[:1]), at(h, true))
		time.Sleep(2 * time.Minute)
		lies := make(map[netip.AddrPort]bool)
		for i := range 4 { // of the 8 closest
			f := lyingNode(t, h, nodes, i, lies)
			defer f.stop()
		}
		time.Sleep(time.Minute)
		a.want(chess)
		time.Sleep(5 * time.Second)
		w := watch(h, b.addr)
		start := time.Now()
		b.want(chess)
		found, ok := b.finds(chess, a, time.Minute)
		if !ok {
			t.Fatal("not found")
		}
		t.Logf("found after %v", found.Sub(start))
		time.Sleep(5 * time.Second)
		asked := map[netip.AddrPort]bool{}
		w.mu.Lock()
		for _, s := range w.all {
			if s.method == "ps_record" && lies[s.to] {
				asked[s.to] = true
			}
		}
		w.mu.Unlock()
		if len(asked) == 0 || len(asked) > 4*maxFromOne*3 { // three lookups at most in this time
			t.Errorf("%d of the addresses that they made up were asked", len(asked))
		}
	})
}

// lyingNode is one whose id is very close to today's key of chess, and that
// answers get_peers with 200 addresses, or the first of them with 500, which is
// a longer packet than is read.
func lyingNode(t *testing.T, h *hub, nodes []*testServer, i int, lies map[netip.AddrPort]bool) *fake {
	t.Helper()
	key := chess.Rendezvous(days(time.Now())[0])
	var values []byte
	n := 200
	if i == 0 {
		n = 500
	}
	for j := range n {
		lie := netip.AddrPortFrom(netip.AddrFrom4([4]byte{70 + byte(i), byte(j), byte(j >> 8), 1}), 6881)
		lies[lie] = true
		values = appendString(values, appendAddr(nil, lie))
	}
	id := key
	id[19] ^= byte(i + 1)
	f := newFake(h, func(q *query) []byte {
		q.id = id
		fields := map[string]any{"token": "x"}
		if q.method == "get_peers" {
			fields["values"] = bencoded("l" + string(values) + "e")
		}
		return replyBytes(q, fields)
	})
	for _, n := range nodes { // and everybody hears of it
		p := &probe{id: id}
		h.inject(f.addr, n.addr, p.query("ping", nil))
	}
	return f
}

// What one lookup asks at most, on public addresses and on private ones.
func TestCandidateRules(t *testing.T) {
	responder := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{90, 0, byte(i), 1}), 6881)
	}
	public := func(i int) netip.AddrPort { // each in a /24 of its own
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{91, byte(i >> 8), byte(i), 1}), 6881)
	}
	for _, c := range []struct {
		name       string
		responders int
		peers      int // of each, all different
		addr       func(int) netip.AddrPort
		private    bool
		first      int // asked before the last answer has come
		all        int
	}{
		{"3 of one responder", 1, 100, public, true, 3, 3},
		{"64 in all, half of them first", 50, 10, public, true, 32, 64},
		{"2 of a /24", 50, 3, func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{91, 0, byte(i / 75), byte(i)}), 6881)
		}, true, 4, 4},
		{"2 of a /48", 50, 3, func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i / 75), byte(i)}), 6881)
		}, true, 4, 4},
		{"private ones are free", 1, 200, func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, 1}), uint16(2000+i))
		}, true, 200, 200},
		{"private ones are bounded", 10, 200, func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, 1}), uint16(2000+i))
		}, true, maxPrivate, maxPrivate},
		{"private ones are refused on the internet", 1, 200, func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, 1}), uint16(2000+i))
		}, false, 0, 0},
		{"loopback too", 1, 200, func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(2000+i))
		}, false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub()
				s := newStore(t, h, 1, nil, func(cfg *Config) {
					cfg.Private = c.private
					cfg.Conn = h.listenDual(netip.MustParseAddrPort("88.0.0.1:8787"), netip.MustParseAddrPort("[2001:db9::1]:8787"))
				})
				s.serve()
				w := watch(h, netip.MustParseAddrPort("88.0.0.1:8787"))
				if c.addr(0).Addr().Is6() {
					w = watch(h, netip.MustParseAddrPort("[2001:db9::1]:8787"))
				}
				cs := s.newCandidates(func(*protocol.Record, netip.AddrPort, bool) { t.Error("found") })
				for i := range c.responders {
					var peers []netip.AddrPort
					for j := range c.peers {
						peers = append(peers, c.addr(i*c.peers+j))
					}
					cs.offer(t.Context(), responder(i), peers)
				}
				time.Sleep(3 * time.Minute)
				if got := w.different("ps_record"); got != c.first {
					t.Errorf("%d were asked first, want %d", got, c.first)
				}
				cs.finish(t.Context())
				if got := w.different("ps_record"); got != c.all {
					t.Errorf("%d were asked, want %d", got, c.all)
				}
			})
		})
	}
}

// Sixteen are asked at a time, and one that did not answer is left alone, longer
// each time.
func TestCandidatesAtOnceAndBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := newStore(t, h, 1, nil)
		s.serve()
		w := watch(h, s.addr)
		var peers []netip.AddrPort
		for i := range 50 {
			peers = append(peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, byte(i)}), 6881))
		}
		ask := func(peers []netip.AddrPort) (asked int) {
			w.reset()
			c := s.newCandidates(nil)
			c.offer(t.Context(), s.addr, peers)
			synctest.Wait()
			if n := w.different("ps_record"); n != min(len(peers), probesAtOnce) && n != 0 {
				t.Errorf("%d at once", n)
			}
			c.finish(t.Context())
			return w.different("ps_record")
		}
		if n := ask(peers); n != 50 {
			t.Errorf("%d asked", n)
		}
		if n := ask(peers); n != 0 {
			t.Errorf("%d asked again at once", n)
		}
		one := peers[:1]
		last := time.Now()
		for _, want := range []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute} {
			for ask(one) == 0 {
				time.Sleep(time.Second)
			}
			if d := time.Since(last); d < want-5*time.Second || d > want+7*time.Second {
				t.Errorf("asked again after %v, want %v", d, want)
			}
			last = time.Now()
		}
	})
}

// Records that are not to be believed, from nodes that announce them, and one
// that is.
func TestLyingRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 12)
		honest, b := openStore(t, h, 1, addrs(nodes[:1])), openStore(t, h, 2, addrs(nodes[:1]))
		time.Sleep(2 * time.Minute)
		honest.want(chess)
		liars := make(map[protocol.NodeID]string)
		for i, name := range []string{
			"seq of 2^62", "seq ahead of the clock", "negative seq", "expired", "signature flipped", "wrong key", "two strings", "too long", "no URL scheme", "empty",
		} {
			key := testKey(100 + i)
			liars[nodeID(100+i)] = name
			f := newFake(h, func(q *query) []byte {
				if q.method != "ps_record" {
					return replyBytes(q, nil)
				}
				r := lyingRecord(t, name, key)
				return replyBytes(q, map[string]any{"k": r.Key, "seq": r.Seq, "sig": r.Signature, "v": bencoded(r.Value)})
			})
			defer f.stop()
			announceAs(h, nodes, f.addr, chess)
		}
		good := newFake(h, func(q *query) []byte { // the same without a lie, or the test proves nothing
			r := lyingRecord(t, "", testKey(99))
			return replyBytes(q, map[string]any{"k": r.Key, "seq": r.Seq, "sig": r.Signature, "v": bencoded(r.Value)})
		})
		defer good.stop()
		announceAs(h, nodes, good.addr, chess)
		b.want(chess)
		b.mustFind(chess, honest, 20*time.Second)
		b.mustFind(chess, &testStore{Store: &Store{self: nodeID(99)}}, 20*time.Second)
		time.Sleep(10 * time.Minute)
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, f := range b.found[chess] {
			if name, ok := liars[f.node]; ok {
				t.Errorf("%s was believed", name)
			}
		}
	})
}

func lyingRecord(t *testing.T, lie string, key ed25519.PrivateKey) *protocol.SignedRecord {
	t.Helper()
	now := time.Now()
	r := &protocol.Record{Seq: now.UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"ws://10.0.0.1:8787"}}
	switch lie {
	case "seq of 2^62":
		r.Seq = 1 << 62
	case "seq ahead of the clock":
		r.Seq = now.Add(protocol.RecordAhead + time.Second).UnixMilli()
	case "negative seq":
		r.Seq = -1
	case "expired":
		r.Seq = now.Add(-protocol.RecordTTL - time.Second).UnixMilli()
	case "no URL scheme":
		r.URLs = []string{"10.0.0.1:8787"}
	}
	if err := protocol.SignRecord(key, r); err != nil {
		t.Error(err)
		return nil
	}
	s := r.Signed
	switch lie {
	case "signature flipped":
		s.Signature[7] ^= 1
	case "wrong key":
		s.Key = bytes.Clone(testKey(1).Public().(ed25519.PublicKey))
	case "two strings":
		resign(key, s, append(bytes.Clone(s.Value), "0:"...))
	case "too long":
		resign(key, s, appendString(nil, make([]byte, protocol.MaxRecord)))
	case "empty":
		resign(key, s, []byte("0:"))
	}
	return s
}

// resign signs any value.
func resign(key ed25519.PrivateKey, s *protocol.SignedRecord, value []byte) {
	it := signedItem(key, protocol.RecordSalt, s.Seq, value)
	s.Value, s.Signature = value, it.Sig[:]
}

// Of one node an older record is not believed once a later one was seen,
// wherever it comes from.
func TestOlderRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := newStore(t, h, 1, nil)
		s.serve()
		key := testKey(50)
		signed := func(ago time.Duration) *protocol.SignedRecord {
			r := &protocol.Record{Seq: time.Now().Add(-ago).UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"ws://10.0.0.1:8787"}}
			if err := protocol.SignRecord(key, r); err != nil {
				t.Fatal(err)
			}
			return r.Signed
		}
		now, before, after := signed(time.Minute), signed(2*time.Minute), signed(0)
		var said atomic.Pointer[protocol.SignedRecord]
		f := newFake(h, func(q *query) []byte {
			says := said.Load()
			return replyBytes(q, map[string]any{"k": says.Key, "seq": says.Seq, "sig": says.Signature, "v": bencoded(says.Value)})
		})
		defer f.stop()
		for _, c := range []struct {
			r  *protocol.SignedRecord
			ok bool
		}{{now, true}, {before, false}, {now, true}, {after, true}, {now, false}} {
			time.Sleep(freshFor + time.Second) // or it is not asked
			said.Store(c.r)
			if _, err := s.ask(t.Context(), f.addr); (err == nil) != c.ok {
				t.Errorf("%d: %v", c.r.Seq, err)
			}
		}
	})
}
