package dhtstore

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestReplyLimits(t *testing.T) {
	public := func(n int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("80.1.1.1:%d", n)) }
	loop := func(n int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", n)) }
	six := func(n int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("[2a00::1:%x]:9", n)) }
	for _, c := range []struct {
		name    string
		private bool
		from    func(int) netip.AddrPort
		want    int // admitted of 4 ports x 50 queries in one instant
	}{
		{"ports of one address", false, public, 20},
		{"addresses of one /64", false, six, 20},
		{"ports on loopback", false, loop, 80},
		{"ports in a private network", true, public, 80},
	} {
		l := newReplyLimiter(c.private, epoch)
		count := func(now time.Time) (n int) {
			for i := range 200 {
				if l.admit(c.from(1+i%4), now) {
					n++
				}
			}
			return n
		}
		if n := count(epoch); n != c.want {
			t.Errorf("%s: %d queries admitted, want %d", c.name, n, c.want)
		}
		if n := count(epoch.Add(500 * time.Millisecond)); n != c.want/2 {
			t.Errorf("%s: %d after half a second", c.name, n)
		}
		if n := count(epoch.Add(time.Hour)); n != c.want {
			t.Errorf("%s: %d after an hour", c.name, n)
		}
	}
}

func TestByteLimits(t *testing.T) {
	l := newReplyLimiter(false, epoch)
	spent := func(n int, now time.Time) (bytes int) {
		for i := range n {
			for range 20 {
				if l.spend(testAddr(i), 1024, now) {
					bytes += 1024
				}
			}
		}
		return bytes
	}
	if n := spent(1, epoch); n != bytesPerSource {
		t.Errorf("one source got %d bytes", n)
	}
	if n := spent(1000, epoch); n != bytesInAll-bytesPerSource {
		t.Errorf("all others got %d bytes", n)
	}
	if n := spent(1000, epoch.Add(time.Second)); n != bytesInAll {
		t.Errorf("a second later they got %d bytes", n)
	}
	for i := range 2 * limitedSources {
		l.admit(testAddr(i), epoch)
	}
	if n := l.sources.len(); n != limitedSources {
		t.Errorf("%d sources remembered", n)
	}
}

// TestFlood: who asks 1,000 times gets 20 answers, and nobody else fewer for it.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		conn := h.listen(netip.MustParseAddrPort("80.5.5.5:6881"))
		s := runServer(t, serverConfig{Conn: conn})
		got := func(conns ...*hubConn) (n int) {
			for range 1000 {
				for _, c := range conns {
					p := &probe{h: h, conn: c, to: s.addr}
					h.inject(c.addr, s.addr, p.query("ping", nil))
				}
				synctest.Wait()
			}
			for _, c := range conns {
				for ; len(c.in) > 0; n++ {
					<-c.in
				}
			}
			return n
		}
		flooder := []*hubConn{h.listen(netip.MustParseAddrPort("80.1.1.1:1")), h.listen(netip.MustParseAddrPort("80.1.1.1:2"))}
		if n := got(flooder...); n != 20 {
			t.Errorf("got %d answers", n)
		}
		if st := s.stats(); st.Limited != 1980 || st.Answered != 20 {
			t.Errorf("counted %+v", st)
		}
		newProbe(h, s).stillAnswers(t)
		time.Sleep(time.Second)
		if n := got(flooder[0]); n != 20 {
			t.Errorf("a second later got %d answers", n)
		}
	})
}

// TestRepliesAreSmall: 1,300 bytes at most, also where much is to be said.
func TestRepliesAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, v6 := range []bool{false, true} {
			h := newHub()
			conn := h.listenDual(netip.MustParseAddrPort("10.0.0.200:6881"), netip.MustParseAddrPort("[fd00::200]:6881"))
			s := runServer(t, serverConfig{Conn: conn, Private: true})
			from, to := netip.MustParseAddrPort("10.0.0.201:6881"), conn.addr
			if v6 {
				from, to = netip.MustParseAddrPort("[fd00::201]:6881"), conn.addr6
			}
			for i := range 20 {
				for _, addr := range []string{fmt.Sprintf("10.0.1.%d:6881", i), fmt.Sprintf("[fd00::1:%x]:6881", i)} {
					f := fakeAt(h, netip.MustParseAddrPort(addr), func(q *query) []byte { return replyBytes(q, nil) })
					defer f.stop()
					_, _ = s.ping(t.Context(), f.addr)
				}
			}
			infohash := [20]byte{1}
			for i := range maxSwarm {
				addr := netip.AddrPortFrom(from.Addr(), uint16(i+1))
				s.responder.peers.add(infohash, addr, true, netip.Addr{}, time.Now())
			}
			p := &probe{h: h, conn: h.listen(from), to: to}
			time.Sleep(time.Second)
			args := map[string]any{"info_hash": infohash[:], "want": bencoded("l2:n42:n6e")}
			_, raw := p.raw([]byte(string(p.query("get_peers", args))))
			m, _ := parsePacket(raw)
			n := 0
			for key, value := range entriesOf(m.args) {
				if key == "values" {
					for range itemsOf(value) {
						n++
					}
				}
				if s, _ := stringOf(value); key == "nodes" && len(s) != 8*26 || key == "nodes6" && len(s) != 8*38 {
					t.Errorf("%s of %d bytes", key, len(s))
				}
			}
			if len(raw) > maxReply || len(raw) < maxReply-30 || n < 30 {
				t.Errorf("v6 %v: %d bytes with %d peers", v6, len(raw), n)
			}
		}
	})
}

// TestPace: we do not ask a node more than it will answer.
func TestPace(t *testing.T) {
	for address, want := range map[string]int{"80.1.1.1:1": 44, "10.1.1.1:1": 150} { // libtorrent blocks at 50 in 10 s
		synctest.Test(t, func(t *testing.T) {
			p, addr := newPacer(false), netip.MustParseAddrPort(address)
			ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
			defer cancel()
			sent := 0
			for p.wait(ctx, addr) == nil {
				sent++
			}
			if sent < want-1 || sent > want {
				t.Errorf("%s: %d in 9 s, want %d", address, sent, want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p, addr := newPacer(false), netip.MustParseAddrPort("80.1.1.1:1")
		start, passed, busy := time.Now(), 0, 0
		done := make(chan error)
		for range 100 {
			go func() { done <- p.wait(context.Background(), addr) }()
		}
		for range 100 {
			switch err := <-done; {
			case err == nil:
				passed++
			case errors.Is(err, errBusy):
				busy++
			}
		}
		want := paceAhead + int(paceLongest/paceEvery)
		if took := time.Since(start); passed != want || busy != 100-want || took != paceLongest {
			t.Errorf("%d passed in %v, %d were too many", passed, took, busy)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := p.wait(ctx, addr); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		other := netip.MustParseAddrPort("80.1.1.2:1")
		if err := p.wait(context.Background(), other); err != nil || time.Since(start) != paceLongest {
			t.Errorf("another node: %v", err)
		}
	})
}
