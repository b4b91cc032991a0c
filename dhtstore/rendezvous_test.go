package dhtstore

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// Two nodes that want the same app find each other, whatever comes first.
func TestTwoNodesMeet(t *testing.T) {
	for name, apart := range map[string]time.Duration{
		"together": 0, "1 ms": time.Millisecond, "a second": time.Second, "a minute": time.Minute, "an hour": time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub()
				h.setDelay(30 * time.Millisecond)
				n := 20
				if apart > time.Minute || underRace {
					n = 8 // which have it all
				}
				nodes := startNet(t, h, n)
				a := openStore(t, h, 1, addrs(nodes[:1]))
				b := openStore(t, h, 2, addrs(nodes[:1]))
				time.Sleep(time.Minute)
				a.want(chess)
				time.Sleep(apart)
				start := time.Now()
				b.want(chess)
				time.Sleep(800 * time.Millisecond) // of one turn, before the next
				_, aFound := a.finds(chess, b, 0)
				at, bFound := b.finds(chess, a, 0)
				if !aFound && !bFound {
					t.Error("neither has found the other in its first turn")
				}
				if apart > time.Millisecond && !bFound {
					t.Error("the later one has not found the earlier one in its first turn")
				}
				t.Logf("found after %v", at.Sub(start))
				if apart < lookAgainMost {
					a.mustFind(chess, b, time.Minute+time.Second)
				}
			})
		})
	}
}

// A DHT of two is enough: what is announced to ourselves counts.
func TestTwoNodesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		a := openStore(t, h, 1, nil)
		b := openStore(t, h, 2, []netip.AddrPort{a.addr})
		a.want(chess)
		b.want(chess)
		a.mustFind(chess, b, 10*time.Second)
		b.mustFind(chess, a, 10*time.Second)
		time.Sleep(time.Minute)
		for _, s := range []*testStore{a, b} {
			if st := s.Stats(); st.Announced != 1 || st.Waiting != 0 || !st.Published || st.Nodes4 != 1 || st.Known != 1 {
				t.Errorf("store %d: %+v", s.i, st)
			}
		}
		if r, err := a.Resolve(t.Context(), b.self); err != nil || r.Node != b.self {
			t.Errorf("resolve: %v, %v", r, err)
		}
	})
}

// A node alone looks again after 1, 3, 7, 15 and 30 s, then every minute for 5
// minutes, and announces anew every 15 minutes.
func TestLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 6)
		a := openStore(t, h, 1, addrs(nodes[:1]))
		time.Sleep(2 * time.Minute) // past the time in which all is done twice
		w := watch(h, a.addr)
		start := time.Now()
		a.want(chess)
		time.Sleep(20 * time.Minute)
		want := []int{0, 1, 3, 7, 15, 30, 90, 150, 210, 270, 330}
		turns := w.turns("get_peers")
		if len(turns) != len(want)+1 {
			t.Fatalf("%d turns, want %d: %v", len(turns), len(want)+1, turns)
		}
		for i, s := range want {
			due := time.Duration(s) * time.Second
			if got := turns[i].Sub(start); got < due || got > due+10*time.Millisecond {
				t.Errorf("turn %d after %v, want %d s", i, got, s)
			}
		}
		if last := turns[len(want)].Sub(start); last < 12*time.Minute || last > 18*time.Minute {
			t.Errorf("refreshed after %v", last)
		}
		if announces := w.turns("announce_peer"); len(announces) != 2 {
			t.Errorf("announced %d times, want 2: to look again is not to announce again", len(announces))
		}
	})
}

// Who has found another looks no more until it is time to announce again, and
// that is every 15 minutes, a fifth more or less.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		a, b := openStore(t, h, 1, addrs(nodes[:1])), openStore(t, h, 2, addrs(nodes[:1]))
		time.Sleep(2 * time.Minute)
		a.want(chess)
		time.Sleep(time.Second) // of two at once the earlier one has to look again
		w := watch(h, b.addr)
		b.want(chess)
		hours := 4
		if underRace {
			hours = 2
		}
		time.Sleep(time.Duration(hours) * time.Hour)
		turns := w.turns("announce_peer")
		if len(turns) < 3*hours || len(turns) > 5*hours+1 {
			t.Fatalf("%d announces in %d hours", len(turns), hours)
		}
		different := map[time.Duration]bool{}
		for i, at := range turns[1:] {
			d := at.Sub(turns[i]).Round(time.Second)
			if different[d] = true; d < 12*time.Minute || d > 18*time.Minute {
				t.Errorf("refreshed after %v", d)
			}
		}
		if len(different) < 3 {
			t.Errorf("refreshes go in step: %v", different)
		}
		if looks := w.turns("get_peers"); len(looks) != len(turns) {
			t.Errorf("looked %d times, want %d", len(looks), len(turns))
		}
	})
}

// An app that is dropped is announced no more, and its finder left alone.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		a, b := openStore(t, h, 1, addrs(nodes[:1])), openStore(t, h, 2, addrs(nodes[:1]))
		time.Sleep(2 * time.Minute)
		a.want(chess)
		time.Sleep(10 * time.Second)
		a.Drop(chess)
		w := watch(h, a.addr)
		b.want(chess)
		b.mustFind(chess, a, 5*time.Second) // as long as the DHT remembers
		time.Sleep(time.Hour)
		if got := w.turns("get_peers"); len(got) != 0 {
			t.Errorf("%d turns after the end", len(got))
		}
		if len(a.found[chess]) != 0 {
			t.Error("found after the end")
		}
	})
}

