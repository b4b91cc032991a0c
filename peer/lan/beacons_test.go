package lan_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/peer/lan"
	"github.com/peerservers/peerserver/peer/lan/lantest"
	"github.com/peerservers/peerserver/protocol"
)

func testKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func idOf(b byte) [32]byte { return [32]byte(testKey(b).Public().(ed25519.PublicKey)) }

// station is a host with Beacons, and what it was told.
type station struct {
	b *lan.Beacons

	mu    sync.Mutex
	heard []lan.Heard
	gone  []lan.Heard
}

func (s *station) news() (list []lan.Heard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.heard {
		if h.New {
			list = append(list, h)
		}
	}
	return list
}

func (s *station) lost() []lan.Heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.gone)
}

// peer starts the beacons of a peer; what it returns ends them.
func peer(t *testing.T, h *lantest.Host, seed byte, apps ...protocol.AppID) (*station, func()) {
	t.Helper()
	return start(t, h, seed, func(lan.Interface) lan.Said { return lan.Said{Apps: apps, Port: 1000 + uint16(seed)} })
}

func start(t *testing.T, h *lantest.Host, seed byte, say func(lan.Interface) lan.Said) (*station, func()) {
	t.Helper()
	s := new(station)
	b, err := lan.Listen(lan.Config{
		Key: testKey(seed), Network: h, Say: say,
		Heard: func(h lan.Heard) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.heard = append(s.heard, h)
		},
		Gone: func(h lan.Heard) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.gone = append(s.gone, h)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.b = b
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := b.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, sync.OnceFunc(func() {
		stop()
		serving.Wait()
	})
}

func TestPeersHearEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ether, app := new(lantest.Ether), protocol.App("peer", []byte("a-name"), nil)
		one, stop := peer(t, ether.Host("10.0.0.1/24"), 1, app)
		defer stop()
		time.Sleep(10 * time.Second) // the first beacon of one is long over
		two, stop := peer(t, ether.Host("10.0.0.2/24"), 2, app)
		defer stop()
		time.Sleep(protocol.BeaconReply + 100*time.Millisecond)
		synctest.Wait()
		if n := one.news(); len(n) != 1 || n[0].Key != idOf(2) || n[0].From != netip.MustParseAddr("10.0.0.2") || n[0].Port != 1002 || !n[0].Serves(app) {
			t.Fatalf("one has heard %+v", n)
		}
		if n := two.news(); len(n) != 1 || n[0].Key != idOf(1) {
			t.Fatalf("two has heard %+v", n)
		}
		for _, b := range ether.Sent() {
			if bytes.Contains(b, []byte("a-name")) || bytes.Contains(b, app[:]) {
				t.Fatal("the app is in a datagram")
			}
		}
		if !one.b.Near(netip.MustParseAddr("10.0.0.77")) || one.b.Near(netip.MustParseAddr("10.0.1.77")) || one.b.Near(netip.MustParseAddr("fe80::1")) {
			t.Fatal("near is not the subnet")
		}
		// Both go on at their pace: 30 s, no storm of answers.
		before := len(ether.Sent())
		time.Sleep(10 * protocol.BeaconEvery)
		if n := len(ether.Sent()) - before; n < 18 || n > 22 {
			t.Fatalf("%d beacons in ten intervals of two", n)
		}
		if n := len(one.news()) + len(two.news()); n != 2 {
			t.Fatalf("%d were new", n)
		}
	})
}

func TestSilentPeerExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ether := new(lantest.Ether)
		one, stop := peer(t, ether.Host("10.0.0.1/24"), 1)
		defer stop()
		_, silence := peer(t, ether.Host("10.0.0.2/24"), 2)
		time.Sleep(5 * time.Second)
		silence()
		time.Sleep(3 * protocol.BeaconEvery)
		if len(one.b.Known()) != 1 || len(one.lost()) != 0 {
			t.Fatalf("known %v, gone %v, after three intervals", one.b.Known(), one.lost())
		}
		time.Sleep(protocol.BeaconEvery)
		if len(one.b.Known()) != 0 || len(one.lost()) != 1 || one.lost()[0].Key != idOf(2) {
			t.Fatalf("known %v, gone %v, after four intervals", one.b.Known(), one.lost())
		}
		_, stop = peer(t, ether.Host("10.0.0.2/24"), 2)
		defer stop()
		time.Sleep(time.Second)
		if n := len(one.news()); n != 2 {
			t.Fatalf("it comes back, and was new %d times", n)
		}
	})
}

func TestInterfaceComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ether := new(lantest.Ether)
		host := ether.Host("10.0.0.1/24")
		host.Plug(false)
		one, stop := peer(t, host, 1)
		defer stop()
		two, stop := peer(t, ether.Host("10.0.0.2/24"), 2)
		defer stop()
		time.Sleep(time.Minute)
		if len(one.news())+len(two.news()) != 0 || one.b.Near(netip.MustParseAddr("10.0.0.2")) {
			t.Fatal("they hear each other without a cable")
		}
		host.Plug(true)
		time.Sleep(10 * time.Second)
		if len(one.news()) != 1 || len(two.news()) != 1 {
			t.Fatalf("%v and %v, with a cable", one.news(), two.news())
		}
	})
}

func TestNodeIsHeardWithItsRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ether := new(lantest.Ether)
		one, stop := peer(t, ether.Host("10.0.0.1/24"), 1)
		defer stop()
		_, stop = start(t, ether.Host("10.0.0.2/24"), 2, func(i lan.Interface) lan.Said {
			r := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{"ws://" + i.Subnets[0].Addr().String() + ":8787"}}
			if err := protocol.SignRecord(testKey(2), r); err != nil {
				t.Error(err)
			}
			return lan.Said{Record: r.Signed}
		})
		defer stop()
		_, stop = start(t, ether.Host("10.0.0.3/24"), 3, nil) // says nothing
		defer stop()
		_, stop = start(t, ether.Host("10.0.0.4/24"), 4, func(lan.Interface) lan.Said { return lan.Said{} })
		defer stop()
		time.Sleep(3 * time.Second)
		n := one.news()
		if len(n) != 1 || n[0].Record == nil || !slices.Equal(n[0].Record.URLs, []string{"ws://10.0.0.2:8787"}) {
			t.Fatalf("heard %+v", n)
		}
	})
}

// TestHostileBeacons: what is not signed, not near or too much changes nothing,
// and who is honest is heard all the same.
func TestHostileBeacons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ether := new(lantest.Ether)
		one, stop := peer(t, ether.Host("10.0.0.1/24"), 1)
		defer stop()
		time.Sleep(5 * time.Second)
		near, far := netip.MustParseAddr("10.0.0.66"), netip.MustParseAddr("10.0.1.66")
		beacon := func(seed byte, port uint16) []byte {
			b, err := protocol.SignBeacon(testKey(seed), [protocol.BeaconNonce]byte{}, nil, port, nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		forged := beacon(9, 1)
		forged[len(forged)-1] ^= 1
		for _, b := range [][]byte{forged, nil, []byte("psb1"), make([]byte, 2000), ether.Sent()[0]} {
			ether.Send(near, b)
		}
		ether.Send(far, beacon(9, 1))
		ether.Send(netip.MustParseAddr("203.0.113.5"), beacon(9, 1))
		ether.Send(netip.Addr{}, beacon(9, 1))
		time.Sleep(2 * time.Second)
		if n := one.news(); len(n) != 0 {
			t.Fatalf("heard %+v", n)
		}
		// A flood of one source takes a share of the table, and no other's.
		for port := range uint16(500) {
			ether.Send(near, beacon(9, 1+port))
		}
		time.Sleep(time.Second)
		if n := len(one.b.Known()); n == 0 || n > 16 {
			t.Fatalf("%d of one source are remembered", n)
		}
		_, stop = peer(t, ether.Host("10.0.0.2/24"), 2)
		defer stop()
		time.Sleep(5 * time.Second)
		if n := one.news(); !slices.ContainsFunc(n, func(h lan.Heard) bool { return h.Key == idOf(2) }) {
			t.Fatalf("an honest one is not heard among %d", len(n))
		}
		// Floods of many sources: the table has an end.
		for i := range 250 {
			for port := range uint16(3) {
				ether.Send(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), beacon(byte(10+i%100), 2000+port))
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := len(one.b.Known()); n != protocol.MaxBeacons {
			t.Fatalf("%d are remembered", n)
		}
		// One beacon for all that was new in a second.
		if n := len(ether.Sent()); n > 5+3+500+750+40 {
			t.Fatalf("%d datagrams: a flood is answered by a flood", n)
		}
	})
}
