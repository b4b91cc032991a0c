package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

var forbidden = []string{
	"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
	"127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2",
	"172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1",
	"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
	"240.0.0.1", "255.255.255.254", "255.255.255.255",
	"::", "::1", "::2", "::8.8.8.8", "::127.0.0.1", // v4-compatible, all of it long gone
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", // v4-mapped
	"::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", // v4-translated
	"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::c0a8:1", // NAT64
	"64:ff9b:1::127.0.0.1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:7f00:0:100::", // local NAT64
	"100::1", "100:0:0:1::1", // discarded
	"2001:0:7f00:1::f7f7:f7f7", "2001:0:808:808::80ff:fffe", "2001:0:808:808::5601:5601", // Teredo: server, client
	"2001:2::1", "2001:10::1", "2001:20::1", "2001:1::1", // benchmarking, ORCHID, protocols
	"2001:db8::1", "3fff::1", "3fff:fff::1", // documentation
	"2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:1::1", "2002:a9fe:a9fe::", // 6to4
	"4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "2606:4700:4700::1111%eth0", "fec0::1", "ff02::1", "ff0e::1",
}

var allowed = []string{
	"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1",
	"168.63.129.15", "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.1", "191.255.255.255", "192.0.1.1",
	"192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.1", "203.0.112.255", "223.255.255.255",
	"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7",
	"2000::1", "2001:200::1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00::1", "3ffe::1",
}

