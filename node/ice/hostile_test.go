package ice

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun/v4"
)

// alive says that the server still answers, over UDP and over TCP.
func (sc *scene) alive() {
	sc.t.Helper()
	for _, way := range []string{"udp", "tcp"} {
		r := sc.raw(way, "")
		if answer, code := r.send(stun.BindingRequest); code != 0 || !answer.Contains(stun.AttrXORMappedAddress) {
			sc.t.Errorf("a Binding request over %s is answered by %d", way, code)
		}
	}
}

func TestGarbage(t *testing.T) {
	sc := serve(t, nil)
	c := listenUDP(t, "127.0.0.1:0")
	to := net.UDPAddrFromAddrPort(sc.udp)
	for i := range 500 {
		b := make([]byte, i%60)
		_, _ = rand.Read(b)
		if i%3 == 0 && len(b) >= 20 { // with the cookie, and sometimes the length
			copy(b[4:], []byte{0x21, 0x12, 0xa4, 0x42})
			b[0] &= 0x3f
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20))
		}
		_, err := c.WriteTo(b, to)
		must(t, err)
	}
	big := make([]byte, 9000)
	_, err := c.WriteTo(big, to)
	must(t, err)
	sc.alive()
	if sc.count.refused[malformed].Load() == 0 {
		t.Errorf("%v", sc.Stats().Refused)
	}
}

// Half a frame, a frame that is too large and one that is none end a connection
// over TCP, and nothing else.
func TestBadFrames(t *testing.T) {
	sc := serve(t, nil)
	whole, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	must(t, err)
	for name, b := range map[string][]byte{
		"neither STUN nor ChannelData": []byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
		"STUN that is too large":       append([]byte{0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 2000)...),
		"ChannelData that is too":      append([]byte{0x40, 0, 0xff, 0xff}, make([]byte, 2000)...),
		"after a good one":             append(append([]byte(nil), whole.Raw...), 0xff, 0xff, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", sc.tcp)
			must(t, err)
			defer c.Close()
			_, err = c.Write(b)
			must(t, err)
			c.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, c); isTimeout(err) {
				t.Error("the connection is still open")
			}
		})
	}
	half, err := net.Dial("tcp", sc.tcp)
	must(t, err)
	_, err = half.Write(whole.Raw[:11])
	must(t, err)
	half.Close()
	sc.alive()
	eventually(t, "all connections are given back", func() bool { return sc.Stats().Conns <= 1 })
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error) //nolint:errorlint // as it comes from the socket
	return ok && n.Timeout()
}

// ChannelData of a few bytes is a frame of eight, which pion's own reader of
// streams does not give before the next comes.
func TestShortFramesOverTCP(t *testing.T) {
	sc := serve(t, nil)
	r, peer := sc.raw("tcp", "alice"), listenUDP(t, "127.0.0.1:0")
	at, code := r.allocate()
	if code != 0 {
		t.Fatal(code)
	}
	to := addrPort(peer.LocalAddr())
	if _, code := r.request(stun.MethodChannelBind, peerAt(to), channelNumber(0x4000)); code != 0 {
		t.Fatal(code)
	}
	_, err := r.conn.WriteTo([]byte{0x40, 0, 0, 1, 'x', 0, 0, 0}, r.to)
	must(t, err)
	peer.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 10)
	n, from, err := peer.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "x" || usual(from) != at {
		t.Errorf("%q from %v: %v", buf[:n], from, err)
	}
}

func TestTenThousandAllocationsOfOneAddress(t *testing.T) {
	sc := serve(t, func(c *Config) { c.AllowPrivate = false; c.Quota.PeerAllocations = -1 })
	first := sc.raw("udp", "peer")
	if _, code := first.allocate(); code != 0 {
		t.Fatal(code)
	}
	for i := 1; i < 10_000; i++ {
		r := &raw{t: t, to: first.to, nonce: first.nonce}
		r.user, r.password = sc.Credentials(fmt.Appendf(nil, "peer %d", i))
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		must(t, err)
		r.conn = c
		_, code := r.allocate()
		c.Close()
		if code != 0 && code != 486 && code != 437 { // 437: the port of one that is closed, again
			t.Fatalf("allocation %d: %d", i, code)
		}
	}
	if st := sc.Stats(); st.Allocations > 128 || st.Refused[overAddress.String()] < 9000 {
		t.Errorf("%+v", st)
	}
	sc.alive()
}

