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
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerservers/peerserver/node/door"
	"github.com/peerservers/peerserver/node/door/native"
	"github.com/peerservers/peerserver/node/ice"
	"github.com/peerservers/peerserver/node/portmap"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/relay"
)

// Node is one peerserver.
type Node struct {
	// Static after New.
	cfg           Config
	log           *slog.Logger
	data          *dataFolder  // nil: nothing is kept
	listener      net.Listener // the node's port
	adminListener net.Listener // nil: there are no admin pages
	host          *door.Host
	relay         *relay.Relay
	packets       net.PacketConn // the DHT's; nil: without
	served        bool
	finder        *finder
	lan           *neighbours    // nil: without
	certs         *certificates  // nil: the port speaks no TLS
	onSTUN        func(net.Conn) // takes TURN over TCP and TLS on the node's port; nil: nobody does
	ice           *ice.Server    // nil: without STUN
	iceSockets    iceSockets
	public        atomic.Pointer[[]netip.Addr] // see publicAddresses
	reach         *reach                       // nil: there is no outside
	outside       atomic.Pointer[outside]      // what it has found; nil: nothing yet
	recording     sync.Mutex                   // of what the record says
	load          atomic.Int32                 // class of load
	mapper        *portmap.Mapper              // nil: no router is asked
	doors         []door.Door
	native        *native.Door   // one of them, nil when it is off
	sockets       *http.ServeMux // requests for a WebSocket
	plain         *http.ServeMux // all others
	page          *page
	started       time.Time
}

// New makes a node and opens its port, its admin address and its data folder;
// Serve serves it. A node that is not served is given up with Close. An error
// says what to do about it.
func New(cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, sockets: http.NewServeMux(), plain: http.NewServeMux(), page: newPage(), started: time.Now(),
	}
	err := n.open()
	if err == nil {
		err = n.build()
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// open takes what a node has for itself: folder, port and admin address.
func (n *Node) open() (err error) {
	cfg := &n.cfg
	n.listener, n.packets = cfg.Listener, cfg.Packets
	if cfg.Data != "" {
		if n.data, err = openData(cfg.Data); err != nil {
			return err
		}
	}
	if cfg.Key == nil && n.data != nil {
		if cfg.Key, err = n.data.key(); err != nil {
			return err
		}
	}
	if cfg.Key == nil {
		_, cfg.Key, _ = ed25519.GenerateKey(nil) // never fails
	}
	if n.listener == nil {
		if err = n.listenBoth(); err != nil {
			return err
		}
	}
	if err = n.openTLS(); err != nil {
		return err
	}
	if err = n.openICE(); err != nil {
		return err
	}
	if err = n.openLAN(); err != nil {
		return err
	}
	return n.openAdmin()
}

// listenBoth opens the node's port over TCP and, for the DHT, the same number
// over UDP. Where any port will do, one that is free for both is looked for.
func (n *Node) listenBoth() (err error) {
	for try := 0; ; try++ {
		if n.listener, err = listen(n.cfg.Listen, "listen"); err != nil || n.cfg.NoDHT || n.packets != nil {
			return err
		}
		at := n.listener.Addr().String()
		n.packets, err = new(net.ListenConfig).ListenPacket(context.Background(), "udp", at)
		if err == nil {
			return nil
		}
		n.packets = nil
		if _, port, _ := net.SplitHostPort(n.cfg.Listen); port != "0" || try > 20 {
			return fmt.Errorf("the DHT's port, UDP %s: %w; free it, choose another with --listen, or do without the DHT with --dht=false", at, err)
		}
		n.listener.Close()
	}
}

// listen opens an address that comes from a flag.
func listen(address, flag string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, listenError(address, flag, err)
	}
	return l, nil
}

