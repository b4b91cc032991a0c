// Package node is one peerserver: it puts the doors, the relay and the ways to
// find other nodes on one port.
//
//	n, err := node.New(node.Config{Listen: "127.0.0.1:0"})
//	...
//	err = n.Serve(ctx)
package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/tracker"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Config says what a node is. The zero value is a node of the open internet on
// the default port, with a key that lives as long as it does.
type Config struct {
	// Key is the node's identity; nil makes a fresh one.
	Key ed25519.PrivateKey
	// Listen is the address of the node's port; empty is ":8787".
	Listen string
	// Listener, if not nil, is used instead of Listen.
	Listener net.Listener
	// URLs are where other nodes reach this one: wss://host[:port] or
	// ws://ip:port. Without any, a node that listens on one address names that
	// when AllowPrivate is set, and otherwise is not dialled by others.
	URLs []string
	// Peers are base URLs of nodes to know from the start, such as
	// https://node.example.
	Peers []string
	// PeerDelay is how long Serve waits before it asks Peers.
	PeerDelay time.Duration
	// AllowPrivate lets the node meet nodes on private and loopback addresses,
	// and lifts the quotas of clients on loopback.
	AllowPrivate bool
	// Quota bounds clients.
	Quota door.Quota
	// TrustedProxies are addresses whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Origins are the web origins that may connect; none: all.
	Origins []string
	// Log is where the node says what happens; nil is nowhere.
	Log *slog.Logger
	// Seed makes random choices repeatable, for tests. Zero is random.
	Seed uint64
}

// Node is one peerserver.
type Node struct {
	// Static after New.
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	host     *door.Host
	relay    *relay.Relay
	finder   *fixedFinder
	doors    []door.Door
	sockets  *http.ServeMux // requests for a WebSocket
	plain    *http.ServeMux // all others
	started  time.Time
}

// New makes a node and opens its port; Serve serves it. A node that is not
// served is given up with Close.
func New(cfg Config) (*Node, error) {
	if cfg.Key == nil {
		_, cfg.Key, _ = ed25519.GenerateKey(nil) // never fails
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := cfg.Listener
	if l == nil {
		address := cfg.Listen
		if address == "" {
			address = ":" + strconv.Itoa(protocol.DefaultPort)
		}
		var err error
		if l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", address); err != nil {
			return nil, err
		}
	}
	n, err := build(cfg, l)
	if err != nil {
		l.Close()
		return nil, err
	}
	return n, nil
}

func build(cfg Config, l net.Listener) (*Node, error) {
	urls := cfg.URLs
	if len(urls) == 0 && cfg.AllowPrivate {
		urls = ownURLs(l.Addr())
	}
	finder, err := newFixedFinder(&cfg, urls)
	if err != nil {
		return nil, err
	}
	r, err := relay.New(relay.Config{
		Key: cfg.Key, Finder: finder, Dialer: relay.NewDialer(relay.DialPolicy{AllowPrivate: cfg.AllowPrivate}),
		Log: cfg.Log, AllowPrivate: cfg.AllowPrivate, Seed: cfg.Seed,
	})
	if err != nil {
		return nil, err
	}
	h := door.NewHost(door.Config{
		Log: cfg.Log, AllowPrivate: cfg.AllowPrivate, Quota: cfg.Quota,
		TrustedProxies: cfg.TrustedProxies, Origins: cfg.Origins,
	})
	n := &Node{
		cfg: cfg, log: cfg.Log, listener: l, host: h, relay: r, finder: finder,
		sockets: http.NewServeMux(), plain: http.NewServeMux(), started: time.Now(),
	}
	n.doors = []door.Door{
		tracker.New(h, r),
	}
	n.routes()
	return n, nil
}

// ownURLs is the link URL of a listener that is bound to one address.
func ownURLs(a net.Addr) []string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp.IP.IsUnspecified() {
		return nil
	}
	return []string{"ws://" + tcp.AddrPort().String()}
}

// ID is the node's key.
func (n *Node) ID() protocol.NodeID { return n.relay.ID() }

// Addr is the address of the node's port.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Known is how many other nodes' records the node has.
func (n *Node) Known() int { return n.finder.known() }

// Close gives up a node that is not served.
func (n *Node) Close() error { return n.listener.Close() }

// Serve runs the node until ctx ends. Then it says goodbye to clients and
// nodes, which takes up to protocol.ClientDrain, and waits for all it started.
func (n *Node) Serve(ctx context.Context) error {
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var parts sync.WaitGroup
	failed := make(chan error, 4)
	run := func(serve func(context.Context) error) {
		parts.Go(func() {
			if err := serve(inner); err != nil {
				failed <- err
			}
		})
	}
	run(n.relay.Serve)
	run(n.host.Serve)
	run(n.finder.serve)
	server := n.server()
	run(func(context.Context) error {
		if err := server.Serve(n.host.Listen(n.listener)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	var err error
	select {
	case <-ctx.Done():
		n.drain(inner, server)
	case err = <-failed:
	}
	server.Close()
	stop()
	parts.Wait()
	return err
}

func (n *Node) server() *http.Server {
	return &http.Server{
		Handler: n, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		// It logs addresses.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}

// drain lets clients and nodes go elsewhere first.
func (n *Node) drain(ctx context.Context, server *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, protocol.ClientDrain+time.Second)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() { n.relay.Drain(ctx) })
	parts.Go(func() { n.host.Drain(ctx) })
	parts.Wait()
	if err := server.Shutdown(ctx); err != nil {
		n.log.Debug("stopped with requests under way", "err", err)
	}
}
