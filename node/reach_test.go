package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// world is what a node's reach sees of others, in memory.
type world struct {
	r     *reach
	log   bytes.Buffer
	nodes []*outsider

	mu       sync.Mutex
	machine  []netip.Addr
	public   netip.Addr // by which the others see it
	natPort  uint16
	open     map[string]bool // URLs, and "stun"
	found    *outside
	rounds   int
	asked    int
	noAnswer bool // nobody answers anything
}

// outsider is another node.
type outsider struct {
	relay.Neighbour
	sees  netip.Addr // what its STUN says, if valid
	lies  bool       // about what it reaches
	stays bool       // refuses
}

// add has a node be linked, at an address of its own network.
func (w *world) add(ip string) *outsider {
	a := netip.MustParseAddr(ip)
	id := protocol.NodeID(bytes.Repeat([]byte{byte(len(w.nodes) + 1)}, 32))
	url := "ws://" + netip.AddrPortFrom(a, 8787).String()
	o := &outsider{Neighbour: relay.Neighbour{Node: id, Address: a, Record: &protocol.Record{Node: id, URLs: []string{url}, STUNPort: 3478}}}
	w.nodes = append(w.nodes, o)
	return o
}

func (w *world) interfaces() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.machine)
}

func (w *world) neighbours() (list []relay.Neighbour) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.nodes {
		list = append(list, o.Neighbour)
	}
	return list
}

func (w *world) discover(_ context.Context, server netip.AddrPort) (netip.AddrPort, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.nodes {
		if o.Address == server.Addr() && !w.noAnswer {
			if o.sees.IsValid() {
				return netip.AddrPortFrom(o.sees, 1), nil
			}
			return netip.AddrPortFrom(w.public, w.natPort), nil
		}
	}
	return netip.AddrPort{}, errors.New("no answer")
}

func (w *world) probe(_ context.Context, node protocol.NodeID, url string, _ uint16) (protocol.Probe_Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if url == "" {
		url = "stun"
	}
	for _, o := range w.nodes {
		switch {
		case o.Node != node:
		case w.noAnswer:
			return 0, errors.New("no answer")
		case o.stays || (url != "stun" && !strings.Contains(url, w.public.String())):
			return protocol.Probe_OUTCOME_REFUSED, nil
		case w.open[url] != o.lies:
			return protocol.Probe_OUTCOME_REACHED, nil
		default:
			return protocol.Probe_OUTCOME_FAILED, nil
		}
	}
	return 0, errors.New("not linked")
}

func (w *world) changed(o *outside) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = o
	w.rounds++
}

// set changes the world.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// wants compares what is known after a while.
func (w *world) wants(t *testing.T, after time.Duration, tcp, stun string, urls ...string) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	now := w.r.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.found == nil {
		w.found = new(outside)
	}
	if now.TCP != tcp || now.STUN != stun || !slices.Equal(w.found.urls, urls) {
		t.Errorf("TCP %s, STUN %s, URLs %v; want %s, %s, %v", now.TCP, now.STUN, w.found.urls, tcp, stun, urls)
	}
}

func (w *world) warnings() int { return strings.Count(w.log.String(), "level=WARN") }

const testURL = "ws://8.1.1.1:8787"

func playReach(t *testing.T, set func(w *world), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{public: netip.MustParseAddr("8.1.1.1"), natPort: 3478, open: make(map[string]bool)}
		w.machine = []netip.Addr{netip.MustParseAddr("192.168.1.2")}
		w.r = &reach{
			log: slog.New(slog.NewTextHandler(&w.log, nil)), tcp: 8787, stun: 3478,
			discover: w.discover, neighbours: w.neighbours, known: func(int) []*protocol.Record { return nil },
			probe: w.probe, lookup: lookupIP, interfaces: w.interfaces, changed: w.changed,
			state: Reach{TCP: reachUnknown, STUN: reachUnknown},
		}
		set(w)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		defer done.Wait()
		defer cancel()
		done.Go(func() { _ = w.r.serve(ctx) })
		f(t, w)
	})
}

