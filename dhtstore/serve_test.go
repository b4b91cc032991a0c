package dhtstore

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// TestServeWaits runs three servers on real sockets, and wants nothing left of
// them.
func TestServeWaits(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		var servers []*server
		var bootstrap []string
		for range 3 {
			conn, err := net.ListenPacket("udp", address)
			if err != nil {
				t.Logf("%s is not to be had here: %v", address, err)
				break
			}
			s, err := newServer(serverConfig{Conn: conn, Bootstrap: bootstrap})
			if err != nil {
				t.Fatal(err)
			}
			go func() { done <- s.serve(ctx) }()
			servers, bootstrap = append(servers, s), []string{conn.LocalAddr().String()}
			if len(servers) > 1 {
				bootstrap = []string{servers[0].cfg.Conn.LocalAddr().String()}
			}
		}
		for i, s := range servers {
			<-s.ready(address[0] == '[')
			to, _ := udpAddr(servers[(i+1)%3].cfg.Conn.LocalAddr())
			r, err := s.getPeers(ctx, to, [20]byte{1})
			if err == nil {
				err = s.announcePeer(ctx, to, [20]byte{1}, 0, r.Token)
			}
			if err == nil {
				r, err = s.getPeers(ctx, to, [20]byte{1})
			}
			own, _ := udpAddr(s.cfg.Conn.LocalAddr())
			if err != nil || len(r.Peers) == 0 || r.Peers[len(r.Peers)-1] != own {
				t.Errorf("%v: %+v, %v", own, r, err)
			}
		}
		cancel()
		for range servers {
			if err := <-done; err != nil {
				t.Errorf("serve: %v", err)
			}
		}
		for range servers {
			// What the library has started ends by itself, a moment later.
			for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					buf := make([]byte, 1<<16)
					t.Fatalf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
				}
			}
		}
	}
}

// TestNewServer refuses what cannot be served.
func TestNewServer(t *testing.T) {
	if _, err := newServer(serverConfig{}); err == nil {
		t.Error("a server without a socket")
	}
	if _, err := newServer(serverConfig{Conn: streamConn{}}); err == nil {
		t.Error("a server on a socket that is not UDP")
	}
}

type streamConn struct{ net.PacketConn }

func (streamConn) LocalAddr() net.Addr { return &net.TCPAddr{} }

func TestLookUp(t *testing.T) {
	for _, c := range []struct {
		name string
		v6   bool
		want string
		ok   bool
	}{
		{"1.2.3.4:5", false, "1.2.3.4:5", true},
		{"1.2.3.4:5", true, "", true},
		{"[::ffff:1.2.3.4]:5", false, "1.2.3.4:5", true},
		{"[2a00::1]:5", true, "[2a00::1]:5", true},
		{"[2a00::1]:5", false, "", true},
		{"localhost:5", false, "127.0.0.1:5", true},
		{"localhost", false, "", false},
		{"localhost:http", false, "", false},
		{"localhost:70000", false, "", false},
	} {
		got, err := lookUp(t.Context(), c.name, c.v6)
		if (err == nil) != c.ok || (len(got) > 0) != (c.want != "") || len(got) > 0 && got[0] != netip.MustParseAddrPort(c.want) {
			t.Errorf("%s: got %v, %v", c.name, got, err)
		}
	}
}
