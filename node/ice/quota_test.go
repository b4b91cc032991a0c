package ice

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/pion/stun/v4"
)

// rawOf is a client of a peer of another node.
func (sc *scene) rawOf(issuer protocol.NodeID, peer string) *raw {
	r := sc.raw("udp", peer)
	r.user, r.password, _ = Issue(sc.Keys(issuer), issuer, []byte(peer), time.Now())
	return r
}

func TestAllocationQuotas(t *testing.T) {
	for _, c := range []struct {
		name   string
		quota  Quota
		public bool // not a testnet, where loopback is not counted
		peer   func(sc *scene, i int) *raw
		fit    int
		why    reason
	}{
		{"in all", Quota{Allocations: 3}, false, func(sc *scene, i int) *raw { return sc.raw("udp", fmt.Sprint(i)) }, 3, overAll},
		{"of a peer", Quota{PeerAllocations: 3}, false, func(sc *scene, i int) *raw { return sc.raw("udp", "alice") }, 3, overPeer},
		{"of a peer over TCP", Quota{PeerAllocations: 3}, false, func(sc *scene, i int) *raw { return sc.raw("tcp", "alice") }, 3, overPeer},
		{"of an address", Quota{AddressAllocations: 3}, true, func(sc *scene, i int) *raw { return sc.raw("udp", fmt.Sprint(i)) }, 3, overAddress},
		{"of an issuer", Quota{Allocations: 12}, false, func(sc *scene, i int) *raw { return sc.rawOf(protocol.NodeID{2}, fmt.Sprint(i)) }, 3, overIssuer},
		{"of all issuers", Quota{Allocations: 12}, false, func(sc *scene, i int) *raw { return sc.rawOf(protocol.NodeID{byte(2 + i)}, fmt.Sprint(i)) }, 6, overIssuer},
		{"in two minutes", Quota{PeerNew: 2}, false, func(sc *scene, i int) *raw { return sc.raw("udp", "alice") }, 4, overPace},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc := serve(t, func(cfg *Config) { cfg.Quota = c.quota; cfg.AllowPrivate = !c.public })
			var first *raw
			for i := range c.fit {
				r := c.peer(sc, i)
				if _, code := r.allocate(); code != 0 {
					t.Fatalf("allocation %d: %d", i, code)
				}
				if first == nil {
					first = r
				}
			}
			one := c.peer(sc, c.fit)
			if _, code := one.allocate(); code != 486 {
				t.Errorf("one more is answered by %d", code)
			}
			if n := sc.count.refused[c.why].Load(); n == 0 {
				t.Errorf("not counted as %v: %v", c.why, sc.Stats().Refused)
			}
			if st := sc.Stats(); st.Allocations != c.fit {
				t.Errorf("%+v", st)
			}
			if _, code := first.request(stun.MethodRefresh, attr{stun.AttrLifetime, make([]byte, 4)}); code != 0 {
				t.Fatalf("giving one back: %d", code)
			}
			_, code := one.allocate()
			if want := map[bool]int{true: 486, false: 0}[c.why == overPace]; code != want {
				t.Errorf("when one has been given back, another is answered by %d, want %d", code, want)
			}
			// This node's own peers have room whatever others do.
			if c.why == overIssuer {
				if _, code := sc.raw("udp", "one of ours").allocate(); code != 0 {
					t.Errorf("a peer of this node: %d", code)
				}
			}
		})
	}
}

// sending is an allocation with a permission for a socket that nobody reads, and
// which has replied.
func sending(t *testing.T, quota Quota, issuer protocol.NodeID) (*scene, *relay, net.Addr) {
	sc := serve(t, func(c *Config) { c.Quota = quota })
	r := sc.raw("udp", "alice")
	if issuer != sc.cfg.Node {
		r = sc.rawOf(issuer, "alice")
	}
	at, code := r.allocate()
	if code != 0 {
		t.Fatal(code)
	}
	own, to := sc.addresses.relayOf(at), listenUDP(t, "127.0.0.1:0")
	own.hold(netip.MustParseAddr("127.0.0.1"), 1)
	own.hears(addrPort(to.LocalAddr()))
	return sc, own, to.LocalAddr()
}

