package dhtstore

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// 7,500 apps that need 50 packets each are all refreshed before nodes of the DHT
// forget them, and no second has more than its packets.
func TestScheduleBudget(t *testing.T) {
	const apps, cost = 7500, turnPackets
	now := time.Unix(1e9, 0)
	start := now
	s := newSchedule(now)
	last := make(map[*task]time.Time)
	for range apps {
		s.set(&task{class: classLive}, now)
	}
	var longest time.Duration
	sent := map[int64]int{}
	for now.Sub(start) < 2*time.Hour {
		next, wait := s.next(now)
		if next == nil {
			if wait <= 0 {
				t.Fatalf("told to wait %v", wait)
			}
			now = now.Add(wait)
			continue
		}
		sent[now.Unix()] += cost
		if before, ok := last[next]; ok {
			longest = max(longest, now.Sub(before))
		}
		last[next] = now
		s.set(next, now.Add(jitter(refreshEvery)))
		s.ran(next, cost)
	}
	total := 0
	for second, n := range sent {
		total += n
		if n > packetsForTurns*3 || n > packetsForTurns+turnPackets && second > start.Unix()+int64(savedUp.Seconds()) {
			t.Errorf("%d packets in a second", n)
		}
	}
	if most := packetsForTurns * (7200 + int(savedUp.Seconds())); total > most || total < most*99/100 {
		t.Errorf("%d packets, want just under %d", total, most)
	}
	if len(last) != apps || longest >= heldFor || longest < 20*time.Minute {
		t.Errorf("%d apps had a turn, the longest wait was %v", len(last), longest)
	}
}

// The packets that a turn did not need are there for the next one, those that
// it needed more are missing.
func TestScheduleCounts(t *testing.T) {
	for cost, want := range map[int]int{10: packetsForTurns * 6, 50: packetsForTurns * 60 / 50, 200: packetsForTurns * 60 / 200} {
		now := time.Unix(1e9, 0)
		start := now
		s := newSchedule(now)
		s.charge(int(savedUp.Seconds() * packetsForTurns))
		turns := 0
		s.set(&task{}, now)
		for now.Sub(start) < time.Minute {
			next, wait := s.next(now)
			if next == nil {
				now = now.Add(wait)
				continue
			}
			turns++
			s.set(next, now)
			s.ran(next, cost)
		}
		if turns < want-10 || turns > want+10 {
			t.Errorf("%d turns of %d packets in a minute, want %d", turns, cost, want)
		}
	}
}

// Who comes first: our own record, new apps, live apps, restored ones; and of
// each the one that has waited longest. A task is in once, whatever is set.
func TestScheduleOrder(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newSchedule(now)
	var all []*task
	for c := range classes {
		for i := range 5 {
			all = append(all, &task{class: c, due: now.Add(time.Duration(i) * time.Second)})
		}
	}
	for range 3 {
		for _, i := range rand.Perm(len(all)) {
			due := all[i].due
			s.set(all[i], now.Add(rand.N(time.Minute)))
			s.set(all[i], due)
		}
	}
	gone := &task{class: classOwn}
	s.set(gone, now)
	s.remove(gone)
	s.remove(gone)
	now = now.Add(10 * time.Second)
	for i, want := range all {
		got, _ := s.next(now)
		if got != want {
			t.Fatalf("turn %d is another's", i)
		}
		s.ran(got, 0)
	}
	if got, wait := s.next(now); got != nil || wait >= 0 {
		t.Errorf("there is another: %v, %v", got, wait)
	}
}

// A task that runs does not run twice at once; what was set meanwhile is not
// forgotten.
func TestScheduleRunning(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newSchedule(now)
	a := new(task)
	s.set(a, now)
	if got, _ := s.next(now); got != a {
		t.Fatal("no turn")
	}
	s.set(a, now.Add(time.Second))
	s.set(a, now)
	s.set(a, now.Add(time.Minute))
	if got, _ := s.next(now); got != nil {
		t.Fatal("it runs twice")
	}
	s.ran(a, 0)
	if got, _ := s.next(now); got != a {
		t.Error("what was set meanwhile is forgotten")
	}
	s.set(a, now)
	s.remove(a)
	s.ran(a, 0)
	if got, _ := s.next(now.Add(time.Hour)); got != nil {
		t.Error("what was removed meanwhile is not")
	}
}

