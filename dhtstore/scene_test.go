package dhtstore

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
)

// testStore is a Store on the hub, and what it has found.
type testStore struct {
	*Store
	t    *testing.T
	addr netip.AddrPort
	i    int
	cfg  Config
	stop func()

	mu    sync.Mutex
	found map[protocol.AppID][]finding
}

type finding struct {
	node protocol.NodeID
	at   time.Time
	seq  int64
}

var chess = protocol.App("native", []byte("chess"), nil)

// openStore runs the i-th Store until the test ends, on 10.1.0.i, with a record
// that says so. bootstrap is anything with an address.
func openStore(t *testing.T, h *hub, i int, bootstrap []netip.AddrPort, change ...func(*Config)) *testStore {
	t.Helper()
	s := newStore(t, h, i, bootstrap, change...)
	if err := s.SetOwn(protocol.Record{URLs: []string{fmt.Sprintf("ws://%s", s.addr)}}); err != nil {
		t.Fatal(err)
	}
	s.serve()
	return s
}

// newStore opens a Store, which serve serves until the test ends.
func newStore(t *testing.T, h *hub, i int, bootstrap []netip.AddrPort, change ...func(*Config)) *testStore {
	t.Helper()
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 8787)
	cfg := Config{Conn: h.listen(addr), Key: testKey(i), Private: true, Bootstrap: []string{}}
	if os.Getenv("DHT_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("store", i)
	}
	for _, b := range bootstrap {
		cfg.Bootstrap = append(cfg.Bootstrap, b.String())
	}
	for _, f := range change {
		f(&cfg)
	}
	store, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	addr = cfg.Conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &testStore{Store: store, t: t, addr: addr, i: i, cfg: cfg, found: make(map[protocol.AppID][]finding)}
}

func (s *testStore) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				s.t.Errorf("store %d: %v", s.i, err)
			}
		})
	}
	s.t.Cleanup(s.stop)
}

func (s *testStore) want(app protocol.AppID) {
	s.Want(app, func(r *protocol.Record) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.found[app] = append(s.found[app], finding{r.Node, time.Now(), r.Seq})
	})
}

// finds waits until another store was found for an app, and returns when.
func (s *testStore) finds(app protocol.AppID, other *testStore, within time.Duration) (at time.Time, ok bool) {
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		for _, f := range s.found[app] {
			if f.node == other.self {
				s.mu.Unlock()
				return f.at, true
			}
		}
		s.mu.Unlock()
		if time.Now().After(end) {
			return at, false
		}
	}
}

func (s *testStore) mustFind(app protocol.AppID, other *testStore, within time.Duration) {
	s.t.Helper()
	if _, ok := s.finds(app, other, within); !ok {
		s.t.Errorf("store %d has not found %d within %v", s.i, other.i, within)
	}
}

func addrs(servers []*testServer) (all []netip.AddrPort) {
	for _, s := range servers {
		all = append(all, s.addr)
	}
	return all
}

// counter counts the queries that leave an address.
func counter(h *hub, from netip.AddrPort) *atomic.Int64 {
	n := new(atomic.Int64)
	h.setLose(func(f, to netip.AddrPort, packet []byte) bool {
		if f != from || to == from {
			return false
		}
		if p, ok := parsePacket(packet); ok && p.kind == 'q' {
			n.Add(1)
		}
		return false
	})
	return n
}

func nodeID(i int) protocol.NodeID { return protocol.NodeID(testKey(i).Public().(ed25519.PublicKey)) }
