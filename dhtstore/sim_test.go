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

var simNodes = flag.Int("sim", 0, "nodes of TestSim; 0: 128, fewer under the race detector")

const (
	simDelay  = 40 * time.Millisecond // one way
	simPerApp = 5                     // nodes
	simKilled = 30                    // per cent
)

// TestSim is a DHT of Stores in memory, of which 30 % are killed at once. Every
// record of which one holder is left is still found, and every node that is
// left by each of its apps; after the next refresh also those whose holders all
// died. It prints what lookups cost; `make sim` runs it with 1,000 nodes.
func TestSim(t *testing.T) {
	n := *simNodes
	if n == 0 {
		n = 128
		if underRace {
			n = 48
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := &sim{t: t, h: newHub(), holders: make(map[protocol.NodeID]int)}
		s.h.setDelay(simDelay)
		sleepUntil(12 * time.Hour)
		s.start(n)
		s.resolveAll("resolve, all alive")
		s.lookUpAll("look up app, all alive")
		lost := s.kill(n * simKilled / 100)
		s.resolveAll("resolve, 30 % just killed")
		s.lookUpAll("look up app, 30 % just killed")
		if lost > 0 || *simNodes > 0 {
			time.Sleep(time.Hour + time.Minute)
			s.refreshed = true
			s.resolveAll("resolve, an hour later")
		}
		s.print(n, lost)
	})
}

type sim struct {
	t         *testing.T
	h         *hub
	stores    []*testStore // alive
	dead      []*testStore
	holders   map[protocol.NodeID]int // of records, alive
	refreshed bool
	rows      []*simRow
}

type simRow struct {
	name string

	mu                     sync.Mutex
	done, found            int
	queries, rounds, times []int
}

func (s *sim) start(n int) {
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
}

// kill ends a part of the nodes, without a word, and counts the records of
// which no holder is left.
func (s *sim) kill(n int) (lost int) {
	rand.Shuffle(len(s.stores), func(i, j int) { s.stores[i], s.stores[j] = s.stores[j], s.stores[i] })
	s.dead, s.stores = s.stores[:n], s.stores[n:]
	for _, st := range s.dead {
		s.h.unplug(st.addr)
	}
	for _, st := range s.dead {
		st.stop()
	}
	synctest.Wait()
	for _, st := range append(slices.Clone(s.dead), s.stores...) {
		target := (&item{Key: st.self, Salt: []byte(protocol.RecordSalt)}).target()
		s.holders[st.self] = 0
		for _, holder := range s.stores {
			if holder.servers[0].responder.items.get(target, time.Now()) != nil {
				s.holders[st.self]++
			}
		}
		if s.holders[st.self] == 0 {
			lost++
		}
	}
	return lost
}

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
		if r.best == nil && (s.dead == nil || s.refreshed || s.holders[of.self] > 0) {
			s.t.Errorf("%s: the record of store %d is not found by %d, though %d nodes have it", name, of.i, from.i, s.holders[of.self])
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
			if !found[m.self] {
				all = false
				s.t.Errorf("%s: store %d is not found by %d: %+v, %v", name, m.i, from.i, p, err)
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

func (s *sim) print(n, lost int) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d nodes, %d killed, %v one way, each record on %d nodes, %d records without a holder left\n\n", n, len(s.dead), simDelay, bucketSize, lost)
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