// A Store that is told of more apps at once than it can announce in a minute
// keeps to its packets on the wire too, says how many are not announced yet, and
// has an app with peers announced before those that had some before the restart.
func TestManyApps(t *testing.T) {
	n, restored := 600, 150
	if underRace {
		n, restored = 100, 25
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(12 * time.Hour) // around midnight there are two keys for each app
		h := newHub()
		h.setDelay(10 * time.Millisecond)
		nodes := startNet(t, h, 50) // fewer would not answer that many queries
		onDisk := func(c *Config) { c.Dir = dir }
		a := openStore(t, h, 1, addrs(nodes[:1]), onDisk)
		for i := range restored {
			a.want(numbered(i))
		}
		a.stop()
		a = openStore(t, h, 1, addrs(nodes[:1]), onDisk)
		time.Sleep(time.Second)
		for i := restored; i < n; i++ {
			a.want(numbered(i))
		}
		a.want(numbered(0)) // its peers have come back
		sent := counter(h, a.addr)
		start := time.Now()
		for a.Stats().Waiting > 0 && time.Since(start) < time.Hour {
			time.Sleep(10 * time.Second)
			if most := packetsPerSecond*(time.Since(start)+savedUp).Seconds() + packetsPerSecond; float64(sent.Load()) > most {
				t.Fatalf("%d queries in %v", sent.Load(), time.Since(start))
			}
			a.Store.mu.Lock()
			for i := 1; i < restored; i++ {
				if app := a.apps[numbered(i)]; !app.announced.IsZero() && app.announced.Before(start.Add(-time.Second)) {
					t.Errorf("restored app %d was announced before %v", i, start)
				}
			}
			a.Store.mu.Unlock()
			if st := a.Stats(); st.Apps != n-restored+1 || st.Announced+st.Waiting != st.Apps {
				t.Fatalf("%+v", st)
			}
		}
		st := a.Stats()
		t.Logf("%d apps announced after %v, %d queries", st.Announced, time.Since(start), sent.Load())
		if st.Waiting > 0 {
			t.Errorf("%+v", st)
		}
	})
}

func numbered(i int) protocol.AppID {
	return protocol.App("native", binary.BigEndian.AppendUint32(nil, uint32(i)), nil)
}

// Apps restored from the disk are announced within a minute, not all at once,
// and forgotten if nobody comes back to them.
func TestRestoredApps(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		nodes := startNet(t, h, 4)
		onDisk := func(c *Config) { c.Dir = dir }
		a := openStore(t, h, 1, addrs(nodes[:1]), onDisk)
		time.Sleep(2 * time.Minute)
		for i := range 20 {
			a.want(numbered(i))
		}
		a.Drop(numbered(19))
		time.Sleep(10 * time.Second)
		a.stop()
		time.Sleep(time.Hour) // the DHT has forgotten them
		a = openStore(t, h, 1, addrs(nodes[:1]), onDisk)
		w := watch(h, a.addr)
		b := openStore(t, h, 2, addrs(nodes[:1]))
		start := time.Now()
		time.Sleep(restoreSpread + 5*time.Second)
		var seconds []int
		for i := range 20 {
			key := numbered(i).Rendezvous(days(start)[0])
			if got := w.asked("announce_peer", key); got != (i != 19) {
				t.Errorf("app %d: announced is %v", i, got)
			}
		}
		for _, at := range w.turns("announce_peer") {
			if s := int(at.Sub(start).Seconds()); !slices.Contains(seconds, s) {
				seconds = append(seconds, s)
			}
		}
		if len(seconds) < 8 {
			t.Errorf("all were announced in these seconds: %v", seconds)
		}
		b.want(numbered(3))
		b.mustFind(numbered(3), a, 10*time.Second)
		time.Sleep(restoreKept + 2*restoreSpread)
		w.reset()
		time.Sleep(time.Hour)
		if got := w.turns("announce_peer"); len(got) > 0 {
			t.Errorf("announced without peers: %v", got)
		}
		a.stop()
		a = openStore(t, h, 1, addrs(nodes[:1]), onDisk)
		if len(a.apps) > 0 {
			t.Errorf("%d apps are still on the disk", len(a.apps))
		}
	})
}
