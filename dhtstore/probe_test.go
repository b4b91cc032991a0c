package dhtstore

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Records that another node hands over: who is there is found, who is not is
// not, whatever its record says.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		b := newStore(t, h, 20, nil)
		b.serve()
		direct := openStore(t, h, 1, nil)
		proxied := newStore(t, h, 2, nil)
		proxied.serve()
		must(t, proxied.SetOwn(protocol.Record{URLs: []string{"wss://" + proxied.addr.Addr().String()}}))
		dead := openStore(t, h, 3, nil)
		h.unplug(dead.addr)
		elsewhere := newStore(t, h, 4, nil) // says that it is where direct is
		elsewhere.serve()
		must(t, elsewhere.SetOwn(protocol.Record{URLs: []string{"ws://" + direct.addr.String()}}))
		forged := openStore(t, h, 5, nil).Own()
		forged.Signature[3] ^= 1
		var mu sync.Mutex
		found := map[protocol.NodeID]int{}
		w := watch(h, b.addr)
		check := func(records ...*protocol.SignedRecord) {
			b.Check(records, func(r *protocol.Record) {
				mu.Lock()
				defer mu.Unlock()
				found[r.Node]++
			})
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		check(direct.Own(), proxied.Own(), dead.Own(), elsewhere.Own(), forged, nil, &protocol.SignedRecord{}, b.Own())
		want := map[protocol.NodeID]int{direct.self: 1, proxied.self: 1}
		if fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("found %v, want %v", found, want)
		}
		w.reset()
		check(direct.Own(), proxied.Own(), dead.Own())
		if n := w.count("ps_record"); n > 0 {
			t.Errorf("%d questions to those who have just answered, or not", n)
		}
		want[direct.self], want[proxied.self] = 2, 2
		if fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("found %v, want %v", found, want)
		}
	})
}

// Nobody can have a node on the internet send packets into its own network.
func TestCheckPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		b := newStore(t, h, 20, nil, at(h, true), func(c *Config) { c.Private = false })
		b.serve()
		var records []*protocol.SignedRecord
		for i, u := range []string{
			"ws://127.0.0.1:8787", "ws://10.1.0.1:8787", "ws://192.168.1.1:8787", "wss://169.254.169.254",
			"ws://[::1]:8787", "ws://[fe80::1]:8787", "ws://[fc00::1]:8787", "ws://0.0.0.0:8787", "ws://224.0.0.1:8787",
		} {
			r := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: time.Hour, URLs: []string{u}}
			must(t, protocol.SignRecord(testKey(30+i), r))
			records = append(records, r.Signed)
		}
		w := watch(h, b.addr)
		b.Check(records, func(*protocol.Record) { t.Error("found") })
		time.Sleep(time.Minute)
		if n := w.count("ps_record"); n > 0 {
			t.Errorf("%d questions", n)
		}
		public := &protocol.Record{Seq: time.Now().UnixMilli(), TTL: time.Hour, URLs: []string{"ws://77.7.7.7:8787"}}
		must(t, protocol.SignRecord(testKey(50), public))
		b.Check([]*protocol.SignedRecord{public.Signed}, func(*protocol.Record) { t.Error("found") })
		time.Sleep(time.Minute)
		if n := w.count("ps_record"); n == 0 {
			t.Error("a public address is not asked either")
		}
	})
}

// However much is handed over, only so much waits.
func TestErrandsAreBounded(t *testing.T) {
	s := newStore(t, newHub(), 1, nil)
	s.serve()
	s.stop()
	var many []*protocol.SignedRecord
	for range 100 {
		many = append(many, new(protocol.SignedRecord))
	}
	for range 1000 {
		s.Check(many, nil)
	}
	if n := len(s.errands); n != maxErrands {
		t.Errorf("%d errands", n)
	}
}

// Many that want to know of one address make one question.
func TestOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.setDelay(50 * time.Millisecond)
		a, b := openStore(t, h, 1, nil), openStore(t, h, 2, nil)
		w := watch(h, b.addr)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if r, err := b.ask(t.Context(), a.addr); err != nil || r.Node != a.self {
					t.Errorf("%v, %v", r, err)
				}
			})
		}
		wg.Wait()
		if n := w.count("ps_record"); n != 1 || len(b.flights) != 0 {
			t.Errorf("%d questions, %d under way", n, len(b.flights))
		}
		if _, err := b.ask(t.Context(), netip.MustParseAddrPort("[2001:db8::1]:1")); err == nil {
			t.Error("asked in a family that the socket does not have")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
