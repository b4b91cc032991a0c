package dhtstore

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// The own record is there at once, for us and for those who ask, and in the DHT
// after 10 s without a change, no sooner than 60 s after the last time.
func TestOwnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		a := newStore(t, h, 1, addrs(nodes[:1]))
		a.serve()
		b := openStore(t, h, 2, addrs(nodes[:1]))
		time.Sleep(2 * time.Minute)
		if _, err := b.servers[0].record(t.Context(), a.addr); err == nil {
			t.Error("it has a record before it has an address")
		}
		w := watch(h, a.addr)
		start := time.Now()
		says := func(load int) {
			t.Helper()
			if err := a.SetOwn(protocol.Record{URLs: []string{"wss://Node.example"}, STUNPort: 3478, Load: load}); err != nil {
				t.Fatal(err)
			}
			got, err := b.servers[0].record(t.Context(), a.addr)
			if err != nil {
				t.Fatal(err)
			}
			r, err := got.Verify(a.self, time.Now())
			if err != nil || r.Load != load || r.STUNPort != 3478 || r.URLs[0] != "wss://Node.example" || r.TTL != protocol.RecordTTL {
				t.Errorf("answers with %+v, %v", r, err)
			}
			if own := a.Own(); own == nil || own.Seq != r.Seq {
				t.Errorf("own record is %v, the answer's sequence %d", own, r.Seq)
			}
		}
		says(0)
		time.Sleep(5 * time.Second)
		says(1) // at 5 s: so at 15 s
		time.Sleep(20 * time.Second)
		for range 20 { // from 25 to 65 s, every 2 s
			says(2)
			says(3)
			time.Sleep(2 * time.Second)
		}
		says(3) // the same: no change
		time.Sleep(10 * time.Minute)
		puts := w.turns("put")
		for i, want := range []time.Duration{15 * time.Second, 75 * time.Second} {
			if len(puts) != 2 || puts[i].Sub(start) < want || puts[i].Sub(start) > want+time.Second {
				t.Fatalf("published at %v after %v, want 15 s and 75 s", puts, start)
			}
		}
		if r, err := b.Resolve(t.Context(), a.self); err != nil || r.Load != 3 {
			t.Errorf("resolved %+v, %v", r, err)
		}
		w.reset()
		hours := 5
		if underRace {
			hours = 2
		}
		time.Sleep(time.Duration(hours) * time.Hour)
		puts = w.turns("put")
		if len(puts) < hours || len(puts) > hours*3/2+1 {
			t.Fatalf("published %d times in %d hours", len(puts), hours)
		}
		for i := range puts[1:] {
			if d := puts[i+1].Sub(puts[i]); d < 40*time.Minute || d > 61*time.Minute {
				t.Errorf("refreshed after %v", d)
			}
		}
		if r, err := b.Resolve(t.Context(), a.self); err != nil || time.Since(time.UnixMilli(r.Seq)) > time.Hour {
			t.Errorf("resolved %+v, %v", r, err)
		}
	})
}

// What cannot be a record is refused, and the one before stays.
func TestSetOwnRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, newHub(), 1, nil)
		s.serve()
		good := protocol.Record{URLs: []string{"wss://node.example"}}
		if err := s.SetOwn(good); err != nil {
			t.Fatal(err)
		}
		long := "wss://" + strings.Repeat(strings.Repeat("a", 60)+".", 4) + "example"
		for _, r := range []protocol.Record{
			{URLs: []string{"ws://node.example"}},
			{URLs: []string{"http://node.example"}},
			{URLs: []string{"wss://a", "wss://b", "wss://c", "wss://d", "wss://e"}},
			{URLs: []string{long, long, long, long}},
			{URLs: []string{"wss://node.example"}, Load: 4},
		} {
			if err := s.SetOwn(r); err == nil {
				t.Errorf("%v is taken", r)
			}
			if own, err := s.Own().Verify(s.self, time.Now()); err != nil || own.URLs[0] != good.URLs[0] {
				t.Errorf("own record is %v, %v", own, err)
			}
		}
		if err := s.SetOwn(protocol.Record{}); err != nil || s.Own() != nil {
			t.Errorf("without URLs the record is %v, %v", s.Own(), err)
		}
	})
}

