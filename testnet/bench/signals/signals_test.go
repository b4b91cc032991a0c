package signals_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/testnet/bench/signals"
)

// packages is where the reference servers are installed.
const packages = "../../e2e"

// quick is a run short enough for a test.
func quick(p signals.Protocol, urls ...string) signals.Config {
	return signals.Config{
		Protocol: p, URLs: urls, Clients: 24, Depth: 2,
		Warmup: 50 * time.Millisecond, Duration: 500 * time.Millisecond, Grace: 20 * time.Second, Settle: 10 * time.Millisecond,
	}
}

// startNodes runs real nodes that know each other and returns their URLs.
func startNodes(t *testing.T, n int) []string {
	t.Helper()
	var listeners []net.Listener
	var peers, urls []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		host := l.Addr().String()
		listeners, peers, urls = append(listeners, l), append(peers, "http://"+host), append(urls, "ws://"+host)
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() {
		stop()
		serving.Wait()
	})
	for i, l := range listeners {
		others := slices.Delete(slices.Clone(peers), i, i+1)
		nd, err := node.New(node.Config{Listener: l, AllowPrivate: true, NoDHT: true, Peers: others})
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() {
			if err := nd.Serve(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return urls
}

// loads are the smallest ones.
var loads = map[string]func(*signals.Config){
	"PeerJS":               func(c *signals.Config) { c.Protocol = signals.PeerJS },
	"PeerJS, a pace":       func(c *signals.Config) { c.Protocol, c.Rate = signals.PeerJS, 500 },
	"y-webrtc":             func(c *signals.Config) { c.Protocol = signals.YWebRTC },
	"y-webrtc, rooms of 8": func(c *signals.Config) { c.Protocol, c.Room, c.Rate = signals.YWebRTC, 8, 200 },
}

func runClean(t *testing.T, cfg signals.Config) {
	t.Helper()
	r, err := signals.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if r.Counts.Relayed < 20 || r.Load.Latency.Count == 0 {
		t.Errorf("%+v, %+v", r.Counts, *r.Load)
	}
}

func TestNodesRelayEverything(t *testing.T) {
	for name, change := range loads {
		for nodes := 1; nodes <= 2; nodes++ {
			t.Run(name+[]string{", one node", ", two nodes"}[nodes-1], func(t *testing.T) {
				t.Parallel()
				cfg := quick("", startNodes(t, nodes)...)
				change(&cfg)
				runClean(t, cfg)
			})
		}
	}
}

// startReference starts a reference server, where its package is installed.
func startReference(t *testing.T, p signals.Protocol) *signals.Servers {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no Node.js")
	}
	for _, name := range []string{"peer", "y-webrtc"} {
		if _, err := os.Stat(packages + "/node_modules/" + name); err != nil {
			t.Skip("not installed: scripts/install.sh npm")
		}
	}
	s, err := signals.StartReference(t.Context(), p, packages)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.End)
	return s
}

func TestReferenceRelaysEverything(t *testing.T) {
	for name, change := range loads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cfg signals.Config
			change(&cfg)
			s := startReference(t, cfg.Protocol)
			if !strings.HasPrefix(s.Name, "npm ") || len(s.PIDs) != 1 {
				t.Errorf("%+v", *s)
			}
			cfg = quick("", s.URLs...)
			change(&cfg)
			cfg.PIDs = s.PIDs
			runClean(t, cfg)
		})
	}
}

// TestUnfederated shows that a run over nodes that do not know each other is no
// run.
func TestUnfederated(t *testing.T) {
	for _, p := range []signals.Protocol{signals.PeerJS, signals.YWebRTC} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := signals.Run(ctx, quick(p, startNodes(t, 1)[0], startNodes(t, 1)[0]))
			if err == nil || !strings.Contains(err.Error(), "reach members") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here to read a server's memory from")
	}
	for _, p := range []signals.Protocol{signals.PeerJS, signals.YWebRTC} {
		cfg := quick(p, startFake(t, &fake{}))
		cfg.PIDs, cfg.Clients = []int{os.Getpid()}, 600
		r, err := signals.Idle(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if w := r.Waiting; w.Opened <= 0 || w.RSS == 0 || w.Before == 0 || r.Err() != nil {
			t.Errorf("%+v, %v", *w, r.Err())
		}
	}
}

func TestBadConfig(t *testing.T) {
	url := []string{"ws://127.0.0.1:1"}
	for _, c := range []signals.Config{
		{},
		{Protocol: signals.PeerJS},
		{URLs: url},
		{URLs: []string{"http://127.0.0.1:1"}, Protocol: signals.PeerJS},
		{URLs: url, Protocol: signals.PeerJS},
		{URLs: url, Protocol: signals.PeerJS, Room: 8},
		{URLs: url, Protocol: signals.YWebRTC, Room: 8, Clients: 12},
		{URLs: url, Protocol: signals.YWebRTC, Payload: 60_000},
	} {
		if _, err := signals.Run(t.Context(), c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
