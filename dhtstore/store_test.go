package dhtstore

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// What relay asks of a finder.
var _ interface {
	Want(app protocol.AppID, found func(*protocol.Record))
	Drop(app protocol.AppID)
	Own() *protocol.SignedRecord
	Check(records []*protocol.SignedRecord, found func(*protocol.Record))
} = (*Store)(nil)

// Over real sockets, of one family and of both, and without a word of the test
// to them but one address.
func TestRealSockets(t *testing.T) {
	var boot []netip.AddrPort
	var stores []*testStore
	for i, listen := range []string{"127.0.0.1:0", "127.0.0.1:0", ":0"} {
		conn, err := net.ListenPacket("udp", listen)
		must(t, err)
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		s := newStore(t, newHub(), i, boot, func(c *Config) { c.Conn = conn })
		must(t, s.SetOwn(protocol.Record{URLs: []string{"ws://" + at.String()}}))
		s.serve()
		s.want(chess)
		stores = append(stores, s)
		boot = []netip.AddrPort{at}
	}
	for i, a := range stores {
		for _, b := range stores[:i] {
			found := func() bool {
				_, ok := a.finds(chess, b, 0)
				_, ok2 := b.finds(chess, a, 0)
				return ok || ok2
			}
			for end := time.Now().Add(time.Minute); !found(); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("neither of %d and %d has found the other", a.i, b.i)
				}
			}
		}
	}
}

// IPv6 beside IPv4: two sockets, one socket for both, one family alone.
func TestFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.setDelay(10 * time.Millisecond)
		v6 := func(i byte) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 15: i}), 8787)
		}
		two := openStore(t, h, 1, nil, func(c *Config) { c.Conn6 = h.listen(v6(1)) })
		boot := []netip.AddrPort{two.addr, v6(1)}
		one := openStore(t, h, 2, boot, func(c *Config) {
			c.Conn = h.listenDual(netip.MustParseAddrPort("10.1.0.2:8787"), v6(2))
		})
		only4 := openStore(t, h, 3, boot)
		only6 := openStore(t, h, 4, boot, func(c *Config) { c.Conn = h.listen(v6(4)) })
		all := []*testStore{two, one, only4, only6}
		time.Sleep(10 * time.Second)
		for _, s := range all {
			s.want(chess)
		}
		time.Sleep(2 * time.Minute)
		for _, a := range all {
			for _, b := range all {
				_, found := a.finds(chess, b, 0)
				want := a != b && !(a == only4 && b == only6) && !(a == only6 && b == only4)
				if found != want {
					t.Errorf("%d has found %d: %v, want %v", a.i, b.i, found, want)
				}
				if r, err := a.Resolve(t.Context(), b.self); want && (err != nil || r.Node != b.self) {
					t.Errorf("%d resolves %d: %v", a.i, b.i, err)
				}
			}
		}
		if st := two.Stats(); st.Nodes4 != 2 || st.Nodes6 != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// What is missing is said, and a socket that is lost ends Serve.
func TestOpenAndServe(t *testing.T) {
	h := newHub()
	for name, cfg := range map[string]Config{
		"nothing": {}, "no key": {Conn: h.listen(netip.AddrPort{})}, "no socket": {Key: testKey(1)},
		"no folder": {Conn: h.listen(netip.AddrPort{}), Key: testKey(1), Dir: "/proc/none"},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	conn := h.listen(netip.AddrPort{})
	s, err := Open(Config{Conn: conn, Key: testKey(1), Bootstrap: []string{}, Dir: t.TempDir()})
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	s.Want(chess, func(*protocol.Record) {})
	conn.Close()
	if err := <-done; err == nil {
		t.Error("Serve ended without an error")
	}
}
