package dhtstore

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

var simNodes = flag.Int("sim", 0, "nodes of TestSim; 0: 96, fewer under the race detector")

const (
	simDelay  = 40 * time.Millisecond // one way
	simPerApp = 5                     // nodes
	simKilled = 30                    // per cent
)

// TestSim is a DHT of Stores in memory, of which 30 % are killed at once. Every
// record and every announce is on 8 nodes before; each of which one holder is
// left is still found, and after the next refresh also those whose holders all
// died: that is so for a record in 29,000 and for an announce in 38,000, and
// mostly for both at once, as records and announces that are close to each
// other have the same holders. It prints what lookups cost; `make sim` runs it
// with 1,000 nodes.
func TestSim(t *testing.T) {
	n := *simNodes
	if n == 0 {
		n = 96
		if underRace {
			n = 32
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := startSim(t, n)
		s.resolveAll("resolve, all alive")
		s.lookUpAll("look up app, all alive")
		rand.Shuffle(n, func(i, j int) { s.stores[i], s.stores[j] = s.stores[j], s.stores[i] })
		s.kill(s.stores[:n*simKilled/100])
		s.resolveAll("resolve, 30 % just killed")
		s.lookUpAll("look up app, 30 % just killed")
		if s.lost() > 0 || *simNodes > 0 {
			s.anHourLater()
		}
		s.print()
	})
}

// TestAllHoldersDie is what TestSim seldom sees: all nodes that have a record
// or an announce of one node die at once. Both are found again after the
// refresh.
func TestAllHoldersDie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startSim(t, 22) // of which 16 die at most: not all that are left serve one app
		of := s.stores[0]
		s.kill(slices.DeleteFunc(slices.Clone(s.stores), func(st *testStore) bool {
			return st == of || !st.holdsRecord(of) && !st.holdsAnnounce(of)
		}))
		if s.records[of.self]+s.announces[of.self] > 0 {
			t.Fatalf("the record has %d holders left, the announce %d", s.records[of.self], s.announces[of.self])
		}
		s.anHourLater()
		s.print()
	})
}

type sim struct {
	t                  *testing.T
	h                  *hub
	stores             []*testStore // alive
	dead               []*testStore
	records, announces map[protocol.NodeID]int // of each node: how many living ones have it
	refreshed          bool
	rows               []*simRow
}

type simRow struct {
	name string

	mu                     sync.Mutex
	done, found            int
	queries, rounds, times []int
}

