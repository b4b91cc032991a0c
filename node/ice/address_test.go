package ice

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"

	"github.com/peerservers/peerserver/protocol"
)

// refused4 and refused6 are addresses that TURN must never relay to, allowed4
// and allowed6 are next to them, or stand for an address that is public.
func refused4() []string {
	return []string{
		"0.0.0.0", "0.1.2.3", "0.255.255.255", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
		"127.0.0.1", "127.0.0.53", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "169.254.255.255",
		"172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255",
		"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.254", "255.255.255.255",
	}
}

func refused6() []string {
	return []string{
		"::", "::1", "::2", "::8.8.8.8", "::127.0.0.1", // v4-compatible, all of it long gone
		"::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", // v4-translated
		"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::c0a8:1", // NAT64
		"64:ff9b:1::127.0.0.1", "64:ff9b:1::8.8.8.8", // local NAT64
		"64:ff9b::93.184.216.34", "2002:5db8:d822::1", // the node's own address, within another
		"100::1", "100:0:0:1::1", // discarded
		"2001:0:7f00:1::f7f7:f7f7", "2001:0:808:808::80ff:fffe", "2001:0:808:808::5601:5601", // Teredo: server, client
		"2001:2::1", "2001:10::1", "2001:20::1", "2001:1::1", // benchmarking, ORCHID, protocols
		"2001:db8::1", "3fff::1", "3fff:fff::1", // documentation
		"2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:1::1", "2002:a9fe:a9fe::", // 6to4
		"4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
	}
}

func allowed4() []string {
	return []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1",
		"168.63.129.15", "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.1", "191.255.255.255", "192.0.1.1",
		"192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.1", "203.0.112.255", "223.255.255.255",
	}
}

func allowed6() []string {
	return []string{
		"64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7",
		"2000::1", "2001:200::1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00::1", "3ffe::1",
	}
}

func mapped(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, "::ffff:"+s)
	}
	return out
}

// hasIPv6 says whether this machine has a socket for it.
func hasIPv6() bool {
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err == nil {
		c.Close()
	}
	return err == nil
}

func family(n byte) stun.Setter { return attr{stun.AttrRequestedAddressFamily, []byte{n, 0, 0, 0}} }

// publicNode is one with an address of each family, that relays only where a
// public node does. Its relayed addresses are told and never reached.
func publicNode(c *Config) {
	c.AllowPrivate = false
	c.Public = addressesOf("93.184.216.34", "2606:2800:220:1::1")
}

func TestAddresses(t *testing.T) {
	sc := serve(t, publicNode)
	for _, c := range []struct {
		name    string
		family  byte
		refused []string
		allowed []string
	}{
		{"IPv4", 1, refused4(), allowed4()},
		{"v4-mapped", 1, mapped(refused4()), mapped(allowed4())},
		{"IPv6", 2, refused6(), allowed6()},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.family == 2 && !hasIPv6() {
				t.Log("this machine has no IPv6")
				return
			}
			r := sc.raw("udp", c.name)
			at, code := r.allocate(family(c.family))
			if code != 0 {
				t.Fatalf("allocate: %d", code)
			}
			own := sc.addresses.relayOf(at)
			for _, s := range c.refused {
				r.wants(403, stun.MethodCreatePermission, s, 40_000)
				r.wants(403, stun.MethodChannelBind, s, 40_000)
				own.hold(netip.MustParseAddr(s).Unmap(), 1) // as if there were a permission
				sc.wantsDropped(own, s, 40_000, badAddress)
				own.hold(netip.MustParseAddr(s).Unmap(), -1)
			}
			for _, s := range c.allowed {
				r.wants(0, stun.MethodCreatePermission, s, 40_000)
				r.wants(0, stun.MethodChannelBind, s, 40_000)
				r.wants(403, stun.MethodChannelBind, s, 1023)
				r.wants(403, stun.MethodChannelBind, s, 53)
				sc.wantsDropped(own, s, 53, badPort)
				if _, why := sc.addresses.route(netip.AddrPortFrom(netip.MustParseAddr(s).Unmap(), 1024)); why != fine {
					t.Errorf("%s: nothing is sent there: %v", s, why)
				}
			}
		})
	}
	if n := sc.Stats().BytesIn; n != 0 {
		t.Errorf("%d bytes were sent", n)
	}
}

// wants asks for a permission or a channel.
func (r *raw) wants(code int, method stun.Method, ip string, port uint16) {
	r.t.Helper()
	a := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
	parts := []stun.Setter{peerAt(a)}
	if method == stun.MethodChannelBind {
		n := uint16(0x4000)
		for _, b := range []byte(ip) { // one for each address
			n = 0x4000 | (n*31+uint16(b))&0xfff
		}
		parts = append(parts, channelNumber(n))
	}
	if _, got := r.request(method, parts...); got != code {
		r.t.Errorf("%v of %s port %d is answered by %d, want %d", method, ip, port, got, code)
	}
}

// wantsDropped has a relay send to an address, and nothing goes there.
func (sc *scene) wantsDropped(r *relay, ip string, port int, why reason) {
	sc.t.Helper()
	before, sent := sc.count.refused[why].Load(), sc.count.in.Load()
	if _, err := r.WriteTo([]byte("in"), &net.UDPAddr{IP: netip.MustParseAddr(ip).AsSlice(), Port: port}); err != nil {
		sc.t.Errorf("%s port %d: %v", ip, port, err)
	}
	if sc.count.refused[why].Load() != before+1 || sc.count.in.Load() != sent {
		sc.t.Errorf("sending to %s port %d is not refused as %v: %v", ip, port, why, sc.Stats().Refused)
	}
}