// Two hundred allocations that end soon get no permissions: pion/turn 5.1.1 would
// stop the timer of one that is being made before there is a timer.
func TestPermissionsAtTheEndOfAnAllocation(t *testing.T) {
	sc := serve(t, func(c *Config) { c.Quota = Quota{PeerAllocations: -1, PeerNew: -1} })
	r := sc.raw("udp", "alice")
	_, _ = r.allocate()
	for i := range 200 {
		o := &raw{t: t, to: r.to, nonce: r.nonce, user: r.user, password: r.password, conn: listenUDP(t, "127.0.0.1:0")}
		if _, code := o.allocate(attr{stun.AttrLifetime, []byte{0, 0, 0, 1}}); code != 0 {
			t.Fatalf("allocation %d: %d", i, code)
		}
		msg, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodCreatePermission, stun.ClassRequest),
			peerAt(netip.MustParseAddrPort("10.0.0.1:40000")), stun.NewUsername(o.user), stun.NewRealm(Realm), o.nonce, o.key())
		must(t, err)
		_, err = o.conn.WriteTo(msg.Raw, o.to)
		must(t, err)
	}
	eventually(t, "they end", func() bool { return sc.Stats().Allocations <= 1 })
	// Those that came when theirs had ended already are not counted.
	if n := sc.count.refused[malformed].Load(); n == 0 {
		t.Error("no permission was refused")
	}
}

func TestConnectionQuotas(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"in all":        func(c *Config) { c.Quota.Conns = 3 },
		"of an address": func(c *Config) { c.Quota.AddressConns = 3; c.AllowPrivate = false },
	} {
		t.Run(name, func(t *testing.T) {
			sc := serve(t, change)
			var open []*raw
			for range 3 {
				r := sc.raw("tcp", "")
				if _, code := r.send(stun.BindingRequest); code != 0 {
					t.Fatal(code)
				}
				open = append(open, r)
			}
			c, err := net.Dial("tcp", sc.tcp)
			must(t, err)
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(patience))
			if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("one more: %v", err)
			}
			if st := sc.Stats(); st.Conns != 3 || st.Refused[overConns.String()] != 1 {
				t.Errorf("%+v", st)
			}
			open[0].conn.Close()
			eventually(t, "its place is free", func() bool { return sc.Stats().Conns == 2 })
			if _, code := sc.raw("tcp", "").send(stun.BindingRequest); code != 0 {
				t.Error(code)
			}
		})
	}
}

// pipe is a connection without a network, so that time can be a test's own.
type pipe struct{ net.Conn }

func (pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IP{80, 1, 1, 1}, Port: 5000} }
func (pipe) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IP{80, 1, 1, 2}, Port: 443} }