// The record that we answer with is never old, published or not.
func TestOwnRecordStaysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, newHub(), 1, nil)
		var last int64
		for range 100 {
			r, err := s.Own().Verify(s.self, time.Now())
			if err != nil || time.Until(r.Expires()) < protocol.RecordTTL/2 || r.Seq < last {
				t.Fatalf("%v, %v after %d", r, err, last)
			}
			last = r.Seq
			time.Sleep(7 * time.Minute)
		}
	})
}

// A publish that too few nodes took is done again, later each time; one that
// they say they took, and did not, as well.
func TestPublishAgain(t *testing.T) {
	for name, answer := range map[string]func(*query) []byte{
		"no answer": func(q *query) []byte {
			if q.method == "put" {
				return nil
			}
			return replyBytes(q, map[string]any{"token": "x"})
		},
		"not kept": func(q *query) []byte { return replyBytes(q, map[string]any{"token": "x"}) },
		"no token": func(q *query) []byte { return replyBytes(q, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub()
				var bad []netip.AddrPort
				for range 6 {
					f := newFake(h, answer)
					defer f.stop()
					bad = append(bad, f.addr)
				}
				nodes := startNet(t, h, 3)
				s := openStore(t, h, 1, append(bad, nodes[0].addr))
				w := watch(h, s.addr)
				time.Sleep(20 * time.Minute)
				tries := w.turns("get")
				var gaps []time.Duration
				for i := range tries[1:] {
					gaps = append(gaps, tries[i+1].Sub(tries[i]).Round(time.Second))
				}
				if len(gaps) < 6 || gaps[0] > 25*time.Second || gaps[len(gaps)-1] < 4*time.Minute || s.Stats().Published {
					t.Errorf("tried after %v, published %v", gaps, s.Stats().Published)
				}
				if len(tries) > 12 {
					t.Errorf("%d tries in 20 minutes", len(tries))
				}
			})
		})
	}
}

// Three nodes are as many as there are: then it is done.
func TestPublishAmongFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 3)
		s := openStore(t, h, 1, addrs(nodes[:1]))
		w := watch(h, s.addr)
		time.Sleep(30 * time.Minute)
		if n := len(w.turns("put")); n != 2 || !s.Stats().Published { // and once more, as the table was new
			t.Errorf("published %d times", n)
		}
	})
}

// The sequence rises across restarts, also when the clock has gone back, and
// when all that is left of it is what the DHT has.
func TestSequence(t *testing.T) {
	for name, keep := range map[string]bool{"on disk": true, "in the DHT": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				h := newHub()
				nodes := startNet(t, h, 8)
				future := func(c *Config) {
					if keep {
						c.Dir = dir
					}
				}
				s := openStore(t, h, 1, addrs(nodes[:1]), future)
				s.own.mu.Lock()
				s.own.seq = time.Now().Add(9 * time.Minute).UnixMilli() // a clock that goes wrong
				s.own.mu.Unlock()
				time.Sleep(time.Minute)
				last := s.Own().Seq
				if !s.Stats().Published || last < time.Now().Add(7*time.Minute).UnixMilli() {
					t.Fatalf("sequence %d is not published", last)
				}
				s.stop()
				s = openStore(t, h, 1, addrs(nodes[:1]), future)
				if first := s.Own().Seq; keep && first <= last {
					t.Errorf("sequence %d after %d", first, last)
				}
				time.Sleep(time.Minute)
				if st := s.Stats(); s.Own().Seq <= last || !st.Published {
					t.Errorf("sequence %d after %d, published %v", s.Own().Seq, last, st.Published)
				}
				b := openStore(t, h, 2, addrs(nodes[:1]))
				time.Sleep(time.Second)
				if r, err := b.Resolve(t.Context(), s.self); err != nil || r.Seq <= last {
					t.Errorf("resolved %v, %v", r, err)
				}
			})
		})
	}
}

// A record in the DHT that is far ahead of the clock is not followed: nobody
// would believe the next one.
func TestOvertakeKeepsToTheClock(t *testing.T) {
	o := &ownRecord{key: testKey(1)}
	now := time.Unix(1e9, 0)
	o.overtake(now.Add(protocol.RecordAhead+time.Second).UnixMilli(), now)
	if o.seq != 0 {
		t.Errorf("sequence is %d", o.seq)
	}
	near := now.Add(time.Minute).UnixMilli()
	o.overtake(near, now)
	o.overtake(near-5, now)
	if o.seq != near {
		t.Errorf("sequence is %d, want %d", o.seq, near)
	}
}
