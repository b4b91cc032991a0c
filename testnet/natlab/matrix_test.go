//go:build linux

package natlab_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/testnet/natlab"
)

// Settings of TestMatrix, which is a cover of all cells without them.
const (
	envFull  = "NATLAB_FULL"  // every pair at every delay, with and without TURN
	envTable = "NATLAB_TABLE" // the document whose tables are written
)

// Delays are one way.
var delays = []time.Duration{0, 25 * time.Millisecond}

// holds is how long a path over nodes has to stay the only one.
const holds = 10 * time.Second

// cell is one of the matrix: two peers at homes of two kinds.
type cell struct {
	a, b  natlab.NAT
	delay time.Duration
	turn  bool // the nodes offer it
}

// outcome is how the two were connected in the end.
type outcome struct {
	path   string // as in the table
	took   time.Duration
	failed bool
}

// want is the path that two peers have to get, as peer.Way has it.
func (c cell) want() string {
	blocked := []natlab.NAT{natlab.UDPBlocked, natlab.WebOnly}
	narrow := []natlab.NAT{natlab.Symmetric, natlab.PortRestricted, natlab.Double}
	direct := !slices.Contains(blocked, c.a) && !slices.Contains(blocked, c.b) &&
		(c.a != natlab.Symmetric || !slices.Contains(narrow, c.b)) && (c.b != natlab.Symmetric || !slices.Contains(narrow, c.a))
	switch {
	case direct:
		return "direct"
	case c.turn:
		return "turn"
	}
	return "nodes"
}

// transport is how the peer of a home has to reach a TURN server.
func transport(home natlab.NAT) string {
	switch home {
	case natlab.UDPBlocked:
		return "tcp"
	case natlab.WebOnly:
		return "tls"
	}
	return "udp"
}

// cells are those of one kind of run: of all, or of a cover, in which each pair
// is at one delay, and, if it needs TURN, without it at the other.
func cells(full bool, delay time.Duration, turn bool) (list []cell) {
	kinds := natlab.Kinds()
	for i, a := range kinds {
		for j, b := range kinds[i:] {
			c := cell{a, b, delay, turn}
			covered := turn == (delays[(i+j)%len(delays)] == delay) && (turn || c.want() != "direct")
			if full || covered {
				list = append(list, c)
			}
		}
	}
	return list
}

// TestMatrix has peers of all kinds of homes meet, each on a node of its own, and
// looks how they are connected.
func TestMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real processes")
	}
	full := os.Getenv(envFull) != ""
	natlab.Start(t, natlab.Config{}) // or is skipped
	binary := buildNode(t)
	r := results{all: make(map[cell]outcome)}
	start := time.Now()
	for _, delay := range delays {
		for _, turn := range []bool{true, false} {
			name, flags := fmt.Sprintf("%s, without TURN", delay), []string(nil)
			if turn {
				name, flags = fmt.Sprintf("%s, with TURN", delay), []string{"--turn"}
			}
			t.Run(name, func(t *testing.T) {
				m := startMesh(t, binary, natlab.Config{Delay: delay}, flags...)
				left, right := m.homes("a"), m.homes("b")
				for _, c := range cells(full, delay, turn) {
					t.Run(fmt.Sprintf("%s and %s", c.a, c.b), func(t *testing.T) {
						t.Parallel()
						r.add(c, outcome{path: "failed", failed: true}) // until it is known better
						app := fmt.Sprint(c)
						r.add(c, c.settle(t, m.join(t, left[c.a], 0, app), m.join(t, right[c.b], 1, app)))
					})
				}
			})
		}
	}
	t.Logf("%d cells in %s", len(r.all), time.Since(start).Round(time.Second))
	if err := writeTable("pairs", r.text()); err != nil {
		t.Fatal(err)
	}
}

// homes makes one of each kind.
func (m *mesh) homes(prefix string) map[natlab.NAT]*natlab.Host {
	all := make(map[natlab.NAT]*natlab.Host)
	for _, kind := range natlab.Kinds() {
		all[kind] = m.lab.Home(prefix+"."+strings.ReplaceAll(kind.String(), " ", "-"), kind)
	}
	return all
}

// settle waits until each of two peers has the other on the path that is wanted, and
// sees that they hear each other, once.
func (c cell) settle(t *testing.T, a, b *natlab.Process) outcome {
	t.Helper()
	var joined, there time.Time
	var ways []way
	for _, p := range []*natlab.Process{a, b} {
		joined = later(joined, await(t, p, patience, "membership", is("joined")).At)
	}
	for i, p := range []*natlab.Process{a, b} {
		e := await(t, p, patience, "path "+c.want(), func(e event) bool { return e.Way != nil && e.Way.Path == c.want() })
		there, ways = later(there, e.At), append(ways, *e.Way)
		if own := e.Way.Transport; own != "" && own != transport([]natlab.NAT{c.a, c.b}[i]) {
			t.Errorf("TURN is reached over %s", own)
		}
		await(t, p, patience, "message", is("message"))
	}
	if c.want() == "nodes" {
		time.Sleep(holds)
	}
	for i, p := range []*natlab.Process{a, b} {
		events := eventsOf(t, p)
		if n := count(events, "message"); n != 1 {
			t.Errorf("%d messages came, of one", n)
		}
		if n := count(events, "leave"); n > 0 {
			t.Error("the other one was lost")
		}
		if last := lastWay(events); last.Path != ways[i].Path { // Chromium may take another pair of the same kind
			t.Errorf("the path was %+v and is %+v", ways[i], last)
		}
	}
	return outcome{path: nameOf(ways), took: there.Sub(joined)}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func eventsOf(t *testing.T, p *natlab.Process) (all []event) {
	t.Helper()
	for _, line := range p.Lines() {
		all = append(all, parse[event](t, line))
	}
	return all
}

func count(events []event, kind string) (n int) {
	for _, e := range events {
		if e.Event == kind {
			n++
		}
	}
	return n
}

func lastWay(events []event) (last way) {
	for _, e := range events {
		if e.Way != nil {
			last = *e.Way
		}
	}
	return last
}

// nameOf is what the table says of a path that is seen from both ends.
func nameOf(ways []way) string {
	switch ways[0].Path {
	case "turn":
		names := []string{"udp", "tcp", "tls"} // the one that had to be is told
		worst := 0
		for _, w := range ways {
			worst = max(worst, slices.Index(names, w.Transport))
		}
		return "TURN/" + strings.ToUpper(names[worst])
	case "nodes":
		return "data relay"
	}
	return ways[0].Path
}

// results are what came of the cells.
type results struct {
	mu  sync.Mutex
	all map[cell]outcome
}

func (r *results) add(c cell, o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[c] = o
}