// TestReach: a node finds its address, has it tried, and takes what is reached
// into its record; and out of it again.
func TestReach(t *testing.T) {
	playReach(t, func(w *world) {
		w.add("9.1.1.1")
		w.add("9.2.2.2")
		w.open[testURL], w.open["stun"] = true, true
	}, func(t *testing.T, w *world) {
		w.wants(t, 30*time.Second, reachYes, reachYes, testURL)
		if !slices.Equal(w.found.public, []netip.Addr{w.public}) {
			t.Errorf("the addresses are %v", w.found.public)
		}
		w.set(func() { clear(w.open) })
		w.wants(t, reachEvery+time.Minute, reachNo, reachNo)
		w.wants(t, time.Hour, reachNo, reachNo)
		if n := w.warnings(); n != 1 || !strings.Contains(w.log.String(), "forward TCP 8787 and UDP 3478") {
			t.Errorf("%d warnings: %s", n, w.log.String())
		}
		if strings.Contains(w.log.String(), "8.1.1.1") {
			t.Errorf("an address is logged: %s", w.log.String())
		}
		w.set(func() { w.open["stun"] = true })
		w.wants(t, reachEvery+time.Minute, reachNo, reachYes)
		w.set(func() { w.open[testURL] = true })
		w.wants(t, reachEvery+time.Minute, reachYes, reachYes, testURL)
		if w.rounds > 15 {
			t.Errorf("%d rounds", w.rounds)
		}
	})
}

// TestReachKeeps: what nobody can be asked about stays as it was.
func TestReachKeeps(t *testing.T) {
	playReach(t, func(w *world) {
		w.add("9.1.1.1")
		w.add("9.2.2.2")
		w.open[testURL], w.open["stun"] = true, true
	}, func(t *testing.T, w *world) {
		w.wants(t, 30*time.Second, reachYes, reachYes, testURL)
		w.set(func() { w.nodes[0].stays, w.nodes[1].stays = true, true })
		w.wants(t, time.Hour, reachYes, reachYes, testURL)
	})
}

// TestReachUnasked: without anybody to ask nothing is known, and nobody warned.
func TestReachUnasked(t *testing.T) {
	playReach(t, func(w *world) {
		w.add("9.1.1.1").stays = true
		w.add("9.2.2.2").stays = true
	}, func(t *testing.T, w *world) {
		w.wants(t, 3*time.Hour, reachUnknown, reachUnknown)
		if w.warnings() != 0 {
			t.Errorf("warned: %s", w.log.String())
		}
		if w.asked > 3*6*4+4*6 {
			t.Errorf("%d questions in three hours", w.asked)
		}
	})
}

// TestReachMoves: another address is found soon, and the one of before is dropped.
func TestReachMoves(t *testing.T) {
	playReach(t, func(w *world) {
		w.add("9.1.1.1")
		w.add("9.2.2.2")
		w.open[testURL], w.open["ws://8.2.2.2:8787"], w.open["stun"] = true, true, true
	}, func(t *testing.T, w *world) {
		w.wants(t, 2*time.Minute, reachYes, reachYes, testURL)
		w.set(func() {
			w.public = netip.MustParseAddr("8.2.2.2")
			w.machine = []netip.Addr{netip.MustParseAddr("192.168.7.7")}
		})
		w.wants(t, 10*time.Second, reachYes, reachYes, "ws://8.2.2.2:8787")
	})
}

// TestReachIPv6: a global address of the machine is tried as it is, by those whose
// link is over IPv6.
func TestReachIPv6(t *testing.T) {
	const url = "ws://[2a00:1::1]:8787"
	playReach(t, func(w *world) {
		w.add("9.1.1.1").sees = netip.MustParseAddr("8.1.1.1")
		w.add("2a00:9::1")
		w.public = netip.MustParseAddr("2a00:1::1")
		w.machine = append(w.machine, w.public)
		w.open[url], w.open["stun"] = true, true
	}, func(t *testing.T, w *world) { w.wants(t, time.Minute, reachYes, reachYes, url) })
}

// TestReachLiars: fewer than half do not make the node take another address, nor
// its port for one that is reached.
func TestReachLiars(t *testing.T) {
	playReach(t, func(w *world) {
		for _, ip := range []string{"9.1.1.1", "9.2.2.2", "9.3.3.3"} {
			w.add(ip)
		}
		for _, ip := range []string{"9.4.4.4", "9.5.5.5", "9.5.5.6", "9.5.5.7"} { // three networks, and one of them thrice
			w.add(ip).sees = netip.MustParseAddr("7.7.7.7")
		}
		w.open[testURL], w.open["stun"] = true, true
	}, func(t *testing.T, w *world) {
		w.wants(t, time.Minute, reachYes, reachYes, testURL)
		if !slices.Equal(w.found.public, []netip.Addr{w.public}) {
			t.Errorf("the addresses are %v", w.found.public)
		}
	})
}

