package dhtstore

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var epoch = time.UnixMilli(1_700_000_000_000)

func testAddr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{80, byte(n >> 16), byte(n >> 8), byte(n)}), 6881)
}

// TestStoresAreBounded is row 10.
func TestStoresAreBounded(t *testing.T) {
	items := newItemStore()
	for i := range maxItems + 10 {
		it := storedItem{item: item{V: appendInt(nil, int64(i))}}
		if i == maxItems {
			items.get(immutable(0), epoch) // used, so it stays
		}
		if err := items.put(it, nil, netip.Addr{}, epoch); err != nil {
			t.Fatal(err)
		}
	}
	if n := items.items.len(); n != maxItems {
		t.Errorf("%d items", n)
	}
	for i, want := range map[int]bool{0: true, 1: false, 10: false, 11: true, maxItems + 9: true} {
		if got := items.get(immutable(i), epoch) != nil; got != want {
			t.Errorf("item %d: %v", i, got)
		}
	}

	peers := newPeerStore()
	for i := range maxInfohashes + 10 {
		peers.add([20]byte{byte(i), byte(i >> 8)}, testAddr(i), false, netip.Addr{}, epoch)
	}
	if n := peers.swarms.len(); n != maxInfohashes {
		t.Errorf("%d infohashes", n)
	}
	for i := range maxSwarm + 10 {
		peers.add([20]byte{'x'}, testAddr(i), false, netip.Addr{}, epoch.Add(time.Duration(i)*time.Second))
	}
	now := epoch.Add(10 * time.Minute)
	got := peers.get([20]byte{'x'}, false, 2*maxSwarm, now)
	if len(got) != maxSwarm {
		t.Errorf("%d peers", len(got))
	}
	for _, p := range got {
		if a := p.Addr().As4(); a[2] == 0 && a[3] < 10 {
			t.Errorf("the oldest, %v, is still there", p)
		}
	}
	if n := len(peers.get([20]byte{'x'}, false, 7, now)); n != 7 {
		t.Errorf("got %d peers of 7 asked for", n)
	}
	later := epoch.Add(peerTTL + 100*time.Second)
	if n := len(peers.get([20]byte{'x'}, false, maxSwarm, later)); n != maxSwarm+10-101 {
		t.Errorf("%d peers are left when 101 have expired", n)
	}
}

func immutable(i int) [20]byte {
	it := storedItem{item: item{V: appendInt(nil, int64(i))}}
	return it.target()
}

// TestOneCannotCrowdOut: one address loses entries of its own when it has an
// eighth of a store, and its own ports when it has 8 in one swarm.
func TestOneCannotCrowdOut(t *testing.T) {
	greedy, honest := netip.MustParseAddr("80.1.1.1"), netip.MustParseAddr("80.2.2.2")
	l := newLRU[int, string](80, time.Hour)
	for i := range 70 {
		l.put(i, "honest", netip.AddrFrom4([4]byte{80, 2, 2, byte(i)}), epoch)
	}
	for i := 100; i < 1000; i++ {
		l.put(i, "greedy", greedy, epoch)
	}
	if l.len() != 80 || l.shares[greedy] != 10 || l.get(0, epoch) == nil || l.get(990, epoch) == nil {
		t.Errorf("%d entries, %d of them greedy's", l.len(), l.shares[greedy])
	}
	for i := range 1000 {
		l.put(1000+i, "nobody's", netip.Addr{}, epoch)
	}
	if l.len() != 80 || len(l.shares) != 0 {
		t.Errorf("%d entries; shares %v", l.len(), l.shares)
	}

	peers := newPeerStore()
	peers.add([20]byte{}, netip.AddrPortFrom(honest, 1), false, netip.Addr{}, epoch)
	for port := range 1000 {
		peers.add([20]byte{}, netip.AddrPortFrom(greedy, uint16(port+1)), false, netip.Addr{}, epoch)
	}
	got := peers.get([20]byte{}, false, 1000, epoch)
	if len(got) != 1+maxPortsPerNet || got[0].Addr() != honest || got[8].Port() != 1000 {
		t.Errorf("got %v", got)
	}
	for port := range 100 {
		peers.add([20]byte{1}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port+1)), true, netip.Addr{}, epoch)
	}
	if n := len(peers.get([20]byte{1}, false, 1000, epoch)); n != 100 {
		t.Errorf("of one machine %d nodes of 100", n)
	}
}

// TestFamiliesAreApart: no IPv6 data in the IPv4 DHT (BEP 32).
func TestFamiliesAreApart(t *testing.T) {
	peers := newPeerStore()
	v4, v6 := netip.MustParseAddrPort("80.1.1.1:1"), netip.MustParseAddrPort("[2a00::1]:1")
	for _, p := range []netip.AddrPort{v4, v6} {
		peers.add([20]byte{}, p, false, netip.Addr{}, epoch)
	}
	for _, want := range []netip.AddrPort{v4, v6} {
		if got := peers.get([20]byte{}, want.Addr().Is6(), 10, epoch); len(got) != 1 || got[0] != want {
			t.Errorf("got %v", got)
		}
	}
}