func TestDialPolicyAddresses(t *testing.T) {
	judge := func(p DialPolicy, addr string, port int) error {
		network := "tcp6"
		if a := netip.MustParseAddr(addr); a.Is4() || a.Is4In6() {
			network = "tcp4"
		}
		_, err := p.judge(network, net.JoinHostPort(addr, fmt.Sprint(port)))
		return err
	}
	for _, addr := range forbidden {
		if err := judge(DialPolicy{}, addr, 8787); code(err) != protocol.CodeRefused {
			t.Errorf("%s: %v, want refused", addr, err)
		}
		if protocol.Public(netip.MustParseAddr(addr)) {
			t.Errorf("%s is public", addr)
		}
		if err := judge(DialPolicy{AllowPrivate: true}, addr, 8787); err != nil {
			t.Errorf("%s with AllowPrivate: %v", addr, err)
		}
		only := func(ap netip.AddrPort) bool {
			return ap.Addr() == netip.MustParseAddr(addr).Unmap() && ap.Port() == 8787
		}
		if err := judge(DialPolicy{Allow: only}, addr, 8787); err != nil {
			t.Errorf("%s, allowed by name: %v", addr, err)
		}
		if err := judge(DialPolicy{Allow: only}, addr, 8788); err == nil {
			t.Errorf("%s: another port than the allowed one is dialled", addr)
		}
	}
	for _, addr := range allowed {
		if err := judge(DialPolicy{}, addr, 8787); err != nil || !protocol.Public(netip.MustParseAddr(addr)) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for port, want := range map[int]bool{1: false, 22: false, 25: false, 79: false, 80: true, 81: false, 443: true, 444: false, 1023: false, 1024: true, 65535: true} {
		for _, p := range []DialPolicy{{}, {AllowPrivate: true}} {
			if err := judge(p, "8.8.8.8", port); (err == nil) != want || (!want && code(err) != protocol.CodeRefused) {
				t.Errorf("port %d: %v", port, err)
			}
		}
	}
	p := DialPolicy{AllowPrivate: true}
	for _, network := range []string{"udp4", "unix", ""} {
		if _, err := p.judge(network, "8.8.8.8:8787"); code(err) != protocol.CodeRefused {
			t.Errorf("network %q: %v", network, err)
		}
	}
	if _, err := p.judge("tcp4", "node.example:8787"); code(err) != protocol.CodeRefused {
		t.Errorf("a name: %v", err)
	}
}

// knocks counts the connections that reach a port of this machine.
func knocks(t *testing.T) (port uint16, count func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got, done := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			got <- struct{}{}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return uint16(l.Addr().(*net.TCPAddr).Port), func() int { return len(got) }
}

// nameServer answers every name with the next of its lists of IPv4 addresses,
// the last one for ever.
func nameServer(t *testing.T, answers ...[]string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 512); ; {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12
			for buf[end] != 0 {
				end += int(buf[end]) + 1
			}
			kind := binary.BigEndian.Uint16(buf[end+1 : n])
			answer := append([]byte(nil), buf[:end+5]...)
			copy(answer[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
			if kind == 1 { // A
				for _, ip := range answers[0] {
					answer[7]++
					answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
					answer = append(answer, netip.MustParseAddr(ip).AsSlice()...)
				}
				if len(answers) > 1 {
					answers = answers[1:]
				}
			}
			_, _ = server.WriteTo(answer, from)
		}
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// A name that answered with a public address when it was looked at, and with
// this machine's when it is dialled, gets nobody to knock here.
func TestDialPolicyRebinding(t *testing.T) {
	port, count := knocks(t)
	url := protocol.LinkURL{Host: "rebind.example", Port: port}
	resolver := nameServer(t, []string{"1.1.1.1"}, []string{"127.0.0.1"})
	if looked, err := resolver.LookupNetIP(context.Background(), "ip4", url.Host); err != nil || !protocol.Public(looked[0]) {
		t.Fatalf("the bait is %v, %v", looked, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := NewDialer(DialPolicy{Resolver: resolver}).Dial(ctx, url); code(err) != protocol.CodeRefused {
		t.Errorf("dial: %v, want refused", err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	// The same dial with the policy off does arrive.
	if _, err := NewDialer(DialPolicy{Resolver: resolver, AllowPrivate: true}).Dial(ctx, url); err == nil || code(err) == protocol.CodeRefused {
		t.Errorf("dial with AllowPrivate: %v", err)
	}
	for start := time.Now(); count() == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("the name server or the listener does not work: this test proves nothing")
		}
	}
}

func TestDialPolicyLiteral(t *testing.T) {
	port, count := knocks(t)
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "localhost", "0.0.0.0", "::1"} {
		_, err := NewDialer(DialPolicy{}).Dial(context.Background(), protocol.LinkURL{Host: host, Port: port})
		if code(err) != protocol.CodeRefused {
			t.Errorf("%s: %v", host, err)
		}
	}
	if n := count(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// An error of a dial names no address: it may be logged.
func TestDialErrorsAreBare(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	d := NewDialer(DialPolicy{AllowPrivate: true, Resolver: nameServer(t, nil)})
	for _, host := range []string{"127.0.0.1", "nowhere.example"} {
		_, err = d.Dial(context.Background(), protocol.LinkURL{Host: host, Port: port})
		if err == nil || strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// A name with hundreds of addresses is no way to have hundreds dialled.
func TestDialPolicyManyAddresses(t *testing.T) {
	port, count := knocks(t)
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("127.0.1.%d", i)) // nobody listens there
	}
	d := NewDialer(DialPolicy{AllowPrivate: true, Resolver: nameServer(t, append(many[:dialAddresses:dialAddresses], "127.0.0.1"))})
	if _, err := d.Dial(context.Background(), protocol.LinkURL{Host: "many.example", Port: port}); err == nil || count() != 0 {
		t.Errorf("the address behind the last allowed one was dialled: %v, %d connections", err, count())
	}
	control := (&DialPolicy{AllowPrivate: true}).control(newPlaces(), "")
	for i, addr := range many {
		err := control(context.Background(), "tcp4", addr+":8787", nil)
		if (err == nil) != (i < dialAddresses) {
			t.Errorf("address %d: %v", i, err)
		}
	}
}

// Many names for one address are no way to have it dialled many times.
func TestPlaces(t *testing.T) {
	s, now := newPlaces(), time.Now()
	to := netip.MustParseAddrPort("8.8.8.8:443")
	name := func(i int) string { return fmt.Sprintf("wss://n%d.example:443", i) }
	for i := range 10 {
		if got := s.mayConnect(to, name(i), now); got != (i < placeURLs) {
			t.Errorf("name %d: %v", i, got)
		}
	}
	if !s.mayConnect(to, name(0), now) {
		t.Error("a URL that was dialled before is not left to the dial book")
	}
	if !s.mayConnect(netip.MustParseAddrPort("8.8.8.8:8787"), name(9), now) {
		t.Error("another port is taken for the same place")
	}
	if s.mayConnect(to, name(9), now.Add(protocol.DialUnproven-1)) || !s.mayConnect(to, name(9), now.Add(protocol.DialUnproven)) {
		t.Error("the place is not free again after protocol.DialUnproven")
	}
	s.proved(&net.TCPAddr{IP: net.ParseIP("8.8.8.8"), Port: 443}) // 16 bytes, v4-mapped
	for i := range 10 {
		if !s.mayConnect(to, name(i), now) || !s.mayConnect(to, name(i), now.Add(2*protocol.DialUnproven)) {
			t.Errorf("name %d is refused where a node has answered", i)
		}
	}
	s.proved(nil)

	s = newPlaces()
	for i := range protocol.DialBook + 10 {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, byte(i >> 8), byte(i)}), 443)
		if got := s.mayConnect(to, name(i), now); got != (i < protocol.DialBook) {
			t.Fatalf("place %d: %v", i, got)
		}
	}
	if !s.mayConnect(to, name(0), now.Add(protocol.DialUnproven)) || len(s.all) != 1 {
		t.Errorf("%d old places are kept", len(s.all))
	}
}
