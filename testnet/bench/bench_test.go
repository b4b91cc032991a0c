package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/bench"
)

// beWorker in the environment makes the test's program one process of Idle.
const beWorker = "PEERSERVER_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(beWorker) != "" {
		if err := bench.Worker(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// startNodes runs real nodes that know each other and returns their URLs.
func startNodes(t *testing.T, n int) []string {
	t.Helper()
	var listeners []net.Listener
	var hosts []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners, hosts = append(listeners, l), append(hosts, l.Addr().String())
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() {
		stop()
		serving.Wait()
	})
	var urls []string
	for i, l := range listeners {
		var peers []string
		for j, h := range hosts {
			if i != j {
				peers = append(peers, "http://"+h)
			}
		}
		nd, err := node.New(node.Config{Listener: l, AllowPrivate: true, NoDHT: true, Peers: peers})
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() {
			if err := nd.Serve(ctx); err != nil {
				t.Error(err)
			}
		})
		urls = append(urls, "ws://"+l.Addr().String())
	}
	return urls
}

// quick is a run short enough for a test.
func quick(urls ...string) bench.Config {
	return bench.Config{
		URLs: urls, Clients: 124, Swarm: 62, Payload: 1000,
		Warmup: 50 * time.Millisecond, Duration: 500 * time.Millisecond, Grace: 20 * time.Second,
	}
}

func TestNodesRelayEverything(t *testing.T) {
	for name, c := range map[string]struct {
		nodes  int
		change func(*bench.Config)
	}{
		"one node":                 {1, func(*bench.Config) {}},
		"one node, open loop":      {1, func(c *bench.Config) { c.Rate = 500 }},
		"one node, large":          {1, func(c *bench.Config) { c.Offers, c.Payload, c.Parallel = 1, 50_000, 2 }},
		"one node, small swarms":   {1, func(c *bench.Config) { c.Swarm, c.Rate = 31, 100 }},
		"two nodes":                {2, func(c *bench.Config) { c.Layout = bench.All }},
		"two nodes, all cross":     {2, func(c *bench.Config) { c.Parallel = 10 }},
		"three nodes, all cross":   {3, func(c *bench.Config) { c.Clients, c.Parallel = 186, 10 }},
		"two nodes, a steady pace": {2, func(c *bench.Config) { c.Rate = 500 }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := quick(startNodes(t, c.nodes)...)
			c.change(&cfg)
			cfg.PIDs = []int{os.Getpid()}
			r, err := bench.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Err(); err != nil {
				t.Errorf("%v (%s)", err, r.Complaint)
			}
			if r.Counts.Answers != r.Counts.Offers || r.Load.Relayed == 0 || r.Load.Offer.Count == 0 || r.Load.Answer.Count == 0 {
				t.Errorf("%+v, %+v", r.Counts, *r.Load)
			}
			// How many cross, the nodes themselves count.
			crossed := 0
			for _, u := range cfg.URLs {
				crossed += crossedBy(t, u)
			}
			switch share := float64(crossed) / float64(r.Counts.Offers); {
			case c.nodes == 1 && crossed != 0:
				t.Errorf("%d offers crossed from one node", crossed)
			case c.nodes > 1 && cfg.Layout == "" && crossed != int(r.Counts.Offers):
				t.Errorf("%d of %d offers crossed, want all", crossed, r.Counts.Offers)
			case cfg.Layout == bench.All && c.nodes == 2 && (share < 0.4 || share > 0.6):
				t.Errorf("%.2f of the offers crossed, want half", share)
			}
		})
	}
}

func crossedBy(t *testing.T, url string) int {
	t.Helper()
	answer, err := http.Get(strings.Replace(url, "ws://", "http://", 1) + "/stats.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var s node.Stats
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return int(s.Relay.Crossed)
}

// TestUnfederated shows that a run over nodes that do not know each other is
// no run.
func TestUnfederated(t *testing.T) {
	cfg := quick(startNodes(t, 1)[0], startNodes(t, 1)[0])
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := bench.Run(ctx, cfg); err == nil || !strings.Contains(err.Error(), "of 62 members") {
		t.Errorf("got %v", err)
	}
}

func TestIdle(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here to read a server's memory from")
	}
	urls := startNodes(t, 1)
	r, err := bench.Idle(t.Context(), bench.IdleConfig{
		URLs: urls, PIDs: []int{os.Getpid()}, Clients: 700, PerProcess: 300, Settle: 10 * time.Millisecond,
		Worker: func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), beWorker+"=1")
			cmd.Stderr = os.Stderr
			return cmd
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if i := r.Idle; i.Clients != 700 || i.Processes != 3 || i.RSS == 0 || i.RSSBefore == 0 || i.Opened <= 0 || i.Announced <= 0 {
		t.Errorf("%+v", *i)
	}
}

func TestIdleFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = bench.Idle(t.Context(), bench.IdleConfig{
		URLs: []string{"ws://" + l.Addr().String()}, Clients: 100,
		Worker: func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), beWorker+"=1")
			return cmd
		},
	})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []bench.Config{
		{},
		{URLs: []string{"http://127.0.0.1:1"}},
		{URLs: []string{"ws://127.0.0.1:1"}, Clients: 63},
		{URLs: []string{"ws://127.0.0.1:1"}, Swarm: 5},
		{URLs: []string{"ws://127.0.0.1:1", "ws://127.0.0.1:2"}, Clients: 124},
		{URLs: []string{"ws://127.0.0.1:1"}, Layout: "star"},
		{URLs: []string{"ws://127.0.0.1:1"}, Offers: 80, Payload: 1000},
		{URLs: []string{"ws://127.0.0.1:1"}, Parallel: 201},
	} {
		if _, err := bench.Run(t.Context(), c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
