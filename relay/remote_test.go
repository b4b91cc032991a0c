package relay

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/peerservers/peerserver/protocol"
)

// TestAdmits: strangers cannot fill an app's places, and no subnet gets more
// than two; neither rule holds where private addresses are allowed.
func TestAdmits(t *testing.T) {
	fill := func(private, chosen bool, subnet func(i int) netip.Prefix) int {
		r, err := New(Config{Key: testKey(1), AllowPrivate: private})
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.swarm(testApp)
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		for i := range 200 {
			l := r.newLink(protocol.NodeID{byte(i), 1})
			l.chosen, l.subnet = chosen, subnet(i)
			if s.admits(l) {
				s.bind(l)
				n++
			}
		}
		return n
	}
	apart := func(i int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("9.9.%d.0/24", i)) }
	same := func(int) netip.Prefix { return netip.MustParsePrefix("9.9.9.0/24") }
	none := func(int) netip.Prefix { return netip.Prefix{} }
	for _, c := range []struct {
		what            string
		private, chosen bool
		subnet          func(int) netip.Prefix
		want            int
	}{
		{"strangers", false, false, apart, protocol.MaxAppLinks / 2},
		{"dialled", false, true, apart, protocol.MaxAppLinks},
		{"one subnet", false, true, same, protocol.MaxPerSubnet},
		{"behind a proxy", false, false, none, protocol.MaxAppLinks / 2},
		{"private", true, false, same, 200},
	} {
		if got := fill(c.private, c.chosen, c.subnet); got != c.want {
			t.Errorf("%s: %d admitted, want %d", c.what, got, c.want)
		}
	}
}

func TestSubnetOf(t *testing.T) {
	for addr, want := range map[string]string{
		"9.8.7.6:1": "9.8.7.0/24", "[2a00:1:2:3::4]:5": "2a00:1:2::/48", "[::ffff:9.8.7.6]:1": "9.8.7.0/24",
		"127.0.0.1:1": "invalid Prefix", "10.1.2.3:4": "invalid Prefix", "[::1]:4": "invalid Prefix",
	} {
		if got := subnetOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got.String() != want {
			t.Errorf("subnet of %s is %s, want %s", addr, got, want)
		}
	}
}
