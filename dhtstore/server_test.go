package dhtstore

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

// TestPing is the least that a node does.
func TestPing(t *testing.T) {
	h := newHub()
	a, b := startServer(t, h), startServer(t, h)
	r, err := a.ping(t.Context(), b.addr)
	if err != nil || r.ID != b.id() {
		t.Fatalf("got %v, %v, want id %x", r, err, b.id())
	}
}

type testServer struct {
	*server
	addr netip.AddrPort
}

// startServer runs a private server on the hub until the test ends.
func startServer(t *testing.T, h *hub, bootstrap ...*testServer) *testServer {
	t.Helper()
	cfg := serverConfig{Conn: h.listen(netip.AddrPort{}), Private: true}
	for _, b := range bootstrap {
		cfg.Bootstrap = append(cfg.Bootstrap, b.addr.String())
	}
	return runServer(t, cfg)
}

// runServer runs a server until the test ends.
func runServer(t *testing.T, cfg serverConfig) *testServer {
	t.Helper()
	s, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &testServer{s, cfg.Conn.LocalAddr().(*net.UDPAddr).AddrPort()}
}