// build makes the node's parts.
func (n *Node) build() (err error) {
	cfg := &n.cfg
	if err = n.openFinder(); err != nil {
		return err
	}
	if cfg.Dialer == nil {
		policy := relay.DialPolicy{AllowPrivate: cfg.AllowPrivate}
		if n.lan != nil {
			policy.Allow = n.lan.allows
		}
		cfg.Dialer = relay.NewDialer(policy)
	}
	n.relay, err = relay.New(relay.Config{
		Key: cfg.Key, Finder: n.finder, Dialer: cfg.Dialer, Proven: n.finder.proven(),
		Log: cfg.Log, AllowPrivate: cfg.AllowPrivate, Allows: cfg.allows(), Seed: cfg.Seed, TURNKeys: n.turnKeys, TrySTUN: trySTUN,
	})
	if err != nil {
		return err
	}
	n.openReach()
	n.openPortmap()
	n.host = door.NewHost(door.Config{
		Log: cfg.Log, AllowPrivate: cfg.AllowPrivate, Quota: cfg.Quota,
		TrustedProxies: cfg.TrustedProxies, Origins: cfg.Origins, Tokens: cfg.Tokens,
	})
	n.makeDoors()
	n.routes()
	return nil
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

// Relay is the node's part that knows apps and links.
func (n *Node) Relay() *relay.Relay { return n.relay }

// Addr is the address of the node's port.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Known is how many other nodes' records the node has.
func (n *Node) Known() int { return n.finder.known() }

// Admin is the address of the pages for the operator, nil when there are none.
func (n *Node) Admin() net.Addr {
	if n.adminListener == nil {
		return nil
	}
	return n.adminListener.Addr()
}

// Close gives up a node that is not served, or is no longer.
func (n *Node) Close() error {
	var err error
	for _, c := range []net.Listener{n.listener, n.adminListener} {
		if c != nil {
			if e := c.Close(); !errors.Is(e, net.ErrClosed) {
				err = errors.Join(err, e)
			}
		}
	}
	if n.finder != nil && n.finder.dht != nil && !n.served {
		// It closes its socket and its file when it has been served.
		ended, end := context.WithCancel(context.Background())
		end()
		err = errors.Join(err, n.finder.dht.Serve(ended))
	}
	if n.packets != nil {
		if e := n.packets.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	if n.lan != nil {
		err = errors.Join(err, n.lan.beacons.Close())
	}
	n.iceSockets.close()
	n.certs.close()
	if n.data != nil {
		err = errors.Join(err, n.data.Close())
	}
	return err
}

// Serve runs the node until ctx ends. Then it says goodbye to clients and
// nodes, which takes up to protocol.ClientDrain, and waits for all it started.
func (n *Node) Serve(ctx context.Context) error {
	n.served = true
	defer n.Close() //nolint:contextcheck // it takes no context and waits for nothing
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	server, admin := newServer(n), newServer(nil)
	services := []func(context.Context) error{
		n.relay.Serve, n.host.Serve, n.finder.fixed.serve,
		func(context.Context) error { return serveHTTP(server, n.host.FrontWith(n.listener, n, n.port())) },
	}
	if n.native != nil {
		services = append(services, n.native.Serve)
	}
	if n.finder.dht != nil {
		services = append(services, n.serveDHT)
	}
	if n.lan != nil {
		services = append(services, n.serveLAN)
	}
	if n.ice != nil {
		services = append(services, n.ice.Serve, n.serveLoad)
	}
	if n.reach != nil {
		services = append(services, n.serveReach)
	}
	if n.mapper != nil {
		services = append(services, n.mapper.Serve)
	}
	if n.certs != nil {
		services = append(services, n.serveTLS)
	}
	if n.adminListener != nil {
		admin.Handler, admin.WriteTimeout = n.adminPages(), adminWriteTimeout
		services = append(services, func(context.Context) error { return serveHTTP(admin, n.adminListener) })
	}
	var parts sync.WaitGroup
	failed := make(chan error, len(services))
	for _, serve := range services {
		parts.Go(func() {
			if err := serve(inner); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
		n.drain(inner, server)
	case err = <-failed:
	}
	server.Close()
	admin.Close()
	stop()
	parts.Wait()
	return err
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		// It logs addresses.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}

// serveHTTP serves until the server is closed.
func serveHTTP(server *http.Server, l net.Listener) error {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
