package ice

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pion/turn/v5"
)

func TestRelayOverEachWay(t *testing.T) {
	sc := serve(t, nil)
	for _, way := range []string{"udp", "tcp", "tls"} {
		t.Run(way, func(t *testing.T) {
			a, peer := sc.relayed(way, "alice"), listenUDP(t, "127.0.0.1:0")
			if from := exchange(t, a, peer, "there"); from.String() != a.LocalAddr().String() {
				t.Errorf("it came from %v, not from the relayed address %v", from, a.LocalAddr())
			}
			if from := exchange(t, peer, a, "and back"); from.String() != peer.LocalAddr().String() {
				t.Errorf("it came from %v, not from %v", from, peer.LocalAddr())
			}
		})
	}
	if st := sc.Stats(); st.BytesIn == 0 || st.BytesOut == 0 || st.BytesToday < st.BytesIn+st.BytesOut {
		t.Errorf("%+v", st)
	}
}

func TestTwoRelayedPeers(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"on loopback":            nil,
		"of a node behind a NAT": func(c *Config) { c.Public = addressesOf("203.0.113.7") },
		"of a public node":       func(c *Config) { c.Public = addressesOf("93.184.216.34"); c.AllowPrivate = false },
	} {
		t.Run(name, func(t *testing.T) {
			sc := serve(t, change)
			a, b := sc.relayed("udp", "alice"), sc.relayed("tcp", "bob")
			permit(a, b)
			if from := exchange(t, a, b, "to bob"); from.String() != a.LocalAddr().String() {
				t.Errorf("bob sees %v, not alice's relayed address %v", from, a.LocalAddr())
			}
			exchange(t, b, a, "to alice")
		})
	}
}

// A node with sockets of both families relays each client in the family that it
// comes by.
func TestIPv6(t *testing.T) {
	if !hasIPv6() {
		t.Log("this machine has no IPv6")
		return
	}
	for name, public := range map[string]func() []netip.Addr{
		"its sockets' addresses": nil,
		"known by IPv4 only":     addressesOf("127.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) { relayIPv6(t, public) })
	}
}

func relayIPv6(t *testing.T, public func() []netip.Addr) {
	var six netip.AddrPort
	sc := serve(t, func(c *Config) {
		p := listenUDP(t, "[::1]:0")
		c.Public, c.Packets, six = public, append(c.Packets, p), addrPort(p.LocalAddr())
	})
	user, password := sc.Credentials([]byte("alice"))
	client := func() net.PacketConn {
		c, err := turn.NewClient(&turn.ClientConfig{
			TURNServerAddr: six.String(), Conn: listenUDP(t, "[::1]:0"), Username: user, Password: password, Realm: Realm, LoggerFactory: silence{},
		})
		must(t, err)
		must(t, c.Listen())
		t.Cleanup(c.Close)
		conn, err := c.Allocate()
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	a, b, peer := client(), client(), listenUDP(t, "[::1]:0")
	exchange(t, a, peer, "to a peer")
	exchange(t, peer, a, "and back")
	permit(a, b)
	exchange(t, a, b, "relayed on both sides")
	if at := addrPort(a.LocalAddr()); at.Addr() != netip.IPv6Loopback() {
		t.Errorf("the relayed address is %v", at)
	}
	exchange(t, sc.relayed("udp", "bob"), listenUDP(t, "127.0.0.1:0"), "and IPv4")
}

// Whatever is going on when Serve is told to end, it ends, and what it had is
// given back. TestMain looks for goroutines.
func TestServeEnds(t *testing.T) {
	sc := serve(t, nil)
	silent, err := net.Dial("tcp", sc.tcp)
	must(t, err)
	defer silent.Close()
	peer := listenUDP(t, "127.0.0.1:0")
	var relayed []net.PacketConn
	for _, way := range []string{"udp", "tcp", "tls"} {
		a := sc.relayed(way, "alice")
		exchange(t, a, peer, "over "+way)
		relayed = append(relayed, a)
	}
	done := make(chan struct{})
	go func() { // traffic until the end
		defer close(done)
		for sc.Stats().Allocations > 0 {
			for _, a := range relayed {
				_, _ = a.WriteTo([]byte("more"), peer.LocalAddr())
				_, _ = peer.WriteTo([]byte("more"), a.LocalAddr())
			}
		}
	}()
	sc.stop()
	<-done
	if st := sc.Stats(); st.Allocations != 0 || st.Peers != 0 || st.Conns != 0 {
		t.Errorf("%+v", st)
	}
	for _, a := range relayed {
		c, err := net.ListenPacket("udp", a.LocalAddr().String())
		if err != nil {
			t.Errorf("the relayed address is not given back: %v", err)
			continue
		}
		c.Close()
	}
}