// days are counted in UTC, and both are used for an hour before and after.
func TestDays(t *testing.T) {
	for _, c := range []struct {
		at   string
		want []uint32
	}{
		{"1970-01-02T12:00:00Z", []uint32{1}},
		{"1970-01-02T22:59:59Z", []uint32{1}},
		{"1970-01-02T23:00:00Z", []uint32{1, 2}},
		{"1970-01-03T00:00:00Z", []uint32{2, 1}},
		{"1970-01-03T00:59:59Z", []uint32{2, 1}},
		{"1970-01-03T01:00:00Z", []uint32{2}},
		{"2026-11-20T22:30:00-02:00", []uint32{20778, 20777}},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := days(at); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.at, got, c.want)
		}
	}
}

// Around midnight a node that came yesterday is found, also by one whose clock
// is half an hour off.
func TestMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(22*time.Hour + 45*time.Minute)
		h := newHub()
		nodes := startNet(t, h, 4)
		a, b := openStore(t, h, 1, addrs(nodes[:1])), openStore(t, h, 2, addrs(nodes[:1]))
		sleepUntil(22*time.Hour + 50*time.Minute)
		a.want(chess)
		w := watch(h, a.addr)
		today := uint32(time.Now().Unix() / 86400)
		check := func(want ...uint32) {
			t.Helper()
			time.Sleep(40 * time.Minute) // two refreshes
			w.reset()
			time.Sleep(18 * time.Minute)
			synctest.Wait()
			for _, day := range []uint32{today - 1, today, today + 1} {
				if got := w.asked("announce_peer", chess.Rendezvous(day)); got != slices.Contains(want, day) {
					t.Errorf("at %v: announced for day %d is %v", time.Now(), int(day)-int(today), got)
				}
			}
		}
		check(today, today+1) // until 23:48
		b.want(chess)
		b.mustFind(chess, a, 5*time.Second)
		check(today+1, today) // until 0:46
		check(today + 1)      // until 1:44
	})
}

// A node that does not want to be found finds others.
func TestNoAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		a := openStore(t, h, 1, addrs(nodes[:1]))
		b := openStore(t, h, 2, addrs(nodes[:1]), func(c *Config) { c.NoAnnounce = true })
		w := watch(h, b.addr)
		a.want(chess)
		b.want(chess)
		b.mustFind(chess, a, time.Minute)
		time.Sleep(time.Hour)
		if len(w.turns("announce_peer"))+len(w.turns("put")) > 0 {
			t.Error("it has announced or published")
		}
		if len(a.found[chess]) > 0 {
			t.Error("it was found")
		}
	})
}

// A node that cannot be dialled announces nothing, and all there is as soon as
// it can.
func TestOwnAddressComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		a := newStore(t, h, 1, addrs(nodes[:1]))
		a.serve()
		w := watch(h, a.addr)
		a.want(chess)
		a.want(protocol.MeshApp)
		time.Sleep(time.Hour)
		if len(w.turns("announce_peer"))+len(w.turns("put")) > 0 || a.Own() != nil {
			t.Fatal("it has announced or published, or has a record")
		}
		start := time.Now()
		if err := a.SetOwn(protocol.Record{URLs: []string{"ws://" + a.addr.String()}}); err != nil || a.Own() == nil {
			t.Fatal(err, a.Own())
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if turns := w.turns("announce_peer"); len(turns) != 1 || turns[0].Sub(start) > time.Second {
			t.Errorf("announced at %v", turns)
		}
		if turns := w.turns("put"); len(turns) != 1 || turns[0].Sub(start) < publishQuiet {
			t.Errorf("published at %v", turns)
		}
	})
}

func sleepUntil(ofDay time.Duration) {
	now := time.Now().UTC()
	at := now.Truncate(24 * time.Hour).Add(ofDay)
	if at.Before(now) {
		at = at.Add(24 * time.Hour)
	}
	time.Sleep(at.Sub(now))
}

// watched are the queries that somebody sends.
type watched struct {
	mu  sync.Mutex
	all []sent
}

type sent struct {
	at     time.Time
	to     netip.AddrPort
	method string
	target [20]byte
}

// watch notes all queries that leave an address, but for those to itself.
func watch(h *hub, from netip.AddrPort) *watched {
	w := new(watched)
	h.setLose(func(f, to netip.AddrPort, packet []byte) bool {
		if f != from || to == from {
			return false
		}
		if p, ok := parsePacket(packet); ok && p.kind == 'q' {
			q := &query{packet: p}
			q.parseArgs()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.all = append(w.all, sent{time.Now(), to, p.method, q.target})
		}
		return false
	})
	return w
}

// turns are when queries of a method began, after a while without.
func (w *watched) turns(method string) (turns []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last time.Time
	for _, s := range w.all {
		if s.method == method {
			if s.at.Sub(last) > 500*time.Millisecond {
				turns = append(turns, s.at)
			}
			last = s.at
		}
	}
	return turns
}

func (w *watched) asked(method string, target [20]byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.all, func(s sent) bool { return s.method == method && s.target == target })
}

// count is how many queries of a method there were, different to how many
// nodes.
func (w *watched) count(method string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.all {
		if s.method == method {
			n++
		}
	}
	return n
}

func (w *watched) different(method string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := make(map[netip.AddrPort]bool)
	for _, s := range w.all {
		if s.method == method {
			to[s.to] = true
		}
	}
	return len(to)
}

func (w *watched) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = nil
}