func TestByteQuotas(t *testing.T) {
	mine, other := protocol.NodeID{1}, protocol.NodeID{2}
	for _, c := range []struct {
		name   string
		quota  Quota
		issuer protocol.NodeID
		pass   int // of 10 datagrams of 1,000 bytes and 28 of their headers
		why    reason
	}{
		{"a second of a peer", Quota{PeerRate: 3100}, mine, 3, overRate},
		{"a second of the node", Quota{NodeRate: 3100}, mine, 3, overRate},
		{"a second of an issuer", Quota{NodeRate: 4 * 3100}, other, 3, overRate},
		{"a day of a peer", Quota{PeerDay: 3100}, mine, 3, overDay},
		{"a day of the node", Quota{NodeDay: 3100}, mine, 3, overDay},
		{"a day of an issuer", Quota{NodeDay: 4 * 3100}, other, 3, overDay},
		{"no bound", Quota{PeerRate: -1, NodeRate: -1, PeerDay: -1, NodeDay: -1}, other, 10, fine},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc, r, to := sending(t, c.quota, c.issuer)
			now := time.Now().Truncate(24 * time.Hour).Add(time.Hour) // far from midnight
			passed := 0
			for range 10 {
				if r.lease.spend(now, 1000+overhead) == fine {
					passed++
				}
			}
			if passed != c.pass {
				t.Errorf("%d datagrams passed, want %d", passed, c.pass)
			}
			if c.why == overRate && r.lease.spend(now.Add(time.Second), 1000) != fine {
				t.Error("nothing passes a second later")
			}
			if _, why := sc.accounts.acquire(r.peer, netip.Addr{}, now.Add(22*time.Hour)); c.why == overDay && why != overDay {
				t.Errorf("an allocation that would relay nothing: %v", why)
			}
			if c.why == overDay && (r.lease.spend(now.Add(22*time.Hour), 1000) != overDay || r.lease.spend(now.Add(24*time.Hour), 1000) != fine) {
				t.Error("a day is not until midnight")
			}
			for range 20 { // and where the bytes pass, they are dropped and counted
				_, err := r.WriteTo(make([]byte, 1000), to)
				must(t, err)
			}
			if n := sc.count.refused[overRate].Load() + sc.count.refused[overDay].Load(); (n > 0) != (c.why != fine) {
				t.Errorf("%+v", sc.Stats())
			}
		})
	}
}

func TestSilentAddresses(t *testing.T) {
	sc := serve(t, nil)
	a, quiet, other := sc.raw("udp", "alice"), listenUDP(t, "127.0.0.1:0"), listenUDP(t, "127.0.0.1:0")
	at, code := a.allocate()
	if code != 0 {
		t.Fatal(code)
	}
	a.wants(0, stun.MethodCreatePermission, "127.0.0.1", 1)
	r := sc.addresses.relayOf(at)
	got := func(c *net.UDPConn) (n int) {
		for buf := make([]byte, 2000); ; {
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			k, err := c.Read(buf)
			if err != nil {
				return n
			}
			n += k
		}
	}
	flood := func(to *net.UDPConn, datagrams, size int) {
		for range datagrams {
			_, err := r.WriteTo(make([]byte, size), to.LocalAddr())
			must(t, err)
		}
	}
	flood(quiet, 100, 512)
	flood(other, 100, 512) // a port more does not make it more
	if n := got(quiet) + got(other); n > 4<<10 {
		t.Errorf("%d bytes went to an address that has not replied", n)
	}
	if n := sc.count.refused[silent].Load(); n != 192 {
		t.Errorf("%d datagrams refused, of 200 of 512 bytes", n)
	}
	_, err := quiet.WriteTo([]byte("yes"), net.UDPAddrFromAddrPort(at))
	must(t, err)
	eventually(t, "the reply is heard", func() bool { return sc.count.out.Load() > 0 })
	flood(quiet, 20, 512)
	flood(other, 20, 512)
	if n := sc.count.refused[silent].Load(); n != 212 {
		t.Errorf("after a reply of one port %d datagrams are refused, want 212: those to the other", n)
	}
	// Empty datagrams are no way around.
	free := &relay{s: sc.Server, remotes: map[netip.Addr]*remote{netip.MustParseAddr("9.9.9.9"): {open: map[uint16]bool{}}}}
	n := 0
	for free.sends(netip.MustParseAddrPort("9.9.9.9:4000"), 0) == fine {
		n++
	}
	if n > 4<<10/overhead {
		t.Errorf("%d empty datagrams", n)
	}
}

