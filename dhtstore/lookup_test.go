package dhtstore

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Lookup names each node that serves an app once, and what it cost, and leaves
// no trace.
func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 20)
		var stores []*testStore
		for i := range 5 {
			stores = append(stores, openStore(t, h, i, addrs(nodes[:1])))
		}
		time.Sleep(2 * time.Minute)
		for _, s := range stores {
			s.want(chess)
		}
		time.Sleep(10 * time.Second)
		who := newStore(t, h, 9, addrs(nodes[:1]))
		who.serve()
		w := watch(h, who.addr)
		for _, source := range []Source{SourceDHT, SourceCache} {
			found := map[protocol.NodeID]Found{}
			p, err := who.Lookup(t.Context(), chess, func(f Found) {
				if _, ok := found[f.Record.Node]; ok {
					t.Errorf("%s found twice", f.Record.Node.Short())
				}
				found[f.Record.Node] = f
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range stores {
				if f := found[s.self]; f.Addr != s.addr || f.Source != source || len(f.Record.URLs) != 1 {
					t.Errorf("store %d: %+v", s.i, f)
				}
			}
			if p.Candidates != 5 || p.Probed != 5 || p.Queries < 8 || p.Replies < 8 || p.Rounds < 1 || p.Rounds > p.Queries {
				t.Errorf("%+v", p)
			}
		}
		if n := w.count("announce_peer"); n > 0 {
			t.Errorf("%d announces", n)
		}
		if n := w.count("ps_record"); n != 5 {
			t.Errorf("%d nodes were asked for their record, want 5, once", n)
		}
		none := 0
		if p, err := who.Lookup(t.Context(), protocol.MeshApp, func(Found) { none++ }); err != nil || none > 0 || p.Candidates > 0 {
			t.Errorf("found %d, %+v, %v", none, p, err)
		}
	})
}

// Where nothing answers, the error says what to look at.
func TestLookupWithoutDHT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		s := newStore(t, h, 1, []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:6881")})
		s.serve()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := s.Lookup(ctx, chess, func(Found) { t.Error("found") })
		if err == nil || !strings.Contains(err.Error(), "is UDP 8787 open?") || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("lookup: %v", err)
		}
		_, err = s.Resolve(ctx, nodeID(5))
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "is UDP 8787 open?") {
			t.Errorf("resolve: %v", err)
		}
	})
}

// A record is found by its NodeID alone, from anywhere.
func TestResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.setDelay(20 * time.Millisecond)
		n := 40
		if underRace {
			n = 15
		}
		nodes := startNet(t, h, n)
		var stores []*testStore
		for i := range 6 {
			stores = append(stores, openStore(t, h, i, addrs(nodes[i:i+1])))
		}
		time.Sleep(2 * time.Minute)
		for _, a := range stores {
			for _, b := range stores {
				r, err := a.Resolve(t.Context(), b.self)
				if err != nil || r.Node != b.self || r.URLs[0] != "ws://"+b.addr.String() {
					t.Errorf("%d resolves %d: %v, %v", a.i, b.i, r, err)
				}
			}
		}
		_, err := stores[0].Resolve(t.Context(), nodeID(77))
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), nodeID(77).String()) || strings.Contains(err.Error(), "UDP") {
			t.Errorf("of nobody: %v", err)
		}
	})
}

// A record is found after its node is gone, until it expires.
func TestResolveExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		gone := openStore(t, h, 1, addrs(nodes[:1]))
		time.Sleep(2 * time.Minute)
		gone.stop()
		fresh := newStore(t, h, 2, addrs(nodes[:1]))
		fresh.serve()
		if r, err := fresh.Resolve(t.Context(), gone.self); err != nil {
			t.Errorf("after its end: %v, %v", r, err)
		}
		time.Sleep(protocol.RecordTTL + time.Minute)
		if r, err := fresh.Resolve(t.Context(), gone.self); !errors.Is(err, ErrNotFound) {
			t.Errorf("expired: %v, %v", r, err)
		}
	})
}

// The highest sequence wins, wherever it is, and what does not verify does not
// count.
func TestResolveHighest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 8)
		s := newStore(t, h, 1, addrs(nodes[:1]))
		s.serve()
		time.Sleep(time.Minute)
		key := testKey(50)
		put := func(n *testServer, r *protocol.SignedRecord) {
			i := recordItem(r)
			n.responder.items.items.put(i.target(), storedItem{mutable: true, item: *i}, netip.Addr{}, time.Now())
		}
		synctest.Wait()
		record := func(ago time.Duration, url string) *protocol.SignedRecord {
			r := &protocol.Record{Seq: time.Now().Add(-ago).UnixMilli(), TTL: protocol.RecordTTL, URLs: []string{url}}
			if err := protocol.SignRecord(key, r); err != nil {
				t.Fatal(err)
			}
			return r.Signed
		}
		put(nodes[0], record(time.Hour, "wss://older"))
		put(nodes[1], record(time.Minute, "wss://newest"))
		forged := record(0, "wss://forged")
		forged.Signature[0] ^= 1
		put(nodes[2], forged)
		put(nodes[3], record(-protocol.RecordAhead-time.Minute, "wss://future"))
		if r, err := s.Resolve(t.Context(), nodeID(50)); err != nil || r.URLs[0] != "wss://newest" {
			t.Errorf("%v, %v", r, err)
		}
		synctest.Wait()
		put(nodes[1], record(time.Hour, "wss://older")) // the newest is lost
		if r, err := s.Resolve(t.Context(), nodeID(50)); err != nil || r.URLs[0] != "wss://newest" {
			t.Errorf("older than one seen before: %v, %v", r, err)
		}
	})
}

func closestOf(nodes []*testServer, target [20]byte) []*testServer {
	all := slices.Clone(nodes)
	slices.SortFunc(all, func(a, b *testServer) int { return byDistance(a.id(), b.id(), target) })
	return all
}

// Two walks from different places ask no node twice, and find what one would,
// also where a third of the nodes are dead.
func TestSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		h.setDelay(20 * time.Millisecond)
		n := 60
		if underRace {
			n = 30
		}
		nodes := startNet(t, h, n)
		s := newStore(t, h, 1, addrs(nodes[:1]))
		s.serve()
		time.Sleep(2 * time.Minute)
		for i := range n / 3 {
			h.unplug(nodes[3*i+1].addr)
		}
		time.Sleep(30 * time.Minute) // until the others name them no more
		for i := range 10 {
			target := numbered(i).Rendezvous(0)
			w := watch(h, s.addr)
			steps, stats := s.survey(t.Context(), s.sides[0], target, func(ctx context.Context, addr netip.AddrPort) (*reply, error) {
				return s.servers[0].getPeers(ctx, addr, target)
			})
			if n, d := w.count("get_peers"), w.different("get_peers"); n != d || stats.Queries != d || stats.Replies > d {
				t.Errorf("%d queries to %d nodes, counted %+v", n, d, stats)
			}
			var alive []*testServer
			for j, n := range nodes {
				if j%3 != 1 {
					alive = append(alive, n)
				}
			}
			for j, want := range closestOf(alive, target)[:8] {
				if j >= len(steps) || steps[j].ID != want.id() {
					t.Errorf("target %d: the node closest but %d was not found", i, j)
				}
			}
		}
	})
}