// TestPut has each reason to refuse an item, in the order of the checks: each
// case has also what later checks would refuse.
func TestPut(t *testing.T) {
	key := testKey(1)
	value := func(n int) []byte { return appendString(nil, make([]byte, n)) }
	signed := func(seq int64, salt string, v []byte) storedItem {
		return storedItem{true, *signedItem(key, salt, seq, v)}
	}
	broken := func(i storedItem) storedItem {
		i.Sig[7] ^= 1
		return i
	}
	five, six := int64(5), int64(6)
	s := newItemStore()
	for _, c := range []struct {
		name string
		item storedItem
		cas  *int64
		code int
	}{
		{"v of 1001 bytes, salt of 65", broken(signed(1, string(make([]byte, 65)), value(997))), nil, errTooBig},
		{"salt of 65 bytes", broken(signed(1, string(make([]byte, 65)), value(996))), nil, errSalt},
		{"unsorted keys", signed(1, "s", []byte("d1:b0:1:a0:e")), nil, errProtocol},
		{"negative seq", signed(-1, "s", value(1)), nil, errProtocol},
		{"bad signature", broken(signed(5, "s", value(1))), nil, errSignature},
		{"v of 1000 bytes, salt of 64", signed(5, string(make([]byte, 64)), value(996)), nil, 0},
		{"first, with a cas", signed(5, "s", value(1)), &six, 0},
		{"other cas, lower seq", signed(4, "s", value(1)), &six, errCAS},
		{"lower seq, its cas", signed(4, "s", value(1)), &five, errSeq},
		{"same seq, other value", signed(5, "s", value(2)), nil, errSeq},
		{"same again", signed(5, "s", value(1)), nil, 0},
		{"higher seq, its cas", signed(6, "s", value(2)), &five, 0},
		{"bad signature, higher seq", broken(signed(7, "s", value(2))), nil, errSignature},
		{"no salt", signed(1, "", value(1)), nil, 0},
		{"highest seq there is", signed(1<<63-1, "", value(1)), nil, 0},
		{"immutable", storedItem{item: item{V: value(9)}}, nil, 0},
		{"immutable again, with a cas", storedItem{item: item{V: value(9)}}, &five, 0},
	} {
		code := 0
		if err := s.put(c.item, c.cas, netip.Addr{}, epoch); err != nil {
			code = err.Code
		}
		if code != c.code {
			t.Errorf("%s: got %d, want %d", c.name, code, c.code)
		}
		if got := s.get(c.item.target(), epoch); c.code == 0 && (got == nil || string(got.V) != string(c.item.V) || got.Seq != c.item.Seq) {
			t.Errorf("%s: is not stored", c.name)
		}
	}
}

func TestTokens(t *testing.T) {
	a, b := netip.MustParseAddr("80.1.1.1"), netip.MustParseAddr("80.1.1.2")
	tokens := newTokens()
	start := epoch.Truncate(tokenEpoch)
	token := tokens.issue(a, start)
	for after, want := range map[time.Duration]bool{0: true, tokenEpoch: true, 2*tokenEpoch - 1: true, 2 * tokenEpoch: false, -1: false} {
		if got := tokens.valid(token, a, start.Add(after)); got != want {
			t.Errorf("after %v: %v", after, got)
		}
	}
	if tokens.valid(token, b, start) || newTokens().valid(token, a, start) || tokens.valid(token[:7], a, start) || tokens.valid(nil, a, start) {
		t.Error("a token is good for another address, at another node, or in part")
	}
}

// TestBadTokens: nothing is stored without a token of that address.
func TestBadTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := startServer(t, h)
		p, other := newProbe(h, s), newProbe(h, s)
		it := testItem(1, 1)
		target := it.target()
		for _, token := range []any{nil, "", "12345678", other.token(t, target), 7} {
			put := map[string]any{"k": it.Key[:], "salt": it.Salt, "seq": it.Seq, "sig": it.Sig[:], "v": bencoded(it.V)}
			announce := map[string]any{"info_hash": target[:], "port": 7}
			if token != nil {
				put["token"], announce["token"] = token, token
			}
			for method, args := range map[string]map[string]any{"put": put, "announce_peer": announce} {
				if _, code := p.exchange(t, p.query(method, args)); code != errProtocol {
					t.Errorf("%s with token %q: error %d", method, token, code)
				}
			}
			time.Sleep(time.Second)
		}
		if st := s.stats(); st.Items+st.Infohashes != 0 {
			t.Errorf("stored %+v", st)
		}
	})
}

func TestExpiry(t *testing.T) {
	l := newLRU[string, int](10, time.Hour)
	for i := range 5 {
		l.put(fmt.Sprint(i), i, netip.Addr{}, epoch.Add(time.Duration(i)*time.Minute))
	}
	l.extend("0", epoch.Add(30*time.Minute))
	if got := l.get("1", epoch.Add(time.Hour)); got == nil || *got != 1 {
		t.Errorf("gone too early: %v", got)
	}
	if l.get("1", epoch.Add(time.Hour+time.Minute)) != nil || l.len() != 4 {
		t.Error("expired, and still there")
	}
	l.sweep(epoch.Add(time.Hour + 3*time.Minute))
	if l.len() != 2 || l.get("0", epoch) == nil || l.get("4", epoch) == nil {
		t.Errorf("%d are left", l.len())
	}
	l.delete("0")
	if l.len() != 1 || len(l.shares) != 0 {
		t.Errorf("%d are left", l.len())
	}
}