func TestPermissionsAndChannelsAreBounded(t *testing.T) {
	sc := serve(t, nil)
	r := sc.raw("udp", "alice")
	if _, code := r.allocate(); code != 0 {
		t.Fatal(code)
	}
	for i := range maxRemotes {
		r.wants(0, stun.MethodCreatePermission, fmt.Sprintf("10.0.0.%d", i), 40_000)
	}
	r.wants(508, stun.MethodCreatePermission, "10.0.1.1", 40_000)
	r.wants(0, stun.MethodCreatePermission, "10.0.0.7", 40_000)
	bind := func(n int) int {
		_, code := r.request(stun.MethodChannelBind, peerAt(netip.MustParseAddrPort(fmt.Sprintf("10.0.0.1:%d", 40_000+n))), channelNumber(uint16(0x4000+n)))
		return code
	}
	for i := range maxChannels {
		if code := bind(i); code != 0 {
			t.Fatalf("channel %d: %d", i, code)
		}
	}
	if code := bind(maxChannels); code != 508 {
		t.Errorf("one channel more: %d", code)
	}
	if code := bind(3); code != 0 {
		t.Errorf("a channel that is refreshed: %d", code)
	}
}

func TestRequestPace(t *testing.T) {
	ap := netip.MustParseAddrPort
	start := time.Unix(1e9, 0)
	for _, c := range []struct {
		name string
		from func(i int) netip.AddrPort
		want int
	}{
		{"ports of one address", func(i int) netip.AddrPort { return ap(fmt.Sprintf("80.1.1.1:%d", 1+i%4)) }, 100},
		{"addresses of one /64", func(i int) netip.AddrPort { return ap(fmt.Sprintf("[2a00::1:%x]:9", i%4)) }, 100},
		{"ports on loopback", func(i int) netip.AddrPort { return ap(fmt.Sprintf("127.0.0.1:%d", 1+i%4)) }, 400},
	} {
		p := pacer{rate: 20}
		count := func(now time.Time) (n int) {
			for i := range 1000 {
				if p.admit(c.from(i), now) {
					n++
				}
			}
			return n
		}
		if n := count(start); n != c.want {
			t.Errorf("%s: %d requests at once, want %d", c.name, n, c.want)
		}
		if n := count(start.Add(time.Second)); n != c.want/5 {
			t.Errorf("%s: %d a second later, want %d", c.name, n, c.want/5)
		}
	}
	p := pacer{rate: 20}
	for i := range 10 * sources {
		p.admit(netip.AddrPortFrom(netip.AddrFrom4([4]byte{80, byte(i >> 16), byte(i >> 8), byte(i)}), 1), start)
	}
	if n := len(p.now) + len(p.old); n > 2*sources {
		t.Errorf("%d sources are remembered", n)
	}
}

func TestAccountsAreBounded(t *testing.T) {
	a := newAccounts(Quota{}.withDefaults(), protocol.NodeID{1})
	now := time.Now()
	for i := range maxPeers + 5000 {
		l, why := a.acquire(client{hash: [16]byte{byte(i >> 16), byte(i >> 8), byte(i)}, issuer: protocol.NodeID{2}}, netip.Addr{}, now)
		if why != fine {
			t.Fatal(why)
		}
		l.release()
	}
	if n := len(a.issuers[protocol.NodeID{2}].peers); n != peersOfOthers {
		t.Errorf("%d peers of another node are remembered", n)
	}
	for i := range maxIssuers + 100 {
		l, why := a.acquire(client{issuer: protocol.NodeID{3, byte(i >> 8), byte(i)}}, netip.Addr{}, now)
		if why != fine {
			t.Fatal(why)
		}
		l.release()
	}
	if n := len(a.issuers); n > maxIssuers {
		t.Errorf("%d issuers are remembered", n)
	}
	if n, peers := a.live(); n != 0 || peers != 0 || len(a.addresses) != 0 {
		t.Errorf("%d allocations, %d peers are left", n, peers)
	}
}