// startSim is n stores that have published their records, and announced an app
// each.
func startSim(t *testing.T, n int) *sim {
	s := &sim{t: t, h: newHub()}
	s.h.setDelay(simDelay)
	sleepUntil(12 * time.Hour)
	began := time.Now()
	for i := range n {
		var boot []netip.AddrPort
		if i > 0 {
			boot = append(boot, s.stores[rand.IntN(i)].addr)
		}
		s.stores = append(s.stores, openStore(s.t, s.h, i, boot))
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(time.Minute)
	for i, st := range s.stores {
		st.want(numbered(i / simPerApp))
	}
	time.Sleep(2 * time.Minute)
	for _, st := range s.stores {
		if stats := st.Stats(); !stats.Published || stats.Announced != 1 {
			s.t.Errorf("store %d after %v: %+v", st.i, time.Since(began), stats)
		}
	}
	s.count()
	for _, st := range s.stores {
		if s.records[st.self] < bucketSize || s.announces[st.self] < bucketSize {
			t.Errorf("%d nodes have the record of store %d, %d its announce", s.records[st.self], st.i, s.announces[st.self])
		}
	}
	return s
}

// kill ends nodes, without a word.
func (s *sim) kill(dead []*testStore) {
	s.dead = slices.Clone(dead)
	s.stores = slices.DeleteFunc(s.stores, func(st *testStore) bool { return slices.Contains(s.dead, st) })
	for _, st := range s.dead {
		s.h.unplug(st.addr)
	}
	for _, st := range s.dead {
		st.stop()
	}
	s.count()
}

// count counts the living holders of all that was stored, also by the dead.
func (s *sim) count() {
	synctest.Wait()
	s.records, s.announces = make(map[protocol.NodeID]int), make(map[protocol.NodeID]int)
	for _, of := range slices.Concat(s.dead, s.stores) {
		for _, holder := range s.stores {
			if holder.holdsRecord(of) {
				s.records[of.self]++
			}
			if holder.holdsAnnounce(of) {
				s.announces[of.self]++
			}
		}
	}
}

func (s *testStore) holdsRecord(of *testStore) bool {
	target := (&item{Key: of.self, Salt: []byte(protocol.RecordSalt)}).target()
	return s.servers[0].responder.items.get(target, time.Now()) != nil
}

func (s *testStore) holdsAnnounce(of *testStore) bool {
	now := time.Now()
	key := numbered(of.i / simPerApp).Rendezvous(days(now)[0])
	return slices.Contains(s.servers[0].responder.peers.get(key, false, maxSwarm, now), of.addr)
}

// lost counts what no holder is left of: any record, and the announces of
// living nodes.
func (s *sim) lost() (n int) {
	for _, st := range slices.Concat(s.dead, s.stores) {
		if s.records[st.self] == 0 {
			n++
		}
	}
	for _, st := range s.stores {
		if s.announces[st.self] == 0 {
			n++
		}
	}
	return n
}

// anHourLater is after all that the living have stored was stored anew.
func (s *sim) anHourLater() {
	time.Sleep(time.Hour + time.Minute)
	s.refreshed = true
	s.resolveAll("resolve, an hour later")
	s.lookUpAll("look up app, an hour later")
}

// mayBeLost says whether something with this many holders need not be found.
func (s *sim) mayBeLost(holders int) bool { return s.dead != nil && !s.refreshed && holders == 0 }

// resolveAll looks for each record, from another node each time.
func (s *sim) resolveAll(name string) {
	row := &simRow{name: name}
	targets := slices.Clone(s.stores)
	if !s.refreshed {
		targets = append(targets, s.dead...) // whose records are still there
	}
	s.each(len(targets), func(i int) {
		of := targets[i]
		from := s.other(func(st *testStore) bool { return st == of })
		start := time.Now()
		r := from.resolveIn(s.t.Context(), from.sides[0], of.self)
		took := time.Since(start)
		row.add(r.best != nil, r.stats, took)
		if r.best == nil && !s.mayBeLost(s.records[of.self]) {
			s.t.Errorf("%s: the record of store %d is not found by %d; %d nodes had it", name, of.i, from.i, s.records[of.self])
		}
	})
	s.rows = append(s.rows, row)
}

// lookUpAll looks each app up, from a node that does not serve it.
func (s *sim) lookUpAll(name string) {
	row := &simRow{name: name}
	members := make(map[int][]*testStore)
	for _, st := range s.stores {
		members[st.i/simPerApp] = append(members[st.i/simPerApp], st)
	}
	apps := make([]int, 0, len(members))
	for app := range members {
		apps = append(apps, app)
	}
	s.each(len(apps), func(i int) {
		app := apps[i]
		from := s.other(func(st *testStore) bool { return st.i/simPerApp == app })
		found := make(map[protocol.NodeID]bool)
		start := time.Now()
		var first time.Duration
		p, err := from.Lookup(s.t.Context(), numbered(app), func(f Found) {
			if found[f.Record.Node] = true; len(found) == 1 {
				first = time.Since(start)
			}
		})
		all := err == nil
		for _, m := range members[app] {
			if found[m.self] {
				continue
			}
			if all = false; !s.mayBeLost(s.announces[m.self]) {
				s.t.Errorf("%s: store %d is not found by %d; %d nodes had its announce: %+v, %v", name, m.i, from.i, s.announces[m.self], p, err)
			}
		}
		row.add(all, walkStats{Queries: p.Queries, Rounds: p.Rounds}, first)
	})
	s.rows = append(s.rows, row)
}

// each runs lookups, some at a time.
func (s *sim) each(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func (s *sim) other(not func(*testStore) bool) *testStore {
	for {
		if st := s.stores[rand.IntN(len(s.stores))]; !not(st) {
			return st
		}
	}
}

func (r *simRow) add(found bool, stats walkStats, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	if found {
		r.found++
	}
	r.queries, r.rounds = append(r.queries, stats.Queries), append(r.rounds, stats.Rounds)
	r.times = append(r.times, int(took.Milliseconds()))
}

func (s *sim) print() {
	var b strings.Builder
	fmt.Fprintf(&b, "%d nodes, %d killed, %v one way, each record and announce on %d nodes, %d without a holder left\n\n",
		len(s.dead)+len(s.stores), len(s.dead), simDelay, bucketSize, s.lost())
	fmt.Fprintf(&b, "%-32s %6s %6s  %-17s %-17s %-17s\n", "", "", "", "queries", "rounds", "ms to the first")
	fmt.Fprintf(&b, "%-32s %6s %6s %s\n", "", "done", "found", strings.Repeat(fmt.Sprintf(" %5s %5s %5s ", "p50", "p90", "p99"), 3))
	for _, r := range s.rows {
		fmt.Fprintf(&b, "%-32s %6d %6d %s%s%s\n", r.name, r.done, r.found, percentiles(r.queries), percentiles(r.rounds), percentiles(r.times))
	}
	s.t.Log(b.String())
}

func percentiles(all []int) (s string) {
	slices.SortFunc(all, cmp.Compare)
	for _, p := range []int{50, 90, 99} {
		s += fmt.Sprintf(" %5d", all[min(len(all)-1, len(all)*p/100)])
	}
	return s + " "
}
