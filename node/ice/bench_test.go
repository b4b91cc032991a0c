package ice

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

// BenchmarkRelay relays 1,200 bytes a time from a client to a peer, over a
// channel: here, by pion/turn without anything of ours, and by coturn, if it is
// here. Where 64 are on the way it measures throughput, where one is, delay.
// Coturn is a process of its own, the other two share the client's.
func BenchmarkRelay(b *testing.B) {
	for _, window := range []int{64, 1} {
		b.Run(fmt.Sprintf("server=ours/window=%d", window), func(b *testing.B) {
			sc := serve(b, func(c *Config) { c.Quota = Quota{PeerRate: -1, NodeRate: -1, PeerDay: -1, NodeDay: -1} })
			relayed(b, sc.raw("udp", "alice"), window)
		})
		b.Run(fmt.Sprintf("server=pion/window=%d", window), func(b *testing.B) {
			relayed(b, benchClient(b, barePion(b)), window)
		})
		b.Run(fmt.Sprintf("server=coturn/window=%d", window), func(b *testing.B) {
			relayed(b, benchClient(b, coturn(b)), window)
		})
	}
}

func benchClient(b *testing.B, server net.Addr) *raw {
	return &raw{t: b, conn: listenUDP(b, "127.0.0.1:0"), to: server, user: "user", password: "password"}
}

// relayed sends b.N datagrams, of which so many may be on the way.
func relayed(b *testing.B, r *raw, window int) {
	peer := listenUDP(b, "127.0.0.1:0")
	if at, code := r.allocate(); code != 0 {
		b.Fatalf("allocate: %d, %v", code, at)
	}
	if _, code := r.request(stun.MethodChannelBind, peerAt(addrPort(peer.LocalAddr())), channelNumber(0x4000)); code != 0 {
		b.Fatalf("channel: %d", code)
	}
	frame := make([]byte, 4+1200)
	copy(frame, []byte{0x40, 0, 1200 >> 8, 1200 & 0xff})
	tokens := make(chan struct{}, window)
	for range window {
		tokens <- struct{}{}
	}
	got, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 2000); ; got++ {
			if _, _, err := peer.ReadFromUDPAddrPort(buf); err != nil {
				return
			}
			if got == 0 { // servers want a reply before they send more than a little
				continue
			}
			select {
			case tokens <- struct{}{}:
			default:
			}
		}
	}()
	reply(b, r, frame, peer)
	conn, to := r.conn.(*net.UDPConn), addrPort(r.to)
	b.SetBytes(1200)
	b.ResetTimer()
	lost := 0
	for range b.N {
		select {
		case <-tokens:
		case <-time.After(time.Second):
			lost++
		}
		_, _ = conn.WriteToUDPAddrPort(frame, to)
	}
	b.StopTimer()
	b.ReportMetric(float64(lost), "lost")
	peer.Close()
	<-done
}

// reply has the peer be heard by the relay.
func reply(b *testing.B, r *raw, frame []byte, peer *net.UDPConn) {
	b.Helper()
	_, err := r.conn.WriteTo(frame, r.to)
	must(b, err)
	at := r.relayedAt
	eventually(b, "the peer's reply is relayed", func() bool {
		_, _ = peer.WriteToUDPAddrPort([]byte("yes"), at)
		r.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, _, err := r.conn.ReadFrom(make([]byte, 100))
		return err == nil
	})
}

// barePion is a server of pion/turn as its examples make one.
func barePion(b *testing.B) net.Addr {
	p := listenUDP(b, "127.0.0.1:0")
	s, err := turn.NewServer(turn.ServerConfig{
		Realm: Realm, LoggerFactory: silence{},
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, "password"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            p,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IP{127, 0, 0, 1}, Address: "127.0.0.1"},
		}},
	})
	must(b, err)
	b.Cleanup(func() { s.Close() })
	return p.LocalAddr()
}

func coturn(b *testing.B) net.Addr {
	path, err := exec.LookPath("turnserver")
	if err != nil {
		b.Skip("coturn is not here")
	}
	p := listenUDP(b, "127.0.0.1:0")
	at := addrPort(p.LocalAddr())
	p.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--log-file", "/dev/null", "--pidfile", b.TempDir()+"/pid",
		"--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", fmt.Sprint(at.Port()), "--db", b.TempDir()+"/db",
		"--realm", Realm, "--lt-cred-mech", "--user", "user:password", "--allow-loopback-peers")
	must(b, cmd.Start())
	b.Cleanup(func() { cancel(); _ = cmd.Wait() })
	ctx, give := context.WithTimeout(ctx, patience)
	defer give()
	c := listenUDP(b, "127.0.0.1:0")
	_, err = Discover(ctx, c, netip.AddrPortFrom(at.Addr(), at.Port()))
	must(b, err)
	return net.UDPAddrFromAddrPort(at)
}
