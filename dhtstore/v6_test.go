package dhtstore

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestIPv6: the two DHTs side by side (BEP 32), on one socket.
func TestIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		var dual []*testServer
		var addr6 []netip.AddrPort
		var bootstrap []string
		for i := range 12 {
			v4, v6 := fmt.Sprintf("10.0.0.%d:6881", i+1), fmt.Sprintf("[fd00::%x]:6881", i+1)
			conn := h.listenDual(netip.MustParseAddrPort(v4), netip.MustParseAddrPort(v6))
			s := runServer(t, serverConfig{Conn: conn, Private: true, Bootstrap: bootstrap})
			s.addr = conn.addr
			dual, addr6, bootstrap = append(dual, s), append(addr6, conn.addr6), []string{"10.0.0.1:6881", "[fd00::1]:6881"}
		}
		only4 := runServer(t, serverConfig{Conn: h.listen(netip.MustParseAddrPort("10.0.1.1:6881")), Private: true, Bootstrap: bootstrap})
		only6 := runServer(t, serverConfig{Conn: h.listen(netip.MustParseAddrPort("[fd00::1:1]:6881")), Private: true, Bootstrap: bootstrap})
		time.Sleep(2 * time.Minute)

		for _, s := range append(dual, only4, only6) {
			for _, v6 := range []bool{false, true} {
				closest := s.closest([20]byte{}, v6, 20)
				if want := s.hasFamily(v6) && (v6 && s != only4 || !v6 && s != only6); want != (len(closest) >= 8) {
					t.Errorf("%v knows %d nodes (v6 %v)", s.addr, len(closest), v6)
				}
				for _, n := range closest {
					if n.Addr.Addr().Is6() != v6 {
						t.Errorf("%v is in the wrong table", n.Addr)
					}
				}
			}
		}
		if only4.hasFamily(true) || only6.hasFamily(false) {
			t.Error("a socket reaches a family that it is not of")
		}
		if _, err := only4.ping(t.Context(), addr6[0]); err == nil {
			t.Error("an IPv4 socket pings an IPv6 address")
		}

		// An item and an announce made over IPv6 are found there, and the announce
		// not in the IPv4 DHT.
		it := testItem(1, 1)
		r, err := only6.get(t.Context(), addr6[3], it.target(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := only6.put(t.Context(), addr6[3], it, r.Token); err != nil {
			t.Error(err)
		}
		if r, err := dual[5].get(t.Context(), addr6[3], it.target(), 0); err != nil || r.Item == nil {
			t.Errorf("got %+v, %v", r, err)
		}
		infohash := [20]byte{7}
		if err := only6.announcePeer(t.Context(), addr6[3], infohash, 0, r.Token); err != nil {
			t.Error(err)
		}
		for _, c := range []struct {
			to   netip.AddrPort
			want int
		}{{addr6[3], 1}, {dual[3].addr, 0}} {
			r, err := dual[5].getPeers(t.Context(), c.to, infohash)
			if err != nil || len(r.Peers) != c.want || c.want == 1 && r.Peers[0] != only6.addr {
				t.Errorf("%v: got %+v, %v", c.to, r, err)
			}
			for _, n := range r.Nodes {
				if n.Addr.Addr().Is6() != c.to.Addr().Is6() {
					t.Errorf("%v names %v", c.to, n)
				}
			}
		}
	})
}

// TestWant: which families of nodes an answer names.
func TestWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		conn := h.listenDual(netip.MustParseAddrPort("10.0.0.1:6881"), netip.MustParseAddrPort("[fd00::1]:6881"))
		runServer(t, serverConfig{Conn: conn, Private: true})
		for _, c := range []struct {
			from, want string
			n4, n6     bool
		}{
			{"10.0.0.2:1", "", true, false},
			{"10.0.0.2:1", "le", true, false},
			{"10.0.0.2:1", "l2:n4e", true, false},
			{"10.0.0.2:1", "l2:n6e", false, true},
			{"10.0.0.2:1", "l2:n42:n6e", true, true},
			{"10.0.0.2:1", "2:n6", false, true},
			{"10.0.0.2:1", "i6e", true, false},
			{"10.0.0.2:1", "l2:xxi7elee", true, false},
			{"[fd00::2]:1", "", false, true},
			{"[fd00::2]:1", "l2:n4e", true, false},
		} {
			from := netip.MustParseAddrPort(c.from)
			to := conn.addr
			if from.Addr().Is6() {
				to = conn.addr6
			}
			p := &probe{h: h, conn: h.listen(from), to: to}
			args := map[string]any{"target": make([]byte, 20)}
			if c.want != "" {
				args["want"] = bencoded(c.want)
			}
			r, code := p.exchange(t, p.query("find_node", args))
			_, n4 := r["nodes"]
			_, n6 := r["nodes6"]
			if code != 0 || n4 != c.n4 || n6 != c.n6 {
				t.Errorf("%s wants %s: %v, %d", c.from, c.want, r, code)
			}
			time.Sleep(time.Second)
		}
	})
}