func TestSlowConnections(t *testing.T) {
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	must(t, err)
	for _, c := range []struct {
		name string
		send func(net.Conn)
		want time.Duration
	}{
		{"says nothing", func(net.Conn) {}, firstMessage},
		{"half a header", func(c net.Conn) { _, _ = c.Write(request.Raw[:3]) }, firstMessage},
		{"a byte every second", func(c net.Conn) {
			for _, b := range request.Raw {
				time.Sleep(time.Second)
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		}, firstMessage},
		{"one request", func(c net.Conn) { _, _ = c.Write(request.Raw) }, idleBefore},
		{"reads no more", func(c net.Conn) {
			for range 3 {
				_, _ = c.Write(request.Raw)
				_, _ = c.Read(make([]byte, 100))
				time.Sleep(9 * time.Second)
			}
			for {
				if _, err := c.Write(request.Raw); err != nil {
					return
				}
			}
		}, 27*time.Second + slowWrite},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := New(Config{TURN: true})
				must(t, err)
				ours, theirs := net.Pipe()
				start := time.Now()
				s.ServeConn(pipe{theirs})
				sent := make(chan struct{})
				go func() { defer close(sent); c.send(ours) }()
				if c.want <= idleBefore {
					go func() { _, _ = io.Copy(io.Discard, ours) }()
				}
				s.running.Wait()
				if took := time.Since(start); took != c.want {
					t.Errorf("closed after %v, want %v", took, c.want)
				}
				ours.Close()
				<-sent
			})
		})
	}
}

func TestServeConn(t *testing.T) {
	sc := serve(t, func(c *Config) { c.Listeners = nil })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	sc.tcp = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			sc.ServeConn(c)
		}
	}()
	a, peer := sc.relayed("tcp", "alice"), listenUDP(t, "127.0.0.1:0")
	exchange(t, a, peer, "through a connection that somebody else accepted")
	sc.stop()
	late, err := net.Dial("tcp", sc.tcp)
	must(t, err)
	defer late.Close()
	late.SetReadDeadline(time.Now().Add(patience))
	if _, err := late.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a connection after the end: %v", err)
	}
	l.Close()
	<-done
}

// With TURN off nothing is relayed, and Binding is answered.
func TestSTUNOnly(t *testing.T) {
	sc := serve(t, func(c *Config) { c.TURN = false })
	sc.alive()
	r := sc.raw("udp", "alice")
	msg, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), requestUDP())
	must(t, err)
	_, err = r.conn.WriteTo(msg.Raw, r.to)
	must(t, err)
	eventually(t, "it is refused", func() bool { return sc.count.refused[malformed].Load() == 1 })
}

// What is sent to an address that somebody forged is little more than what was
// sent here.
func TestAnswersAreSmall(t *testing.T) {
	sc := serve(t, nil)
	ask := func(parts ...stun.Setter) (request, answer int) {
		r := sc.raw("udp", "")
		msg, err := stun.Build(append([]stun.Setter{stun.TransactionID}, parts...)...)
		must(t, err)
		_, err = r.conn.WriteTo(msg.Raw, r.to)
		must(t, err)
		buf := make([]byte, 2000)
		r.conn.SetReadDeadline(time.Now().Add(patience))
		n, _, err := r.conn.ReadFrom(buf)
		must(t, err)
		return len(msg.Raw), n
	}
	if q, a := ask(stun.BindingRequest); a > 2*q {
		t.Errorf("Binding: %d bytes are answered by %d", q, a)
	}
	if q, a := ask(stun.BindingRequest, stun.Fingerprint); a > 2*q {
		t.Errorf("Binding with fingerprint: %d bytes are answered by %d", q, a)
	}
	if q, a := ask(stun.BindingRequest, attr{0x0003, make([]byte, 4)}, attr{0x7777, nil}, attr{0x7778, nil}); a > 2*q {
		t.Errorf("unknown attributes: %d bytes are answered by %d", q, a)
	}
	// That of a request without credentials has to carry a nonce.
	if q, a := ask(stun.NewType(stun.MethodAllocate, stun.ClassRequest), requestUDP()); a > 4*q {
		t.Errorf("Allocate: %d bytes are answered by %d", q, a)
	}
}

func TestPace(t *testing.T) {
	sc := serve(t, func(c *Config) { c.Quota.Requests = 1 })
	c := listenUDP(t, "127.0.0.1:0")
	msg, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	must(t, err)
	for range 60 {
		_, err := c.WriteTo(msg.Raw, net.UDPAddrFromAddrPort(sc.udp))
		must(t, err)
	}
	eventually(t, "most are refused", func() bool { return sc.count.refused[overRequests].Load() >= 40 })
}