func TestTestnetAddresses(t *testing.T) {
	a := newAddresses(&Config{AllowPrivate: true})
	for _, s := range []string{"127.0.0.1", "10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.9", "203.0.113.5", "::1", "fd00::1", "2001:db8::1", "8.8.8.8"} {
		if !a.permit(netip.MustParseAddr(s)) {
			t.Errorf("%s is refused in a testnet", s)
		}
		if _, why := a.route(netip.AddrPortFrom(netip.MustParseAddr(s), 1023)); why != badPort {
			t.Errorf("%s port 1023: %v", s, why)
		}
	}
	for _, s := range []string{
		"0.0.0.0", "0.1.2.3", "169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.0.192",
		"::", "fe80::1", "ff02::1", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::",
	} {
		if a.permit(netip.MustParseAddr(s)) {
			t.Errorf("%s is open in a testnet", s)
		}
	}
}

func TestOwnAddressesButLiveRelays(t *testing.T) {
	sc := serve(t, publicNode)
	alice, bob := sc.raw("udp", "alice"), sc.raw("udp", "bob")
	if _, code := alice.allocate(); code != 0 {
		t.Fatal(code)
	}
	at, code := bob.allocate()
	if code != 0 {
		t.Fatal(code)
	}
	own := at.Addr().String()
	alice.wants(0, stun.MethodCreatePermission, own, at.Port())
	alice.wants(403, stun.MethodChannelBind, own, 8787)
	alice.wants(403, stun.MethodChannelBind, own, 65535) // of the relay ports, and nobody's now
	alice.wants(0, stun.MethodChannelBind, own, at.Port())
	if _, code := bob.request(stun.MethodRefresh, attr{stun.AttrLifetime, make([]byte, 4)}); code != 0 {
		t.Fatalf("giving it back: %d", code)
	}
	alice.wants(403, stun.MethodChannelBind, own, at.Port())
	if _, why := sc.addresses.route(at); why != badAddress {
		t.Errorf("what is for a relay that has gone is sent to its port: %v", why)
	}
}

func TestFamilyThatTheNodeHasNot(t *testing.T) {
	sc := serve(t, func(c *Config) { c.Public, c.AllowPrivate = addressesOf("93.184.216.34"), false })
	r := sc.raw("udp", "alice")
	if hasPublicIPv6() {
		t.Log("this machine has a public IPv6 address, which would be told")
	} else if _, code := r.allocate(family(2)); code != 440 {
		t.Errorf("an IPv6 allocation of a node without is answered by %d", code)
	}
	if _, code := r.allocate(family(3)); code != 440 {
		t.Errorf("an unknown family: %d", code)
	}
	if _, code := r.request(stun.MethodAllocate, attr{stun.AttrRequestedTransport, []byte{6, 0, 0, 0}}); code != 442 {
		t.Errorf("TCP to relay over: %d", code)
	}
	// The answer goes out before what it was counted with is given back.
	eventually(t, "what is refused is not counted", func() bool { return sc.Stats().Allocations == 0 })
	if _, code := r.allocate(family(1)); code != 0 {
		t.Errorf("IPv4: %d", code)
	}
}

// RTP beside RTCP wants an even port and the one after it.
func TestEvenPorts(t *testing.T) {
	sc := serve(t, func(c *Config) { c.MinPort, c.MaxPort = 20_000, 20_099 })
	first, second := sc.raw("udp", "alice"), sc.raw("udp", "alice")
	var at netip.AddrPort
	var token []byte
	eventually(t, "an even port is free", func() bool {
		answer, code := first.request(stun.MethodAllocate, requestUDP(), attr{stun.AttrEvenPort, []byte{0x80}})
		var relayed stun.XORMappedAddress
		if code != 0 || relayed.GetFromAs(answer, stun.AttrXORRelayedAddress) != nil {
			return false
		}
		at = netip.AddrPortFrom(netip.MustParseAddr(relayed.IP.String()), uint16(relayed.Port))
		token, _ = answer.Get(stun.AttrReservationToken)
		return true
	})
	if at.Port()%2 != 0 || at.Port() < 20_000 || at.Port() > 20_099 {
		t.Errorf("it is %v", at)
	}
	if next, code := second.allocate(attr{stun.AttrReservationToken, token}); code != 0 && code != 508 || code == 0 && next.Port() != at.Port()+1 {
		t.Errorf("the port after %v is %v: %d", at, next, code)
	}
	if _, code := sc.raw("udp", "alice").allocate(attr{stun.AttrReservationToken, make([]byte, 8)}); code != 508 {
		t.Errorf("a token that was not given: %d", code)
	}
	if want := sc.ports(20_100); want != nil {
		t.Errorf("a port out of the range is tried: %v", want)
	}
}

func hasPublicIPv6() bool {
	c, err := net.Dial("udp6", anywhere("udp6").String())
	if err != nil {
		return false
	}
	defer c.Close()
	return protocol.Public(addrPort(c.LocalAddr()).Addr())
}