// TestReachOneNetwork: two nodes of one network do not agree, but where private
// addresses are allowed.
func TestReachOneNetwork(t *testing.T) {
	for _, private := range []bool{false, true} {
		playReach(t, func(w *world) {
			w.add("9.1.1.1")
			w.add("9.1.1.2")
			w.r.private = private
			w.open[testURL], w.open["stun"] = true, true
		}, func(t *testing.T, w *world) {
			if private {
				w.wants(t, time.Minute, reachYes, reachYes, testURL)
			} else {
				w.wants(t, time.Minute, reachUnknown, reachYes)
			}
		})
	}
}

// TestReachOwnURLs: what the operator says stays, and is tried.
func TestReachOwnURLs(t *testing.T) {
	playReach(t, func(w *world) {
		w.add("9.1.1.1")
		w.add("9.2.2.2")
		w.r.urls = []string{"wss://8.1.1.1.example"}
	}, func(t *testing.T, w *world) {
		w.wants(t, time.Minute, reachNo, reachNo)
		w.set(func() { w.open["wss://8.1.1.1.example"] = true })
		w.wants(t, time.Hour, reachYes, reachNo)
	})
}

// TestReachOne: the word of the only other node counts; of two that differ none
// does.
func TestReachOne(t *testing.T) {
	playReach(t, func(w *world) {
		w.add("9.1.1.1")
		w.machine = []netip.Addr{w.public} // one node alone does not tell it
		w.open[testURL], w.open["stun"] = true, true
	}, func(t *testing.T, w *world) {
		w.wants(t, time.Minute, reachYes, reachYes, testURL)
		w.set(func() { w.add("9.2.2.2").lies = true })
		w.wants(t, time.Hour, reachYes, reachYes, testURL)
		w.set(func() { w.add("9.3.3.3").lies = true })
		w.wants(t, time.Hour, reachNo, reachNo)
	})
}

// TestReachMapped: a router's ports are tried in place of the node's own.
func TestReachMapped(t *testing.T) {
	var m mapped
	playReach(t, func(w *world) {
		w.add("9.1.1.1")
		w.add("9.2.2.2")
		w.r.mapped = func() mapped {
			w.mu.Lock()
			defer w.mu.Unlock()
			return m
		}
		w.open["ws://8.1.1.1:40001"], w.open["stun"] = true, true
	}, func(t *testing.T, w *world) {
		w.wants(t, 5*time.Minute, reachNo, reachYes)
		w.set(func() { m = mapped{tcp: 40001, stun: 40002, mapper: "pcp"} })
		w.wants(t, 10*time.Second, reachYes, reachYes, "ws://8.1.1.1:40001")
		if w.found.ports.stun != 40002 {
			t.Errorf("the ports are %+v", w.found.ports)
		}
	})
}

func TestAgreed(t *testing.T) {
	for _, tt := range []struct{ answers, want string }{
		{"", ""},
		{"8.1.1.1:1", ""},
		{"8.1.1.1:1 8.1.1.1:1", "8.1.1.1:1"},
		{"8.1.1.1:1 8.1.1.1:2", "8.1.1.1:0"},
		{"8.1.1.1:1 8.1.1.2:1", ""},
		{"8.1.1.1:1 8.1.1.1:1 8.1.1.2:1", "8.1.1.1:1"},
		{"8.1.1.1:1 8.1.1.1:1 8.1.1.2:1 8.1.1.2:1", ""},
		{"8.1.1.1:1 8.1.1.1:1 8.1.1.2:1 8.1.1.2:1 8.1.1.2:7", "8.1.1.2:0"},
	} {
		var answers []netip.AddrPort
		for s := range strings.FieldsSeq(tt.answers) {
			answers = append(answers, netip.MustParseAddrPort(s))
		}
		var want netip.AddrPort
		if tt.want != "" {
			want = netip.MustParseAddrPort(tt.want)
		}
		if got := agreed(answers); got != want {
			t.Errorf("%q: %v, want %q", tt.answers, got, tt.want)
		}
	}
}
